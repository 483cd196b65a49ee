// SPDX-License-Identifier: MIT
#include "ml/smooth.h"

#include <math.h>

void ewma_init(struct ewma *e, double span)
{
    *e = (struct ewma){span > 0 ? span : 1, NAN, 0};
}

double ewma_add(struct ewma *e, double x, double step)
{
    if (!isfinite(x))
        return e->mean;
    if (isnan(e->mean))
        return e->mean = x;
    double share = -expm1(-fmax(0, step) / e->span), off = x - e->mean;
    e->mean += share * off;
    e->variance = (1 - share) * (e->variance + share * off * off);
    return e->mean;
}

/* The sum is made anew once per window, so rounding does not pile up. */
void moving_average(const double *x, size_t n, size_t window, double *out)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (window && i % window == 0) {
            sum = 0;
            count = 0;
            for (size_t j = i >= window ? i - window : 0; j < i; j++)
                if (isfinite(x[j])) {
                    sum += x[j];
                    count++;
                }
        }
        if (isfinite(x[i])) {
            sum += x[i];
            count++;
        }
        if (window && i >= window && isfinite(x[i - window])) {
            sum -= x[i - window];
            count--;
        }
        out[i] = window && count ? sum / (double)count : NAN;
    }
}
