// SPDX-License-Identifier: MIT
#include "base/log.h"
#include "proxy/latency.h"
#include "proxy/parts.h"
#include "proxy/resolver.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOG_EVERY_MS = 1000, TICK_MS = 1000 };

struct upstreams *upstreams_new(struct io *io, struct board *board, int worker, const char *servers)
{
    struct upstreams *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    all->io = io;
    all->board = board;
    all->worker = worker;
    all->servers = servers;
    if (uv_random(NULL, NULL, &all->random, sizeof all->random, 0, NULL) < 0 || !all->random)
        all->random = io->now_ns | 1;
    if (worker >= 0)
        peers_clear_worker(board_peers(board), (uint32_t)worker);
    return all;
}

void upstreams_peer_gone(struct upstreams *all)
{
    if (all->ended && !all->peers)
        free(all);
}

static void free_upstream(struct upstream *u)
{
    for (unsigned i = 0; u->members && i < u->count; i++)
        peer_release(u->members[i].peer);
    if (u->tls)
        tls_context_release(u->tls);
    free(u->members);
    free(u->latencies);
    arena_done(&u->arena);
    free(u);
}

static void on_teller_closed(uv_handle_t *handle)
{
    free(handle);
}

void upstreams_free(struct upstreams *all)
{
    if (all->teller)
        uv_close((uv_handle_t *)all->teller, on_teller_closed);
    for (struct upstream *u = all->first, *next; u; u = next) {
        next = u->next;
        free_upstream(u);
    }
    if (all->tls)
        tls_context_release(all->tls);
    struct resolver *resolver = all->resolver;
    all->resolver = NULL;
    resolver_free(resolver);
    all->first = NULL;
    all->ended = true;
    calls_drop_spare(all);
    upstreams_peer_gone(all);
}

/* Settings of the upstream of this name ("" for none); a slot may have become another's. */
static const struct own_slot *values_of(const struct upstreams *all, const char *name)
{
    return *name ? own_find(&all->board->own, str_from(name)) : NULL;
}

void upstreams_tick(struct upstreams *all)
{
    if (all->io->now_ms < all->ticked_ms + TICK_MS)
        return;
    all->ticked_ms = all->io->now_ms;
    for (struct upstream *u = all->first; u; u = u->next)
        u->values = values_of(all, u->is_named ? u->spec.name : "");
    for (struct peer *p = all->peers; p; p = p->next) {
        p->values = values_of(all, p->upstream);
        atomic_store_explicit(&p->shared->touched_ms, all->io->now_ms, memory_order_relaxed);
    }
}

/* ---- specifications ---- */

static bool is_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same(const struct upstream_spec *a, const struct upstream_spec *b)
{
    if (!is_same_text(a->name, b->name) || a->peer_count != b->peer_count ||
        !str_equal(a->base_path, b->base_path) || a->balance != b->balance || a->hash != b->hash ||
        !is_same_text(a->hash_name, b->hash_name) || !is_same_text(a->health_path, b->health_path) ||
        a->health_interval_ms != b->health_interval_ms || a->health_timeout_ms != b->health_timeout_ms ||
        a->health_status != b->health_status || a->retries != b->retries || a->retry_502 != b->retry_502 ||
        a->retry_503 != b->retry_503 || a->retry_504 != b->retry_504 ||
        a->try_timeout_ms != b->try_timeout_ms || a->hedge != b->hedge ||
        a->slow_start_ms != b->slow_start_ms || a->buffer_request != b->buffer_request ||
        !is_same_text(a->tls_ca, b->tls_ca) || !is_same_text(a->tls_name, b->tls_name) ||
        a->tls_no_verify != b->tls_no_verify)
        return false;
    for (size_t i = 0; i < a->peer_count; i++)
        if (!str_equal(a->peers[i].host, b->peers[i].host) || a->peers[i].port != b->peers[i].port ||
            a->peers[i].is_tls != b->peers[i].is_tls ||
            a->peers[i].weight != b->peers[i].weight)
            return false;
    return true;
}

static const char *copy_text(struct arena *arena, const char *text)
{
    return text ? arena_copy(arena, str_from(text)).p : NULL;
}

static bool copy_spec(struct upstream *u, const struct upstream_spec *from)
{
    struct peer_spec *peers = arena_alloc(&u->arena, from->peer_count * sizeof *peers);
    u->spec = *from;
    u->spec.name = copy_text(&u->arena, from->name);
    u->spec.hash_name = copy_text(&u->arena, from->hash_name);
    u->spec.health_path = copy_text(&u->arena, from->health_path);
    u->spec.tls_ca = copy_text(&u->arena, from->tls_ca);
    u->spec.tls_name = copy_text(&u->arena, from->tls_name);
    u->spec.base_path = arena_copy(&u->arena, from->base_path);
    u->spec.peers = peers;
    for (size_t i = 0; peers && i < from->peer_count; i++) {
        peers[i] = from->peers[i];
        peers[i].host = arena_copy(&u->arena, from->peers[i].host);
    }
    return peers && u->spec.name && u->spec.base_path.p && (!from->hash_name || u->spec.hash_name) &&
           (!from->tls_ca || u->spec.tls_ca) && (!from->tls_name || u->spec.tls_name) &&
           (!from->health_path || u->spec.health_path);
}

/* ---- upstreams ---- */

/* What its TLS peers are trusted by; loading what the system trusts takes
 * milliseconds and megabytes, so that is shared. */
static bool open_tls(struct upstream *u)
{
    struct upstreams *all = u->all;
    char why[TLS_WHY] = "";
    bool wanted = false, own = u->spec.tls_ca || u->spec.tls_no_verify;
    for (size_t i = 0; i < u->spec.peer_count; i++)
        wanted = wanted || u->spec.peers[i].is_tls;
    if (!wanted)
        return true;
    if (!own && all->tls) {
        u->tls = tls_context_retain(all->tls);
        return true;
    }
    struct tls_client_opts opts = {.ca_file = u->spec.tls_ca, .no_verify = u->spec.tls_no_verify};
    u->tls = tls_client_context(&opts, why);
    if (!u->tls)
        log_line(LOG_ERROR, "upstream %s: %s", u->spec.name, why);
    else if (!own)
        all->tls = tls_context_retain(u->tls);
    return u->tls != NULL;
}

static bool add_member(struct upstream *u, const char *name, const struct peer_spec *spec)
{
    struct peer *p = peer_open(u->all, name, spec, &u->spec);
    if (!p)
        return false;
    p->values = u->values;
    for (unsigned i = 0; i < u->count; i++)
        if (u->members[i].peer == p) { /* listed twice: as heavy as both */
            u->members[i].weight += spec->weight;
            peer_release(p);
            return true;
        }
    atomic_store_explicit(&p->shared->weight, spec->weight, memory_order_relaxed);
    u->members[u->count++] = (struct member){.peer = p, .weight = spec->weight};
    return true;
}

static struct upstream *make(struct upstreams *all, const struct upstream_spec *spec, bool is_named)
{
    struct upstream *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    arena_init(&u->arena);
    u->all = all;
    u->references = 1;
    u->is_named = is_named;
    u->values = values_of(all, is_named ? spec->name : "");
    u->members = calloc(spec->peer_count, sizeof *u->members);
    bool ok = u->members && copy_spec(u, spec) && open_tls(u) && (spec->hedge <= 0 || (u->latencies = latencies_new()));
    for (size_t i = 0; ok && i < spec->peer_count; i++)
        ok = add_member(u, is_named ? spec->name : "", &spec->peers[i]);
    if (!ok) {
        free_upstream(u);
        return NULL;
    }
    u->next = all->first;
    all->first = u;
    return u;
}

struct upstream *upstream_open(struct upstreams *all, const struct upstream_spec *spec)
{
    for (struct upstream *u = all->first; u; u = u->next)
        if (u->is_named && is_same(&u->spec, spec)) {
            u->references++;
            return u;
        }
    return make(all, spec, true);
}

void upstream_hold(struct upstream *u)
{
    u->references++;
}

void upstream_release(struct upstream *u)
{
    if (--u->references)
        return;
    for (struct upstream **at = &u->all->first; *at; at = &(*at)->next)
        if (*at == u) {
            *at = u->next;
            break;
        }
    free_upstream(u);
}

struct upstream *upstream_get(struct upstreams *all, struct str host, uint16_t port, bool is_tls)
{
    char name[PEER_ADDRESS];
    snprintf(name, sizeof name, memchr(host.p, ':', host.len) ? "[%.*s]:%u" : "%.*s:%u", STR_ARG(host), port);
    struct peer_spec peer = {.host = host, .port = port, .is_tls = is_tls, .weight = 1};
    struct upstream_spec spec = {.name = name,   .peers = &peer,       .peer_count = 1,   .base_path = STR(""),
                                 .retries = -1,  .try_timeout_ms = -1, .slow_start_ms = -1};
    for (struct upstream *u = all->first; u; u = u->next)
        if (!u->is_named && is_same(&u->spec, &spec))
            return u;
    return make(all, &spec, false);
}

const struct upstream_spec *upstream_spec(const struct upstream *u)
{
    return &u->spec;
}

const char *upstream_name(const struct upstream *u)
{
    return u->spec.name;
}

const char *upstream_authority(const struct upstream *u)
{
    return u->members[0].peer->address;
}

bool upstream_may_log(struct upstream *u)
{
    uint64_t now_ms = u->all->io->now_ms;
    if (u->logged_ms && now_ms < u->logged_ms + LOG_EVERY_MS)
        return false;
    u->logged_ms = now_ms;
    return true;
}
