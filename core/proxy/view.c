// SPDX-License-Identifier: MIT
#include "proxy/view.h"

#include "proxy/parts.h"

static uint32_t load32(const _Atomic uint32_t *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

static void add_lane(struct peer_view *out, const struct peer_lane *lane)
{
    out->in_flight += load32(&lane->in_flight);
    out->attempts += lane_get(&lane->attempts);
    out->answers += lane_get(&lane->answers);
    out->failures += lane_get(&lane->failures);
    out->retries += lane_get(&lane->retries);
    out->hedges += lane_get(&lane->hedges);
    out->hedge_wins += lane_get(&lane->hedge_wins);
    out->latency_sum_s += (double)lane_get(&lane->latency_sum_ns) / 1e9;
}

static const char *state_name(const struct upstream *u, const struct peer *p)
{
    uint64_t now_ms = p->all->io->now_ms;
    uint64_t slow_ms = u->spec.slow_start_ms >= 0 ? (uint64_t)u->spec.slow_start_ms
                                                  : upstreams_setting(p->all, SETTING_UPSTREAM_SLOW_START_MS);
    switch (peer_state(p, now_ms)) {
    case PEER_DRAINING:
        return "draining";
    case PEER_PROBE:
        return "probing";
    case PEER_OUT:
        return load32(&p->shared->health) == HEALTH_DOWN ? "down" : "ejected";
    default:
        return peer_warmth(p, now_ms, slow_ms) < 1 ? "slow_start" : "ready";
    }
}

bool upstream_view(const struct upstream *u, unsigned i, struct peer_view *out)
{
    static const char *const healths[] = {"unknown", "up", "down"};
    if (i >= u->count)
        return false;
    const struct peer *p = u->members[i].peer;
    const struct board_peer *s = p->shared;
    struct peers *table = board_peers(p->all->board);
    uint64_t until = lane_get(&s->open_until_ms), now_ms = p->all->io->now_ms;
    uint32_t health = load32(&s->health);
    bool open = load32(&s->breaker) == BREAKER_OPEN;
    *out = (struct peer_view){
        .address = p->address,
        .state = state_name(u, p),
        .health = healths[health <= HEALTH_DOWN ? health : HEALTH_UNKNOWN],
        .cause = peer_cause_name(load32(&s->cause)),
        .weight = u->members[i].weight,
        .ejections = lane_get(&s->ejections),
        .failures_in_a_row = load32(&s->failures),
        .out_for_ms = open && until > now_ms ? until - now_ms : 0,
        .latency_ms = (double)lane_get(&s->latency_ns) / 1e6,
    };
    for (uint32_t w = 0; p->index >= 0 && w < table->workers; w++)
        add_lane(out, peers_lane(table, w, (uint32_t)p->index));
    return true;
}

struct peer *upstream_peer(const struct upstream *u, struct str address)
{
    for (unsigned i = 0; i < u->count; i++)
        if (str_equal(str_from(u->members[i].peer->address), address))
            return u->members[i].peer;
    return NULL;
}

unsigned upstream_undrained(const struct upstream *u)
{
    unsigned n = 0;
    for (unsigned i = 0; i < u->count; i++)
        n += !peer_is_drained(u->members[i].peer);
    return n;
}

bool peer_is_drained(const struct peer *p)
{
    return load32(&p->shared->draining) != 0;
}

void peer_drain(struct peer *p, bool on)
{
    if (!on)
        atomic_store(&p->shared->since_ms, p->all->io->now_ms);
    atomic_store(&p->shared->draining, on);
}
