// SPDX-License-Identifier: MIT
/* One address: what is known about it, and when it is taken out.
 *
 *              failures in a row, or an outlier
 *     CLOSED ------------------------------------> OPEN
 *       ^                                           | open_until_ms
 *       |  the probe is answered                    v
 *       +------------------------------------- half open --+
 *                                                   ^      | the probe fails:
 *                                                   +------+ twice as long
 *
 * Any worker may move a peer; the board holds the state, so all see it.
 */
#include "proxy/attempt.h"
#include "proxy/resolver.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    EWMA_SHIFT = 3,   /* a new sample counts an eighth */
    LEVEL_MAX = 20,   /* doublings of an ejection */
    WELL_FACTOR = 10, /* well for this many first ejections: the next is a first one */
};

static uint32_t load32(const _Atomic uint32_t *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

/* ---- life ---- */

static bool is_on_board(const struct peer *p)
{
    return p->index >= 0;
}

static bool place(struct peer *p)
{
    struct upstreams *all = p->all;
    struct peers *table = board_peers(all->board);
    p->index = -1;
    if (*p->upstream) {
        p->index = peers_open(table, str_from(p->upstream), str_from(p->address), all->io->now_ms);
        if (p->index < 0)
            log_line(LOG_WARN, "upstream %s: no room on the board for peer %s: each worker knows it on its own; "
                               "raise upstream.peers_max and restart", p->upstream, p->address);
    }
    bool lane_is_ours = !is_on_board(p) || all->worker < 0;
    size_t own = (is_on_board(p) ? 0 : sizeof *p->shared) + (lane_is_ours ? sizeof *p->lane : 0);
    if (own && !(p->own = aligned_alloc(64, own)))
        return false;
    if (own)
        memset(p->own, 0, own);
    p->shared = is_on_board(p) ? &table->list[p->index] : p->own;
    p->lane = !lane_is_ours ? peers_lane(table, (uint32_t)all->worker, (uint32_t)p->index)
                            : (struct peer_lane *)((char *)p->own + own - sizeof *p->lane);
    return true;
}

/* Kept connections are shared by what names the same peer, so what they were
 * trusted by is a part of the name. */
static bool is_same(const struct peer *p, const char *upstream, const struct peer_spec *spec,
                    const struct upstream_spec *of)
{
    if (p->port != spec->port || !str_equal(str_from(p->host), spec->host) || strcmp(p->upstream, upstream) != 0 ||
        p->is_tls != spec->is_tls)
        return false;
    return !p->is_tls || (p->tls_no_verify == of->tls_no_verify &&
                          strcmp(p->tls_ca, of->tls_ca ? of->tls_ca : "") == 0 &&
                          str_equal(str_from(p->tls_name), of->tls_name ? str_from(of->tls_name) : spec->host));
}

static void free_peer(struct peer *p)
{
    free(p->own);
    free(p->resolved);
    free(p->host);
    free(p->tls_ca);
    free(p->tls_name);
    free(p);
}

struct peer *peer_open(struct upstreams *all, const char *upstream, const struct peer_spec *spec,
                       const struct upstream_spec *of)
{
    struct str host = spec->host;
    uint16_t port = spec->port;
    for (struct peer *p = all->peers; p; p = p->next)
        if (is_same(p, upstream, spec, of)) {
            p->references++;
            return p;
        }
    struct peer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->host = strndup(host.p, host.len);
    p->tls_ca = strdup(of->tls_ca ? of->tls_ca : "");
    p->tls_name = of->tls_name ? strdup(of->tls_name) : strndup(host.p, host.len);
    if (!p->host || !p->tls_ca || !p->tls_name) {
        free_peer(p);
        return NULL;
    }
    p->all = all;
    p->port = port;
    p->is_tls = spec->is_tls;
    p->tls_no_verify = of->tls_no_verify;
    p->references = 1;
    p->idle.next = p->idle.prev = &p->idle;
    bool v6 = memchr(host.p, ':', host.len) != NULL;
    snprintf(p->address, sizeof p->address, v6 ? "[%.*s]:%u" : "%.*s:%u", STR_ARG(host), port);
    snprintf(p->upstream, sizeof p->upstream, "%s", upstream);
    if (!place(p)) {
        free_peer(p);
        return NULL;
    }
    p->next = all->peers;
    all->peers = p;
    return p;
}

void peer_hold(struct peer *p)
{
    p->references++;
}

/* Idle connections hold their peer, so members of upstreams close them first. */
void peer_release(struct peer *p)
{
    if (--p->references == p->idle_count)
        while (p->idle.next != &p->idle)
            connection_close(p->idle.next, false);
    if (p->references)
        return;
    for (struct peer **at = &p->all->peers; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    struct upstreams *all = p->all;
    free_peer(p);
    upstreams_peer_gone(all);
}

const char *peer_address(const struct peer *p)
{
    return p->address;
}

/* ---- addresses ---- */

static bool set_addresses(struct peer *p, const struct sockaddr_storage *list, unsigned count, uint64_t until_ms)
{
    struct sockaddr_storage *copy = malloc(count * sizeof *copy);
    if (!copy)
        return false;
    memcpy(copy, list, count * sizeof *copy);
    free(p->resolved);
    p->resolved = copy;
    p->resolved_count = count;
    p->resolved_until_ms = until_ms;
    return true;
}

static uint64_t bounded_ttl_ms(const struct peer *p, uint64_t ttl_ms)
{
    uint64_t least = peer_setting(p, OWN_DNS_MIN_MS);
    uint64_t most = upstreams_setting(p->all, SETTING_UPSTREAM_DNS_MAX_MS);
    if (ttl_ms > most)
        ttl_ms = most;
    return ttl_ms > least ? ttl_ms : least;
}

static void on_resolved(void *arg, const struct sockaddr_storage *list, int count, uint64_t ttl_ms, const char *why)
{
    struct peer *p = arg;
    uint64_t until_ms = p->all->io->now_ms + bounded_ttl_ms(p, ttl_ms);
    p->resolving = false;
    if (count > 0 && !set_addresses(p, list, (unsigned)count, until_ms))
        why = "out of memory";
    if (why && p->resolved && p->all->resolver) {
        log_line(LOG_WARN, "the name %s cannot be resolved again: %s; its old addresses serve on", p->host, why);
        p->resolved_until_ms = until_ms;
    }
    while (p->waiting) {
        struct attempt *a = p->waiting;
        p->waiting = a->next_waiting;
        attempt_on_resolved(a, p->resolved ? NULL : why);
    }
    peer_release(p);
}

static bool is_numeric(struct peer *p)
{
    struct sockaddr_storage address = {0};
    return (uv_ip4_addr(p->host, p->port, (struct sockaddr_in *)&address) == 0 ||
            uv_ip6_addr(p->host, p->port, (struct sockaddr_in6 *)&address) == 0) &&
           set_addresses(p, &address, 1, UINT64_MAX);
}

bool peer_resolve(struct peer *p)
{
    struct upstreams *all = p->all;
    if (all->io->now_ms < p->resolved_until_ms || (!p->resolved && is_numeric(p)) || p->resolving)
        return p->resolved != NULL;
    if (!all->resolver) {
        uint64_t timeout_ms = upstreams_setting(all, SETTING_UPSTREAM_DNS_TIMEOUT_MS);
        all->resolver = resolver_new(all->io, all->servers, timeout_ms);
        if (!all->resolver) {
            log_line(LOG_ERROR, "no resolver: resolver is \"%s\", it must be DNS servers like 10.0.0.2 or "
                                "10.0.0.2:5353, separated by commas", all->servers);
            return p->resolved != NULL;
        }
    }
    p->resolving = true;
    peer_hold(p);
    resolver_ask(all->resolver, p->host, p->port, on_resolved, p);
    return p->resolved != NULL;
}

const struct sockaddr *peer_next_address(struct peer *p)
{
    return (const struct sockaddr *)&p->resolved[p->resolved_next++ % p->resolved_count];
}

/* ---- state ---- */

uint32_t peer_in_flight(const struct peer *p)
{
    if (!is_on_board(p))
        return load32(&p->lane->in_flight);
    return peers_in_flight(board_peers(p->all->board), (uint32_t)p->index);
}

enum peer_state peer_state(const struct peer *p, uint64_t now_ms)
{
    const struct board_peer *s = p->shared;
    if (load32(&s->draining))
        return PEER_DRAINING;
    if (load32(&s->health) == HEALTH_DOWN)
        return PEER_OUT;
    if (load32(&s->breaker) == BREAKER_CLOSED)
        return PEER_READY;
    return now_ms >= lane_get(&s->open_until_ms) && now_ms >= lane_get(&s->probe_until_ms) ? PEER_PROBE
                                                                                         : PEER_OUT;
}

double peer_warmth(const struct peer *p, uint64_t now_ms, uint64_t slow_start_ms)
{
    uint64_t since = lane_get(&p->shared->since_ms);
    if (!since || now_ms >= since + slow_start_ms)
        return 1;
    double share = now_ms > since ? (double)(now_ms - since) / (double)slow_start_ms : 0;
    return share > 0.1 ? share : 0.1;
}

void peer_begin(struct peer *p)
{
    atomic_store_explicit(&p->lane->in_flight, load32(&p->lane->in_flight) + 1, memory_order_relaxed);
    lane_add(&p->lane->attempts, 1);
}

void peer_end(struct peer *p)
{
    atomic_store_explicit(&p->lane->in_flight, load32(&p->lane->in_flight) - 1, memory_order_relaxed);
}

static void close_breaker(struct peer *p)
{
    uint64_t now_ms = p->all->io->now_ms;
    atomic_store_explicit(&p->shared->since_ms, now_ms, memory_order_relaxed);
    atomic_store_explicit(&p->shared->probe_until_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&p->shared->failures, 0, memory_order_relaxed);
    if (atomic_exchange(&p->shared->breaker, BREAKER_CLOSED) == BREAKER_OPEN)
        log_line(LOG_INFO, "upstream %s: peer %s answers again", p->upstream, p->address);
}

void peer_answered(struct peer *p, uint64_t latency_ns, bool probe)
{
    uint64_t before = lane_get(&p->shared->latency_ns);
    uint64_t after = before ? before + latency_ns / (1 << EWMA_SHIFT) - before / (1 << EWMA_SHIFT) : latency_ns;
    atomic_store_explicit(&p->shared->latency_ns, after, memory_order_relaxed);
    lane_add(&p->lane->answers, 1);
    lane_add(&p->lane->latency_sum_ns, latency_ns);
    if (probe)
        close_breaker(p);
    else if (load32(&p->shared->failures))
        atomic_store_explicit(&p->shared->failures, 0, memory_order_relaxed);
}

/* ---- ejection ---- */

/* Whether an upstream can do without one more peer. One that takes no
 * connections is no loss, so the share does not protect it. */
static bool can_spare(const struct upstream *u, const struct peer *p, enum peer_cause cause)
{
    const struct settings *settings = &u->all->board->settings;
    unsigned ejected = 0, others = 0;
    for (unsigned i = 0; i < u->count; i++) {
        const struct peer *q = u->members[i].peer;
        bool open = load32(&q->shared->breaker) == BREAKER_OPEN;
        ejected += open && q != p;
        others += q != p && peer_state(q, u->all->io->now_ms) == PEER_READY;
    }
    unsigned most = (unsigned)(setting_number(settings, SETTING_UPSTREAM_EJECT_SHARE) * u->count);
    return others && (cause == CAUSE_UNREACHABLE || ejected < (most ? most : 1));
}

static uint64_t ejection_ms(struct peer *p)
{
    uint64_t first = upstreams_setting(p->all, SETTING_UPSTREAM_EJECT_MS);
    uint64_t longest = upstreams_setting(p->all, SETTING_UPSTREAM_EJECT_MAX_MS);
    uint64_t well_since = lane_get(&p->shared->open_until_ms);
    uint32_t level = load32(&p->shared->level);
    if (p->all->io->now_ms > well_since + first * WELL_FACTOR)
        level = 0;
    uint64_t ms = first << (level < LEVEL_MAX ? level : LEVEL_MAX);
    atomic_store_explicit(&p->shared->level, level + 1, memory_order_relaxed);
    return ms < longest ? ms : longest;
}

static void open_breaker(struct peer *p, enum peer_cause cause)
{
    uint64_t ms = ejection_ms(p);
    atomic_store_explicit(&p->shared->open_until_ms, p->all->io->now_ms + ms, memory_order_relaxed);
    atomic_store_explicit(&p->shared->probe_until_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&p->shared->cause, cause, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->shared->ejections, 1, memory_order_relaxed);
    log_line(LOG_WARN, "upstream %s: peer %s is taken out for %llu ms (%s)", p->upstream, p->address,
             (unsigned long long)ms, peer_cause_name(cause));
}

bool peer_eject(struct peer *p, struct upstream *u, enum peer_cause cause)
{
    uint32_t closed = BREAKER_CLOSED;
    if (!can_spare(u, p, cause) || !atomic_compare_exchange_strong(&p->shared->breaker, &closed, BREAKER_OPEN))
        return false;
    open_breaker(p, cause);
    return true;
}

void peer_failed(struct peer *p, struct upstream *u, bool probe, bool reached)
{
    lane_add(&p->lane->failures, 1);
    if (probe) { /* or a last resort, which is no news about it */
        if (p->all->io->now_ms >= lane_get(&p->shared->open_until_ms))
            open_breaker(p, CAUSE_PROBE);
        return;
    }
    uint32_t failures = atomic_fetch_add_explicit(&p->shared->failures, 1, memory_order_relaxed) + 1;
    if (u->count > 1 && failures >= upstreams_setting(p->all, SETTING_UPSTREAM_FAILURES))
        peer_eject(p, u, reached ? CAUSE_CONSECUTIVE : CAUSE_UNREACHABLE);
}
