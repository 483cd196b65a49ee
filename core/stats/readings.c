// SPDX-License-Identifier: MIT
#include "stats/readings.h"

#include <string.h>

static bool chosen(uint64_t lanes, uint32_t lane)
{
    return lanes == LANES_ALL || (lane < 64 && (lanes >> lane & 1));
}

uint64_t reading_requests(struct board *board, uint64_t lanes, uint32_t route)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < board_lanes(board); w++)
        if (chosen(lanes, w))
            sum += atomic_load_explicit(&board_lane(board, w)->routes[route].requests,
                                        memory_order_acquire);
    return sum;
}

static void add_lane_phase(const struct route_lane *lane, int phase, struct stats_route *out)
{
    uint64_t count = lane_get(&lane->phase_count[phase]);
    if (!count)
        return;
    out->phase_count[phase] += count;
    out->phase_sum_ns[phase] += lane_get(&lane->phase_sum_ns[phase]);
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        out->phases[phase][i] +=
            atomic_load_explicit(&lane->phases[phase].bucket[i], memory_order_relaxed);
}

static void add_lane(const struct route_lane *lane, struct stats_route *out)
{
    uint64_t requests = atomic_load_explicit(&lane->requests, memory_order_acquire);
    if (!requests)
        return;
    out->requests += requests;
    for (int i = 0; i < 6; i++)
        out->status[i] += lane_get(&lane->status[i]);
    out->bytes_in += lane_get(&lane->bytes_in);
    out->bytes_out += lane_get(&lane->bytes_out);
    for (int i = 0; i < SIZE_COUNT; i++)
        out->sizes[i] += lane_get(&lane->sizes[i]);
    out->latency_sum_ns += lane_get(&lane->latency_sum_ns);
    for (int i = 0; i < SKETCH_BUCKETS; i++)
        out->latency[i] += atomic_load_explicit(&lane->latency.bucket[i], memory_order_relaxed);
    for (int i = 0; i < PHASE_COUNT; i++)
        add_lane_phase(lane, i, out);
}

void reading_route(struct board *board, uint64_t lanes, uint32_t route, struct stats_route *out)
{
    memset(out, 0, sizeof *out);
    out->route = route;
    for (uint32_t w = 0; w < board_lanes(board); w++)
        if (chosen(lanes, w))
            add_lane(&board_lane(board, w)->routes[route], out);
}

void reading_host(struct board *board, uint64_t lanes, struct stats_host *out)
{
    for (uint32_t w = 0; w < board_lanes(board); w++) {
        if (!chosen(lanes, w))
            continue;
        const struct lane *lane = board_lane(board, w);
        out->in_flight += lane_in_flight(lane);
        out->started += lane_get(&lane->started);
        out->finished += lane_get(&lane->finished);
        out->aborted += lane_get(&lane->aborted);
        out->refused += lane_get(&lane->refused);
        out->connections_accepted += lane_get(&lane->connections_accepted);
        out->connections_open += lane_get(&lane->connections_open);
        out->script_errors += lane_get(&lane->script_errors);
        out->script_interrupts += lane_get(&lane->script_interrupts);
    }
}
