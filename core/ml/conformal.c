/* A ring in order of time beside the same scores in order of size: a rank is a
 * binary search, a replacement moves at most the span between two scores. */
// SPDX-License-Identifier: MIT
#include "ml/conformal.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_MOST = 1 << 20 };

struct conformal {
    size_t window, count, next;
    float *sorted; /* count of them, ascending */
    float ring[];  /* window; next is the oldest once it is full */
};

struct conformal *conformal_new(size_t window)
{
    if (window < 1 || window > WINDOW_MOST)
        return NULL;
    struct conformal *c = calloc(1, sizeof *c + 2 * window * sizeof(float));
    if (!c)
        return NULL;
    c->window = window;
    c->sorted = c->ring + window;
    return c;
}

void conformal_free(struct conformal *c)
{
    free(c);
}

/* The first index whose score is >= s. */
static size_t place_of(const struct conformal *c, float s)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c->sorted[middle] < s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

double conformal_p(const struct conformal *c, double s)
{
    if (isnan(s))
        return 1;
    return (double)(1 + c->count - place_of(c, (float)s)) / (double)(1 + c->count);
}

void conformal_add(struct conformal *c, double s)
{
    float x = (float)s;
    if (isnan(x))
        return;
    size_t to = place_of(c, x), gone = c->count;
    if (c->count == c->window)
        gone = place_of(c, c->ring[c->next]);
    else
        c->count++;
    if (gone < to) {
        to--;
        memmove(c->sorted + gone, c->sorted + gone + 1, (to - gone) * sizeof x);
    } else {
        memmove(c->sorted + to + 1, c->sorted + to, (gone - to) * sizeof x);
    }
    c->sorted[to] = x;
    c->ring[c->next] = x;
    c->next = c->next + 1 < c->window ? c->next + 1 : 0;
}

size_t conformal_count(const struct conformal *c)
{
    return c->count;
}

double conformal_least(const double *p, size_t channels)
{
    double least = 1;
    for (size_t i = 0; i < channels; i++)
        least = fmin(least, p[i] * (double)channels);
    return least;
}
