/* random.h - the generator of all kernels: the same numbers on every machine.
 *
 * SplitMix64 seeds and steps one 64-bit state; a kernel that works on parts
 * forks a stream for each, so the result does not depend on their order.
 *
 * Source:  Steele, Lea, Flood: Fast splittable pseudorandom number generators,
 *          OOPSLA 2014.
 * Threads: one stream, one thread.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_bits(struct random *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In [0, 1). */
static inline double random_unit(struct random *r)
{
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

/* In [0, n), n above 0; the bias is below n / 2^64. */
static inline uint64_t random_below(struct random *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)random_bits(r) * n) >> 64);
}

/* A stream of its own for part `n` of the work. */
static inline struct random random_fork(uint64_t seed, uint64_t n)
{
    struct random r = {seed ^ (n * UINT64_C(0xd1342543de82ef95) + 1)};
    random_bits(&r);
    return r;
}
