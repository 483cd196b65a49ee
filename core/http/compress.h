/* compress.h - the filter that compresses answers.
 *
 *     head judged > nothing to do: everything passes on
 *                 > whole body:    one call, here or on a task thread
 *                 > streamed:      gathered > ended: whole, with Content-Length
 *                                           > too long, or a pause: a stream
 *
 * A body is compressed whole whenever that is possible: the contexts are shared
 * by all answers then, and the libraries for whole bodies are several times
 * faster than those for streams. An event stream is one from its first byte and
 * flushed whenever the application flushes; other streams only when they pause,
 * so that a bulk body passed on read by read keeps its ratio.
 *
 * What takes longer than compression.inline_us, estimated by what such bodies
 * took so far, is done by task threads; a client that leaves meanwhile leaves
 * the work to end and be dropped.
 *
 * Sources: RFC 9110 8.4, 8.8.3.3, 12.5.3, 12.5.5; RFC 9111 5.2.2.6; RFC 9530.
 * Owner:   the worker; compress_new() to compress_free().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "codec/accept.h"
#include "http/server.h"
#include "task/task.h"

enum { LEVEL_STEPS = 4 };

/* A level for bodies up to a size. The last that is given has no end. */
struct level_step {
    uint64_t up_to_bytes;
    int level;
};

/* The policy of a route. Shared by its answers in flight, which may outlive the
 * generation that made it. */
struct compress_rules {
    unsigned references;
    int64_t min_bytes; /* -1: the setting */
    enum codec_id order[CODEC_COUNT];
    unsigned order_count;
    struct level_step steps[CODEC_COUNT][LEVEL_STEPS];
    char **types; /* "text/html", "text/" (all of text), "+json" (all with that suffix) */
    unsigned type_count;
    double cpu_high, cpu_full; /* shares of CPU */
    uint64_t lag_full_ns;
    bool skip_set_cookie, skip_cross_site;
    bool decode_requests;
};

struct compress_rules *compress_rules_new(void); /* NULL: out of memory */
void compress_rules_put(struct compress_rules *r);

struct compress;

struct compress_opts {
    struct io *io;
    struct board *board;
    struct board_process *process;
    struct lane *lane;
    struct tasks *tasks;
};

struct compress *compress_new(const struct compress_opts *opts);

/* Puts the filter between the answer to come and the wire. */
void compress_push(struct compress *c, struct exchange *ex, struct compress_rules *rules);

/* Exchanges must be gone, and what the task threads had of theirs. */
void compress_free(struct compress *c);
