// SPDX-License-Identifier: MIT
#include "stats/report.h"

#include <math.h>

void stats_totals(struct board *board, struct stats_totals *out)
{
    *out = (struct stats_totals){0};
    uint32_t routes = atomic_load_explicit(&board->route_count, memory_order_acquire);
    for (uint32_t w = 0; w < board_lanes(board); w++) {
        struct lane *lane = board_lane(board, w);
        out->in_flight += lane_in_flight(lane);
        out->finished += lane_get(&lane->finished);
        out->aborted += lane_get(&lane->aborted);
        for (uint32_t i = 0; i < routes; i++) {
            out->bytes_in += lane_get(&lane->routes[i].bytes_in);
            out->bytes_out += lane_get(&lane->routes[i].bytes_out);
        }
    }
}

/* Inserts into a list sorted by latency, dropping its last when it is full. */
static void insert_slow(struct slow_sample *list, uint32_t *count, uint32_t max,
                        const struct slow_sample *sample)
{
    uint32_t i = *count;
    if (i == max && (!max || list[max - 1].latency_ns >= sample->latency_ns))
        return;
    if (i == max)
        i--;
    else
        ++*count;
    for (; i > 0 && list[i - 1].latency_ns < sample->latency_ns; i--)
        memcpy(&list[i], &list[i - 1], sizeof list[i]);
    memcpy(&list[i], sample, sizeof list[i]);
}

uint32_t stats_slowest(struct board *board, struct slow_sample *out, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t w = 0; w < board_lanes(board); w++)
        for (uint32_t i = 0; i < LANE_SLOW_MAX; i++) {
            struct slow_sample sample;
            if (lane_slow_read(&board_lane(board, w)->slow[i], &sample))
                insert_slow(out, &count, max, &sample);
        }
    return count;
}

uint64_t stats_cumulative(const uint32_t latency[SKETCH_BUCKETS], const double *bounds_s,
                          unsigned count, uint64_t *out)
{
    uint64_t sum = 0;
    unsigned next = 0;
    double half = exp2(-0.5 / (1 << SKETCH_SCALE));
    for (unsigned i = 0; i < SKETCH_BUCKETS; i++) {
        if (!latency[i])
            continue;
        double middle_s = sketch_upper_ns(i, SKETCH_SCALE) * half / 1e9;
        for (; next < count && bounds_s[next] < middle_s; next++)
            out[next] = sum;
        sum += latency[i];
    }
    for (; next < count; next++)
        out[next] = sum;
    return sum;
}
