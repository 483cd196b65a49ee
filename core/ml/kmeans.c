// SPDX-License-Identifier: MIT
#include "ml/kmeans.h"

#include "base/err.h"
#include "ml/random.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

enum { GROUPS_MOST = 256, BLOCK = 8, FLUSH = 512 /* rows summed in single precision */, SILHOUETTE_ROWS = 1000, COLS_MOST = 4096 };

static const double CHANGED_LEAST = 0.001, SILHOUETTE_LEAST = 0.25;

/* The rows as floats, centred on their column means so that squares keep their digits.
 * `stride` floats a row, a multiple of 4, the rest zeroes. */
struct data {
    size_t rows, cols, stride;
    float *x;
    double *mean;
    double squares; /* sum of the squares of all */
};

static int data_read(struct data *d, const struct mat *rows)
{
    *d = (struct data){.rows = rows->rows, .cols = rows->cols, .stride = (rows->cols + 3) / 4 * 4};
    d->x = aligned_alloc(16, rows->rows * d->stride * sizeof *d->x);
    d->mean = calloc(rows->cols, sizeof *d->mean);
    size_t *n = calloc(rows->cols, sizeof *n);
    bool ok = d->x && d->mean && n;
    for (size_t i = 0; ok && i < d->rows; i++)
        for (size_t j = 0; j < d->cols; j++) {
            double x = mat_row(rows, i)[j];
            if (isfinite(x))
                d->mean[j] += (x - d->mean[j]) / (double)++n[j];
        }
    for (size_t i = 0; ok && i < d->rows; i++)
        for (size_t j = 0; j < d->stride; j++) {
            double x = j < d->cols ? mat_row(rows, i)[j] - d->mean[j] : 0;
            float *to = &d->x[i * d->stride + j];
            *to = isfinite(x) ? (float)x : 0;
            d->squares += (double)*to * (double)*to;
        }
    free(n);
    return ok ? 0 : ERR_NOMEM;
}

static void data_done(struct data *d)
{
    free(d->x);
    free(d->mean);
}

/* ---- distances ---- */

/* Centres in blocks of eight: [block][column][centre of the block], and half their squared
 * lengths. What a block lacks is infinitely far. */
struct blocks {
    size_t count;
    float *v, *half;
};

static void blocks_set(struct blocks *b, const float *centers, size_t k, size_t cols)
{
    for (size_t c = 0; c < b->count * BLOCK; c++) {
        float *half = &b->half[c];
        *half = c < k ? 0 : FLT_MAX;
        for (size_t j = 0; j < cols; j++) {
            float x = c < k ? centers[c * cols + j] : 0;
            b->v[(c / BLOCK * cols + j) * BLOCK + c % BLOCK] = x;
            *half += c < k ? x * x / 2 : 0;
        }
    }
}

static inline v4 load(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline v4 pick(i4 mask, v4 yes, v4 no)
{
    return (v4)((mask & (i4)yes) | (~mask & (i4)no));
}

/* The larger of each lane and its other; no branch, as none could be foretold. */
static inline void fold(v4 *most, i4 *at, v4 other, i4 other_at)
{
    i4 more = other > *most;
    *most = pick(more, other, *most);
    *at = (more & other_at) | (~more & *at);
}

/* The nearest centre: the largest x.c - |c|^2 / 2, which `best` gets. */
static inline uint32_t nearest(const struct blocks *b, const float *x, size_t cols, float *best)
{
    v4 most = {-FLT_MAX, -FLT_MAX, -FLT_MAX, -FLT_MAX};
    i4 at = {0, 1, 2, 3};
    i4 low = {0, 1, 2, 3};
    for (size_t block = 0; block < b->count; block++, low += BLOCK) {
        const float *v = b->v + block * cols * BLOCK;
        v4 first = -load(b->half + block * BLOCK), second = -load(b->half + block * BLOCK + 4);
        for (size_t j = 0; j < cols; j++, v += BLOCK) {
            first += x[j] * load(v);
            second += x[j] * load(v + 4);
        }
        i4 more = first >= second;
        v4 here = pick(more, first, second);
        i4 place = (more & low) | (~more & (low + 4));
        more = here > most;
        most = pick(more, here, most);
        at = (more & place) | (~more & at);
    }
    fold(&most, &at, __builtin_shufflevector(most, most, 2, 3, 0, 1), __builtin_shufflevector(at, at, 2, 3, 0, 1));
    fold(&most, &at, __builtin_shufflevector(most, most, 1, 0, 3, 2), __builtin_shufflevector(at, at, 1, 0, 3, 2));
    *best = most[0];
    return (uint32_t)at[0];
}

static double distance2(const float *a, const float *b, size_t cols)
{
    double sum = 0;
    for (size_t j = 0; j < cols; j++) {
        double d = (double)a[j] - (double)b[j];
        sum += d * d;
    }
    return sum;
}

/* ---- one start ---- */

struct start {
    const struct data *d;
    size_t k;
    float *centers;
    double *sums;
    float *partial; /* k x stride, all zeroes between steps */
    size_t *sizes;
    uint32_t *group;
    struct blocks blocks;
    double inertia, step_s;
    unsigned steps;
};

static int start_new(struct start *s, const struct data *d, size_t k)
{
    *s = (struct start){.d = d, .k = k, .blocks.count = (k + BLOCK - 1) / BLOCK};
    s->centers = malloc(k * d->cols * sizeof *s->centers);
    s->sums = malloc(k * d->cols * sizeof *s->sums);
    s->partial = aligned_alloc(16, k * d->stride * sizeof *s->partial);
    s->sizes = malloc(k * sizeof *s->sizes);
    s->group = malloc(d->rows * sizeof *s->group);
    s->blocks.v = malloc(s->blocks.count * BLOCK * d->cols * sizeof *s->blocks.v);
    s->blocks.half = malloc(s->blocks.count * BLOCK * sizeof *s->blocks.half);
    if (s->partial)
        memset(s->partial, 0, k * d->stride * sizeof *s->partial);
    return s->centers && s->sums && s->partial && s->sizes && s->group && s->blocks.v && s->blocks.half ? 0 : ERR_NOMEM;
}

static void start_done(struct start *s)
{
    free(s->centers);
    free(s->sums);
    free(s->partial);
    free(s->sizes);
    free(s->group);
    free(s->blocks.v);
    free(s->blocks.half);
}

/* k-means++: each centre is a row, chosen with a chance as its squared distance to those before. */
static int seed_centers(struct start *s, struct random *random)
{
    const struct data *d = s->d;
    double *away = malloc(d->rows * sizeof *away);
    if (!away)
        return ERR_NOMEM;
    size_t row = random_below(random, d->rows);
    for (size_t i = 0; i < d->rows; i++)
        away[i] = DBL_MAX;
    for (size_t c = 0; c < s->k; c++) {
        memcpy(s->centers + c * d->cols, d->x + row * d->stride, d->cols * sizeof *s->centers);
        double sum = 0;
        for (size_t i = 0; i < d->rows; i++) {
            double now = distance2(d->x + i * d->stride, s->centers + c * d->cols, d->cols);
            away[i] = now < away[i] ? now : away[i];
            sum += away[i];
        }
        double place = random_unit(random) * sum;
        for (row = 0; row + 1 < d->rows && (place -= away[row]) >= 0;)
            row++;
    }
    free(away);
    return 0;
}

/* What was summed in single precision joins the sums. */
static void flush(struct start *s)
{
    const struct data *d = s->d;
    for (size_t c = 0; c < s->k; c++)
        for (size_t j = 0; j < d->cols; j++)
            s->sums[c * d->cols + j] += (double)s->partial[c * d->stride + j];
    memset(s->partial, 0, s->k * d->stride * sizeof *s->partial);
}

/* Rows to their nearest centres; returns how many changed hands. */
static size_t assign(struct start *s)
{
    const struct data *d = s->d;
    size_t changed = 0;
    double gain = 0;
    blocks_set(&s->blocks, s->centers, s->k, d->cols);
    memset(s->sums, 0, s->k * d->cols * sizeof *s->sums); /* NOLINT(clang-analyzer-unix.Malloc): start_done() */
    memset(s->sizes, 0, s->k * sizeof *s->sizes);
    for (size_t i = 0; i < d->rows; i++) {
        const float *x = d->x + i * d->stride;
        float best;
        uint32_t at = nearest(&s->blocks, x, d->cols, &best);
        v4 *sum = (v4 *)(s->partial + at * d->stride);
        for (size_t j = 0; j < d->stride / 4; j++)
            sum[j] += load(x + 4 * j);
        gain += (double)best;
        changed += s->group[i] != at;
        s->group[i] = at;
        s->sizes[at]++;
        if (i % FLUSH == FLUSH - 1)
            flush(s);
    }
    flush(s);
    s->inertia = d->squares > 2 * gain ? d->squares - 2 * gain : 0;
    return changed;
}

/* Centres to the middle of their rows; one without rows stays. */
static void move_centers(struct start *s)
{
    for (size_t c = 0; c < s->k; c++)
        for (size_t j = 0; j < s->d->cols && s->sizes[c]; j++)
            s->centers[c * s->d->cols + j] = (float)(s->sums[c * s->d->cols + j] / (double)s->sizes[c]);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void lloyd(struct start *s, unsigned steps)
{
    double began = seconds();
    memset(s->group, 0xff, s->d->rows * sizeof *s->group);
    for (s->steps = 0; s->steps < steps;) {
        size_t changed = assign(s);
        s->steps++;
        if ((double)changed <= CHANGED_LEAST * (double)s->d->rows)
            break;
        move_centers(s);
    }
    s->step_s = (seconds() - began) / s->steps;
}

/* ---- all starts, all k ---- */

static int model_of(struct kmeans **out, struct start *s)
{
    struct kmeans *m = calloc(1, sizeof *m);
    if (!m)
        return ERR_NOMEM;
    *m = (struct kmeans){.k = s->k, .cols = s->d->cols, .centers = s->centers, .group = s->group, .sizes = s->sizes,
                         .inertia = s->inertia, .silhouette = NAN, .steps = s->steps, .step_s = s->step_s};
    for (size_t c = 0; c < m->k; c++) /* back from around the mean */
        for (size_t j = 0; j < m->cols; j++)
            m->centers[c * m->cols + j] += (float)s->d->mean[j];
    s->centers = NULL;
    s->group = NULL;
    s->sizes = NULL;
    *out = m;
    return 0;
}

static int best_start(struct kmeans **out, const struct data *d, size_t k, const struct kmeans_opts *o)
{
    struct start best = {0};
    int err = 0;
    for (unsigned i = 0; i < o->starts && !err; i++) {
        struct start s;
        struct random random = random_fork(o->seed, (uint64_t)i * GROUPS_MOST + k);
        err = start_new(&s, d, k);
        if (!err)
            err = seed_centers(&s, &random);
        if (!err)
            lloyd(&s, o->steps);
        if (!err && (!best.centers || s.inertia < best.inertia)) {
            start_done(&best);
            best = s;
        } else {
            start_done(&s);
        }
    }
    if (!err)
        err = model_of(out, &best);
    start_done(&best);
    return err;
}

static int choose(struct kmeans **out, const struct data *d, const struct mat *rows, const struct kmeans_opts *o)
{
    size_t most = o->k_most < d->rows ? o->k_most : d->rows;
    struct kmeans *best = NULL;
    int err = best_start(&best, d, 1, o);
    double top = SILHOUETTE_LEAST;
    for (size_t k = 2; k <= most && !err; k++) {
        struct kmeans *m = NULL;
        err = best_start(&m, d, k, o);
        if (!err)
            m->silhouette = kmeans_silhouette(m, rows, o->seed);
        if (!err && m->silhouette > top) {
            top = m->silhouette;
            kmeans_free(best);
            best = m;
        } else {
            kmeans_free(m);
        }
    }
    if (err)
        kmeans_free(best);
    else
        *out = best;
    return err;
}

int kmeans_fit(struct kmeans **out, const struct mat *rows, const struct kmeans_opts *opts)
{
    struct kmeans_opts o = opts ? *opts : (struct kmeans_opts){0};
    struct data d;
    *out = NULL;
    o.k_most = o.k_most ? o.k_most : 8;
    o.steps = o.steps ? o.steps : 100;
    o.starts = o.starts ? o.starts : 3;
    if (!rows->rows || !rows->cols || o.k > rows->rows || o.k > GROUPS_MOST || o.k_most > GROUPS_MOST)
        return ERR_INVAL;
    if (rows->cols > COLS_MOST || rows->rows > UINT32_MAX)
        return ERR_TOO_LARGE;
    int err = data_read(&d, rows);
    if (!err && o.k) {
        err = best_start(out, &d, o.k, &o);
        if (!err && o.k > 1)
            (*out)->silhouette = kmeans_silhouette(*out, rows, o.seed);
    } else if (!err) {
        err = choose(out, &d, rows, &o);
    }
    data_done(&d);
    return err;
}

void kmeans_free(struct kmeans *m)
{
    if (!m)
        return;
    free(m->centers);
    free(m->group);
    free(m->sizes);
    free(m);
}

/* ---- what it says ---- */

static double gap2(const struct kmeans *m, const double *row, size_t c)
{
    double sum = 0;
    for (size_t j = 0; j < m->cols; j++) {
        double d = row[j] - (double)m->centers[c * m->cols + j];
        sum += isfinite(d) ? d * d : 0;
    }
    return sum;
}

uint32_t kmeans_group(const struct kmeans *m, const double *row, double *distance)
{
    uint32_t best = 0;
    double least = DBL_MAX;
    for (size_t c = 0; c < m->k; c++) {
        double now = gap2(m, row, c);
        if (now < least) {
            least = now;
            best = (uint32_t)c;
        }
    }
    if (distance)
        *distance = sqrt(least);
    return best;
}

/* Mean distance of row i to the sampled rows of each group. */
static double silhouette_of(const struct kmeans *m, const struct mat *rows, const size_t *sample, size_t count, size_t i,
                            double *sum, size_t *n)
{
    uint32_t own = m->group[sample[i]];
    memset(sum, 0, m->k * sizeof *sum);
    memset(n, 0, m->k * sizeof *n);
    for (size_t other = 0; other < count; other++) {
        if (other == i)
            continue;
        const double *a = mat_row(rows, sample[i]), *b = mat_row(rows, sample[other]);
        double square = 0;
        for (size_t j = 0; j < m->cols; j++) {
            double d = a[j] - b[j];
            square += isfinite(d) ? d * d : 0;
        }
        sum[m->group[sample[other]]] += sqrt(square);
        n[m->group[sample[other]]]++;
    }
    if (!n[own])
        return 0; /* alone */
    double inside = sum[own] / (double)n[own], outside = DBL_MAX;
    for (size_t c = 0; c < m->k; c++)
        if (c != own && n[c] && sum[c] / (double)n[c] < outside)
            outside = sum[c] / (double)n[c];
    double more = inside > outside ? inside : outside;
    return outside < DBL_MAX && more > 0 ? (outside - inside) / more : 0;
}

double kmeans_silhouette(const struct kmeans *m, const struct mat *rows, uint64_t seed)
{
    if (m->k < 2)
        return NAN;
    size_t count = rows->rows < SILHOUETTE_ROWS ? rows->rows : SILHOUETTE_ROWS;
    size_t *sample = malloc(count * sizeof *sample), *n = malloc(m->k * sizeof *n);
    double *sum = malloc(m->k * sizeof *sum), total = 0;
    struct random random = random_fork(seed, 99);
    for (size_t i = 0; sample && i < count; i++) /* one of each of `count` equal parts */
        sample[i] = i * rows->rows / count + random_below(&random, rows->rows / count);
    for (size_t i = 0; sample && n && sum && i < count; i++)
        total += silhouette_of(m, rows, sample, count, i, sum, n);
    bool ok = sample && n && sum;
    free(sample);
    free(n);
    free(sum);
    return ok ? total / (double)count : NAN;
}
