/* dispatch.h - a request on its way from its route to its handler, for the
 * stages of policies (policy.h); inside of core/script only.
 *
 * Owner:   the exchange's arena.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "script/policy.h"
#include "script/state.h"

struct dispatch {
    struct exchange *ex;
    struct script *script;
    struct route *route;
    struct router_match match;
    unsigned stage;  /* the next one */
    bool waiting;    /* a stage keeps it */
    struct cache_visit *cached; /* of the cache stage, or NULL */
    void *user;      /* of the stage that keeps it */
    void (*cancel)(struct dispatch *d); /* of that stage: the client has gone */
};

/* Ends a STAGE_WAIT: the request goes on. From the loop, never from inside enter(). */
void dispatch_go(struct dispatch *d);

/* Has a detached exchange (server.h) answered by its route, without any stage. */
void dispatch_again(struct script *s, struct exchange *ex);

/* Ends a STAGE_WAIT by an answer; to be called before the exchange is answered. */
void dispatch_answered(struct dispatch *d);
