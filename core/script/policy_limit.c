/* The limits policy: how often, by whom, how many at once.
 *
 * A rate is counted per key (the client's address, a header's value, or one for
 * all) on the board, so it holds over all workers.
 */
// SPDX-License-Identifier: MIT
#include "script/dispatch.h"

#include "board/rates.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum key_kind { KEY_ADDRESS, KEY_HEADER, KEY_ALL };

struct limit_policy {
    bool observe;
    struct rate_limit rate; /* interval 0: none */
    enum key_kind key;
    char *header;
    uint64_t scope; /* routes that share a limit have the same */
};

static double number(lua_State *L, const char *name, double fallback)
{
    lua_getfield(L, -1, name);
    double value = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : fallback;
    lua_pop(L, 1);
    return value;
}

static const char *text(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1); /* stays alive in the table */
    return value;
}

static uint64_t scope_of(const struct route *route, const char *name)
{
    char own[BOARD_ROUTE_NAME + 32];
    if (!name)
        snprintf(own, sizeof own, "%s %s", route->method, route->pattern);
    return board_hash(route->script->board, str_from(name ? name : own), 0);
}

static void *read_limit(lua_State *L, struct script *s, const struct route *route)
{
    const char *mode = text(L, "mode"), *key = text(L, "key");
    double rate = number(L, "rate", 0);
    if (strcmp(mode, "off") == 0 || rate <= 0)
        return NULL;
    struct limit_policy *p = calloc(1, sizeof *p);
    if (!p)
        luaL_error(L, "out of memory");
    p->observe = strcmp(mode, "observe") == 0;
    p->rate.interval_ns = (uint64_t)(1e9 / rate);
    p->rate.burst = (uint64_t)number(L, "burst", fmax(1, ceil(rate)));
    p->scope = scope_of(route, text(L, "name"));
    p->key = strcmp(key, "address") == 0 ? KEY_ADDRESS : strcmp(key, "all") == 0 ? KEY_ALL : KEY_HEADER;
    if (p->key == KEY_HEADER)
        p->header = strdup(key + strlen("header:"));
    return p;
}

static void free_limit(void *policy)
{
    struct limit_policy *p = policy;
    free(p->header);
    free(p);
}

static struct str key_of(const struct limit_policy *p, const struct exchange *ex)
{
    switch (p->key) {
    case KEY_ADDRESS:
        return str_from(exchange_peer(ex));
    case KEY_HEADER:
        return head_find(ex->head, str_from(p->header));
    default:
        return (struct str){NULL, 0};
    }
}

static void refuse(struct exchange *ex, uint64_t wait_ns)
{
    char seconds[24];
    snprintf(seconds, sizeof seconds, "%llu", (unsigned long long)(wait_ns / 1000000000 + 1));
    struct http_header retry = {STR("Retry-After"), str_from(seconds)};
    exchange_problem(ex, 429, "rate_limited", "too many requests from this client for now, see Retry-After",
                     &retry, 1);
}

static enum stage_result enter_limit(struct dispatch *d, void *policy)
{
    struct limit_policy *p = policy;
    struct script *s = d->script;
    uint64_t key = board_hash(s->board, key_of(p, d->ex), p->scope);
    uint64_t wait_ns = rates_take(&s->board->rates, key, &p->rate, s->io->now_ns, false);
    if (!wait_ns)
        return STAGE_GO;
    lane_add(&s->lane->counters[p->observe ? COUNTER_RATE_OBSERVED : COUNTER_RATE_REFUSED], 1);
    if (p->observe)
        return STAGE_GO;
    refuse(d->ex, wait_ns);
    return STAGE_ANSWERED;
}

const struct policy_kind policy_limit = {"limits", read_limit, free_limit, enter_limit};
