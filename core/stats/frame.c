// SPDX-License-Identifier: MIT
/* A route's frame is varints: the counters; then the non-zero buckets as pairs
 * of gap and count behind their number; then a mask of the phases that grew,
 * and for each its count, sum and buckets. Differences are taken in the width
 * of the counter, so a bucket that wrapped at 2^32 counts right. Frames also
 * come from files, so reading them trusts nothing. */
#include "stats/frame.h"

#include <string.h>

unsigned char *varint_put(unsigned char *to, uint64_t value)
{
    while (value >= 128) {
        *to++ = (unsigned char)(value | 128);
        value >>= 7;
    }
    *to++ = (unsigned char)value;
    return to;
}

const unsigned char *varint_get(const unsigned char *from, const unsigned char *end,
                                uint64_t *value)
{
    uint64_t v = 0;
    for (int shift = 0; from < end && shift < 64; shift += 7) {
        v |= (uint64_t)(*from & 127) << shift;
        if (!(*from++ & 128)) {
            *value = v;
            return from;
        }
    }
    return NULL;
}

static unsigned char *put_buckets(unsigned char *to, const uint32_t *a, const uint32_t *b,
                                  unsigned count)
{
    unsigned used = 0, next = 0;
    for (unsigned i = 0; i < count; i++)
        used += a[i] != b[i];
    to = varint_put(to, used);
    for (unsigned i = 0; used; i++) {
        if (a[i] == b[i])
            continue;
        to = varint_put(to, i - next);
        to = varint_put(to, b[i] - a[i]);
        next = i + 1;
        used--;
    }
    return to;
}

static const unsigned char *add_buckets(const unsigned char *from, const unsigned char *end,
                                        uint32_t *counts, unsigned buckets)
{
    uint64_t used = 0, gap, count, i = 0;
    for (from = varint_get(from, end, &used); from && used; used--, i++) {
        from = varint_get(from, end, &gap);
        from = from ? varint_get(from, end, &count) : NULL;
        if (!from || gap >= buckets - i)
            return NULL;
        i += gap;
        counts[i] += (uint32_t)count;
    }
    return from;
}

size_t frame_put(unsigned char *start, const struct stats_route *a, const struct stats_route *b)
{
    unsigned char *to = varint_put(start, b->requests - a->requests);
    for (int i = 0; i < 6; i++)
        to = varint_put(to, b->status[i] - a->status[i]);
    to = varint_put(to, b->bytes_in - a->bytes_in);
    to = varint_put(to, b->bytes_out - a->bytes_out);
    for (int i = 0; i < SIZE_COUNT; i++)
        to = varint_put(to, b->sizes[i] - a->sizes[i]);
    to = varint_put(to, b->latency_sum_ns - a->latency_sum_ns);
    to = put_buckets(to, a->latency, b->latency, SKETCH_BUCKETS);
    unsigned mask = 0;
    for (int i = 0; i < PHASE_COUNT; i++)
        mask |= (unsigned)(a->phase_count[i] != b->phase_count[i]) << i;
    to = varint_put(to, mask);
    for (int i = 0; i < PHASE_COUNT; i++) {
        if (!(mask >> i & 1))
            continue;
        to = varint_put(to, b->phase_count[i] - a->phase_count[i]);
        to = varint_put(to, b->phase_sum_ns[i] - a->phase_sum_ns[i]);
        to = put_buckets(to, a->phases[i], b->phases[i], SKETCH_COARSE_BUCKETS);
    }
    return (size_t)(to - start);
}

static const unsigned char *add_counter(const unsigned char *from, const unsigned char *end,
                                        uint64_t *counter)
{
    uint64_t value;
    from = from ? varint_get(from, end, &value) : NULL;
    if (from)
        *counter += value;
    return from;
}

static const unsigned char *add_phases(const unsigned char *from, const unsigned char *end,
                                       struct stats_route *out)
{
    uint64_t mask = 0;
    from = add_counter(from, end, &mask);
    for (int i = 0; i < PHASE_COUNT && from; i++) {
        if (!(mask >> i & 1))
            continue;
        from = add_counter(from, end, &out->phase_count[i]);
        from = add_counter(from, end, &out->phase_sum_ns[i]);
        from = from ? add_buckets(from, end, out->phases[i], SKETCH_COARSE_BUCKETS) : NULL;
    }
    return from;
}

const unsigned char *frame_add(const unsigned char *from, const unsigned char *end,
                               struct stats_route *out)
{
    from = add_counter(from, end, &out->requests);
    for (int i = 0; i < 6; i++)
        from = add_counter(from, end, &out->status[i]);
    from = add_counter(from, end, &out->bytes_in);
    from = add_counter(from, end, &out->bytes_out);
    for (int i = 0; i < SIZE_COUNT; i++)
        from = add_counter(from, end, &out->sizes[i]);
    from = add_counter(from, end, &out->latency_sum_ns);
    from = from ? add_buckets(from, end, out->latency, SKETCH_BUCKETS) : NULL;
    return from ? add_phases(from, end, out) : NULL;
}

size_t frame_put_host(unsigned char *start, const struct stats_host *host)
{
    const uint64_t counts[] = {host->started,       host->finished,          host->aborted,
                               host->refused,       host->connections_accepted,
                               host->script_errors, host->script_interrupts, host->in_flight,
                               host->connections_open};
    const float gauges[] = {host->cpu_share, host->memory_share, host->disk_share, host->load};
    unsigned char *to = start;
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++)
        to = varint_put(to, counts[i]);
    memcpy(to, gauges, sizeof gauges);
    return (size_t)(to - start) + sizeof gauges;
}

const unsigned char *frame_get_host(const unsigned char *from, const unsigned char *end,
                                    struct stats_host *out)
{
    uint64_t *const counts[] = {&out->started,       &out->finished,          &out->aborted,
                                &out->refused,       &out->connections_accepted,
                                &out->script_errors, &out->script_interrupts, &out->in_flight,
                                &out->connections_open};
    float gauges[4];
    for (unsigned i = 0; i < sizeof counts / sizeof *counts && from; i++)
        from = varint_get(from, end, counts[i]);
    if (!from || (size_t)(end - from) < sizeof gauges)
        return NULL;
    memcpy(gauges, from, sizeof gauges);
    out->cpu_share = gauges[0];
    out->memory_share = gauges[1];
    out->disk_share = gauges[2];
    out->load = gauges[3];
    return from + sizeof gauges;
}

void stats_route_add(struct stats_route *to, const struct stats_route *from)
{
    to->requests += from->requests;
    for (int i = 0; i < 6; i++)
        to->status[i] += from->status[i];
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    for (int i = 0; i < SIZE_COUNT; i++)
        to->sizes[i] += from->sizes[i];
    to->latency_sum_ns += from->latency_sum_ns;
    for (int i = 0; i < SKETCH_BUCKETS; i++)
        to->latency[i] += from->latency[i];
    for (int p = 0; p < PHASE_COUNT; p++) {
        if (!from->phase_count[p])
            continue;
        to->phase_count[p] += from->phase_count[p];
        to->phase_sum_ns[p] += from->phase_sum_ns[p];
        for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
            to->phases[p][i] += from->phases[p][i];
    }
}

void stats_host_add(struct stats_host *sum, const struct stats_host *later)
{
    struct stats_host s = *later;
    s.started += sum->started;
    s.finished += sum->finished;
    s.aborted += sum->aborted;
    s.refused += sum->refused;
    s.connections_accepted += sum->connections_accepted;
    s.script_errors += sum->script_errors;
    s.script_interrupts += sum->script_interrupts;
    *sum = s;
}
