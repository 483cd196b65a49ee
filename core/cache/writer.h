/* writer.h - the thread of a process that writes to the store, so that the
 * loop never waits for another process's transaction or for the disk.
 *
 * What is to be stored waits in a queue of bounded bytes and goes in batches,
 * one transaction each. A full queue refuses.
 *
 * Owner:   writer_new() to writer_free(), which writes what waits.
 * Threads: calls from one thread, the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "cache/shared.h"

struct writer;

enum purge { PURGE_KEY, PURGE_PREFIX, PURGE_TAG, PURGE_ALL };

struct writer *writer_new(struct store *store, struct cache_shared *shared, unsigned process);

/* Writes what waits and ends the thread. False: that took too long, since another process
 * holds the store; thread and store must be left alone until this process ends. */
bool writer_free(struct writer *w);

/* Takes the record's memory over, and ends the lease (0: none) once it is
 * committed or given up. False: the queue has more than max_bytes. */
bool writer_put(struct writer *w, struct buf *record, uint64_t max_bytes, uint32_t lease_slot,
                uint64_t lease);

/* Forgets entries. Returns a ticket for writer_purged(), 0 without memory. */
uint64_t writer_purge(struct writer *w, enum purge what, struct str text);

/* Whether a purge is done; then *count says how many went, or -1: it failed.
 * Remembers the last 64. */
bool writer_purged(struct writer *w, uint64_t ticket, int64_t *count);

/* The slot of a target in the shared tables. */
uint32_t cache_slot(struct str target);

/* What stands before the first line end of a key: the target. */
struct str cache_target(struct str key);
