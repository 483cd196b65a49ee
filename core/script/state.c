/* Making and ending a generation; finding the route of a request. */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "base/log.h"
#include "proxy/forward.h"
#include "script/json.h"

#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>

static const char state_key; /* its address is the registry key of the struct */

struct script *state_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&state_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct script *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return s;
}

struct fiber *fiber_running(lua_State *L)
{
    struct script *s = state_of(L);
    if (!s->running)
        luaL_error(L, "this waits, so it can only be called while a request is handled, "
                      "not while a file is loaded");
    return s->running;
}

static int on_panic(lua_State *L)
{
    log_line(LOG_ERROR, "Lua panic outside of any protection: %s",
             lua_isstring(L, -1) ? lua_tostring(L, -1) : "?");
    abort();
}

static void copy_named(struct script *s, const struct script_opts *opts)
{
    size_t bytes = 1;
    for (size_t i = 0; i < opts->named_count; i++)
        bytes += strlen(opts->named[i].name) + opts->named[i].host.len +
                 opts->named[i].base_path.len + 3;
    char *p = s->named_text = malloc(bytes);
    s->named = calloc(opts->named_count + 1, sizeof *s->named);
    if (!p || !s->named)
        return;
    for (size_t i = 0; i < opts->named_count; i++) {
        const struct script_upstream *from = &opts->named[i];
        s->named[i].name = strcpy(p, from->name);
        p += strlen(p) + 1;
        s->named[i].host = (struct str){memcpy(p, from->host.p, from->host.len), from->host.len};
        p += from->host.len;
        *p++ = 0;
        s->named[i].port = from->port;
        s->named[i].base_path = (struct str){p, from->base_path.len};
        if (from->base_path.len)
            memcpy(p, from->base_path.p, from->base_path.len);
        p += from->base_path.len;
        *p++ = 0;
        if (opts->default_upstream && strcmp(from->name, opts->default_upstream) == 0)
            s->fallback = &s->named[i];
    }
    s->named_count = opts->named_count;
}

static void script_free(struct script *s)
{
    for (struct fiber *f = s->spare, *next; f; f = next) {
        next = f->next;
        buf_done(&f->body);
        free(f);
    }
    if (s->L) {
        heap_close(&s->heap);
        lua_close(s->L);
    }
    router_free(s->router);
    for (struct route *r = s->routes, *next; r; r = next) {
        next = r->next;
        free(r->method);
        free(r->pattern);
        free(r->file);
        free(r->prefix_rest);
        free(r);
    }
    free(s->named);
    free(s->named_text);
    buf_done(&s->json);
    free(s);
}

struct script *script_new(const struct script_opts *opts, struct problems *problems)
{
    const struct settings *settings = &opts->board->settings;
    struct script *s = calloc(1, sizeof *s);
    if (!s || !(s->L = luaL_newstate()) || !(s->router = router_new())) {
        problems_add(problems, "", 0, "out of memory");
        if (s)
            script_free(s);
        return NULL;
    }
    s->io = opts->io;
    s->board = opts->board;
    s->process = opts->process;
    s->lane = opts->lane;
    s->upstreams = opts->upstreams;
    s->generation = opts->generation;
    s->routes_under = opts->routes_under;
    s->routes_except = opts->routes_except;
    copy_named(s, opts);
    lua_atpanic(s->L, on_panic);
    double soft = setting_number(settings, SETTING_SCRIPT_MEMORY_BYTES);
    heap_open(&s->heap, s->L, (size_t)soft,
              (size_t)(soft * setting_number(settings, SETTING_SCRIPT_MEMORY_FACTOR)));
    luaL_openlibs(s->L);
    luaJIT_setmode(s->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_pushlightuserdata(s->L, (void *)&state_key);
    lua_pushlightuserdata(s->L, s);
    lua_rawset(s->L, LUA_REGISTRYINDEX);
    size_t before = problems->count;
    if (!loader_run(s, opts, problems) || problems->count > before) {
        script_free(s);
        return NULL;
    }
    return s;
}

void script_retire(struct script *s)
{
    s->retired = true;
    if (!s->fibers)
        script_free(s);
}

void script_end(struct script *s)
{
    while (s->fibers > 1)
        fiber_cancel(s->active);
    s->retired = true;
    if (s->fibers)
        fiber_cancel(s->active); /* the last one frees the generation */
    else
        script_free(s);
}

void script_fiber_over(struct script *s)
{
    s->fibers--;
    if (s->retired && !s->fibers)
        script_free(s);
}

uint64_t script_generation(const struct script *s)
{
    return s->generation;
}

size_t script_heap_bytes(const struct script *s)
{
    return s->heap.used_bytes;
}

size_t script_route_count(const struct script *s)
{
    return s->route_count;
}

/* ---- requests ---- */

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
                       struct str path, uint64_t timeout_ms)
{
    struct str query = ex->head->query;
    size_t len = to->base_path.len + path.len + query.len + 3;
    char *p = arena_alloc(ex->arena, len), *q = p;
    struct forward_opts opts = {.all = s->upstreams, .timeout_ms = timeout_ms};
    opts.upstream = upstream_get(s->upstreams, to->host, to->port);
    if (!p || !opts.upstream) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    if (to->base_path.len)
        q = mempcpy(q, to->base_path.p, to->base_path.len);
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
    ex->is_fiber = false;
    forward_to(ex, f->script, to, path.len ? path : ex->path, f->route->timeout_ms);
}

static bool is_quarantined(struct script *s, uint32_t route)
{
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

static void no_route(struct script *s, struct exchange *ex, const struct router_match *match)
{
    const struct head *head = ex->head;
    if (s->fallback && head->method_id != METHOD_OTHER) {
        ex->route = board_index(s, s->fallback_index, head, "/*");
        forward_to(ex, s, s->fallback, ex->path, 0);
    } else if (head->method_id == METHOD_OPTIONS && (match->path_known || ex->path.p[0] == '*')) {
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

void script_request(struct script *s, struct exchange *ex)
{
    struct router_match match;
    if (!router_find(s->router, ex->head->method, ex->path, &match)) {
        no_route(s, ex, &match);
        return;
    }
    struct route *route = match.target;
    ex->route = board_index(s, route->index, ex->head, route->pattern);
    if (is_quarantined(s, ex->route)) {
        exchange_problem(ex, 503, "quarantined",
                         "this route is out of service until its script is changed", NULL, 0);
        return;
    }
    if (route->handler == LUA_NOREF)
        forward_to(ex, s, route->upstream, proxied_path(ex, route, &match), route->timeout_ms);
    else
        fiber_start(s, route, ex, &match);
}

void script_gone(struct exchange *ex)
{
    if (!ex->user)
        return;
    if (ex->is_fiber)
        fiber_client_gone(ex);
    else
        forward_cancel(ex);
}
