/* view.h - peers as operators see them, and what operators do to them.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "proxy/upstream.h"

/* One peer, summed over all workers. */
struct peer_view {
    const char *address;
    const char *state;  /* "ready", "slow_start", "probing", "ejected", "down", "draining" */
    const char *health; /* "unknown", "up", "down" */
    const char *cause;  /* of the last ejection, or "none" */
    unsigned weight;
    uint64_t in_flight, attempts, answers, failures, retries, hedges, hedge_wins, ejections;
    uint64_t failures_in_a_row;
    uint64_t out_for_ms; /* until it may be probed */
    double latency_ms;   /* moving average to the response head; 0: none yet */
    double latency_sum_s;
};

/* The i-th peer; false behind the last. */
bool upstream_view(const struct upstream *u, unsigned i, struct peer_view *out);

/* The peer with this address, or NULL. */
struct peer *upstream_peer(const struct upstream *u, struct str address);

/* How many peers take new requests as far as operators are concerned. */
unsigned upstream_undrained(const struct upstream *u);

bool peer_is_drained(const struct peer *p);

/* Drained, a peer gets no new requests and keeps those it has; afterwards it
 * begins slowly. */
void peer_drain(struct peer *p, bool on);
