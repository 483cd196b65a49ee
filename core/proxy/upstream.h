/* upstream.h - peers that we talk HTTP/1.1 to, and their idle connections.
 *
 * An upstream is a host and port. Its idle connections are read all the time,
 * so that one which the peer closes is dropped at once instead of being taken
 * for the next request. Upstreams live as long as the process, over all
 * generations: a reload keeps the connections.
 *
 * Owner:   upstreams_new() to upstreams_free().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "http/body.h"
#include "http/head.h"
#include "io/stream.h"

struct upstreams;
struct upstream;
struct call;

struct upstreams *upstreams_new(struct io *io, struct board *board);

/* Closes idle connections. No call may be under way. */
void upstreams_free(struct upstreams *all);

struct url {
    struct str host; /* without brackets */
    uint16_t port;
    struct str path;      /* behind the authority, with query; "" when there is none */
    struct str authority; /* "host:port" as written, for Host */
};

/* Reads "http://host[:port][/path]". NULL, or what is wrong and how to fix it. */
const char *url_parse(struct str text, struct url *out);

/* The upstream of a host and port, made when new. NULL without memory. */
struct upstream *upstream_get(struct upstreams *all, struct str host, uint16_t port);

/* "127.0.0.1:3000". */
const char *upstream_name(const struct upstream *u);

/* Why the last connection to it failed, or "". For the log only. */
const char *upstream_trouble(const struct upstream *u);
