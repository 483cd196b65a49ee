/* The cache policy: which answers of a route are kept, for how long, for whom. */
// SPDX-License-Identifier: MIT
#include "script/dispatch.h"

#include "cache/cache.h"
#include "script/fields.h"

#include <stdio.h>
#include <stdlib.h>

/* A list of strings joined by commas; the schema has bounded it. */
static void list(lua_State *L, const char *name, char *out, size_t size, bool lower)
{
    size_t used = 0;
    out[0] = 0;
    lua_getfield(L, -1, name);
    for (int i = 1, n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        const char *one = lua_tostring(L, -1);
        size_t len = strlen(one);
        if (used + len + 2 > size)
            luaL_error(L, "the list '%s' is too long", name);
        if (used)
            out[used++] = ',';
        for (size_t k = 0; k < len; k++)
            out[used++] = lower ? ascii_lower(one[k]) : one[k];
        out[used] = 0;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_by_status(lua_State *L, struct fresh_opts *fresh)
{
    lua_getfield(L, -1, "ttl_by_status");
    if (lua_istable(L, -1))
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (fresh->by_status_count == STATUS_TTLS_MAX)
                luaL_error(L, "'ttl_by_status' has at most %d statuses", STATUS_TTLS_MAX);
            struct status_ttl one = {(int)lua_tonumber(L, -2), lua_tonumber(L, -1)};
            fresh->by_status[fresh->by_status_count++] = one;
        }
    lua_pop(L, 1);
}

static enum cache_query query_of(const char *word)
{
    static const char *const words[] = {"all", "none", "keep", "ignore"};
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(word, words[i]) == 0)
            return (enum cache_query)i;
    return QUERY_ALL;
}

static void *read_cache(lua_State *L, struct script *s, const struct route *route)
{
    (void)s;
    (void)route;
    if (strcmp(field_text(L, "mode"), "on") != 0)
        return NULL;
    /* Filled where Lua may raise without leaving it behind. */
    struct cache_policy *p = lua_newuserdata(L, sizeof *p);
    memset(p, 0, sizeof *p);
    lua_insert(L, -2);
    p->fresh = (struct fresh_opts){
        .ttl_s = field_number(L, "ttl", -1),
        .force_ttl_s = field_number(L, "force_ttl", -1),
        .stale_while_s = field_number(L, "stale_while_revalidate", 0),
        .stale_error_s = field_number(L, "stale_if_error", 0),
        .heuristic = field_number(L, "heuristic", 0),
        .heuristic_most_s = field_number(L, "heuristic_max", 86400),
    };
    read_by_status(L, &p->fresh);
    p->query = query_of(field_text(L, "query"));
    p->cookies = strcmp(field_text(L, "cookies"), "strip") == 0 ? COOKIES_STRIP : COOKIES_BYPASS;
    list(L, "query_names", p->query_names, sizeof p->query_names, false);
    list(L, "key_headers", p->key_headers, sizeof p->key_headers, true);
    list(L, "key_cookies", p->key_cookies, sizeof p->key_cookies, false);
    const char *tag_header = field_text(L, "tag_header");
    snprintf(p->tag_header, sizeof p->tag_header, "%s", tag_header ? tag_header : "");
    p->max_object_bytes = (uint64_t)field_number(L, "max_object_bytes", 0);
    p->collapse_ms = (uint64_t)(field_number(L, "collapse", 0) * 1e3);
    p->early = field_number(L, "early", 0);
    p->heed_request = field_flag(L, "heed_request");
    p->status_header = field_flag(L, "status_header");
    struct cache_policy *kept = malloc(sizeof *kept);
    if (!kept)
        luaL_error(L, "out of memory");
    else
        *kept = *p;
    lua_remove(L, -2);
    return kept;
}

/* ---- the stage ---- */

static void go(struct cache_visit *v)
{
    dispatch_go(v->user);
}

static void *detach(struct cache_visit *v)
{
    struct dispatch *d = v->user;
    d->cancel = NULL;
    d->waiting = false;
    d->ex->user = NULL;
    d->ex->on_gone = NULL;
    return d->script;
}

static void release(void *token)
{
    script_fiber_over(token);
}

static void refetch(struct cache_visit *v, struct exchange *ex)
{
    struct dispatch *d = v->user;
    dispatch_again(d->script, ex);
}

static const struct cache_host host = {go, detach, release, refetch};

static void cancel(struct dispatch *d)
{
    cache_leave(d->cached);
}

static enum stage_result enter_cache(struct dispatch *d, void *policy)
{
    struct script *s = d->script;
    struct cache_visit *v = s->cache ? arena_alloc(d->ex->arena, sizeof *v) : NULL;
    if (!v)
        return STAGE_GO;
    *v = (struct cache_visit){.cache = s->cache, .ex = d->ex, .policy = policy, .host = &host, .user = d};
    d->cached = v;
    switch (cache_visit(v)) {
    case CACHE_ANSWERED:
        return STAGE_ANSWERED;
    case CACHE_WAIT:
        d->cancel = cancel;
        return STAGE_WAIT;
    default:
        return STAGE_GO;
    }
}

static void run_cache(struct dispatch *d, void *policy)
{
    (void)policy;
    if (d->cached)
        cache_fetch(d->cached);
}

const struct policy_kind policy_cache = {.name = "cache", .read = read_cache, .free = free, .enter = enter_cache,
                                         .run = run_cache};
