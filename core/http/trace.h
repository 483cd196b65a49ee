/* trace.h - reads and writes W3C trace context.
 *
 * Source:  W3C Trace Context, Level 1, and the random flag of Level 2.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { TRACE_ID = 32, TRACE_PARENT_ID = 16, TRACEPARENT = 55 };

struct trace {
    struct str id;  /* 32 hex digits */
    unsigned flags; /* those we know: 1 sampled, 2 random */
};

/* Reads a traceparent; false when it is not valid, which means a new trace. */
bool trace_parse(struct str traceparent, struct trace *out);

/* Writes one of version 00, without a NUL. */
void trace_write(char out[TRACEPARENT], const char *id, uint64_t parent, unsigned flags);

/* Writes 16 hex digits. */
void trace_hex(char out[16], uint64_t value);
