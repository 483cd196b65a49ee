/* store.h - answers on disk and in memory at once: an LMDB environment that
 * all processes map.
 *
 * Readers take no lock and copy nothing: bytes come from the map and are valid
 * until store_end(). Writers are one at a time over all processes, in short
 * transactions; a writer that is killed leaves the last committed state, and
 * its lock goes to the next (LMDB's robust mutexes).
 *
 * Eviction is S3-FIFO (Yang et al., "FIFO queues are all you need for cache
 * eviction", SOSP 2023): new entries pass a small queue, those asked for
 * again there move to the main one, and keys that fell out of the small one
 * are remembered for a while. Queues are in the environment, so an eviction and
 * what made it necessary are one transaction; how often an entry was asked for
 * is two bits in shared memory, so a hit writes nothing to disk.
 *
 *     entries  key > record             where  key > queue, position, size
 *     queues   queue, position > key    ghosts key > position
 *     names    text of key > key        tags   tag > keys
 *
 * No sync is asked for: a process that dies loses nothing, and what a machine
 * that dies has half written is thrown away at start (shared.h).
 *
 * Owner:   one per process, opened after the fork; store_open() to store_close().
 * Threads: reading: one thread; writing: another one, or the same.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "cache/record.h"

#include <stdatomic.h>

struct store;

struct store_opts {
    const char *folder;
    uint64_t bytes;            /* of records; the map has room beyond it */
    _Atomic uint8_t *uses;     /* shared: how often asked for, 0 to 3, by hash */
    uint64_t uses_mask;
};

struct store_usage {
    uint64_t entries;
    uint64_t bytes;       /* of records, as counted against the limit */
    uint64_t small_bytes; /* of those, in the small queue */
    uint64_t evictions;   /* since the store was made */
    uint64_t evicted_bytes;
};

/* Returns 0, or ERR_IO with the reason in `why`. */
int store_open(struct store **out, const struct store_opts *opts, char *why, size_t why_size);
void store_close(struct store *s);

/* Has all that was committed written to the disk. */
void store_sync(struct store *s);

/* A view of one committed state. Nests; each begin has its end. */
bool store_begin(struct store *s);
bool store_get(struct store *s, struct cache_key key, struct str *out);
void store_end(struct store *s);

/* Notes that a key was asked for. */
void store_used(struct store *s, struct cache_key key);

bool store_usage(struct store *s, struct store_usage *out);

/* One transaction at a time; may wait for other processes. False: the store
 * is broken or full; nothing has changed. */
bool store_write_begin(struct store *s);
bool store_write_commit(struct store *s);
void store_write_abort(struct store *s);

/* What a record takes of the room. */
uint32_t store_size(size_t record_bytes);

/* Inside of a transaction. store_put() takes a record and makes room for it;
 * false: give the transaction up. Purges return how many entries went. */
bool store_put(struct store *s, struct str record);
uint64_t store_purge_key(struct store *s, struct str text); /* with all variants */
uint64_t store_purge_prefix(struct store *s, struct str text);
uint64_t store_purge_tag(struct store *s, struct str tag);
uint64_t store_purge_all(struct store *s);

/* Makes a fifth of the room free, for when pages ran out. */
void store_shrink(struct store *s);
