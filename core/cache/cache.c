/* Looking a request up, and what follows from what is found. */
// SPDX-License-Identifier: MIT
#include "cache/parts.h"

#include "base/log.h"

#include <math.h>
#include <stdlib.h>

enum decision { DECIDE_SERVE, DECIDE_GO, DECIDE_WAIT, DECIDE_TIMEOUT };

/* What the fields of a request mean to the cache. */
struct asked {
    struct directives control;
    bool range, precondition, cookies;
};

struct cache *cache_open(const struct cache_opts *o)
{
    struct cache *c = calloc(1, sizeof *c);
    struct store_opts store = cache_shared_store(o->shared);
    char why[160];
    if (!c)
        return NULL;
    c->io = o->io;
    c->board = o->board;
    c->lane = o->lane;
    c->shared = o->shared;
    c->worker = o->worker;
    c->counts = cache_shared_counts(o->shared, o->worker);
    c->seen = calloc(o->shared->routes_max, sizeof *c->seen);
    if (!c->seen)
        strcpy(why, "out of memory");
    else if (store_open(&c->store, &store, why, sizeof why) == 0) {
        c->writer = writer_new(c->store, c->shared, 2 + o->worker);
        if (c->writer)
            return c;
        store_close(c->store);
        strcpy(why, "no thread");
    }
    atomic_fetch_add(&c->shared->unusable, 1);
    log_line(LOG_ERROR, "the cache in %s cannot be used (%s); serving without", o->shared->folder, why);
    free(c->seen);
    free(c);
    return NULL;
}

void cache_close(struct cache *c)
{
    if (writer_free(c->writer))
        store_close(c->store);
    else
        log_line(LOG_WARN, "the cache's store is held by another process; what waits for it is not stored");
    buf_done(&c->key);
    free(c->seen);
    free(c);
}

void cache_count(struct cache *c, struct exchange *ex, enum cache_count what)
{
    static const enum counter_id totals[CACHE_COUNTS] = {
#define X(id, name) [CACHE_##id] = COUNTER_CACHE_##id,
        CACHE_COUNT_LIST(X)
#undef X
    };
    lane_add(&c->lane->counters[totals[what]], 1);
    if (ex->route < c->shared->routes_max)
        lane_add(&c->counts[ex->route * CACHE_COUNTS + what], 1);
}

/* ---- the request ---- */

static bool is(struct str name, struct str wanted)
{
    return name.len == wanted.len && str_iequal(name, wanted);
}

static void read_request(const struct head *head, struct asked *a)
{
    *a = (struct asked){.cookies = head->first[FIELD_COOKIE] != 0};
    directives_init(&a->control);
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *f = &head->fields[i];
        if (f->id != FIELD_OTHER)
            continue;
        if (is(f->name, STR("cache-control")))
            directives_read(&a->control, f->value);
        else if (is(f->name, STR("range")))
            a->range = true;
        else if (is(f->name, STR("if-match")) || is(f->name, STR("if-unmodified-since")))
            a->precondition = true;
        else if (is(f->name, STR("pragma")) && str_iequal(f->value, STR("no-cache")) && !a->control.present)
            a->control.no_cache = true; /* RFC 9111 5.4 */
    }
}

/* Cookies that are no part of the key speak of a person, and their answers are not for others. */
static bool has_foreign_cookies(const struct head *head, const struct cache_policy *p)
{
    struct str rest = head_get(head, FIELD_COOKIE), pair;
    while (str_next(&rest, ';', &pair)) {
        const char *equal = memchr(pair.p, '=', pair.len);
        struct str names = str_from(p->key_cookies), name;
        struct str own = {pair.p, equal ? (size_t)(equal - pair.p) : pair.len};
        bool known = false;
        while (str_next(&names, ',', &name))
            known = known || str_equal(name, own);
        if (!known)
            return true;
    }
    return false;
}

/* ---- looking up ---- */

bool cache_is_sound(struct cache *c, const struct record_view *view)
{
    uint64_t *seen = &c->sound[view->r.id % SEEN];
    if (*seen == view->r.id && view->r.id)
        return true;
    if (!record_is_sound(view))
        return false;
    *seen = view->r.id;
    return true;
}

/* Whether nothing about this record says that it must not be served. */
static bool is_valid(struct cache *c, const struct record_view *view)
{
    uint64_t invalid = atomic_load_explicit(&c->shared->invalid_ms[cache_slot(cache_target(view->key))],
                                            memory_order_relaxed);
    return view->r.requested_ms > invalid && cache_is_sound(c, view);
}

bool cache_get(struct cache *c, struct str text, struct record_view *view)
{
    struct cache_key key = record_key(text);
    struct str bytes;
    c->hash = key.low;
    if (!store_get(c->store, key, &bytes) || !record_read(bytes, text, view))
        return false;
    store_used(c->store, key);
    return true;
}

static bool get(struct cache *c, struct record_view *view)
{
    return cache_get(c, buf_str(&c->key), view);
}

/* The record for this request: of its key, or of the variant that Vary selects. */
static bool look_up(struct cache_visit *v, struct record_view *view)
{
    struct cache *c = v->cache;
    bool found = get(c, view);
    v->forward = "uri-miss";
    if (found && view->r.kind == RECORD_VARY && is_valid(c, view)) {
        v->forward = "vary-miss";
        key_vary(v->ex->head, view->vary, &c->key);
        found = buf_ok(&c->key) && get(c, view) && view->r.kind == RECORD_ANSWER;
    }
    v->key = buf_str(&c->key);
    return found && view->r.kind == RECORD_ANSWER && is_valid(c, view);
}

bool visit_fits(struct cache_visit *v, const struct record_view *view)
{
    struct buf key = {0};
    bool fits = key_write(v, &key);
    if (fits && view->vary.len)
        key_vary(v->ex->head, view->vary, &key);
    fits = fits && buf_ok(&key) && str_equal(buf_str(&key), view->key);
    buf_done(&key);
    return fits;
}

/* ---- freshness, as this request wants it ---- */

static bool is_fresh(struct cache_visit *v, const struct record_view *view, const struct directives *d)
{
    uint64_t now_ms = v->cache->io->unix_ms;
    int64_t left_s = ((int64_t)view->r.fresh_until_ms - (int64_t)now_ms) / 1000;
    int64_t age_s = view->r.initial_age_s + (int64_t)(now_ms > view->r.responded_ms ? now_ms - view->r.responded_ms : 0) / 1000;
    bool fresh = now_ms < view->r.fresh_until_ms && !(view->r.flags & RECORD_ALWAYS_VALIDATE);
    if (!v->policy->heed_request)
        return fresh;
    if (d->no_cache || (d->max_age != DIRECTIVE_ABSENT && age_s > d->max_age) ||
        (d->min_fresh != DIRECTIVE_ABSENT && left_s < d->min_fresh))
        return false;
    return fresh || (d->max_stale != DIRECTIVE_ABSENT && -left_s <= d->max_stale &&
                     !(view->r.flags & (RECORD_NEVER_STALE | RECORD_ALWAYS_VALIDATE)));
}

static bool may_be_stale(struct cache_visit *v, const struct record_view *view, const struct directives *d)
{
    bool asked_anew = v->policy->heed_request && (d->no_cache || d->max_age != DIRECTIVE_ABSENT);
    return !asked_anew && view->r.stale_while_ms &&
           v->cache->io->unix_ms < view->r.fresh_until_ms + view->r.stale_while_ms;
}

/* XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede
 * Prevention, VLDB 2015): the nearer the end and the costlier the fetch, the likelier. */
static bool wants_refresh(struct cache_visit *v, const struct record_view *view)
{
    if (v->policy->early <= 0)
        return false;
    double left_ms = (double)view->r.fresh_until_ms - (double)v->cache->io->unix_ms;
    return (double)view->r.fetch_ms * v->policy->early * -log((double)(random() + 1) / 2147483649.0) >= left_ms;
}

/* ---- fetching ---- */

static bool keep_key(struct cache_visit *v)
{
    v->key = arena_copy(v->ex->arena, v->key);
    return v->key.p != NULL;
}

static struct buf *copy_record(const struct record_view *view)
{
    struct buf *b = calloc(1, sizeof *b);
    if (b)
        buf_add_str(b, view->bytes);
    if (b && buf_ok(b))
        return b;
    free(b);
    return NULL;
}

static void refresh(struct cache_visit *v, const struct record_view *view)
{
    struct cache *c = v->cache;
    if (flight_find(c, v->key) || flight_is_leased(c, v->key))
        return;
    struct exchange *ex = exchange_detached_new(v->ex);
    struct cache_visit *own = ex ? arena_alloc(ex->arena, sizeof *own) : NULL;
    if (!own) {
        if (ex)
            exchange_detached_over(ex);
        return;
    }
    *own = (struct cache_visit){.cache = c, .ex = ex, .policy = v->policy, .host = v->host, .user = v->user,
                                .key = v->key, .query = v->query, .forward = "stale", .capture = true,
                                .background = true};
    own->old = copy_record(view);
    if (keep_key(own))
        own->leads = flight_begin(own);
    cache_fetch(own);
    v->host->refetch(own, ex);
}

static enum decision go(struct cache_visit *v)
{
    if (!keep_key(v))
        v->capture = false;
    v->leads = v->capture && v->policy->collapse_ms && !v->alone && flight_begin(v);
    return DECIDE_GO;
}

static bool may_wait(struct cache_visit *v)
{
    uint64_t now_ms = v->cache->io->now_ms;
    if (!v->policy->collapse_ms || v->ex->head->method_id != METHOD_GET || flight_is_uncacheable(v->cache, v->key))
        return false;
    if (!v->wait_until_ms)
        v->wait_until_ms = now_ms + v->policy->collapse_ms;
    return now_ms < v->wait_until_ms;
}

/* Not answered from the store: wait for another's fetch, or fetch. */
static enum decision fetch_or_wait(struct cache_visit *v)
{
    struct flight *f = flight_find(v->cache, v->key);
    if (may_wait(v)) {
        if (f) {
            if (!keep_key(v))
                return DECIDE_GO;
            flight_join(v, f);
            return DECIDE_WAIT;
        }
        if (flight_await_lease(v)) {
            keep_key(v);
            return DECIDE_WAIT;
        }
    } else if (f) {
        v->alone = true; /* one flight for a key */
    }
    return go(v);
}

static enum decision decide_found(struct cache_visit *v, const struct record_view *view,
                                  const struct asked *a, enum serve_how *how)
{
    *how = SERVE_HIT;
    if (is_fresh(v, view, &a->control)) {
        if (wants_refresh(v, view))
            refresh(v, view);
        cache_count(v->cache, v->ex, CACHE_HITS);
        return DECIDE_SERVE;
    }
    *how = SERVE_STALE;
    if (may_be_stale(v, view, &a->control)) {
        refresh(v, view);
        cache_count(v->cache, v->ex, CACHE_STALE);
        return DECIDE_SERVE;
    }
    v->forward = v->policy->heed_request && a->control.no_cache ? "request" : "stale";
    if (a->control.only_if_cached)
        return DECIDE_TIMEOUT;
    enum decision d = fetch_or_wait(v);
    if (d == DECIDE_GO)
        v->old = copy_record(view);
    return d;
}

/* Tells the route's miss-ratio curve. */
static void follow(struct cache_visit *v, uint32_t bytes)
{
    struct cache *c = v->cache;
    if (v->ex->route >= c->shared->routes_max || v->wait_until_ms)
        return; /* who has waited was counted before */
    struct curve *curve = cache_shared_curve(c->shared, v->ex->route);
    uint64_t *seen = &c->seen[v->ex->route];
    ++*seen;
    if (curve_follows(curve, c->hash) && curve_use(curve, c->hash, bytes, *seen, c->io->now_ms))
        *seen = 0;
}

/* Needs a read transaction. */
static enum decision decide(struct cache_visit *v, struct record_view *view, enum serve_how *how)
{
    const struct head *head = v->ex->head;
    struct asked a;
    read_request(head, &a);
    v->capture = false;
    if (a.precondition || (a.cookies && v->policy->cookies == COOKIES_BYPASS && has_foreign_cookies(head, v->policy)) ||
        (v->policy->heed_request && a.control.no_store)) {
        v->forward = "bypass";
        cache_count(v->cache, v->ex, CACHE_BYPASSED);
        return DECIDE_GO;
    }
    bool found = look_up(v, view);
    follow(v, found ? store_size(view->bytes.len) : 0);
    v->capture = head->method_id == METHOD_GET && !a.range;
    if (found)
        return decide_found(v, view, &a, how);
    if (a.control.only_if_cached)
        return DECIDE_TIMEOUT;
    if (!v->capture)
        cache_count(v->cache, v->ex, CACHE_MISSES);
    return v->capture ? fetch_or_wait(v) : DECIDE_GO;
}

bool cache_enter(struct cache *c)
{
    if (atomic_load_explicit(&c->shared->broken, memory_order_relaxed) || !store_begin(c->store))
        return false;
    if (!c->entered++)
        atomic_store_explicit(&c->shared->inside[2 + c->worker], 1, memory_order_relaxed);
    return true;
}

void cache_exit(struct cache *c)
{
    if (!--c->entered)
        atomic_store_explicit(&c->shared->inside[2 + c->worker], 0, memory_order_relaxed);
    store_end(c->store);
}

static void refuse(struct exchange *ex)
{
    struct http_header status = {STR("Cache-Status"), STR("perilune; fwd=miss; fwd-status=504")};
    exchange_problem(ex, 504, "not_cached", "only-if-cached was asked for and there is no fresh stored answer",
                     &status, 1);
}

static void serve(struct cache_visit *v, struct exchange *ex, const struct record_view *view, enum serve_how how)
{
    struct serve_opts opts = {.policy = v->policy, .head = ex->head, .how = how};
    ex->phase_ns[PHASE_CACHE] += 1 + io_now(v->cache->io) - v->began_ns;
    serve_record(v->cache, ex, view, &opts);
}

static enum decision look(struct cache_visit *v, struct record_view *view, enum serve_how *how)
{
    struct cache *c = v->cache;
    v->began_ns = c->io->now_ns;
    buf_clear(&c->key);
    if (!key_write(v, &c->key)) {
        v->capture = false;
        v->forward = "bypass";
        return DECIDE_GO;
    }
    return decide(v, view, how);
}

enum cache_verdict cache_visit(struct cache_visit *v)
{
    struct cache *c = v->cache;
    struct record_view view;
    enum serve_how how = SERVE_HIT;
    enum http_method method = v->ex->head->method_id;
    if (method != METHOD_GET && method != METHOD_HEAD) {
        v->invalidates = method != METHOD_OPTIONS && method != METHOD_TRACE;
        v->forward = "method";
        cache_count(c, v->ex, CACHE_BYPASSED);
        return CACHE_GO;
    }
    if (exchange_has_body(v->ex) || !cache_enter(c)) {
        v->forward = "bypass";
        cache_count(c, v->ex, CACHE_BYPASSED);
        return CACHE_GO;
    }
    enum decision d = look(v, &view, &how);
    if (d == DECIDE_SERVE)
        serve(v, v->ex, &view, how);
    else if (d == DECIDE_TIMEOUT)
        refuse(v->ex);
    cache_exit(c);
    return d == DECIDE_GO ? CACHE_GO : d == DECIDE_WAIT ? CACHE_WAIT : CACHE_ANSWERED;
}

void visit_again(struct cache_visit *v)
{
    struct cache *c = v->cache;
    struct record_view view;
    enum serve_how how = SERVE_HIT;
    struct exchange *ex = v->ex;
    void (*release)(void *token) = v->host->release;
    cache_leave(v);
    if (!cache_enter(c)) {
        v->host->go(v);
        return;
    }
    enum decision d = look(v, &view, &how);
    if (d == DECIDE_SERVE || d == DECIDE_TIMEOUT) {
        void *token = v->host->detach(v);
        if (d == DECIDE_SERVE)
            serve(v, ex, &view, how);
        else
            refuse(ex);
        cache_exit(c);
        release(token);
        return;
    }
    cache_exit(c);
    if (d == DECIDE_GO)
        v->host->go(v);
}
