// SPDX-License-Identifier: MIT
#include "stats/pool_frame.h"

#include <string.h>

/* The lanes count in buckets of 32 bits only; their sum goes on from the reading before it when it has wrapped. */
static uint64_t counted(uint32_t sum, uint64_t before)
{
    return before + (uint32_t)(sum - (uint32_t)before);
}

void pool_frame_read(const struct board *board, uint32_t entry, const struct stats_route *before, struct stats_route *out)
{
    const struct board_pool *p = &board->pools.list[entry];
    uint32_t waits = 0, uses = 0;
    memset(out, 0, sizeof *out);
    for (uint32_t w = 0; w < board->workers; w++) {
        const struct pool_lane *lane = &p->lanes[w];
        out->requests += lane_get(&lane->statements);
        out->bytes_in += lane_get(&lane->opened);
        out->status[5] += lane_get(&lane->errors);
        out->phase_sum_ns[PHASE_POOL_WAIT] += lane_get(&lane->wait_sum_ns);
        out->phase_sum_ns[PHASE_DB] += lane_get(&lane->use_sum_ns);
        for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++) {
            out->phases[PHASE_POOL_WAIT][i] += atomic_load_explicit(&lane->wait.bucket[i], memory_order_relaxed);
            out->phases[PHASE_DB][i] += atomic_load_explicit(&lane->use.bucket[i], memory_order_relaxed);
        }
    }
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++) {
        waits += out->phases[PHASE_POOL_WAIT][i];
        uses += out->phases[PHASE_DB][i];
    }
    out->phase_count[PHASE_POOL_WAIT] = counted(waits, before->phase_count[PHASE_POOL_WAIT]);
    out->phase_count[PHASE_DB] = counted(uses, before->phase_count[PHASE_DB]);
}

bool pool_frame_differs(const struct stats_route *before, const struct stats_route *after)
{
    return before->requests != after->requests || before->bytes_in != after->bytes_in || before->status[5] != after->status[5] ||
           before->phase_count[PHASE_POOL_WAIT] != after->phase_count[PHASE_POOL_WAIT];
}
