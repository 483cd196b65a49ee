// SPDX-License-Identifier: MIT
#include "cache/curve.h"

#include <math.h>

enum {
    MODULUS = 1 << 24,
    RATE_FIRST = 1 << 22,  /* a quarter of the keys, so that a request costs little from the start */
    LOST_MS = 1000,        /* a lock this old is of somebody dead */
    SEEN_MOST = 16777216,  /* then all is halved, so that the past fades */
};

static bool lock(struct curve *c, uint64_t now_ms)
{
    uint64_t held = atomic_load_explicit(&c->locked_ms, memory_order_relaxed);
    if (held && now_ms < held + LOST_MS)
        return false;
    return atomic_compare_exchange_strong_explicit(&c->locked_ms, &held, now_ms + !now_ms, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void unlock(struct curve *c)
{
    atomic_store_explicit(&c->locked_ms, 0, memory_order_release);
}

static uint32_t threshold_of(const struct curve *c)
{
    uint32_t threshold = atomic_load_explicit(&c->threshold, memory_order_relaxed);
    return threshold ? threshold : RATE_FIRST;
}

static double rate(const struct curve *c)
{
    return (double)threshold_of(c) / MODULUS;
}

static uint32_t find(const struct curve *c, uint64_t hash)
{
    uint32_t i = 0;
    while (i < c->count && c->hash[i] != hash)
        i++;
    return i;
}

/* Followed bytes used since; without branches, so that it becomes vector code. */
static uint64_t bytes_since(const struct curve *c, uint32_t clock)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->count; i++)
        sum += c->used[i] > clock ? c->bytes[i] : 0;
    return sum;
}

/* The bucket whose upper bound is the first that is not below. */
static unsigned bucket_of(double bytes)
{
    if (bytes <= CURVE_LEAST_BYTES)
        return 0;
    double n = ceil(log2(bytes / CURVE_LEAST_BYTES) * 4);
    return n < CURVE_BUCKETS - 1 ? (unsigned)n : CURVE_BUCKETS - 1;
}

static void remove_at(struct curve *c, uint32_t i)
{
    uint32_t last = --c->count;
    c->hash[i] = c->hash[last];
    c->used[i] = c->used[last];
    c->bytes[i] = c->bytes[last];
}

/* Follows fewer keys: those with the largest hashes are let go. */
static void sink(struct curve *c)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t value = (uint32_t)(c->hash[i] & (MODULUS - 1));
        largest = value > largest ? value : largest;
    }
    for (uint32_t i = c->count; i-- > 0;)
        if ((c->hash[i] & (MODULUS - 1)) == largest)
            remove_at(c, i);
    atomic_store_explicit(&c->threshold, largest ? largest : 1, memory_order_relaxed);
}

static void fade(struct curve *c)
{
    c->seen /= 2;
    c->total /= 2;
    for (unsigned i = 0; i < CURVE_BUCKETS; i++)
        c->reuses[i] /= 2;
}

static void add(struct curve *c, uint64_t hash, uint32_t bytes)
{
    if (c->count == CURVE_SAMPLES)
        sink(c);
    if (!curve_follows(c, hash))
        return; /* it was the largest */
    c->hash[c->count] = hash;
    c->used[c->count] = c->clock;
    c->bytes[c->count++] = bytes;
}

bool curve_use(struct curve *c, uint64_t hash, uint32_t bytes, uint64_t seen, uint64_t now_ms)
{
    if (!lock(c, now_ms))
        return false;
    double stands_for = 1 / rate(c);
    if (++c->clock == UINT32_MAX) /* begin to follow anew; what was learnt stays */
        c->clock = c->count = 0;
    c->seen += (double)seen;
    c->total += stands_for;
    uint32_t i = find(c, hash);
    if (i < c->count) {
        c->bytes[i] = bytes ? bytes : c->bytes[i];
        double distance = (double)bytes_since(c, c->used[i]) / rate(c) + c->bytes[i];
        c->reuses[bucket_of(distance)] += stands_for;
        c->used[i] = c->clock;
    } else {
        add(c, hash, bytes);
    }
    if (c->seen > SEEN_MOST)
        fade(c);
    unlock(c);
    return true;
}

void curve_size(struct curve *c, uint64_t hash, uint32_t bytes, uint64_t now_ms)
{
    if (!lock(c, now_ms))
        return;
    uint32_t i = find(c, hash);
    if (i < c->count)
        c->bytes[i] = bytes;
    unlock(c);
}

double curve_miss_ratio(const struct curve *c, uint64_t bytes)
{
    double seen = c->seen, fits = seen - c->total; /* SHARDS-adj: what hot keys the sample has too few or too many of */
    if (seen <= 0)
        return -1;
    for (unsigned i = 0; i < CURVE_BUCKETS && CURVE_LEAST_BYTES * exp2(i / 4.0) <= (double)bytes * 1.0000001; i++)
        fits += c->reuses[i];
    return fmin(1, fmax(0, 1 - fits / seen));
}
