/* report.h - the findings of a log for people (terminal, Markdown, HTML) and for programs (JSON).
 *
 * Text from the log is untrusted: what is not printable ASCII is shown as '?', and escaped as the kind needs it.
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "replay/findings.h"
#include "replay/format.h"

#include <stdio.h>

enum { REPORT_ROUTES = 20, REPORT_MS = 32 };

struct report {
    const struct format *format; /* its name is NULL for an empty log */
    const char *why;             /* this format */
    uint64_t lines, bad, status[6];
    const struct timeline *series;
    const struct routes *routes;
    const struct findings *findings;
};

typedef void report_fn(FILE *out, const struct report *r);

report_fn report_terminal, report_md, report_html, report_json;

/* For all kinds. */
double report_share(const struct report *r, const struct route *one); /* of time, or of requests where no line has one */
const char *report_time(int64_t at_s, char out[32]);
const char *report_ms(const struct route *one, double q, char out[REPORT_MS]); /* "-" when nothing of it was timed */
void report_span(const struct report *r, int64_t *from_s, int64_t *to_s);
