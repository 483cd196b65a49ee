/* routes.h - what each route has seen, in bounded memory.
 *
 * ROUTES_MOST routes of ~7 KB; what comes when the table is full counts to "(other routes)". A folder
 * under which more than TEMPLATE_CHILDREN different names were seen is taken for one with names as ids
 * ("/u/:name"); its routes are joined in routes_settle().
 *
 * Owner:   whoever has zeroed memory for it. Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "replay/entry.h"
#include "replay/template.h"
#include "stats/sketch.h"

enum { ROUTES_MOST = 512, ROUTE_NAME = TEMPLATE_SIZE + 24 };

struct route {
    char name[ROUTE_NAME]; /* "GET /users/:id" */
    size_t name_len;
    uint64_t requests, errors, bytes, timed;
    double seconds;
    uint32_t latency[SKETCH_BUCKETS];
};

struct routes {
    struct templates templates;
    unsigned count;
    struct route total;
    struct route list[ROUTES_MOST]; /* the last one holds what does not fit */
};

void routes_add(struct routes *r, const struct entry *e);

/* Joins what turned out to be one route and sorts by time spent, then by requests. Nothing can be added after. */
void routes_settle(struct routes *r);

double route_quantile_ms(const struct route *one, double q);
double route_errors(const struct route *one); /* share, 0 to 1 */
