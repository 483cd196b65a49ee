// SPDX-License-Identifier: MIT
#include "watch/series.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 15 /* of four samples */, NEEDED = 3, LEFT = 1, RENEW = 8 };

static const double SPREADS = 3, MAD_TO_SD = 1.4826;

static void forget(struct series *s)
{
    *s = (struct series){.size = s->size, .ring = s->ring, .p = 1};
    for (int i = 0; i < SERIES_RECENT; i++)
        s->recent[i] = NAN;
}

bool series_init(struct series *s, uint32_t size)
{
    s->size = size;
    s->ring = malloc(size * sizeof *s->ring);
    forget(s);
    return s->ring != NULL;
}

void series_done(struct series *s)
{
    free(s->ring);
}

bool series_knows(const struct series *s, const struct series_opts *opts)
{
    return s->count >= (opts->least < s->size ? opts->least : s->size);
}

double series_recent(const struct series *s)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < SERIES_RECENT; i++)
        if (s->recent[i] == s->recent[i]) {
            sum += s->recent[i];
            n++;
        }
    return n ? sum / n : NAN;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static float middle(float *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void renew(struct series *s)
{
    float *copy = malloc(s->count * sizeof *copy);
    if (!copy)
        return;
    memcpy(copy, s->ring, s->count * sizeof *copy);
    s->median = middle(copy, s->count);
    for (uint32_t i = 0; i < s->count; i++)
        copy[i] = fabsf(copy[i] - s->median);
    s->spread = (float)(MAD_TO_SD * middle(copy, s->count));
    s->stale = 0;
    free(copy);
}

static void learn(struct series *s, float x)
{
    s->ring[s->next] = x;
    s->next = (s->next + 1) % s->size;
    s->count += s->count < s->size;
    if (++s->stale >= RENEW || s->count < 2 * RENEW)
        renew(s);
}

/* Share of the ring that is at least as far out at one end. */
static double rank(const struct series *s, float x, int sign)
{
    uint32_t beyond = 0;
    for (uint32_t i = 0; i < s->count; i++)
        beyond += ((float)sign * (s->ring[i] - x)) >= 0;
    return (1.0 + beyond) / (1.0 + s->count);
}

static bool enough(unsigned char bits)
{
    return __builtin_popcount(bits & BITS) >= NEEDED;
}

static void judge(struct series *s, uint64_t now_ms)
{
    signed char now = enough(s->up) ? 1 : enough(s->down) ? -1 : 0;
    if (now && now != s->moved) {
        s->moved = now;
        s->moved_ms = now_ms;
    } else if (!now && __builtin_popcount(s->up & BITS) + __builtin_popcount(s->down & BITS) <= LEFT) {
        s->moved = 0;
    }
}

void series_add(struct series *s, const struct series_opts *opts, double value, uint64_t now_ms)
{
    float x = (float)value;
    s->recent[s->recent_next++ % SERIES_RECENT] = x;
    if (!(fabs(value) <= FLT_MAX)) {
        s->recent[(s->recent_next - 1) % SERIES_RECENT] = NAN;
        return;
    }
    if (!series_knows(s, opts)) {
        learn(s, x);
        return;
    }
    double high = rank(s, x, 1), low = rank(s, x, -1);
    double spread = s->spread > opts->floor ? s->spread : opts->floor;
    double least = 1.0 / (1.0 + s->count); /* no rank is below it */
    double alpha = opts->alpha > least ? opts->alpha : least;
    bool up = high <= alpha && x - s->median > SPREADS * spread;
    bool down = low <= alpha && s->median - x > SPREADS * spread;
    s->p = (float)(high < low ? high : low);
    s->up = (unsigned char)(s->up << 1 | up);
    s->down = (unsigned char)(s->down << 1 | down);
    judge(s, now_ms);
    if (!up && !down && !s->moved)
        learn(s, x);
    else if (s->moved && now_ms >= s->moved_ms + opts->adopt_ms)
        forget(s);
}

void series_recall(struct series *s, double x)
{
    if (fabs(x) <= FLT_MAX)
        learn(s, (float)x);
}
