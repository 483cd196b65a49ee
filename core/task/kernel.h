/* kernel.h - work in C that tasks do by name: hashes, codings, numbers.
 *
 * One row of the table in kernel.c makes a kernel; what it takes and gives is said
 * there, so that callers can be told before anything is queued.
 *
 * Threads: any; a kernel keeps nothing between calls but what its codec does.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "codec/codec.h"

#include <stdatomic.h>

enum kernel_data { KERNEL_BYTES, KERNEL_NUMBERS };

/* One call. `data` holds doubles, one behind the other, for KERNEL_NUMBERS. */
struct kernel_call {
    struct str data;
    struct str text;     /* its parameter of that type, or empty */
    double number;       /* the same; NAN: not given */
    size_t max_bytes;    /* of the result */
    struct codec *codec; /* of the thread */
    const _Atomic bool *stop;
    struct buf *out;
};

struct kernel {
    const char *name;
    enum kernel_data takes, gives;
    const char *text;   /* name of its text parameter, NULL: it has none */
    const char *number; /* the same for a number */
    bool text_needed;
    int id; /* for run() */
    /* 0, or an ERR_*: INVAL (the data or a parameter), TOO_LARGE, NOMEM, PROTOCOL (malformed). */
    int (*run)(const struct kernel *kernel, struct kernel_call *call);
};

/* NULL: there is none of this name. */
const struct kernel *kernel_find(struct str name);

/* The i-th, NULL behind the last. */
const struct kernel *kernel_at(unsigned i);
