/* archive.h - the history on disk: one SQLite file, four tiers, a budget of bytes.
 *
 *     thing (id, method, name)              routes and pools by name: indices end with the engine; 0 is "all"; a pool's
 *                                           method is ARCHIVE_POOL
 *     chunk (tier, start_s, thing, frames)  see chunk.h
 *     state (newest_ms)                     how far it goes
 *
 * A batch of windows is one transaction that brings all tiers to the same end:
 * a 1 s window is added to the slots of 10 s, 1 min and 1 h that it lies in, so
 * no tier waits for the one below, and sums are exact. When the file is above
 * its budget, the tier that is furthest above its share gives up its oldest chunks.
 *
 * A file that is damaged, of a newer schema, or not ours is set aside under
 * another name (history.db.damaged, .newer, .foreign) and a new one begun.
 *
 * Owner:   the historian (historian.h); ends with archive_free().
 * Threads: one archive, one thread at a time. archive_read() has a connection of
 *          its own and may run beside it.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "store/batch.h"

struct archive;

struct archive_usage {
    uint64_t file_bytes;             /* of the file itself */
    uint64_t tier_bytes[4];          /* of frames */
    uint64_t newest_ms;
    uint64_t evicted;                /* chunks given up for the budget, since it was opened */
};

/* Names only; nothing is opened. NULL when memory is out. */
struct archive *archive_new(const char *path, const struct board *board);
void archive_free(struct archive *a);

/* Opens the file unless it is open. 0, ERR_IO or ERR_NOMEM; archive_why() tells. */
int archive_open(struct archive *a);

/* Writes a batch, opening the file if need be, and keeps within the budget. Whole or not
 * at all. 0, ERR_IO or ERR_NOMEM. */
int archive_write(struct archive *a, const struct batch *batch, uint64_t budget_bytes);

/* What went wrong last. */
const char *archive_why(const struct archive *a);

void archive_usage(const struct archive *a, struct archive_usage *out);

/* ---- archive_read.c ---- */

#define ARCHIVE_POOL "(pool)" /* no token, so no method of a request */

struct archive_query {
    const char *path;
    const char *method; /* NULL: the first route of this name; or "METHOD name" is in `name`. ARCHIVE_POOL: a pool */
    const char *name;   /* NULL: all routes */
    uint64_t from_ms, to_ms;
    uint64_t until_ms;  /* frames that end later are left out: memory has them */
    uint32_t step_s;
};

struct archive_frame {
    uint64_t slot_ms; /* to what it belongs; aligned to the tier's period */
    uint64_t covered_ms;
    const struct stats_host *host;
    const struct stats_route *counts;
};
typedef void archive_frame_fn(void *arg, const struct archive_frame *frame);

/* Calls on_frame for each frame that there is, in order: of the coarsest tier that resolves the
 * step, before it of coarser ones where that does not reach back, behind it of finer ones where
 * its last slot is not whole. Returns 0, ERR_INVAL (no such thing), ERR_IO or ERR_NOMEM. */
int archive_read(const struct archive_query *query, archive_frame_fn *on_frame, void *arg);
