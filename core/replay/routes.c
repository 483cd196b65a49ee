// SPDX-License-Identifier: MIT
#include "replay/routes.h"

#include "stats/sketch_algebra.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct route *other_routes(struct routes *r)
{
    struct route *rest = &r->list[ROUTES_MOST - 1];
    if (!rest->name_len)
        rest->name_len = (size_t)snprintf(rest->name, sizeof rest->name, "(other routes)");
    return rest;
}

static struct route *find_route(struct routes *r, struct str name)
{
    uint64_t at = str_hash(name);
    for (;; at++) {
        struct route *one = &r->list[at % (ROUTES_MOST - 1)];
        if (one->requests && one->name_len == name.len && memcmp(one->name, name.p, name.len) == 0)
            return one;
        if (one->requests)
            continue;
        if (r->count >= (ROUTES_MOST - 1) * 3 / 4)
            return other_routes(r); /* a fuller table would search too long */
        r->count++;
        memcpy(one->name, name.p, name.len);
        one->name_len = name.len;
        return one;
    }
}

static void count(struct route *one, const struct entry *e, unsigned bucket)
{
    one->requests++;
    one->errors += e->status >= 500;
    one->bytes += e->bytes;
    if (e->seconds < 0)
        return;
    one->timed++;
    one->seconds += e->seconds;
    one->latency[bucket]++;
}

/* "GET /users/:id"; the method is one of few, or the path would not be believed. */
static struct str name_of(struct routes *r, const struct entry *e, char out[ROUTE_NAME])
{
    if (!e->path.p)
        return STR("(no path)");
    size_t n = e->method.len < 16 ? e->method.len : 16;
    if (n) {
        memcpy(out, e->method.p, n);
        out[n++] = ' ';
    }
    return (struct str){out, n + templates_apply(&r->templates, e->path, out + n)};
}

void routes_add(struct routes *r, const struct entry *e)
{
    char text[ROUTE_NAME];
    unsigned bucket = e->seconds < 0 ? 0 : sketch_index((uint64_t)fmin(e->seconds * 1e9, 1e18));
    count(&r->total, e, bucket);
    count(find_route(r, name_of(r, e, text)), e, bucket);
}

static void join(struct route *to, struct route *from)
{
    to->requests += from->requests;
    to->errors += from->errors;
    to->bytes += from->bytes;
    to->timed += from->timed;
    to->seconds += from->seconds;
    sketch_merge(to->latency, from->latency, SKETCH_BUCKETS);
    from->requests = from->timed = 0;
    from->seconds = 0;
}

/* A route from before its folder was known to hold ids gets the name it would have now. */
static void rename_route(struct routes *r, struct route *one)
{
    char text[ROUTE_NAME];
    const char *slash = memchr(one->name, '/', one->name_len);
    if (!slash)
        return;
    size_t method = (size_t)(slash - one->name);
    memcpy(text, one->name, method);
    struct str path = {slash, one->name_len - method};
    size_t len = method + templates_apply(&r->templates, path, text + method);
    memcpy(one->name, text, len);
    one->name_len = len;
}

static int by_weight(const void *a, const void *b)
{
    const struct route *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds < y->seconds ? 1 : -1;
    return x->requests < y->requests ? 1 : x->requests > y->requests ? -1 : 0;
}

void routes_settle(struct routes *r)
{
    r->templates.settled = true;
    for (unsigned i = 0; i < ROUTES_MOST - 1; i++)
        if (r->list[i].requests)
            rename_route(r, &r->list[i]);
    for (unsigned i = 0; i < ROUTES_MOST; i++)
        for (unsigned k = i + 1; r->list[i].requests && k < ROUTES_MOST; k++)
            if (r->list[k].requests && r->list[k].name_len == r->list[i].name_len &&
                memcmp(r->list[k].name, r->list[i].name, r->list[i].name_len) == 0)
                join(&r->list[i], &r->list[k]);
    qsort(r->list, ROUTES_MOST, sizeof *r->list, by_weight);
    for (r->count = 0; r->count < ROUTES_MOST && r->list[r->count].requests;)
        r->count++;
}

double route_quantile_ms(const struct route *one, double q)
{
    return sketch_quantile_ns(one->latency, SKETCH_BUCKETS, SKETCH_SCALE, q) / 1e6;
}

double route_errors(const struct route *one)
{
    return one->requests ? (double)one->errors / (double)one->requests : 0;
}
