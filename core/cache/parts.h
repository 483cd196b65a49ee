/* parts.h - inside of core/cache: the cache of a process and what its files share.
 *
 *     cache.c   key, look-up, verdict          flight.c  who waits for whom
 *     serve.c   a record becomes an answer     fetch.c   an answer becomes a record
 *     coded.c   its body in content codings
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "cache/cache.h"
#include "cache/writer.h"
#include "http/coded.h"

enum { FLIGHTS = 1024, SEEN = 8192, KEY_BYTES_MAX = 16384 };

struct flight { /* one fetch that others wait for */
    struct flight *next; /* in the same slot */
    struct str key;      /* owned */
    uint64_t hash;
    struct cache_visit *waiting;
    uint32_t lease_slot;
    uint64_t lease;
};

struct cache {
    struct io *io;
    struct board *board;
    struct lane *lane;
    struct cache_shared *shared;
    struct store *store;
    struct writer *writer;
    uint32_t worker;
    _Atomic uint64_t *counts;
    struct flight *flights[FLIGHTS];
    struct {
        uint64_t hash, until_ms;
    } uncacheable[FLIGHTS];  /* keys whose answers could not be stored lately: nobody waits for them */
    uint64_t sound[SEEN];    /* ids of records whose checksum was found right */
    struct buf key;          /* scratch */
    uint64_t hash;           /* of the key that was looked up last */
    unsigned entered;        /* how often the store was entered and not left */
    uint64_t *seen;          /* by route: requests that its curve has not been told of */
};

enum serve_how { SERVE_HIT, SERVE_STALE, SERVE_REVALIDATED, SERVE_COLLAPSED };

struct serve_opts {
    const struct cache_policy *policy;
    const struct head *head;  /* the client's, with its conditions */
    bool in_filter;           /* said by a filter, to `through` (NULL: the wire) */
    struct filter *through;
    enum serve_how how;
    const char *forward;      /* for SERVE_STALE and SERVE_REVALIDATED: why the origin was asked */
};

/* The store, for as long as what is found there is looked at; nests. */
bool cache_enter(struct cache *c);
void cache_exit(struct cache *c);

/* The record of a key, inside of the store; and whether its bytes are those that were written. */
bool cache_get(struct cache *c, struct str key, struct record_view *view);
bool cache_is_sound(struct cache *c, const struct record_view *view);

/* Lets the filter that compresses keep what it makes of this answer. */
void coded_offer(struct cache *c, struct exchange *ex, const struct record_view *v);

void cache_count(struct cache *c, struct exchange *ex, enum cache_count what);

/* Answers the exchange with a record; it may be gone afterwards. */
void serve_record(struct cache *c, struct exchange *ex, const struct record_view *v,
                  const struct serve_opts *opts);

/* Whether the client's conditions make a 304 of an answer with these validators. */
bool serve_is_not_modified(const struct head *head, struct str etag, uint64_t last_modified_ms,
                           uint64_t now_ms);

/* Flights. find: NULL when nobody fetches that key. */
struct flight *flight_find(struct cache *c, struct str key);
bool flight_begin(struct cache_visit *v);
void flight_join(struct cache_visit *v, struct flight *f);
bool flight_await_lease(struct cache_visit *v);

enum landing { LAND_RECORD, LAND_UNCACHEABLE, LAND_FAILED };

/* Ends the flight of a key: who waits gets the record, or goes on. With
 * `committing` the lease stays until the writer has committed the record. */
void flight_land(struct cache *c, struct str key, enum landing how, struct str record, bool committing);

/* The lease of a flight, for the writer. */
void flight_lease(struct cache *c, struct str key, uint32_t *slot, uint64_t *lease);
bool flight_is_leased(struct cache *c, struct str key);

/* Whether answers of a key could not be stored lately, so that waiting for one is no use. */
bool flight_is_uncacheable(struct cache *c, struct str key);

/* Looks again for a visit that waited, and tells its host. */
void visit_again(struct cache_visit *v);

/* Whether a record is an answer to this request. */
bool visit_fits(struct cache_visit *v, const struct record_view *view);


/* Appends the key of a request (primary), and of its variant by `names`. */
bool key_write(struct cache_visit *v, struct buf *out);
void key_vary(const struct head *head, struct str names, struct buf *out);
