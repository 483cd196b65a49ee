// SPDX-License-Identifier: MIT
#include "script/bind_compression.h"

#include "codec/codec.h"
#include "script/push.h"
#include "stats/compression.h"

#include <lauxlib.h>

/* The same counts as a lane has, of all lanes. */
struct sums {
    uint64_t bodies[CODING_COUNT], in[CODING_COUNT], out[CODING_COUNT], cpu_ns[CODING_COUNT];
    uint64_t skipped[SKIP_COUNT];
    uint64_t offloaded, reused, lowered;
    uint64_t total; /* answers compressed or not: 0 when there is nothing to show */
};

static const char *const skip_names[SKIP_COUNT] = {
#define X(id, name) [SKIP_##id] = name,
    SKIP_LIST(X)
#undef X
};

static void add_lane(struct sums *s, const struct compression_lane *lane)
{
    for (int i = 0; i < CODING_COUNT; i++) {
        const struct coding_lane *c = &lane->codings[i];
        s->bodies[i] += lane_get(&c->bodies);
        s->in[i] += lane_get(&c->bytes_in);
        s->out[i] += lane_get(&c->bytes_out);
        s->cpu_ns[i] += lane_get(&c->cpu_ns);
        s->total += lane_get(&c->bodies);
    }
    for (int i = 0; i < SKIP_COUNT; i++) {
        s->skipped[i] += lane_get(&lane->skipped[i]);
        s->total += lane_get(&lane->skipped[i]);
    }
    s->offloaded += lane_get(&lane->offloaded);
    s->reused += lane_get(&lane->reused);
    s->lowered += lane_get(&lane->lowered);
}

static void push_codings(lua_State *L, const struct sums *s)
{
    int n = 0;
    new_list(L);
    for (int i = 0; i < CODING_COUNT; i++) {
        if (!s->bodies[i] && !s->cpu_ns[i])
            continue;
        lua_createtable(L, 0, 5);
        set_text(L, "coding", codec_name((enum codec_id)(i + 1)));
        set_number(L, "bodies", (double)s->bodies[i]);
        set_number(L, "bytes_in", (double)s->in[i]);
        set_number(L, "bytes_out", (double)s->out[i]);
        set_number(L, "cpu_s", (double)s->cpu_ns[i] / 1e9);
        lua_rawseti(L, -2, ++n);
    }
}

static void push_route(lua_State *L, const struct board_route *route, const struct sums *s)
{
    lua_createtable(L, 0, 6);
    set_text(L, "route", route->name);
    set_text(L, "method", route->method);
    set_number(L, "offloaded", (double)s->offloaded);
    set_number(L, "reused", (double)s->reused);
    set_number(L, "lowered", (double)s->lowered);
    push_codings(L, s);
    lua_setfield(L, -2, "codings");
    lua_createtable(L, 0, SKIP_COUNT);
    for (int i = 0; i < SKIP_COUNT; i++)
        set_number(L, skip_names[i], (double)s->skipped[i]);
    lua_setfield(L, -2, "skipped");
}

static int lua_routes(lua_State *L)
{
    struct board *board = lua_touserdata(L, lua_upvalueindex(1));
    int n = 0;
    new_list(L);
    for (uint32_t r = 0; r < board->routes_max; r++) {
        struct sums sums = {0};
        for (uint32_t w = 0; w < board->workers; w++)
            add_lane(&sums, &board_lane(board, w)->routes[r].compression);
        if (!sums.total || atomic_load(&board->routes[r].state) != 2)
            continue;
        push_route(L, &board->routes[r], &sums);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

void bind_compression_open(lua_State *L, struct board *board)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, board);
    lua_pushcclosure(L, lua_routes, 1);
    lua_setfield(L, -2, "routes");
    lua_setfield(L, -2, "compression");
}
