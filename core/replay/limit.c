// SPDX-License-Identifier: MIT
#include "replay/limit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool read_value(const char *text, struct limit *out)
{
    char *unit;
    out->most = strtod(text, &unit);
    if (unit == text || !isfinite(out->most) || out->most < 0)
        return false;
    if (out->quantile < 0)
        return strcmp(unit, "%") == 0;
    if (strcmp(unit, "s") == 0)
        out->most *= 1000;
    return strcmp(unit, "s") == 0 || strcmp(unit, "ms") == 0;
}

bool limit_read(const char *text, struct limit *out)
{
    static const struct {
        const char *name;
        double quantile;
    } names[] = {{"p50", .5}, {"p90", .9}, {"p95", .95}, {"p99", .99}, {"p99.9", .999}, {"errors", -1}};
    const char *space = strrchr(text, ' '), *what = space ? space + 1 : text, *above = strchr(what, '>');
    if (!above)
        return false;
    out->route = (struct str){text, space ? (size_t)(space - text) : 0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!str_equal((struct str){what, (size_t)(above - what)}, str_from(names[i].name)))
            continue;
        out->quantile = names[i].quantile;
        return read_value(above + 1, out);
    }
    return false;
}

static const struct route *route_of(const struct limit *limit, const struct routes *r)
{
    if (!limit->route.len)
        return &r->total;
    for (unsigned i = 0; i < r->count; i++)
        if (str_equal(limit->route, (struct str){r->list[i].name, r->list[i].name_len}))
            return &r->list[i];
    return NULL;
}

bool limit_passed(const struct limit *limit, const char *text, const struct routes *r)
{
    const struct route *one = route_of(limit, r);
    if (!one) {
        fprintf(stderr, "perilune: --fail-on '%s' cannot be judged: the log has no such route\n", text);
        return true;
    }
    if (limit->quantile >= 0 && !one->timed) {
        fprintf(stderr, "perilune: --fail-on '%s' cannot be judged: no line has a request time\n", text);
        return true;
    }
    double value = limit->quantile >= 0 ? route_quantile_ms(one, limit->quantile) : 100 * route_errors(one);
    if (value <= limit->most)
        return false;
    fprintf(stderr, "perilune: failed: %s, it is %.2f %s\n", text, value, limit->quantile >= 0 ? "ms" : "%");
    return true;
}
