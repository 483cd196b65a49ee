/* line_sink.h - lines to a file, without ever waiting for the disk.
 *
 *     put: copied into a ring > thread: written in batches, ten times a second at most
 *
 * A full ring drops the line and says so; so does a disk that takes nothing. A file that was moved
 * away (logrotate) is opened anew within a second. One write() of whole lines at a time, appending,
 * so several processes share a file.
 *
 * Owner:   line_sink_new() to line_sink_free(), which writes what is left.
 * Threads: one puts; the writing thread is its own.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { LINE_SINK_WHY = 200 };

struct line_sink;

/* `path` "-" is stdout. `bytes` is the ring's size, rounded up to a power of two. NULL: `why` says it. */
struct line_sink *line_sink_new(const char *path, size_t bytes, char why[LINE_SINK_WHY]);

/* False: there was no room. `line` ends with a newline. */
bool line_sink_put(struct line_sink *s, struct str line);

/* Lines that could not be written since this was last asked. */
uint64_t line_sink_lost(struct line_sink *s);
void line_sink_free(struct line_sink *s);
