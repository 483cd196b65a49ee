/* From a judged request to its handler:
 *
 *     route by path > the stages of its policies > handler, upstream or refusal
 *
 * A stage lets the request go on, answers it, or keeps it for a while and calls
 * dispatch_go() later; meanwhile the generation stays. A route without policies
 * pays nothing for them.
 */
// SPDX-License-Identifier: MIT
#include "script/dispatch.h"

#include "http/compress.h"
#include "http/decode.h"
#include "proxy/forward.h"

static uint32_t board_index(struct script *s, uint32_t *cache, const struct head *head,
                            const char *pattern)
{
    uint32_t *slot = &cache[head->method_id];
    struct str method = head->method_id == METHOD_OTHER ? STR("*") : head->method;
    if (!*slot)
        *slot = 1 + board_route(s->board, method, str_from(pattern));
    return *slot - 1;
}

static void forward_to(struct exchange *ex, struct script *s, const struct script_upstream *to,
                       struct str path, const struct route *route)
{
    struct str query = ex->head->query, base = upstream_spec(to->upstream)->base_path;
    size_t len = base.len + path.len + query.len + 3;
    char *p = arena_alloc(ex->arena, len), *q = p;
    struct forward_opts opts = {
        .all = s->upstreams,
        .upstream = to->upstream,
        .timeout_ms = route->timeout_ms,
        .buffer_request = route->buffer_request,
    };
    if (!p) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    if (base.len)
        q = mempcpy(q, base.p, base.len);
    if (!path.len || (path.p[0] != '/' && path.p[0] != '*'))
        *q++ = '/';
    q = mempcpy(q, path.p, path.len);
    if (query.p) {
        *q++ = '?';
        q = mempcpy(q, query.p, query.len);
    }
    opts.target = (struct str){p, (size_t)(q - p)};
    forward_start(ex, &opts);
}

void script_forward(struct fiber *f, const struct script_upstream *to, struct str path)
{
    struct exchange *ex = f->ex;
    f->ex = NULL; /* the exchange belongs to the proxy from here on */
    ex->user = NULL;
    ex->on_gone = NULL;
    forward_to(ex, f->script, to, path.len ? path : ex->path, f->route);
}

static bool is_quarantined(struct script *s, uint32_t route)
{
    if (!atomic_load_explicit(&s->board->quarantine[0].route, memory_order_relaxed))
        return false; /* they fill from the first on */
    for (int i = 0; i < BOARD_QUARANTINE; i++) {
        struct board_quarantine *q = &s->board->quarantine[i];
        if (atomic_load_explicit(&q->route, memory_order_relaxed) == route + 1 &&
            atomic_load_explicit(&q->kills, memory_order_relaxed) >= 2 &&
            atomic_load_explicit(&q->generation, memory_order_relaxed) == s->generation)
            return true;
    }
    return false;
}

static void answer_options(struct exchange *ex, const char *allow)
{
    struct http_header header = {STR("Allow"), str_from(allow)};
    struct answer answer = {.status = 204, .headers = &header, .header_count = 1};
    exchange_answer(ex, &answer, (struct str){NULL, 0});
}

static void refuse(struct exchange *ex, const struct router_match *match)
{
    const struct head *head = ex->head;
    if (head->method_id == METHOD_OPTIONS && (match->path_known || ex->path.p[0] == '*')) {
        answer_options(ex, match->path_known ? match->allow
                                             : "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    } else if (match->path_known) {
        struct http_header allow = {STR("Allow"), str_from(match->allow)};
        exchange_problem(ex, 405, "method_not_allowed", "this path has other methods, see Allow",
                         &allow, 1);
    } else if (head->method_id == METHOD_OTHER) {
        exchange_problem(ex, 501, "method_unknown", "this method is not implemented", NULL, 0);
    } else {
        exchange_problem(ex, 404, "not_found", "no route takes this path", NULL, 0);
    }
}

/* What a plain proxy route asks its upstream for. */
static struct str proxied_path(struct exchange *ex, const struct route *route,
                               const struct router_match *match)
{
    if (!route->prefix_rest)
        return ex->path;
    struct str rest = match->values[match->params - 1];
    return (struct str){rest.p - 1, rest.len + 1}; /* with the '/' before it */
}

static void run(struct script *s, struct route *route, struct exchange *ex, struct router_match *match)
{
    if (route->handler == LUA_NOREF)
        forward_to(ex, s, route->upstream, proxied_path(ex, route, match), route);
    else
        fiber_start(s, route, ex, match);
}

/* ---- stages ---- */

static void on_gone(struct exchange *ex)
{
    struct dispatch *d = ex->user;
    void (*cancel)(struct dispatch *d) = d->cancel;
    d->cancel = NULL;
    if (cancel)
        cancel(d);
    script_fiber_over(d->script);
}

/* Enters the stages that are left; true when the request may run. */
static bool pass(struct dispatch *d)
{
    for (; d->stage < POLICY_KINDS; d->stage++) {
        const struct policy_kind *kind = policy_kinds[d->stage];
        void *policy = d->route->policies[d->stage];
        if (!policy || !kind->enter)
            continue;
        switch (kind->enter(d, policy)) {
        case STAGE_GO:
            break;
        case STAGE_ANSWERED:
            return false;
        case STAGE_WAIT:
            d->stage++;
            d->waiting = true;
            d->ex->user = d;
            d->ex->on_gone = on_gone;
            d->script->fibers++;
            return false;
        }
    }
    return true;
}

/* All stages are behind it. */
static void run_passed(struct dispatch *d)
{
    for (unsigned i = 0; i < POLICY_KINDS; i++)
        if (d->route->policies[i] && policy_kinds[i]->run)
            policy_kinds[i]->run(d, d->route->policies[i]);
    run(d->script, d->route, d->ex, &d->match);
}

void dispatch_go(struct dispatch *d)
{
    struct exchange *ex = d->ex;
    struct script *s = d->script;
    d->cancel = NULL;
    d->waiting = false;
    ex->user = NULL;
    ex->on_gone = NULL;
    if (pass(d))
        run_passed(d);
    script_fiber_over(s);
}

void dispatch_answered(struct dispatch *d)
{
    script_fiber_over(d->script);
}

void dispatch_again(struct script *s, struct exchange *ex)
{
    struct router_match *match = arena_alloc(ex->arena, sizeof *match);
    struct route *route = s->fallback;
    if (match && router_find(s->router, ex->head->method, ex->path, match))
        route = match->target;
    if (match && route)
        run(s, route, ex, match);
    else
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
}

static bool decodes_requests(const struct route *route)
{
    const struct compress_rules *rules = route->policies[POLICY_COMPRESSION];
    return rules && rules->decode_requests;
}

void script_request(struct script *s, struct exchange *ex)
{
    struct router_match match;
    struct route *route = s->fallback;
    if (router_find(s->router, ex->head->method, ex->path, &match))
        route = match.target;
    else if (ex->head->method_id == METHOD_OTHER)
        route = NULL;
    if (!route) {
        refuse(ex, &match);
        return;
    }
    ex->route = board_index(s, route->index, ex->head, route->pattern);
    if (is_quarantined(s, ex->route)) {
        exchange_problem(ex, 503, "quarantined",
                         "this route is out of service until its script is changed", NULL, 0);
        return;
    }
    if (ex->head->first[FIELD_CONTENT_ENCODING] && decodes_requests(route) && !decode_request(ex))
        return;
    if (ex->head->first[FIELD_ACCEPT_ENCODING] && s->compress && route->policies[POLICY_COMPRESSION])
        compress_push(s->compress, ex, route->policies[POLICY_COMPRESSION]);
    if (!route->has_policies) {
        run(s, route, ex, &match);
        return;
    }
    struct dispatch *d = arena_alloc(ex->arena, sizeof *d);
    if (!d) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    *d = (struct dispatch){.ex = ex, .script = s, .route = route, .match = match};
    if (pass(d))
        run_passed(d);
}
