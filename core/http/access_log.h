/* access_log.h - a line for each request that has ended.
 *
 *     "combined"   as nginx and Apache write it
 *     "json"       one object a line, with route, trace id and phases
 *     else         a text with nginx's variables, as in '$remote_addr "$request" $status $request_time';
 *                  $route, $trace_id and $phase_NAME (ms) are ours
 *
 * What a client sent is escaped: \xHH in text, as JSON has it in JSON; nothing of it can begin a line.
 *
 * Owner:   the worker. Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/server.h"
#include "io/line_sink.h"

struct access_log;

/* NULL: `why` says what is wrong with the format or the file. */
struct access_log *access_log_new(const char *path, const char *format, size_t buffer_bytes, char why[LINE_SINK_WHY]);

/* Whether a format can be used, without a file. */
bool access_log_check(const char *format, char why[LINE_SINK_WHY]);
void access_log_free(struct access_log *log);

/* Called when the sample is recorded. */
void access_log_add(struct access_log *log, const struct exchange *ex, const struct sample *sample, struct lane *lane);
