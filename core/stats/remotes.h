/* remotes.h - applications elsewhere: what their parcels say goes into lanes of guests.
 *
 *     parcel > lane of its sender > frames, as with applications that write there themselves
 *
 * A sender has a lane until its last parcel, or a minute of silence; then what it had begun is
 * aborted and the lane is the next one's. A parcel is taken whole or not at all, and once: one that comes
 * again, because its answer was lost, is answered and not counted.
 *
 * Owner:   control; ends with remotes_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "stats/parcel.h"

struct remotes;

/* NULL when memory is out. */
struct remotes *remotes_new(struct board *board);
void remotes_free(struct remotes *r);

/* 0; ERR_INVAL: no parcel, or damaged; ERR_PROTOCOL: of another version; ERR_BUSY: all lanes are taken; ERR_IO: no lane
 * can be had. */
int remotes_take(struct remotes *r, struct str parcel, uint64_t now_ns);

/* About once a second. */
void remotes_tick(struct remotes *r, uint64_t now_ns);

/* How many send. */
unsigned remotes_count(const struct remotes *r);
