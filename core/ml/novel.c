// SPDX-License-Identifier: MIT
#include "ml/novel.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 4096, SHORT_BLOCKS = 1024, LONG_BLOCKS = 512, VIEWS = 3, QUIET_MOST = 4096 };

/* Blocks that ended at least their own length ago. */
struct past {
    uint32_t length, most, count, next;
    float mean[SHORT_BLOCKS], deviation[SHORT_BLOCKS];
};

struct novel {
    struct novel_opts opts;
    uint64_t points;
    double low, high;
    double distances[VIEWS], counted[VIEWS]; /* sums for the running means */
    uint32_t values, next_value;
    float sorted[VALUES], order[VALUES]; /* the past values by size, and by time */
    struct past past[VIEWS - 1];
    uint32_t recent_size; /* power of two above the longest look back */
    double *recent;       /* the newest points */
    float *raw;           /* the newest `quiet` scores */
};

struct novel *novel_new(const struct novel_opts *opts)
{
    struct novel_opts o = opts ? *opts : (struct novel_opts){0};
    o.block = o.block ? o.block : 64;
    o.quiet = o.quiet ? o.quiet : 30;
    o.share = o.share > 0 ? o.share : 0.0025;
    o.rise = o.rise > 0 ? o.rise : 1.2;
    if (o.block < 4 || o.block > 1024 || o.quiet > QUIET_MOST)
        return NULL;
    uint32_t longest = o.block * 5 / 2, size = 8;
    while (size < longest + o.block + 1)
        size *= 2;
    struct novel *n = calloc(1, sizeof *n + size * sizeof(double) + o.quiet * sizeof(float));
    if (!n)
        return NULL;
    n->opts = o;
    n->low = DBL_MAX;
    n->high = -DBL_MAX;
    n->past[0].length = o.block;
    n->past[0].most = SHORT_BLOCKS;
    n->past[1].length = longest;
    n->past[1].most = LONG_BLOCKS;
    n->recent_size = size;
    n->recent = (double *)(n + 1);
    n->raw = (float *)(n->recent + size);
    return n;
}

void novel_free(struct novel *n)
{
    free(n);
}

static uint32_t place_of(const struct novel *n, float x)
{
    uint32_t low = 0, high = n->values;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (n->sorted[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static double value_distance(const struct novel *n, double x)
{
    uint32_t at = place_of(n, (float)x);
    double above = at < n->values ? (double)n->sorted[at] - (double)(float)x : DBL_MAX;
    double below = at ? (double)(float)x - (double)n->sorted[at - 1] : DBL_MAX;
    return fmin(above, below);
}

static void add_value(struct novel *n, double value)
{
    float x = (float)value;
    if (n->values == VALUES) {
        uint32_t gone = place_of(n, n->order[n->next_value]);
        n->values--;
        memmove(n->sorted + gone, n->sorted + gone + 1, (n->values - gone) * sizeof x);
    }
    uint32_t at = place_of(n, x);
    memmove(n->sorted + at + 1, n->sorted + at, (n->values - at) * sizeof x);
    n->sorted[at] = x;
    n->values++;
    n->order[n->next_value] = x;
    n->next_value = (n->next_value + 1) % VALUES;
}

/* Mean and deviation of the `length` points before index `end`. */
static void block_at(const struct novel *n, uint64_t end, uint32_t length, float *mean,
                     float *deviation)
{
    uint32_t mask = n->recent_size - 1;
    double sum = 0, squares = 0;
    for (uint64_t i = end - length; i < end; i++)
        sum += n->recent[i & mask] / length;
    for (uint64_t i = end - length; i < end; i++) {
        double d = n->recent[i & mask] - sum;
        squares += d * d / length;
    }
    *mean = (float)sum;
    *deviation = (float)sqrt(squares);
}

static double block_distance(const struct past *p, float mean, float deviation)
{
    float least = FLT_MAX;
    for (uint32_t i = 0; i < p->count; i++) {
        float x = p->mean[i] - mean, y = p->deviation[i] - deviation;
        float d = x * x + y * y;
        least = d < least ? d : least;
    }
    return sqrt((double)least);
}

/* The distance of view 1 or 2, -1 while there is none; every quarter of a block the
 * block that ended one block ago joins the past. */
static double block_view(struct novel *n, struct past *p)
{
    float mean, deviation;
    double distance = -1;
    if (n->points < p->length)
        return -1;
    if (p->count) {
        block_at(n, n->points, p->length, &mean, &deviation);
        distance = block_distance(p, mean, deviation);
    }
    uint64_t end = n->points - n->opts.block;
    if (n->points >= p->length + n->opts.block && end % (n->opts.block / 4) == 0) {
        block_at(n, end, p->length, &mean, &deviation);
        p->mean[p->next] = mean;
        p->deviation[p->next] = deviation;
        p->next = (p->next + 1) % p->most;
        p->count += p->count < p->most;
    }
    return distance;
}

static double combine(struct novel *n, const double *distance)
{
    double range = n->high - n->low, sum = 0;
    for (int k = 0; k < VIEWS; k++) {
        if (!(distance[k] >= 0))
            continue;
        double mean = n->counted[k] > 0 ? n->distances[k] / n->counted[k] : 0;
        double scale = mean + n->opts.share * range;
        if (scale > 0)
            sum += log1p(distance[k] / scale);
        n->distances[k] += distance[k];
        n->counted[k]++;
    }
    return sum / VIEWS;
}

static double recent_most(const struct novel *n)
{
    float most = 0;
    for (uint32_t i = 0; i < n->opts.quiet; i++)
        most = n->raw[i] > most ? n->raw[i] : most;
    return (double)most;
}

/* Values beyond a float's range would overflow the squares. */
static bool usable(double x)
{
    return fabs(x) < 1e15;
}

struct novel_score novel_next(struct novel *n, double x)
{
    struct novel_score score = {0, 0};
    double distance[VIEWS];
    if (!usable(x))
        return score;
    n->low = fmin(n->low, x);
    n->high = fmax(n->high, x);
    n->recent[n->points++ & (n->recent_size - 1)] = x;
    distance[0] = n->values ? value_distance(n, x) : -1;
    add_value(n, x);
    for (int k = 1; k < VIEWS; k++)
        distance[k] = block_view(n, &n->past[k - 1]);
    score.raw = combine(n, distance);
    double before = recent_most(n);
    if (score.raw > n->opts.rise * before)
        score.event = score.raw;
    n->raw[n->points % n->opts.quiet] = (float)score.raw;
    return score;
}
