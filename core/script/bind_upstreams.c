// SPDX-License-Identifier: MIT
#include "script/bind_upstreams.h"

#include "proxy/view.h"
#include "script/push.h"
#include "script/state.h"

static void push_peer(lua_State *L, const struct peer_view *v)
{
    lua_createtable(L, 0, 17);
    set_text(L, "address", v->address);
    set_text(L, "state", v->state);
    set_text(L, "health", v->health);
    set_text(L, "last_ejection", v->cause);
    set_number(L, "weight", v->weight);
    set_number(L, "in_flight", (double)v->in_flight);
    set_number(L, "attempts", (double)v->attempts);
    set_number(L, "answers", (double)v->answers);
    set_number(L, "failures", (double)v->failures);
    set_number(L, "failures_in_a_row", (double)v->failures_in_a_row);
    set_number(L, "retries", (double)v->retries);
    set_number(L, "hedges", (double)v->hedges);
    set_number(L, "hedge_wins", (double)v->hedge_wins);
    set_number(L, "ejections", (double)v->ejections);
    set_number(L, "out_for_ms", (double)v->out_for_ms);
    set_number(L, "latency_ms", v->latency_ms);
    set_number(L, "latency_sum_s", v->latency_sum_s);
}

static void push_upstream(lua_State *L, const struct upstream *u)
{
    static const char *const balances[] = {"two_choices", "round_robin", "hash"};
    struct peer_view view;
    lua_createtable(L, 0, 3);
    set_text(L, "name", upstream_name(u));
    set_text(L, "balance", balances[upstream_spec(u)->balance]);
    new_list(L);
    for (unsigned i = 0; upstream_view(u, i, &view); i++) {
        push_peer(L, &view);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "peers");
}

static int lua_list(lua_State *L)
{
    const struct script *s = state_of(L);
    struct upstream *u;
    int n = 0;
    new_list(L);
    for (size_t i = 0; (u = script_upstream(s, i)); i++) {
        push_upstream(L, u);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static struct upstream *find(lua_State *L)
{
    const struct script *s = state_of(L);
    const char *name = luaL_checkstring(L, 1);
    struct upstream *u;
    for (size_t i = 0; (u = script_upstream(s, i)); i++)
        if (strcmp(upstream_name(u), name) == 0)
            return u;
    return NULL;
}

static int refuse(lua_State *L, const char *what, const char *word)
{
    lua_pushnil(L);
    lua_pushstring(L, what);
    lua_pushstring(L, word);
    return 3;
}

static int lua_drain(lua_State *L)
{
    struct upstream *u = find(L);
    bool on = lua_toboolean(L, 3);
    if (!u)
        return refuse(L, "there is no upstream of this name; see GET upstreams", "unknown_upstream");
    struct peer *p = upstream_peer(u, str_from(luaL_checkstring(L, 2)));
    if (!p)
        return refuse(L, "this upstream has no peer of this address; see GET upstreams", "unknown_peer");
    if (peer_is_drained(p) == on)
        return refuse(L, on ? "this peer is draining already" : "this peer is not draining",
                      on ? "already_draining" : "not_draining");
    peer_drain(p, on);
    lua_pushboolean(L, 1);
    return 1;
}

static int lua_undrained(lua_State *L)
{
    const struct upstream *u = find(L);
    lua_pushinteger(L, u ? (int)upstream_undrained(u) : 0);
    return 1;
}

void bind_upstreams_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"list", lua_list}, {"drain", lua_drain}, {"undrained", lua_undrained}, {0}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "upstreams");
}
