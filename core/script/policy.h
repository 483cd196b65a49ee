/* policy.h - opinions about routes that are Lua files: rules/policies/KIND.lua.
 *
 *     file > checked by its schema > one flat table for each route
 *          > read once into a C struct > stage of the request's way
 *
 * The schema (lua/perilune/core/policies/KIND.lua) names every key with type,
 * bounds and meaning; lua/perilune/core/policy.lua checks a file against it and
 * resolves its `routes` overrides. A kind without a file of the user has the
 * program's own.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>
#include <stdbool.h>

struct dispatch;
struct route;
struct script;

enum policy_id {
    POLICY_LIMIT,
    POLICY_COMPRESSION,
    POLICY_CACHE,
    POLICY_KINDS
};

enum stage_result {
    STAGE_GO,       /* on to the next stage */
    STAGE_WAIT,     /* kept; dispatch_go() or dispatch_answered() later */
    STAGE_ANSWERED, /* the exchange has its answer, or somebody who will give it */
};

struct policy_kind {
    const char *name;
    /* The table of one route, on top of the stack, to a struct; NULL: nothing to
     * do for this route. May raise. */
    void *(*read)(lua_State *L, struct script *s, const struct route *route);
    void (*free)(void *policy);
    /* Each request of the route passes here; NULL: no stage. */
    enum stage_result (*enter)(struct dispatch *d, void *policy);
    /* A request that passed all stages is about to reach its handler; NULL: nothing to do.
     * A filter pushed here sees the answer before those of the stages. */
    void (*run)(struct dispatch *d, void *policy);
};

/* In the order in which a request passes their stages. */
extern const struct policy_kind *const policy_kinds[POLICY_KINDS];

extern const struct policy_kind policy_limit, policy_compression, policy_cache;
