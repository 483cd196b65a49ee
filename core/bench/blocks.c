// SPDX-License-Identifier: MIT
#include "bench/blocks.h"

#include "ml/random.h"

#include <stdlib.h>
#include <string.h>

enum { DRAWS = 500, FIGURES = 4 };

static const uint64_t FIRST_LENGTH_NS = 1000000000;
static const double OUTSIDE = 0.05; /* by halves on either side */

bool bench_blocks_init(struct bench_blocks *b)
{
    *b = (struct bench_blocks){.length_ns = FIRST_LENGTH_NS, .list = calloc(BLOCKS_MOST, sizeof *b->list)};
    return b->list;
}

void bench_blocks_done(struct bench_blocks *b)
{
    free(b->list);
    *b = (struct bench_blocks){0};
}

static void merge(struct bench_block *into, const struct bench_block *from)
{
    into->answered += from->answered;
    for (unsigned i = 0; i < SKETCH_BUCKETS; i++)
        into->response[i] += from->response[i];
}

/* Blocks twice as long. A last one without a neighbour stays, still to be filled. */
static void lengthen(struct bench_blocks *b)
{
    for (unsigned i = 0; i < b->count; i++)
        if (i % 2)
            merge(&b->list[i / 2], &b->list[i]);
        else if (i)
            b->list[i / 2] = b->list[i];
    unsigned left = (b->count + 1) / 2;
    memset(&b->list[left], 0, (b->count - left) * sizeof *b->list);
    b->count = left;
    b->length_ns *= 2;
}

struct bench_block *bench_blocks_at(struct bench_blocks *b, uint64_t after_ns)
{
    while (after_ns / b->length_ns >= BLOCKS_MOST)
        lengthen(b);
    unsigned i = (unsigned)(after_ns / b->length_ns);
    if (i >= b->count)
        b->count = i + 1;
    return &b->list[i];
}

void bench_blocks_end(struct bench_blocks *b, double seconds)
{
    unsigned whole = (unsigned)(seconds * 1e9 / (double)b->length_ns + 1e-6);
    if (whole > BLOCKS_MOST)
        whole = BLOCKS_MOST;
    for (unsigned i = whole; i < b->count; i++)
        memset(&b->list[i], 0, sizeof *b->list);
    b->count = whole; /* more than there were: nothing was asked in the last seconds */
}

/* An odd one at the end would be half as long as the others. */
static void lengthen_whole(struct bench_blocks *b)
{
    if (b->count % 2)
        memset(&b->list[--b->count], 0, sizeof *b->list);
    lengthen(b);
}

void bench_blocks_append(struct bench_blocks *b, struct bench_blocks *more)
{
    if (!b->count)
        b->length_ns = more->length_ns;
    while (b->length_ns < more->length_ns)
        lengthen_whole(b);
    while (more->length_ns < b->length_ns)
        lengthen_whole(more);
    while (b->count + more->count > BLOCKS_MOST) {
        lengthen_whole(b);
        lengthen_whole(more);
    }
    memcpy(&b->list[b->count], more->list, more->count * sizeof *more->list);
    b->count += more->count;
}

struct span { /* the buckets that are in use */
    unsigned first, end;
};

static struct span used(const struct bench_blocks *b)
{
    struct span s = {SKETCH_BUCKETS, 0};
    for (unsigned i = 0; i < b->count; i++)
        for (unsigned k = 0; k < SKETCH_BUCKETS; k++)
            if (b->list[i].response[k]) {
                s.first = k < s.first ? k : s.first;
                s.end = k + 1 > s.end ? k + 1 : s.end;
            }
    return s;
}

/* One draw of as many blocks as there are. */
static void draw(const struct bench_blocks *b, struct span s, struct random *random, double figures[FIGURES])
{
    static const double quantiles[] = {.5, .95, .99};
    uint32_t times[BLOCKS_MOST] = {0}, sum[SKETCH_BUCKETS] = {0};
    uint64_t answered = 0;
    for (unsigned i = 0; i < b->count; i++)
        times[random_below(random, b->count)]++;
    for (unsigned i = 0; i < b->count; i++) {
        if (!times[i])
            continue;
        answered += (uint64_t)times[i] * b->list[i].answered;
        for (unsigned k = s.first; k < s.end; k++)
            sum[k] += times[i] * b->list[i].response[k];
    }
    figures[0] = (double)answered / ((double)b->count * (double)b->length_ns / 1e9);
    for (unsigned q = 0; q < 3; q++)
        figures[1 + q] = sketch_quantile_ns(sum, SKETCH_BUCKETS, SKETCH_SCALE, quantiles[q]) / 1e6;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static struct bench_interval middle(double *values)
{
    qsort(values, DRAWS, sizeof *values, by_size);
    unsigned outside = (unsigned)(DRAWS * OUTSIDE / 2);
    return (struct bench_interval){values[outside], values[DRAWS - 1 - outside]};
}

bool bench_blocks_intervals(const struct bench_blocks *b, uint64_t seed, struct bench_intervals *out)
{
    double(*values)[DRAWS] = b->count >= BLOCKS_LEAST ? malloc(FIGURES * sizeof *values) : NULL;
    if (!values)
        return false;
    struct random random = {seed};
    struct span s = used(b);
    for (unsigned d = 0; d < DRAWS; d++) {
        double figures[FIGURES];
        draw(b, s, &random, figures);
        for (unsigned f = 0; f < FIGURES; f++)
            values[f][d] = figures[f];
    }
    *out = (struct bench_intervals){middle(values[0]), middle(values[1]), middle(values[2]), middle(values[3])};
    free(values);
    return true;
}
