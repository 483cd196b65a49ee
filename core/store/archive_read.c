// SPDX-License-Identifier: MIT
#include "store/archive.h"

#include "base/err.h"
#include "store/chunk.h"

#include <sqlite3.h>
#include <stdlib.h>

enum { BUSY_MS = 500 };

struct reading {
    const struct archive_query *query;
    archive_frame_fn *on_frame;
    void *arg;
    sqlite3 *db;
    sqlite3_stmt *chunk;
    sqlite3_int64 thing;
    uint64_t at_ms; /* the next slot begins here or later */
    struct buf whole, route;
    struct chunk_sum sum;
};

/* The number that a statement answers with, its texts bound to ?1 and ?2. */
static int number(sqlite3 *db, const char *sql, const char *first, const char *second, sqlite3_int64 *out)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK && first)
        rc = sqlite3_bind_text(s, 1, first, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && second)
        rc = sqlite3_bind_text(s, 2, second, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    bool found = rc == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL;
    *out = found ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return found ? 0 : rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_INVAL : ERR_IO;
}

static int find_thing(struct reading *r)
{
    const struct archive_query *q = r->query;
    if (!q->name)
        return 0;
    if (q->method)
        return number(r->db, "SELECT id FROM thing WHERE method = ?1 AND name = ?2", q->method, q->name, &r->thing);
    return number(r->db, "SELECT id FROM thing WHERE id > 0 AND method <> '" ARCHIVE_POOL "' AND (method || ' ' || name = ?1 OR name = ?1) ORDER BY id", q->name,
                  NULL, &r->thing);
}

static int load(struct reading *r, int tier, uint64_t start_ms, sqlite3_int64 thing, struct buf *out)
{
    sqlite3_reset(r->chunk);
    sqlite3_bind_int(r->chunk, 1, tier);
    sqlite3_bind_int64(r->chunk, 2, (sqlite3_int64)(start_ms / 1000));
    sqlite3_bind_int64(r->chunk, 3, thing);
    int rc = sqlite3_step(r->chunk);
    buf_clear(out);
    if (rc == SQLITE_ROW)
        buf_add(out, sqlite3_column_blob(r->chunk, 0), (size_t)sqlite3_column_bytes(r->chunk, 0));
    sqlite3_reset(r->chunk);
    return !buf_ok(out) ? ERR_NOMEM : rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : ERR_IO;
}

/* Gives the frames of a chunk; false once one ends behind what memory holds. */
static bool give_chunk(struct reading *r, int tier, uint64_t start_ms, uint64_t end_ms)
{
    struct chunk whole, route;
    uint64_t period_ms = chunk_tiers[tier].period_s * UINT64_C(1000);
    chunk_read(&whole, (unsigned char *)r->whole.data, buf_len(&r->whole));
    chunk_read(&route, (unsigned char *)r->route.data, buf_len(&r->route));
    for (unsigned i = 0; i < chunk_tiers[tier].slots; i++) {
        uint64_t slot_ms = start_ms + i * period_ms;
        if (!whole.slot[i].bytes || slot_ms + period_ms <= r->at_ms)
            continue;
        if (slot_ms >= end_ms)
            return false;
        memset(&r->sum, 0, sizeof r->sum);
        if (!chunk_sum_slot(&r->sum, &whole.slot[i], true))
            continue;
        if (r->sum.to_ms > r->query->until_ms)
            return false;
        if (r->thing)
            memset(&r->sum.counts, 0, sizeof r->sum.counts);
        if (r->thing && route.slot[i].bytes && !chunk_sum_slot(&r->sum, &route.slot[i], false))
            continue;
        struct archive_frame frame = {slot_ms, r->sum.covered_ms, &r->sum.host, &r->sum.counts};
        r->on_frame(r->arg, &frame);
        r->at_ms = slot_ms + period_ms;
    }
    return true;
}

/* The frames of a tier from at_ms on whose slots begin before end_ms. */
static int give_tier(struct reading *r, int tier, uint64_t oldest_ms, uint64_t end_ms)
{
    uint64_t length_ms = (uint64_t)chunk_tiers[tier].period_s * chunk_tiers[tier].slots * 1000;
    uint64_t from_ms = r->at_ms > oldest_ms ? r->at_ms : oldest_ms;
    for (uint64_t start = chunk_start_ms(tier, from_ms); start < end_ms; start += length_ms) {
        int err = load(r, tier, start, 0, &r->whole);
        if (!err && r->thing)
            err = load(r, tier, start, r->thing, &r->route);
        if (err)
            return err;
        if (!give_chunk(r, tier, start, end_ms))
            break;
    }
    return 0;
}

static int oldest(struct reading *r, int tier, uint64_t *out_ms)
{
    char sql[80];
    sqlite3_int64 start_s;
    sqlite3_snprintf(sizeof sql, sql, "SELECT min(start_s) FROM chunk WHERE tier = %d", tier);
    int err = number(r->db, sql, NULL, NULL, &start_s);
    *out_ms = err ? UINT64_MAX : (uint64_t)start_s * 1000;
    return err == ERR_INVAL ? 0 : err;
}

static int give(struct reading *r)
{
    const struct archive_query *q = r->query;
    uint64_t oldest_ms[ARCHIVE_TIERS], step_ms = q->step_s * UINT64_C(1000);
    uint64_t end_ms = q->to_ms < q->until_ms ? q->to_ms : q->until_ms;
    int err = 0, best = 0;
    for (int i = 0; i < ARCHIVE_TIERS && !err; i++) {
        err = oldest(r, i, &oldest_ms[i]);
        best = chunk_tiers[i].period_s <= q->step_s ? i : best;
    }
    r->at_ms = q->from_ms / step_ms * step_ms;
    for (int i = ARCHIVE_TIERS - 1; i >= 0 && !err; i--) {
        uint64_t finer_ms = i > best ? oldest_ms[i - 1] : UINT64_MAX;
        if (oldest_ms[i] != UINT64_MAX && finer_ms > r->at_ms)
            err = give_tier(r, i, oldest_ms[i], finer_ms < end_ms ? finer_ms : end_ms);
    }
    return err;
}

int archive_read(const struct archive_query *query, archive_frame_fn *on_frame, void *arg)
{
    struct reading *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    r->query = query;
    r->on_frame = on_frame;
    r->arg = arg;
    int err = ERR_IO;
    if (sqlite3_open_v2(query->path, &r->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
        sqlite3_busy_timeout(r->db, BUSY_MS) == SQLITE_OK &&
        sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK && /* one state of it for all statements */
        sqlite3_prepare_v2(r->db, "SELECT frames FROM chunk WHERE tier = ?1 AND start_s = ?2 AND thing = ?3", -1, &r->chunk,
                           NULL) == SQLITE_OK)
        err = find_thing(r);
    if (!err)
        err = give(r);
    sqlite3_finalize(r->chunk);
    sqlite3_close(r->db);
    buf_done(&r->whole);
    buf_done(&r->route);
    free(r);
    return err;
}
