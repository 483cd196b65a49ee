/* usl.h - how throughput grows with concurrency, fitted to a few measured points.
 *
 * The universal scalability law X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)) is, by Little's law N = X R, a
 * quadratic for the time of one request: R(N) = r0 + r1 N + r2 N^2. That is fitted by weighted least squares with no
 * coefficient below zero; relative errors count, so the short times at low rates weigh as much as the long ones.
 * sigma is the share that waits for its turn (contention), kappa what the requests cost one another (coherency): with
 * kappa above zero there is a peak, beyond which more concurrency means less throughput.
 *
 * The knee is where Kleinrock's power X / R is highest: beyond it latency grows faster than throughput.
 *
 * Source:  Gunther: Guerrilla capacity planning, 2007, chapter 4; Little: A proof of the queuing formula L = lambda W,
 *          1961; Kleinrock: Power and deterministic rules of thumb for probabilistic problems in computer
 *          communications, ICC 1979.
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>

enum { USL_LEAST = 4 /* points: three coefficients and one to be wrong about */ };

struct usl_point {
    double per_second, mean_s; /* throughput, and mean time of a request; both above 0 */
};

extern const double usl_r2; /* a worse fit says nothing */

struct usl {
    double lambda;       /* requests a second at one at a time */
    double sigma, kappa;
    double r2;           /* of relative times: 1 is a perfect fit, 0 no better than a constant; may be below 0 */
    double knee_per_second, knee_in_flight; /* 0: below the least that was measured */
    double most_per_second;  /* at the peak, or the limit that it comes near; 0: none, time does not grow with concurrency */
    double peak_in_flight;   /* 0: there is no peak */
};

/* False: fewer than USL_LEAST points, or they follow no such law: R2 is below usl_r2, or the most that the law allows is less
 * than was measured. */
bool usl_fit(const struct usl_point *points, unsigned n, struct usl *out);
