/* peer.h - one connection to an upstream; inside of core/proxy only.
 *
 * Owner:   its upstream while idle, its call while busy.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "proxy/call.h"

struct peer {
    struct stream stream;
    struct upstream *upstream;
    struct peer *next, *prev; /* in the upstream's idle list */
    struct timer expiry;      /* of the idle time */
    struct call *call;        /* NULL while idle */
    uv_connect_t connect;
    bool reused;
};

struct upstream {
    struct upstreams *all;
    struct upstream *next;
    char *host;
    char name[300];
    uint16_t port;
    struct peer idle; /* list head, newest first */
    size_t idle_count;
    struct sockaddr_storage address; /* resolved until address_until_ms */
    uint64_t address_until_ms;
    uint64_t logged_ms; /* trouble was logged last */
    char trouble[160];
};

struct upstreams {
    struct io *io;
    struct board *board;
    struct upstream *first;
};

/* An idle connection, or NULL. */
struct peer *peer_take(struct upstream *u);

/* Back into the idle list, or closed when there are enough. */
void peer_put(struct peer *p);

/* A new connection that is not connected yet. */
struct peer *peer_new(struct upstream *u);
void peer_close(struct peer *p, bool reset);

/* Events of a busy connection, in call.c. */
void call_on_read(struct call *call, struct str bytes);
void call_on_end(struct call *call, int err);
void call_on_drain(struct call *call);
