// SPDX-License-Identifier: MIT
#include "ml/forest.h"

#include "base/err.h"
#include "ml/random.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { LEVELS = 8, SAMPLE_MOST = 1 << LEVELS, TREES_MOST = 10000, LANES = 8, TILE_FLOATS = 2048 };

/* A complete binary tree: the node behind node i is 2 i, and one more for a row whose
 * value is below the split. Values are compared as unsigned numbers of the same order,
 * so that the comparison's carry is the bit to add. Below a leaf nothing is less than 0:
 * a walk of all levels ends at the place where its length is. */
struct node {
    uint32_t split;
    uint32_t feature;
};

struct tree {
    struct node nodes[SAMPLE_MOST]; /* the root is 1 */
    float length[SAMPLE_MOST];      /* of the path that ends here */
};

struct forest {
    size_t cols;
    uint32_t trees;
    double normal; /* mean path of a sample */
    double *mean;  /* of a column, for NaN */
    struct tree *tree;
};

/* ---- growing ---- */

struct grower {
    struct tree *tree;
    struct random random;
    size_t cols;
    const double *rows[SAMPLE_MOST];
};

static double harmonic(double n)
{
    return log(n) + 0.57721566490153286;
}

/* Mean length of an unsuccessful search in a binary tree of n rows. */
static double mean_path(double n)
{
    return n > 2 ? 2 * harmonic(n - 1) - 2 * (n - 1) / n : n == 2 ? 1 : 0;
}

/* A number of the same order; of no NaN. Never 0. */
static uint32_t key_of(double x)
{
    x = x < -FLT_MAX ? -FLT_MAX : x > FLT_MAX ? FLT_MAX : x;
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits >> 31 ? ~bits : bits | UINT32_C(1) << 31;
}

static void bounds(const struct grower *g, uint32_t from, uint32_t to, size_t feature, double *low, double *high)
{
    *low = DBL_MAX;
    *high = -DBL_MAX;
    for (uint32_t i = from; i < to; i++) {
        double x = g->rows[i][feature];
        *low = x < *low ? x : *low;
        *high = x > *high ? x : *high;
    }
}

/* A random column that has two values, and a place between them. A few tries find one
 * unless nearly all are constant; then all are looked at. */
static bool choose_split(struct grower *g, uint32_t from, uint32_t to, struct node *node)
{
    size_t first = random_below(&g->random, g->cols);
    for (size_t i = 0; i < g->cols; i++) {
        size_t feature = i < 4 && i ? random_below(&g->random, g->cols) : (first + i) % g->cols;
        double low, high;
        bounds(g, from, to, feature, &low, &high);
        uint32_t least = key_of(low), most = key_of(high);
        if (low > high || least >= most)
            continue;
        uint32_t split = key_of(low + (high - low) * random_unit(&g->random));
        node->split = split > least ? split : least + 1;
        node->feature = (uint32_t)feature;
        return true;
    }
    return false;
}

static uint32_t partition(struct grower *g, uint32_t from, uint32_t to, const struct node *node)
{
    uint32_t at = from;
    for (uint32_t i = from; i < to; i++) {
        const double *row = g->rows[i];
        bool below = key_of(row[node->feature]) < node->split;
        g->rows[i] = g->rows[at];
        g->rows[at] = row;
        at += below;
    }
    return at;
}

static void grow(struct grower *g, uint32_t at, uint32_t from, uint32_t to, int level)
{
    struct tree *tree = g->tree;
    if (level == LEVELS || to - from < 2 || !choose_split(g, from, to, &tree->nodes[at])) {
        tree->length[(at << (LEVELS - level)) - SAMPLE_MOST] = (float)(level + mean_path(to - from));
        return;
    }
    uint32_t middle = partition(g, from, to, &tree->nodes[at]);
    grow(g, 2 * at + 1, from, middle, level + 1);
    grow(g, 2 * at, middle, to, level + 1);
}

/* The row, or its copy without NaN. */
static const double *complete(const struct forest *f, const double *row, double *copy)
{
    bool whole = true;
    for (size_t j = 0; j < f->cols; j++)
        whole &= row[j] == row[j]; /* NOLINT(clang-analyzer-core.NullDereference): a matrix with rows has values */
    for (size_t j = 0; j < f->cols && !whole; j++)
        copy[j] = row[j] == row[j] ? row[j] : f->mean[j];
    return whole ? row : copy;
}

/* Rows without replacement: Floyd's algorithm, with a set of what was drawn. They are
 * spread over memory, so they are asked for long before the first is looked at. */
static void draw(struct grower *g, const struct mat *train, uint32_t count)
{
    enum { SLOTS = 1024 };
    size_t slot[SLOTS] = {0}; /* row + 1 */
    uint32_t n = 0;
    for (size_t top = train->rows - count; top < train->rows; top++) {
        size_t row = random_below(&g->random, top + 1);
        for (;;) {
            size_t at = row * 0x9e3779b97f4a7c15u >> 54;
            while (slot[at] && slot[at] != row + 1)
                at = (at + 1) % SLOTS;
            if (!slot[at]) {
                slot[at] = row + 1;
                break;
            }
            row = top; /* drawn already: the newest candidate is not */
        }
        g->rows[n] = mat_row(train, row);
        __builtin_prefetch(g->rows[n++]);
    }
}

static void prepare(struct grower *g, struct forest *f, uint32_t tree, uint64_t seed, const struct mat *train, uint32_t count)
{
    *g = (struct grower){.tree = &f->tree[tree], .random = random_fork(seed, tree), .cols = f->cols};
    memset(g->tree, 0, sizeof *g->tree);
    draw(g, train, count);
}

/* Column means over some rows. */
static void learn_means(struct forest *f, const struct mat *train)
{
    for (size_t j = 0; j < f->cols; j++) {
        double sum = 0;
        size_t n = 0, step = train->rows / 1024 + 1;
        for (size_t i = 0; i < train->rows; i += step) {
            double x = mat_row(train, i)[j];
            if (isfinite(x)) {
                sum += x;
                n++;
            }
        }
        f->mean[j] = n ? sum / (double)n : 0;
    }
}

int forest_fit(struct forest **out, const struct mat *train, const struct forest_opts *opts)
{
    struct forest_opts o = opts ? *opts : (struct forest_opts){0};
    *out = NULL;
    o.trees = o.trees ? o.trees : 100;
    o.sample = o.sample ? o.sample : SAMPLE_MOST;
    if (!train->rows || !train->cols || o.trees > TREES_MOST || o.sample < 2 || o.sample > SAMPLE_MOST)
        return ERR_INVAL;
    if (train->cols > MAT_COLS_MOST)
        return ERR_TOO_LARGE;
    struct forest *f = calloc(1, sizeof *f);
    uint32_t count = train->rows < o.sample ? (uint32_t)train->rows : o.sample;
    if (!f || !(f->mean = calloc(train->cols, sizeof *f->mean)) ||
        !(f->tree = malloc(o.trees * sizeof *f->tree))) {
        forest_free(f);
        return ERR_NOMEM;
    }
    f->cols = train->cols;
    f->trees = o.trees;
    f->normal = fmax(mean_path(count), 1);
    learn_means(f, train);
    double *clean = malloc(count * train->cols * sizeof *clean);
    if (!clean) {
        forest_free(f);
        return ERR_NOMEM;
    }
    struct grower growers[2], *now = &growers[0], *next = &growers[1];
    prepare(now, f, 0, o.seed, train, count);
    for (uint32_t t = 0; t < o.trees; t++) { /* the next one's rows come while one grows */
        if (t + 1 < o.trees)
            prepare(next, f, t + 1, o.seed, train, count);
        for (uint32_t i = 0; i < count; i++)
            now->rows[i] = complete(f, now->rows[i], clean + i * f->cols);
        grow(now, 1, 0, count, 0);
        struct grower *done = now;
        now = next;
        next = done;
    }
    free(clean);
    *out = f;
    return 0;
}

void forest_free(struct forest *f)
{
    if (!f)
        return;
    free(f->mean);
    free(f->tree);
    free(f);
}

size_t forest_cols(const struct forest *f)
{
    return f->cols;
}

/* ---- scoring ---- */

static double score_of(const struct forest *f, double length)
{
    return exp2(-length / f->trees / f->normal);
}

static uint32_t usable(const struct forest *f, double x, size_t j)
{
    return key_of(x == x ? x : f->mean[j]);
}

double forest_score_one(const struct forest *f, const double *row)
{
    double sum = 0;
    for (uint32_t t = 0; t < f->trees; t++) {
        const struct tree *tree = &f->tree[t];
        uint32_t at = 1;
        for (int level = 0; level < LEVELS; level++) {
            const struct node *node = &tree->nodes[at];
            at = 2 * at + (usable(f, row[node->feature], node->feature) < node->split);
        }
        sum += (double)tree->length[at - SAMPLE_MOST];
    }
    return score_of(f, sum);
}

/* Eight rows through one tree; x holds a column of them after the other. */
static inline void walk(const struct tree *tree, const uint32_t *x, float *sum)
{
    uint32_t at[LANES] = {1, 1, 1, 1, 1, 1, 1, 1};
#pragma GCC unroll 8
    for (int level = 0; level < LEVELS; level++)
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++) {
            const struct node *node = &tree->nodes[at[i]];
            at[i] = at[i] + at[i] + (x[(size_t)node->feature * LANES + (size_t)i] < node->split);
        }
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++)
        sum[i] += tree->length[at[i] - SAMPLE_MOST];
}

/* Rows are taken in tiles that stay in the first cache while all trees pass over them. */
static void score_tile(const struct forest *f, const uint32_t *x, size_t rows, float *sum)
{
    for (uint32_t t = 0; t < f->trees; t++)
        for (size_t i = 0; i < rows; i += LANES)
            walk(&f->tree[t], x + i * f->cols, sum + i);
}

int forest_score(const struct forest *f, const struct mat *rows, double *out)
{
    if (rows->cols != f->cols)
        return ERR_INVAL;
    size_t tile = TILE_FLOATS / f->cols / LANES * LANES;
    tile = tile ? tile : LANES;
    uint32_t *x = malloc(tile * f->cols * sizeof *x);
    float *sum = malloc(tile * sizeof *sum);
    if (!x || !sum) {
        free(x);
        free(sum);
        return ERR_NOMEM;
    }
    for (size_t from = 0; from < rows->rows; from += tile) {
        size_t n = rows->rows - from < tile ? rows->rows - from : tile;
        size_t padded = (n + LANES - 1) / LANES * LANES;
        memset(x + (padded - LANES) * f->cols, 0, LANES * f->cols * sizeof *x);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < f->cols; j++)
                x[(i / LANES * f->cols + j) * LANES + i % LANES] = usable(f, mat_row(rows, from + i)[j], j);
        memset(sum, 0, padded * sizeof *sum);
        score_tile(f, x, padded, sum);
        for (size_t i = 0; i < n; i++)
            out[from + i] = score_of(f, (double)sum[i]);
    }
    free(x);
    free(sum);
    return 0;
}
