/* peers.h - what all processes know about each peer of an upstream.
 *
 *     peers[i]            identity, drain flag, health, breaker, latency
 *     lanes[worker][i]    requests in flight and counters of one worker
 *
 * A peer is known by the name of its upstream and its address, so a reload or a
 * replaced worker finds the same slot again. A slot that nobody has touched for
 * PEER_STALE_MS may be given to another peer once the table is full; each
 * process touches those that it uses every second.
 *
 * What a worker has in flight is counted in its own lane and never in a sum, so
 * that the death of a worker takes its share with it: the supervisor clears the
 * lane.
 *
 * Owner:   the board.
 * Threads: any, by plain atomics; each field names its writer.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "stats/lane.h"

enum {
    PEER_UPSTREAM_NAME = 64,
    PEER_ADDRESS = 272, /* "host:port" */
    PEERS_MAX = 4096,   /* upper bound of the setting upstream.peers_max */
    PEER_STALE_MS = 60000,
};

enum peer_health { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };

/* An open breaker whose time is over is half open: it lets one probe through. */
enum peer_breaker { BREAKER_CLOSED, BREAKER_OPEN };

#define PEER_CAUSE_LIST(X)                                                     \
    X(NONE, "none")                                                            \
    X(CONSECUTIVE, "consecutive_failures")                                     \
    X(UNREACHABLE, "unreachable")                                              \
    X(ERRORS, "error_rate")                                                    \
    X(LATENCY, "latency")                                                      \
    X(PROBE, "failed_probe")

enum peer_cause {
#define X(id, name) CAUSE_##id,
    PEER_CAUSE_LIST(X)
#undef X
        CAUSE_COUNT
};

const char *peer_cause_name(unsigned cause);

struct board_peer {
    _Alignas(64) _Atomic uint32_t state; /* as board_route.state */
    _Atomic uint32_t weight;             /* as configured. Writer: workers */
    _Atomic uint32_t draining;           /* no new requests. Writer: control */
    _Atomic uint32_t health;             /* active checks. Writer: control */
    _Atomic uint32_t breaker;            /* Writer: workers, control */
    _Atomic uint32_t failures;           /* in a row. Writer: workers */
    _Atomic uint32_t level;              /* ejections in a row: each lasts longer */
    _Atomic uint32_t cause;              /* of the last ejection */
    lane_counter ejections;              /* since the start */
    lane_counter open_until_ms;          /* CLOCK_MONOTONIC, as all times here */
    lane_counter probe_until_ms;         /* somebody probes until then; 0: nobody */
    lane_counter since_ms;               /* it came back then: slow start; 0: long ago */
    lane_counter latency_ns;             /* moving average to the response head. A racing
                                          * write loses one sample, which is harmless */
    lane_counter touched_ms;
    char upstream[PEER_UPSTREAM_NAME];
    char address[PEER_ADDRESS];
};

/* One peer in one worker, which is the only writer. */
struct peer_lane {
    _Alignas(64) _Atomic uint32_t in_flight;
    lane_counter attempts;       /* tries begun */
    lane_counter answers;        /* of them with a good response head */
    lane_counter failures;       /* no or a bad answer, or 502, 503, 504 */
    lane_counter retries;        /* attempts that were a retry */
    lane_counter hedges;         /* attempts that were a hedge */
    lane_counter hedge_wins;
    lane_counter latency_sum_ns; /* of the answers, to the head */
};

struct peers {
    uint32_t max;
    uint32_t workers;
    uint64_t lanes_offset; /* of lanes[worker][peer], from here */
    _Atomic uint32_t count; /* slots used so far */
    struct board_peer list[];
};

/* Bytes that a table takes. */
uint64_t peers_size(uint32_t max, uint32_t workers);
void peers_init(struct peers *t, uint32_t max, uint32_t workers);

/* Index of a peer, registered if new; -1 when the table is full. */
int peers_open(struct peers *t, struct str upstream, struct str address, uint64_t now_ms);

/* Index of a peer that is there, or -1. */
int peers_find(const struct peers *t, struct str upstream, struct str address);

static inline struct peer_lane *peers_lane(const struct peers *t, uint32_t worker, uint32_t peer)
{
    return (struct peer_lane *)((char *)t + t->lanes_offset) + (size_t)worker * t->max + peer;
}

/* Requests in flight at a peer, over all workers. */
uint32_t peers_in_flight(const struct peers *t, uint32_t peer);

/* A worker has died or begins: nothing of it is in flight. */
void peers_clear_worker(struct peers *t, uint32_t worker);
