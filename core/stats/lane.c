// SPDX-License-Identifier: MIT
#include "stats/lane.h"

#include "base/measure.h"
#include "board/board.h"
#include "stats/frame.h"

#include <stddef.h>
#include <string.h>

enum { SMALL_BYTES = 10 << 10, MEDIUM_BYTES = 1 << 20 };

const char *phase_name(enum phase phase)
{
    static const char *const names[PHASE_COUNT] = {
#define X(id, name) [PHASE_##id] = name,
        PHASE_LIST(X)
#undef X
    };
    return names[phase];
}

/* ---- the ring of slow samples ---------------------------------------------
 *
 * Reader and writer are different processes, so the payload is copied word by
 * word with relaxed atomics, and the sequence tells whether the copy is whole:
 *
 *     writer: sequence odd, fence, words, sequence even (release)
 *     reader: sequence (acquire), words, fence, same sequence and even
 */
typedef uint64_t __attribute__((may_alias)) word;

enum {
    SLOW_FIRST = offsetof(struct slow_sample, status) / sizeof(word),
    SLOW_WORDS = sizeof(struct slow_sample) / sizeof(word),
};
_Static_assert(sizeof(struct slow_sample) % sizeof(word) == 0, "copied by words");
_Static_assert(offsetof(struct slow_sample, status) == sizeof(word), "route is copied alone");

static void slow_write(struct slow_sample *to, const struct slow_sample *from)
{
    word *out = (word *)to;
    const word *in = (const word *)from;
    /* Odd already if our predecessor died in here. */
    uint32_t odd = (atomic_load_explicit(&to->sequence, memory_order_relaxed) + 1) | 1;
    atomic_store_explicit(&to->sequence, odd, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    __atomic_store_n(&to->route, from->route, __ATOMIC_RELAXED);
    for (size_t i = SLOW_FIRST; i < SLOW_WORDS; i++)
        __atomic_store_n(&out[i], in[i], __ATOMIC_RELAXED);
    atomic_store_explicit(&to->sequence, odd + 1, memory_order_release);
}

bool lane_slow_read(const struct slow_sample *from, struct slow_sample *out)
{
    const word *in = (const word *)from;
    word *to = (word *)out;
    for (int attempt = 0; attempt < 4; attempt++) {
        uint32_t sequence = atomic_load_explicit(&from->sequence, memory_order_acquire);
        if (sequence == 0)
            return false;
        if (sequence & 1)
            continue;
        out->route = __atomic_load_n(&from->route, __ATOMIC_RELAXED);
        for (size_t i = SLOW_FIRST; i < SLOW_WORDS; i++)
            to[i] = __atomic_load_n(&in[i], __ATOMIC_RELAXED);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&from->sequence, memory_order_relaxed) != sequence)
            continue;
        out->trace_id[sizeof out->trace_id - 1] = 0;
        out->method[sizeof out->method - 1] = 0;
        atomic_store_explicit(&out->sequence, sequence, memory_order_relaxed);
        return true;
    }
    return false;
}

static void copy_text(char *to, size_t size, struct str from)
{
    if (from.len)
        memcpy(to, from.p, from.len < size ? from.len : size - 1);
}

/* Not inlined: the common request does not come here. */
static __attribute__((noinline)) void slow_add(struct lane *lane, const struct sample *sample,
                                               uint32_t route)
{
    struct slow_sample slow;
    memset(&slow, 0, sizeof slow);
    slow.route = route;
    slow.status = sample->status;
    slow.at_unix_ms = sample->at_unix_ms;
    slow.latency_ns = sample->latency_ns;
    slow.bytes_out = sample->bytes_out;
    if (sample->phase_ns)
        memcpy(slow.phase_ns, sample->phase_ns, sizeof slow.phase_ns);
    copy_text(slow.trace_id, sizeof slow.trace_id, str_from(sample->trace_id));
    copy_text(slow.method, sizeof slow.method, sample->method);
    lane_merge_slow(lane, route, &slow);
}

void lane_merge_slow(struct lane *lane, uint32_t route, const struct slow_sample *sample)
{
    struct slow_sample slow = *sample;
    slow.route = route;
    slow_write(&lane->slow[lane_get(&lane->slow_next) % LANE_SLOW_MAX], &slow);
    lane_add(&lane->slow_next, 1);
}

/* ---- counters ------------------------------------------------------------ */

static enum response_size size_class(uint64_t bytes)
{
    return bytes < SMALL_BYTES ? SIZE_SMALL : bytes < MEDIUM_BYTES ? SIZE_MEDIUM : SIZE_LARGE;
}

static inline void measure(struct route_lane *route, const struct sample *sample)
{
    lane_add(&route->bytes_in, sample->bytes_in);
    lane_add(&route->bytes_out, sample->bytes_out);
    lane_add(&route->sizes[size_class(sample->body_out)], 1);
    lane_add(&route->latency_sum_ns, sample->latency_ns);
    sketch_record(&route->latency, sample->latency_ns);
    const uint64_t *phases = sample->phase_ns;
    if (!phases)
        return;
#pragma GCC unroll 16 /* most phases of a request are zero: a compare and a jump each */
    for (int i = 0; i < PHASE_COUNT; i++) {
        uint64_t ns = phases[i];
        if (!ns)
            continue;
        lane_add(&route->phase_count[i], 1);
        lane_add(&route->phase_sum_ns[i], ns);
        sketch_coarse_record(&route->phases[i], ns);
    }
}

void lane_record(struct lane *lane, const struct sample *sample, uint32_t routes_max,
                 uint64_t slow_ns)
{
    uint32_t index = sample->route < routes_max ? sample->route : ROUTE_OTHER;
    struct route_lane *route = &lane->routes[index];
    unsigned hundreds = sample->status / 100;

    if (MEASURE)
        measure(route, sample);
    lane_add(&route->status[hundreds <= 5 ? hundreds : 0], 1);
    /* Last, and released: a reader that sees it grow sees the rest as well, so
     * one that skips what has not grown skips nothing. */
    atomic_store_explicit(&route->requests, lane_get(&route->requests) + 1, memory_order_release);

    lane_add(sample->status ? &lane->finished : &lane->aborted, 1);
    if (MEASURE && sample->latency_ns > slow_ns)
        slow_add(lane, sample, index);
}

static void merge_buckets(_Atomic uint32_t *to, const uint32_t *counts, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (counts[i])
            atomic_store_explicit(&to[i], atomic_load_explicit(&to[i], memory_order_relaxed) + counts[i], memory_order_relaxed);
}

void lane_merge(struct lane *lane, uint32_t index, const struct stats_route *counts)
{
    struct route_lane *route = &lane->routes[index];
    lane_add(&route->bytes_in, counts->bytes_in);
    lane_add(&route->bytes_out, counts->bytes_out);
    for (int i = 0; i < SIZE_COUNT; i++)
        lane_add(&route->sizes[i], counts->sizes[i]);
    lane_add(&route->latency_sum_ns, counts->latency_sum_ns);
    merge_buckets(route->latency.bucket, counts->latency, SKETCH_BUCKETS);
    for (int i = 0; i < PHASE_COUNT; i++) {
        lane_add(&route->phase_count[i], counts->phase_count[i]);
        lane_add(&route->phase_sum_ns[i], counts->phase_sum_ns[i]);
        merge_buckets(route->phases[i].bucket, counts->phases[i], SKETCH_COARSE_BUCKETS);
    }
    for (int i = 0; i < 6; i++)
        lane_add(&route->status[i], counts->status[i]);
    /* Last, and released, as above. */
    atomic_store_explicit(&route->requests, lane_get(&route->requests) + counts->requests, memory_order_release);
}

uint64_t lane_in_flight(const struct lane *lane)
{
    /* The ended first: what ends meanwhile has also begun. */
    uint64_t ended = lane_get(&lane->finished) + lane_get(&lane->aborted);
    uint64_t started = lane_get(&lane->started);
    return started > ended ? started - ended : 0;
}
