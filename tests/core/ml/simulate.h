/* simulate.h - series with a known truth, the same on every machine. */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/random.h"

#include <math.h>

static inline double draw_normal(struct random *r)
{
    double u = 1 - random_unit(r);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * random_unit(r));
}

/* Knuth's, for small means. */
static inline unsigned draw_poisson(struct random *r, double mean)
{
    double limit = exp(-mean), product = random_unit(r);
    unsigned k = 0;
    for (; product > limit; k++)
        product *= random_unit(r);
    return k;
}

/* A stationary first-order autoregression of spread sd. */
struct ar1 {
    double x, phi, sd;
};

static inline struct ar1 ar1_start(struct random *r, double phi, double sd)
{
    return (struct ar1){sd * draw_normal(r), phi, sd};
}

static inline double ar1_next(struct ar1 *a, struct random *r)
{
    return a->x = a->phi * a->x + a->sd * sqrt(1 - a->phi * a->phi) * draw_normal(r);
}
