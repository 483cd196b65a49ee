/* upstream.h - groups of peers that we talk HTTP/1.1 to.
 *
 *     upstream "backend"          what a route names, with its policy
 *       peer 10.0.0.1:8080        one address, with its state on the board
 *         connection              idle, or busy with one attempt
 *
 * An upstream is made per configuration and shared by all generations that
 * configure it alike. Peers live on while any upstream lists them, so a reload
 * keeps their connections; what is known about them is on the board.
 *
 * Owner:   upstreams_new() to upstreams_free(); an upstream by its references.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "io/stream.h"
#include "proxy/url.h"

struct upstreams;
struct upstream;
struct peer;

enum {
    UPSTREAM_PEERS_LIMIT = 128, /* members of one upstream */
    UPSTREAM_RETRIES_LIMIT = 8,
};

enum balance { BALANCE_TWO_CHOICES, BALANCE_ROUND_ROBIN, BALANCE_HASH };
enum hash_source { HASH_NONE, HASH_HEADER, HASH_COOKIE, HASH_PATH, HASH_ADDRESS };

struct peer_spec {
    struct str host;
    uint16_t port;
    bool is_tls;
    unsigned weight; /* 1 to 1000 */
};

/* How an upstream is configured. 0 and -1 as said mean "as the setting says". */
struct upstream_spec {
    const char *name;
    const struct peer_spec *peers;
    size_t peer_count;
    struct str base_path; /* put before the path; "" for none */
    enum balance balance;
    enum hash_source hash;
    const char *hash_name;        /* of the header or cookie, in lower case; or NULL */
    const char *health_path;      /* NULL: no active checks */
    uint64_t health_interval_ms;  /* 0: upstream.health_ms */
    uint64_t health_timeout_ms;   /* 0: upstream.health_timeout_ms */
    int health_status;            /* 0: any from 200 to 399 */
    int retries;                  /* -1: upstream.retries */
    bool retry_502, retry_503, retry_504;
    int64_t try_timeout_ms;       /* -1: upstream.try_timeout_ms */
    double hedge;                 /* quantile of the latency; 0: never */
    int64_t slow_start_ms;        /* -1: upstream.slow_start_ms */
    bool buffer_request;
    const char *tls_ca;           /* PEM file of what to trust; NULL: what the system does */
    const char *tls_name;         /* asked for and expected instead of the host; NULL: the host */
    bool tls_no_verify;
};

/* `worker` is the index of the lane that counts; -1 counts nothing (control).
 * `servers` of DNS as for resolver_new(), valid as long. */
struct upstreams *upstreams_new(struct io *io, struct board *board, int worker, const char *servers);

/* Closes idle connections. No call may be under way. */
void upstreams_free(struct upstreams *all);

/* Each second: tells the board which peers are in use. */
void upstreams_tick(struct upstreams *all);

/* The upstream of a specification, which is copied; made when new. NULL without
 * memory. Ends with upstream_release(). */
struct upstream *upstream_open(struct upstreams *all, const struct upstream_spec *spec);
void upstream_hold(struct upstream *u);
void upstream_release(struct upstream *u);

/* The upstream of a host and port that no configuration names; not counted on
 * the board, and the owner's. NULL without memory. */
struct upstream *upstream_get(struct upstreams *all, struct str host, uint16_t port, bool is_tls);

const struct upstream_spec *upstream_spec(const struct upstream *u);

/* "backend", or "127.0.0.1:3000". */
const char *upstream_name(const struct upstream *u);

/* "10.0.0.1:8080": what to put into Host when the client sent none. */
const char *upstream_authority(const struct upstream *u);

/* Whether trouble of this upstream is to be logged now: at most once a second. */
bool upstream_may_log(struct upstream *u);

/* "10.0.0.1:8080". */
const char *peer_address(const struct peer *p);
