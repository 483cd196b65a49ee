/* guests.h - lanes for processes that are not ours: applications that have attached.
 *
 * A guest writes what it measured into a lane of its own, as a worker does, so that several
 * processes are one service to whoever reads. Which process has which lane is told by record
 * locks on the segment (one byte per lane, of an open file description): the kernel lets go of
 * them however a process ends, also in another container. Lanes only grow, so the next guest
 * goes on where the last has ended.
 *
 * Threads: any; a lane has one writer, who holds its lock.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>

enum { GUESTS_MAX = 32 };

struct board;

/* Takes a free lane through `fd`, an open file description of the segment that nobody shares.
 * Returns the lane's number, or ERR_BUSY (all are taken), ERR_IO. What its last writer had begun is aborted. */
int guest_claim(struct board *board, int fd);

/* Requests of guests that have died are aborted. `fd` as above, of the caller; about once a second. */
void guests_sweep(struct board *board, int fd);

/* A description of the segment that is the caller's own; -1 when /proc is not there. */
int guest_open(int fd);
