// SPDX-License-Identifier: MIT
#include "proxy/balance.h"

#include <math.h>

struct candidates {
    struct member *list[UPSTREAM_PEERS_LIMIT];
    unsigned count;
};

static bool is_tried(const struct balance_choice *choice, const struct peer *p)
{
    for (unsigned i = 0; i < choice->tried_count; i++)
        if (choice->tried[i] == p)
            return true;
    return false;
}

/* Whoever writes the deadline first probes. */
static bool take_probe(struct peer *p)
{
    uint64_t now_ms = p->all->io->now_ms;
    uint64_t until = lane_get(&p->shared->probe_until_ms);
    return now_ms >= until &&
           atomic_compare_exchange_strong(&p->shared->probe_until_ms, &until,
                                          now_ms + upstreams_setting(p->all, SETTING_UPSTREAM_PROBE_MS));
}

static uint64_t slow_start_ms(const struct upstream *u)
{
    return u->spec.slow_start_ms >= 0 ? (uint64_t)u->spec.slow_start_ms
                                      : upstreams_setting(u->all, SETTING_UPSTREAM_SLOW_START_MS);
}

static double weight_of(const struct upstream *u, const struct member *m)
{
    return m->weight * peer_warmth(m->peer, u->all->io->now_ms, slow_start_ms(u));
}

/* ---- two choices ---- */

static double random_unit(struct upstreams *all)
{
    return (double)(upstreams_random(all) >> 11) * 0x1p-53;
}

static bool is_better(const struct upstream *u, const struct member *a, const struct member *b)
{
    double x = (peer_in_flight(a->peer) + 1) * weight_of(u, b);
    double y = (peer_in_flight(b->peer) + 1) * weight_of(u, a);
    if (x != y)
        return x < y;
    /* Drawn rather than compared: the slower of two idle peers would never be
     * asked again, and never be seen to have become faster. */
    double a_ns = 1 + (double)lane_get(&a->peer->shared->latency_ns);
    double b_ns = 1 + (double)lane_get(&b->peer->shared->latency_ns);
    return random_unit(u->all) * (a_ns + b_ns) < b_ns;
}

/* A peer on which all others are idle would take half of the traffic of its
 * pairs whatever its weight, so the two are drawn by weight as well. */
static unsigned draw(const struct upstream *u, const struct candidates *c, unsigned but)
{
    double total = 0;
    for (unsigned i = 0; i < c->count; i++)
        total += i == but ? 0 : weight_of(u, c->list[i]);
    double at = random_unit(u->all) * total;
    unsigned last = 0;
    for (unsigned i = 0; i < c->count; i++) {
        if (i == but)
            continue;
        last = i;
        at -= weight_of(u, c->list[i]);
        if (at < 0)
            break;
    }
    return last;
}

static struct member *two_choices(struct upstream *u, const struct candidates *c)
{
    if (c->count == 1)
        return c->list[0];
    unsigned first = draw(u, c, c->count), second = draw(u, c, first);
    struct member *a = c->list[first], *b = c->list[second];
    return is_better(u, b, a) ? b : a;
}

/* ---- round robin ---- */

static struct member *round_robin(struct upstream *u, const struct candidates *c)
{
    struct member *best = NULL;
    double total = 0;
    for (unsigned i = 0; i < c->count; i++) {
        struct member *m = c->list[i];
        double weight = weight_of(u, m);
        m->current += weight;
        total += weight;
        if (!best || m->current > best->current)
            best = m;
    }
    best->current -= total;
    return best;
}

/* ---- hash ---- */

/* FNV-1a alone moves too little in its high bits for short keys. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
}

static double score(const struct member *m, uint64_t key)
{
    uint64_t hash = mix(key ^ mix(str_hash(str_from(m->peer->address))));
    double unit = ((double)(hash >> 11) + 0.5) * 0x1p-53;
    return -(double)m->weight / log(unit);
}

static struct member *hashed(struct upstream *u, const struct candidates *c, struct str text)
{
    double bound = setting_number(&u->all->board->settings, SETTING_UPSTREAM_HASH_BOUND);
    uint64_t key = str_hash(text);
    struct member *best = NULL, *any = NULL;
    double best_score = 0, any_score = 0, weights = 0, load = 1;
    for (unsigned i = 0; i < c->count; i++) {
        load += peer_in_flight(c->list[i]->peer);
        weights += c->list[i]->weight;
    }
    for (unsigned i = 0; i < c->count; i++) {
        struct member *m = c->list[i];
        double s = score(m, key), most = ceil(bound * load * m->weight / weights);
        if (!any || s > any_score) {
            any = m;
            any_score = s;
        }
        if (peer_in_flight(m->peer) + 1 <= most && (!best || s > best_score)) {
            best = m;
            best_score = s;
        }
    }
    return best ? best : any;
}

static struct member *choose_among(struct upstream *u, const struct candidates *c, struct str key)
{
    if (u->spec.balance == BALANCE_ROUND_ROBIN)
        return round_robin(u, c);
    if (u->spec.balance == BALANCE_HASH && key.p)
        return hashed(u, c, key);
    return two_choices(u, c);
}

struct peer *balance_choose(struct upstream *u, const struct balance_choice *choice, bool *probe)
{
    struct candidates ready, rest; /* large: only the counts are initialised */
    ready.count = rest.count = 0;
    uint64_t now_ms = u->all->io->now_ms;
    *probe = false;
    for (unsigned i = 0; i < u->count; i++) {
        struct member *m = &u->members[i];
        if (is_tried(choice, m->peer))
            continue;
        switch (peer_state(m->peer, now_ms)) {
        case PEER_READY:
            ready.list[ready.count++] = m;
            break;
        case PEER_PROBE:
            if (choice->may_probe && take_probe(m->peer)) {
                *probe = true;
                return m->peer;
            }
            rest.list[rest.count++] = m;
            break;
        case PEER_OUT:
            rest.list[rest.count++] = m;
            break;
        case PEER_DRAINING:
            break;
        }
    }
    if (ready.count)
        return choose_among(u, &ready, choice->key)->peer;
    if (!rest.count)
        return NULL;
    struct peer *p = choose_among(u, &rest, choice->key)->peer;
    *probe = atomic_load_explicit(&p->shared->breaker, memory_order_relaxed) == BREAKER_OPEN;
    return p;
}
