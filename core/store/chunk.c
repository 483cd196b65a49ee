// SPDX-License-Identifier: MIT
/* A row is slots one behind the other: varint of the slot's number, varint of
 * its size, and so many bytes. Those of "all" begin with the end, the length
 * and what of that is not covered, in ms (the end as unix time), and the host. */
#include "store/chunk.h"

const struct chunk_tier chunk_tiers[ARCHIVE_TIERS] = {
    {1, 60, 1}, {10, 60, 2}, {60, 60, 4}, {3600, 24, 1}};

uint64_t chunk_slot_ms(int tier, uint64_t window_to_ms)
{
    uint64_t period_ms = chunk_tiers[tier].period_s * UINT64_C(1000);
    uint64_t boundary = window_to_ms / 1000 * 1000;
    return (boundary ? boundary - 1 : 0) / period_ms * period_ms;
}

static uint64_t chunk_ms(int tier)
{
    return (uint64_t)chunk_tiers[tier].period_s * chunk_tiers[tier].slots * 1000;
}

uint64_t chunk_start_ms(int tier, uint64_t slot_ms)
{
    return slot_ms / chunk_ms(tier) * chunk_ms(tier);
}

unsigned chunk_slot(int tier, uint64_t slot_ms)
{
    return (unsigned)(slot_ms % chunk_ms(tier) / (chunk_tiers[tier].period_s * UINT64_C(1000)));
}

bool chunk_read(struct chunk *chunk, const unsigned char *bytes, size_t size)
{
    const unsigned char *end = bytes + size;
    uint64_t slot, length;
    memset(chunk, 0, sizeof *chunk);
    while (bytes < end) {
        bytes = varint_get(bytes, end, &slot);
        bytes = bytes ? varint_get(bytes, end, &length) : NULL;
        if (!bytes || slot >= CHUNK_SLOTS || length > (size_t)(end - bytes))
            return false;
        chunk->slot[slot] = (struct chunk_view){bytes, (size_t)length};
        bytes += length;
    }
    return true;
}

void chunk_write(const struct chunk *chunk, struct buf *out)
{
    for (unsigned i = 0; i < CHUNK_SLOTS; i++) {
        unsigned char head[2 * FRAME_VARINT_MOST];
        if (!chunk->slot[i].bytes)
            continue;
        unsigned char *end = varint_put(varint_put(head, i), chunk->slot[i].size);
        buf_add(out, head, (size_t)(end - head));
        buf_add(out, chunk->slot[i].bytes, chunk->slot[i].size);
    }
}

void chunk_sum_window(struct chunk_sum *sum, uint64_t from_ms, uint64_t to_ms,
                      uint64_t covered_ms, const struct stats_host *host)
{
    if (!sum->covered_ms) {
        sum->from_ms = from_ms;
        sum->to_ms = to_ms;
        sum->host = *host;
    } else {
        stats_host_add(&sum->host, host);
    }
    sum->covered_ms += covered_ms;
    sum->from_ms = from_ms < sum->from_ms ? from_ms : sum->from_ms;
    sum->to_ms = to_ms > sum->to_ms ? to_ms : sum->to_ms;
}

bool chunk_sum_slot(struct chunk_sum *sum, const struct chunk_view *slot, bool whole)
{
    const unsigned char *at = slot->bytes, *end = at + slot->size;
    uint64_t to, length, gap;
    struct stats_host host;
    if (whole) {
        at = varint_get(at, end, &to);
        at = at ? varint_get(at, end, &length) : NULL;
        at = at ? varint_get(at, end, &gap) : NULL;
        at = at ? frame_get_host(at, end, &host) : NULL;
        if (!at || length > to || gap > length)
            return false;
        chunk_sum_window(sum, to - length, to, length - gap, &host);
    }
    return frame_add(at, end, &sum->counts) != NULL;
}

void chunk_sum_write(const struct chunk_sum *sum, bool whole, struct buf *out)
{
    static const struct stats_route nothing;
    unsigned char *start = (unsigned char *)buf_room(
        out, 3 * FRAME_VARINT_MOST + FRAME_HOST_BYTES_MOST + FRAME_BYTES_MOST);
    unsigned char *to = start;
    if (!start)
        return;
    if (whole) {
        uint64_t length = sum->to_ms - sum->from_ms;
        to = varint_put(to, sum->to_ms);
        to = varint_put(to, length);
        to = varint_put(to, length > sum->covered_ms ? length - sum->covered_ms : 0);
        to += frame_put_host(to, &sum->host);
    }
    to += frame_put(to, &nothing, &sum->counts);
    buf_wrote(out, (size_t)(to - start));
}
