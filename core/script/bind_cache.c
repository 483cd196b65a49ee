// SPDX-License-Identifier: MIT
#include "script/bind_cache.h"

#include "base/log.h"
#include "cache/writer.h"
#include "script/push.h"

#include <lauxlib.h>
#include <stdlib.h>

enum { CONTROL = 1 }; /* this process's place in the table of who is inside of the store */

struct cache_desk {
    struct board *board;
    struct cache_shared *shared;
    struct store *store;
    struct writer *writer;
};

struct cache_desk *cache_desk_new(struct board *board, struct cache_shared *shared)
{
    char why[160];
    struct store_opts store;
    struct cache_desk *d = shared ? calloc(1, sizeof *d) : NULL;
    if (!d)
        return NULL;
    d->board = board;
    d->shared = shared;
    store = cache_shared_store(shared);
    if (store_open(&d->store, &store, why, sizeof why) == 0) {
        d->writer = writer_new(d->store, shared, CONTROL);
        if (d->writer)
            return d;
        store_close(d->store);
    } else {
        log_line(LOG_ERROR, "the cache in %s cannot be looked at: %s", shared->folder, why);
    }
    free(d);
    return NULL;
}

void cache_desk_free(struct cache_desk *d)
{
    if (!d)
        return;
    if (writer_free(d->writer))
        store_close(d->store);
    free(d);
}

static struct cache_desk *desk_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static bool usage_of(struct cache_desk *d, struct store_usage *usage)
{
    if (atomic_load(&d->shared->broken))
        return false;
    atomic_store(&d->shared->inside[CONTROL], 1);
    bool ok = store_usage(d->store, usage);
    atomic_store(&d->shared->inside[CONTROL], 0);
    return ok;
}

static void push_routes(lua_State *L, struct cache_desk *d)
{
    int n = 0;
    new_list(L);
    for (uint32_t r = 0; r < d->shared->routes_max; r++) {
        const struct board_route *route = &d->board->routes[r];
        uint64_t counts[CACHE_COUNTS], total = 0;
        for (int i = 0; i < CACHE_COUNTS; i++)
            total += counts[i] = cache_shared_count(d->shared, r, (enum cache_count)i);
        if (!total || atomic_load(&route->state) != 2)
            continue;
        lua_createtable(L, 0, CACHE_COUNTS + 3);
        set_number(L, "id", r);
        set_text(L, "route", route->name);
        set_text(L, "method", route->method);
        for (int i = 0; i < CACHE_COUNTS; i++)
            set_number(L, cache_count_names[i], (double)counts[i]);
        lua_rawseti(L, -2, ++n);
    }
}

static int lua_view(lua_State *L)
{
    struct cache_desk *d = desk_of(L);
    struct store_usage usage;
    if (!d || !usage_of(d, &usage))
        return 0;
    lua_createtable(L, 0, 7);
    set_number(L, "bytes", (double)usage.bytes);
    set_number(L, "limit_bytes", (double)d->shared->bytes);
    set_number(L, "entries", (double)usage.entries);
    set_number(L, "small_queue_bytes", (double)usage.small_bytes);
    set_number(L, "evictions", (double)usage.evictions);
    set_number(L, "evicted_bytes", (double)usage.evicted_bytes);
    push_routes(L, d);
    lua_setfield(L, -2, "routes");
    return 1;
}

static int lua_miss_ratio(lua_State *L)
{
    struct cache_desk *d = desk_of(L);
    lua_Number route = luaL_checknumber(L, 1), bytes = luaL_checknumber(L, 2);
    if (!d || !(route >= 0 && route < d->shared->routes_max) || !(bytes >= 0 && bytes < 9e15))
        return 0;
    double ratio = curve_miss_ratio(cache_shared_curve(d->shared, (uint32_t)route), (uint64_t)bytes);
    if (ratio < 0)
        return 0;
    lua_pushnumber(L, ratio);
    return 1;
}

static int lua_purge(lua_State *L)
{
    static const char *const words[] = {"key", "prefix", "tag", "all", NULL};
    struct cache_desk *d = desk_of(L);
    enum purge what = (enum purge)luaL_checkoption(L, 1, NULL, words);
    size_t len;
    const char *text = luaL_optlstring(L, 2, "", &len);
    uint64_t ticket = d && !atomic_load(&d->shared->broken) ? writer_purge(d->writer, what, (struct str){text, len}) : 0;
    if (!ticket)
        return 0;
    lua_pushnumber(L, (double)ticket);
    return 1;
}

static int lua_purged(lua_State *L)
{
    struct cache_desk *d = desk_of(L);
    int64_t count;
    if (!d || !writer_purged(d->writer, (uint64_t)luaL_checknumber(L, 1), &count))
        return 0;
    lua_pushnumber(L, (double)count);
    return 1;
}

void bind_cache_open(lua_State *L, struct cache_desk *desk)
{
    static const luaL_Reg functions[] = {
        {"view", lua_view}, {"miss_ratio", lua_miss_ratio}, {"purge", lua_purge}, {"purged", lua_purged}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushlightuserdata(L, desk);
        lua_pushcclosure(L, functions[i].func, 1);
        lua_setfield(L, -2, functions[i].name);
    }
    lua_setfield(L, -2, "cache");
}
