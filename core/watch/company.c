// SPDX-License-Identifier: MIT
#include "watch/company.h"

#include "ml/conformal.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { RECENT = 16, ENTER = 12, LEAVE = 4, RANKS = 1024, DETECTOR_RANKS = 64 };

static const double MOST = 1000; /* in the detector's scale: nothing that was measured */
static const double ALPHA = 0.01, KNOWN = 0.5 /* share of rows, or of a row */, UNIT = 0.01 /* a floor, in the same */;
static const double SMOOTH = 0.2, SEVERITY_SMOOTH = 0.05, PART_SMOOTH = 0.05; /* weights of the newest */
static const double FAR = 2; /* severity of a single sample that is no ordinary one's */
static const double weights[DETECTOR_CHANNELS] = {1, 1, 2}; /* the other two are of signals alone, which series.h sees */
static const double STEER = 0.0005, SHARE_BOUND = 5; /* see steer() */

/* Of some scores: what is between 0 and 1 of a severity. */
struct scale {
    double middle, width;
};

struct company {
    size_t cols;
    double *unit;  /* cols: from a signal's scale to the detector's */
    float *rows;   /* COMPANY_ROWS x cols, a ring of clean ones */
    uint32_t count, next, fresh; /* rows; of them, since the last fit */
    float *waiting; /* RECENT x cols, the quarantine */
    double waiting_severity[RECENT];
    bool waiting_clean[RECENT];
    uint32_t waits, waits_next;
    uint64_t times[RECENT]; /* of the last samples */
    uint32_t seen;

    struct detector *detector; /* NULL: nothing learnt */
    uint32_t used[COMPANY_COLS_MOST], used_count;
    float low[COMPANY_COLS_MOST], high[COMPANY_COLS_MOST]; /* of a used column: what a value counts for at most */
    struct conformal *ranks; /* of severities of samples that left quarantine, whichever detector judged them */
    struct scale channels[DETECTOR_CHANNELS], all;
    double smoothed; /* sum of the channels */
    double share;    /* of ranks that alarm, around alpha */
    double parts[COMPANY_COLS_MOST]; /* of the last alarms, by used column */
    uint32_t alarms;                 /* bits: the last samples */
    struct company_state state;
};

static void forget(struct company *c)
{
    detector_free(c->detector);
    conformal_free(c->ranks);
    c->detector = NULL;
    c->ranks = NULL;
    c->count = c->next = c->fresh = c->waits = c->waits_next = c->alarms = 0;
    c->share = 0;
    c->state = (struct company_state){.severity = NAN, .p = 1, .needed = COMPANY_NEEDED, .fits = c->state.fits};
}

static size_t held_bytes(size_t cols)
{
    return sizeof(struct company) + cols * sizeof(double) + (COMPANY_ROWS + RECENT) * cols * sizeof(float);
}

struct company *company_new(uint32_t cols, const double *floors)
{
    if (!cols || cols > COMPANY_COLS_MOST)
        return NULL;
    struct company *c = calloc(1, held_bytes(cols));
    if (!c)
        return NULL;
    c->cols = cols;
    c->unit = (double *)(c + 1);
    c->rows = (float *)(c->unit + cols);
    c->waiting = c->rows + (size_t)COMPANY_ROWS * cols;
    for (uint32_t j = 0; j < cols; j++)
        c->unit[j] = UNIT / floors[j];
    forget(c);
    return c;
}

void company_free(struct company *c)
{
    if (!c)
        return;
    forget(c);
    free(c);
}

/* ---- what is learnt ---- */

static void learn(struct company *c, const float *row)
{
    memcpy(c->rows + c->next * c->cols, row, c->cols * sizeof *row);
    c->next = (c->next + 1) % COMPANY_ROWS;
    c->count += c->count < COMPANY_ROWS;
    c->fresh++;
}

/* The one that waited longest gives way to `row`, and is learnt. */
static void wait_in_line(struct company *c, const float *row, double severity, bool clean)
{
    float *place = c->waiting + c->waits_next * c->cols;
    if (c->waits == RECENT) {
        conformal_add(c->ranks, c->waiting_severity[c->waits_next]);
        if (c->waiting_clean[c->waits_next])
            learn(c, place);
    } else {
        c->waits++;
    }
    memcpy(place, row, c->cols * sizeof *row);
    c->waiting_severity[c->waits_next] = severity;
    c->waiting_clean[c->waits_next] = clean;
    c->waits_next = (c->waits_next + 1) % RECENT;
}

/* ---- fits ---- */

uint32_t company_due(const struct company *c)
{
    uint32_t wanted = c->detector ? COMPANY_REFIT : COMPANY_NEEDED;
    return c->fresh >= wanted && !c->state.unusual ? c->fresh : 0;
}

/* The i-th oldest clean row. */
static const float *clean_row(const struct company *c, uint32_t i)
{
    return c->rows + ((c->next + COMPANY_ROWS - c->count + i) % COMPANY_ROWS) * c->cols;
}

/* Columns that are known in most of the rows a detector learns from, and move. */
static void choose_columns(struct company *c, uint32_t rows)
{
    c->used_count = 0;
    for (size_t j = 0; j < c->cols; j++) {
        float low = FLT_MAX, high = -FLT_MAX;
        uint32_t known = 0;
        for (uint32_t i = 0; i < rows; i++) {
            float x = clean_row(c, i)[j];
            if (x != x)
                continue;
            known++;
            low = fminf(low, x);
            high = fmaxf(high, x);
        }
        float width = high - low;
        if (known < KNOWN * rows || !(width > 1e-6F * fmaxf(fabsf(low), fabsf(high))))
            continue;
        c->low[c->used_count] = low - fmaxf(width, UNIT);
        c->high[c->used_count] = high + fmaxf(width, UNIT);
        c->used[c->used_count++] = (uint32_t)j;
    }
}

/* One value beyond all reason would be felt in the means of spans for minutes: it counts as a whole range too far. */
static void clip(const struct company *c, float *row)
{
    for (uint32_t k = 0; k < c->used_count; k++) {
        float *x = &row[c->used[k]];
        *x = *x < c->low[k] ? c->low[k] : *x > c->high[k] ? c->high[k] : *x;
    }
}

static void used_of(const struct company *c, const float *row, double *to)
{
    for (uint32_t k = 0; k < c->used_count; k++)
        to[k] = row[c->used[k]];
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts the scores. */
static struct scale scale_of(double *scores, uint32_t n)
{
    qsort(scores, n, sizeof *scores, rising);
    double middle = scores[n / 2];
    return (struct scale){middle, fmax(scores[n - 1 - n / 100] - middle, 1e-9)};
}

static double in_scale(struct scale s, double score)
{
    return (score - s.middle) / s.width;
}

static double together(const struct company *c, const double *scores)
{
    double sum = 0;
    for (int k = 0; k < DETECTOR_CHANNELS; k++)
        sum += weights[k] * in_scale(c->channels[k], scores[k]);
    return sum;
}

/* The rows that the detector has not learnt from place the scales, and the first time fill the ranks. */
static void calibrate(struct company *c, uint32_t from, double *scores, bool first)
{
    uint32_t n = c->count - from;
    double row[COMPANY_COLS_MOST], *sorted = scores + (size_t)n * DETECTOR_CHANNELS;
    for (uint32_t i = 0; i < n; i++) {
        used_of(c, clean_row(c, from + i), row);
        struct verdict v = detector_next(c->detector, row);
        memcpy(scores + (size_t)i * DETECTOR_CHANNELS, v.score, sizeof v.score);
    }
    for (int k = 0; k < DETECTOR_CHANNELS; k++) {
        for (uint32_t i = 0; i < n; i++)
            sorted[i] = scores[(size_t)i * DETECTOR_CHANNELS + (size_t)k];
        c->channels[k] = scale_of(sorted, n);
    }
    c->smoothed = 0;
    for (uint32_t i = 0; i < n; i++) {
        c->smoothed += SMOOTH * (together(c, scores + (size_t)i * DETECTOR_CHANNELS) - c->smoothed);
        sorted[i] = c->smoothed;
    }
    c->all = scale_of(sorted, n);
    for (uint32_t i = 0; i < n && first; i++)
        conformal_add(c->ranks, in_scale(c->all, sorted[i]));
}

static bool fit(struct company *c, uint32_t rows)
{
    struct mat train;
    struct detector *fresh = NULL;
    choose_columns(c, rows);
    if (!c->used_count || mat_new(&train, rows, c->used_count))
        return false;
    for (uint32_t i = 0; i < rows; i++)
        used_of(c, clean_row(c, i), mat_row(&train, i));
    int err = detector_fit(&fresh, &train, &(struct detector_opts){.window = DETECTOR_RANKS, .whole = true});
    mat_free(&train);
    c->detector = fresh;
    return !err;
}

void company_fit(struct company *c)
{
    uint32_t rows = c->count * 2 / 3, held = c->count - rows;
    double *scores = malloc((size_t)held * (DETECTOR_CHANNELS + 1) * sizeof *scores);
    detector_free(c->detector);
    c->detector = NULL;
    bool first = !c->ranks;
    if (first)
        c->ranks = conformal_new(RANKS);
    c->fresh = 0;
    c->waits = c->waits_next = 0;
    memset(c->parts, 0, sizeof c->parts);
    if (scores && c->ranks && fit(c, rows)) {
        calibrate(c, rows, scores, first);
        c->state.fits++;
    } else {
        forget(c);
    }
    free(scores);
}

/* ---- what is judged ---- */

static void note_parts(struct company *c, enum detector_channel channel)
{
    double share[COMPANY_COLS_MOST];
    detector_parts(c->detector, channel, share);
    for (uint32_t k = 0; k < c->used_count; k++)
        c->parts[k] += PART_SMOOTH * (share[k] - c->parts[k]);
}

static unsigned alarms(const struct company *c)
{
    return (unsigned)__builtin_popcount(c->alarms & ((1U << RECENT) - 1));
}

/* When the first of the last alarms was. */
static uint64_t first_alarm_ms(const struct company *c)
{
    for (uint32_t back = RECENT; back-- > 0;)
        if (c->alarms >> back & 1)
            return c->times[(c->seen - 1 - back) % RECENT];
    return c->times[(c->seen - 1) % RECENT];
}

static void enter_or_leave(struct company *c)
{
    if (!c->state.unusual && alarms(c) >= ENTER) {
        c->state.unusual = true;
        c->state.since_ms = first_alarm_ms(c);
        c->state.samples = RECENT;
        c->waits = c->waits_next = 0; /* they are how it began */
    } else if (c->state.unusual && alarms(c) <= LEAVE) {
        c->state.unusual = false;
        c->state.since_ms = 0;
        c->state.samples = 0;
    } else {
        c->state.samples += c->state.unusual;
    }
}

/* Samples remember, and what comes is further from what was learnt than what it was calibrated with: ranks promise too
 * much. So the share that alarms is led to alpha by what alarms outside of events (Gibbs, Candes). */
static void steer(struct company *c, double alpha)
{
    if (c->share == 0)
        c->share = alpha;
    if (!c->state.unusual)
        c->share = fmin(fmax(c->share + STEER * (alpha - c->state.alarm), alpha / SHARE_BOUND), alpha);
}

static enum detector_channel leading(const struct company *c, const double *scores)
{
    int best = 0;
    for (int k = 1; k < DETECTOR_CHANNELS; k++)
        if (in_scale(c->channels[k], scores[k]) > in_scale(c->channels[best], scores[best]))
            best = k;
    return (enum detector_channel)best;
}

/* Whether enough of what the detector looks at is known this time: with no requests there is nothing to judge. */
static bool is_known(const struct company *c, const float *row)
{
    uint32_t known = 0;
    for (uint32_t k = 0; k < c->used_count; k++)
        known += row[c->used[k]] == row[c->used[k]];
    return known >= KNOWN * c->used_count;
}

static void judge(struct company *c, double alpha, float *row, bool clean)
{
    double values[COMPANY_COLS_MOST];
    clip(c, row);
    used_of(c, row, values);
    struct verdict v = detector_next(c->detector, values);
    double alone = together(c, v.score);
    c->smoothed += SMOOTH * (alone - c->smoothed);
    double severity = in_scale(c->all, c->smoothed);
    c->state.p = conformal_p(c->ranks, severity);
    if (isnan(c->state.severity))
        c->state.severity = severity;
    c->state.severity += SEVERITY_SMOOTH * (severity - c->state.severity);
    c->state.channel = leading(c, v.score);
    steer(c, alpha);
    c->state.alarm = c->state.p <= fmax(c->share, 1.0 / (double)(1 + conformal_count(c->ranks)));
    c->alarms = c->alarms << 1 | c->state.alarm;
    if (c->state.alarm)
        note_parts(c, c->state.channel);
    enter_or_leave(c);
    if (!c->state.unusual)
        wait_in_line(c, row, severity, clean && alone < FAR * (weights[0] + weights[1] + weights[2]));
}

void company_add(struct company *c, const struct company_opts *opts, const double *values, bool clean, uint64_t now_ms)
{
    float row[COMPANY_COLS_MOST];
    for (size_t j = 0; j < c->cols; j++)
        row[j] = isfinite(values[j]) ? (float)fmin(fmax(values[j] * c->unit[j], -MOST), MOST) : NAN;
    if (!c->detector) {
        if (clean)
            learn(c, row);
        return;
    }
    if (!is_known(c, row))
        return;
    c->times[c->seen++ % RECENT] = now_ms;
    judge(c, opts->alpha > 0 ? opts->alpha : ALPHA, row, clean);
    if (c->state.unusual && now_ms >= c->state.since_ms + opts->adopt_ms)
        forget(c);
}

void company_pause(struct company *c)
{
    c->alarms = 0;
    c->waits = c->waits_next = 0;
    c->state.unusual = c->state.alarm = false;
    c->state.since_ms = 0;
    c->state.samples = 0;
}

/* ---- what is told ---- */

struct company_state company_state(const struct company *c)
{
    struct company_state s = c->state;
    s.learnt = c->count;
    return s;
}

unsigned company_parts(const struct company *c, struct company_part *out, unsigned most)
{
    double total = 0;
    unsigned n = 0;
    for (uint32_t k = 0; k < c->used_count; k++)
        total += c->parts[k];
    for (uint32_t k = 0; k < c->used_count && total > 0; k++) {
        struct company_part part = {c->used[k], c->parts[k] / total};
        unsigned at = n < most ? n++ : most;
        for (; at > 0 && out[at - 1].share < part.share; at--)
            if (at < most)
                out[at] = out[at - 1];
        if (at < most)
            out[at] = part;
    }
    return n;
}

size_t company_bytes(const struct company *c)
{
    return held_bytes(c->cols) + (c->detector ? detector_bytes(c->detector) + sizeof(float) * 2 * RANKS : 0);
}
