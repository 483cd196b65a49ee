/* router.h - finds the target of a path in a tree of segments.
 *
 * Patterns: "/api/users/:id" (a segment that is not empty), "*rest" as last segment (all
 * that is left, last only). A fixed segment is preferred to a parameter, a
 * parameter to a rest; the search goes back when the better branch has no end.
 *
 * Owner:   whoever called router_new(); ends with router_free(). Targets are
 *          the caller's.
 * Threads: one writer before use; then any reader.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { ROUTER_PARAMS_MAX = 16, ROUTER_SEGMENTS_MAX = 64 };

struct router;

struct router_match {
    void *target;                         /* NULL: see allow */
    const struct str *names;              /* of the parameters, in order */
    struct str values[ROUTER_PARAMS_MAX]; /* as in the path, undecoded */
    unsigned params;
    bool automatic_head; /* a GET target answers this HEAD */
    bool path_known;     /* the path exists, with other methods: 405 */
    char allow[128];     /* "GET, HEAD, OPTIONS" when path_known */
};

struct router *router_new(void);
void router_free(struct router *r);

/* Adds a target; method "*" takes any. NULL, or why not ("method and path are
 * taken", "must begin with '/'", ...). */
const char *router_add(struct router *r, struct str method, struct str pattern, void *target);

/* Looks a canonical path up. True when out->target is set. */
bool router_find(const struct router *r, struct str method, struct str path,
                 struct router_match *out);
