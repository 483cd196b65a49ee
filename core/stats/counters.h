/* counters.h - the registry of what is counted beside requests: one list.
 *
 * A counter only grows, one writer per worker's lane. Statistics show the sum
 * over all workers since the start; /metrics names it perilune_NAME_total.
 */
// SPDX-License-Identifier: MIT
#pragma once

/*    id, name, doc */
#define COUNTER_LIST(X)                                                                            \
    X(TUNNELS, "tunnels", "connections that became a WebSocket tunnel")                            \
    X(CLIENT_REFUSED, "client_refused", "connections over the cap of their client")                 \
    X(RATE_REFUSED, "rate_refused", "requests answered 429 by a rate limit")                       \
    X(RATE_OBSERVED, "rate_observed", "requests over a rate limit that only observes")                 \
    X(LIMIT_REFUSED, "limit_refused", "requests answered 503 by a concurrency limit")                \
    X(LIMIT_OBSERVED, "limit_observed", "requests over a concurrency limit that only observes")

enum counter_id {
#define X(id, name, doc) COUNTER_##id,
    COUNTER_LIST(X)
#undef X
        COUNTER_COUNT
};

struct counter_info {
    const char *name, *doc;
};

extern const struct counter_info counter_infos[COUNTER_COUNT];
