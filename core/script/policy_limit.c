/* The limits policy: how often, by whom, how many at once.
 *
 * A rate is counted per key (the client's address, a header's value, or one for
 * all) on the board, so it holds over all workers. How many may be under way at
 * once is a number or found by watching (board/limiter.h).
 */
// SPDX-License-Identifier: MIT
#include "script/admission.h"
#include "script/fields.h"

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
    struct admission_opts admission; /* limiter NULL: any number at once */
    uint64_t scope; /* routes that share a limit have the same */
};

static uint64_t scope_of(const struct route *route, const char *name)
{
    char own[BOARD_ROUTE_NAME + 32];
    if (!name)
        snprintf(own, sizeof own, "%s %s", route->method, route->pattern);
    return board_hash(route->script->board, str_from(name ? name : own), 0);
}

static void read_concurrency(lua_State *L, struct limit_policy *p, const struct route *route)
{
    static const char *const priorities[] = {"critical", "high", "normal", "low"};
    const char *priority = field_text(L, "priority"), *name = field_text(L, "name");
    double fixed = field_number(L, "concurrency", 0);
    struct limiter_opts opts = {
        .name = name ? name : route->pattern,
        .adaptive = fixed == 0,
        .initial = (uint32_t)field_number(L, "initial", 20),
        .least = (uint32_t)field_number(L, "least", 4),
        .most = fixed > 0 ? (uint32_t)fixed : (uint32_t)field_number(L, "most", 1000),
    };
    struct board *board = route->script->board;
    p->admission = (struct admission_opts){
        .limiter = limiter_get(&board->limiters, p->scope | 1, &opts),
        .queue = (uint32_t)field_number(L, "queue", 100),
        .queue_ms = (uint64_t)field_number(L, "queue_ms", 0),
        .observe = p->observe,
    };
    if (!p->admission.limiter)
        luaL_error(L, "there are more than %d concurrency limits; give routes that belong together one name",
                   LIMITER_CLASSES);
    for (int i = 0; i < PRIORITIES; i++)
        if (strcmp(priority, priorities[i]) == 0)
            p->admission.priority = (enum admission_priority)i;
}

static void *read_limit(lua_State *L, struct script *s, const struct route *route)
{
    const char *mode = field_text(L, "mode"), *key = field_text(L, "key");
    double rate = field_number(L, "rate", 0);
    lua_getfield(L, -1, "concurrency");
    bool concurrency = !lua_isnil(L, -1);
    lua_pop(L, 1);
    if (strcmp(mode, "off") == 0 || (rate <= 0 && !concurrency))
        return NULL;
    struct limit_policy *p = calloc(1, sizeof *p);
    if (!p) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    p->observe = strcmp(mode, "observe") == 0;
    p->rate.interval_ns = rate > 0 ? (uint64_t)(1e9 / rate) : 0;
    p->rate.burst = (uint64_t)field_number(L, "burst", fmax(1, ceil(rate)));
    p->scope = scope_of(route, field_text(L, "name"));
    p->key = strcmp(key, "address") == 0 ? KEY_ADDRESS : strcmp(key, "all") == 0 ? KEY_ALL : KEY_HEADER;
    if (p->key == KEY_HEADER)
        p->header = strdup(key + strlen("header:"));
    if (concurrency)
        read_concurrency(L, p, route);
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
    snprintf(seconds, sizeof seconds, "%llu", (unsigned long long)wait_ns / 1000000000 + 1);
    struct http_header retry = {STR("Retry-After"), str_from(seconds)};
    exchange_problem(ex, 429, "rate_limited", "too many requests from this client for now, see Retry-After",
                     &retry, 1);
}

/* False: it has been refused. */
static bool within_rate(struct dispatch *d, const struct limit_policy *p)
{
    struct script *s = d->script;
    uint64_t key = board_hash(s->board, key_of(p, d->ex), p->scope);
    uint64_t wait_ns = rates_take(&s->board->rates, key, &p->rate, s->io->now_ns, false);
    if (!wait_ns)
        return true;
    lane_add(&s->lane->counters[p->observe ? COUNTER_RATE_OBSERVED : COUNTER_RATE_REFUSED], 1);
    if (!p->observe)
        refuse(d->ex, wait_ns);
    return p->observe;
}

static enum stage_result enter_limit(struct dispatch *d, void *policy)
{
    struct limit_policy *p = policy;
    if (p->rate.interval_ns && !within_rate(d, p))
        return STAGE_ANSWERED;
    return p->admission.limiter ? admission_enter(d, &p->admission) : STAGE_GO;
}

const struct policy_kind policy_limit = {.name = "limits", .read = read_limit, .free = free_limit, .enter = enter_limit};
