/* parts.h - inside of core/proxy only: upstreams, peers and connections.
 *
 * Owner:   struct upstreams all of them; a peer by its references (members of
 *          upstreams and connections), a connection by its peer while idle, by
 *          its attempt while busy.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/arena.h"
#include "proxy/budget.h"
#include "proxy/upstream.h"

struct attempt;

struct connection {
    struct stream stream;
    struct peer *peer;
    struct connection *next, *prev; /* in the peer's idle list */
    struct timer expiry;            /* of the idle time */
    struct attempt *attempt;        /* NULL while idle */
    uv_connect_t connect;
    bool reused;
};

/* What control keeps about a peer, see health.c. */
struct watch {
    struct call *call;  /* the check under way */
    uint64_t began_ms, next_ms;
    size_t left;        /* of the answer, before it is too much */
    uint64_t good, bad; /* checks in a row */
    bool noted;         /* the check under way has its result */
    bool primed;        /* the figures below are from a look before */
    uint64_t answers, failures;
    double latency_sum_s;
};

struct peer {
    struct upstreams *all;
    const struct own_slot *values;     /* settings of its upstream; NULL: none of its own */
    struct peer *next;
    unsigned references;
    char *host;
    uint16_t port;
    bool is_tls;
    bool tls_no_verify;
    char *tls_ca;                      /* as of its upstream, NULL: none */
    char *tls_name;                    /* SNI, and what the certificate must name */
    char address[PEER_ADDRESS];
    char upstream[PEER_UPSTREAM_NAME]; /* "" when no configuration names it */
    int index;                         /* on the board; -1: nowhere */
    struct board_peer *shared;         /* the board's, or our own */
    struct peer_lane *lane;            /* ours */
    void *own;                         /* memory of what is not the board's */
    struct connection idle;            /* list head, newest first */
    size_t idle_count;
    struct sockaddr_storage *resolved; /* all its addresses; NULL: not yet */
    unsigned resolved_count, resolved_next;
    uint64_t resolved_until_ms;        /* then asked for again; UINT64_MAX: a number */
    bool resolving;
    struct attempt *waiting;           /* for a first address */
    struct watch watch;
};

struct member {
    struct peer *peer;
    unsigned weight;
    double current; /* of smooth weighted round robin */
};

struct upstream {
    struct upstreams *all;
    const struct own_slot *values; /* settings of its own, on the board; NULL: none */
    struct upstream *next;
    unsigned references;
    struct arena arena; /* of the specification */
    struct upstream_spec spec;
    struct member *members;
    unsigned count;
    struct budget budget;
    struct tls_context *tls;     /* NULL when no peer speaks it */
    struct latencies *latencies; /* of hedging, NULL without it */
    uint64_t logged_ms;
    uint64_t compared_ms; /* its peers with each other */
    bool is_named; /* by a configuration */
};

struct upstreams {
    struct io *io;
    struct board *board;
    int worker;
    struct upstream *first;
    struct peer *peers;
    struct tls_context *tls; /* trusts what the system does; NULL before it is needed */
    struct call *spare;   /* ended ones, to be used again */
    unsigned spare_count;
    struct call *failed;  /* calls that have failed before they were returned */
    uv_timer_t *teller;   /* tells them from the loop */
    uint64_t random;
    uint64_t ticked_ms;
    struct resolver *resolver; /* NULL before a first name needs it */
    const char *servers;       /* of DNS; "": the system's */
    bool ended; /* goes with its last peer, whose connections close from the loop */
};

/* Frees the calls that are kept to be used again. */
void calls_drop_spare(struct upstreams *all);

/* A peer has been freed. */
void upstreams_peer_gone(struct upstreams *all);

static inline uint64_t upstreams_setting(const struct upstreams *all, enum setting_id id)
{
    return setting_integer(&all->board->settings, id);
}

/* What an upstream may have for itself, see board/own.h. */
static inline double upstream_number(const struct upstream *u, enum own_setting which)
{
    return own_number(u->values, &u->all->board->settings, which);
}

static inline uint64_t peer_setting(const struct peer *p, enum own_setting which)
{
    return own_integer(p->values, &p->all->board->settings, which);
}

/* Not for secrets: xorshift64* (Vigna, 2014). */
static inline uint64_t upstreams_random(struct upstreams *all)
{
    uint64_t x = all->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    all->random = x;
    return x * 0x2545f4914f6cdd1dULL;
}

/* ---- connection.c ---- */

/* An idle connection, or NULL. */
struct connection *connection_take(struct peer *p);

/* Back into the idle list, or closed when there are enough. */
void connection_put(struct connection *c);

/* A new connection that is not connected yet. */
struct connection *connection_new(struct peer *p);
void connection_close(struct connection *c, bool reset);

/* ---- peer.c ---- */

/* The peer of an upstream's name ("" for none) and address, made when new. */
struct peer *peer_open(struct upstreams *all, const char *upstream, const struct peer_spec *spec,
                       const struct upstream_spec *of);
void peer_hold(struct peer *p);
void peer_release(struct peer *p);

/* Finds its addresses, if that is due. True: there are some, perhaps old ones. */
bool peer_resolve(struct peer *p);

/* The next of its addresses. */
const struct sockaddr *peer_next_address(struct peer *p);

uint32_t peer_in_flight(const struct peer *p);

enum peer_state {
    PEER_READY,
    PEER_PROBE,   /* its breaker is half open and nobody probes yet */
    PEER_OUT,     /* ejected, or its health check says down */
    PEER_DRAINING /* by an operator: never used */
};
enum peer_state peer_state(const struct peer *p, uint64_t now_ms);

/* The share of its weight that a peer has earned back since its return. */
double peer_warmth(const struct peer *p, uint64_t now_ms, uint64_t slow_start_ms);

void peer_begin(struct peer *p);
void peer_end(struct peer *p);

/* A good response head came after latency_ns; `probe`: the peer was ejected. */
void peer_answered(struct peer *p, uint64_t latency_ns, bool probe);

/* An attempt failed, `reached`: after it had been connected. Counts, and ejects
 * when that is due and others remain. */
void peer_failed(struct peer *p, struct upstream *u, bool probe, bool reached);

/* Takes a peer out of its upstream for a while, if others remain. Any process. */
bool peer_eject(struct peer *p, struct upstream *u, enum peer_cause cause);
