/* cache.h - a shared cache (RFC 9111) in front of handlers and upstreams.
 *
 *     request > visit: key > store? --fresh--> answer, two system calls
 *                              | stale: answer, fetch in the background
 *                              | stale: ask the origin with validators
 *                              | missing: fetch; who asks meanwhile waits
 *     answer  > filter > client, and as a record to the writer's queue
 *
 * Only what a route's policy turns on is cached. A client cannot make the
 * cache ask the origin anew unless the policy lets it. Headers that a handler
 * could reflect but that are no part of the key are hidden from it.
 *
 * Owner:   one per worker process; cache_open() to cache_close().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "cache/facts.h"
#include "cache/shared.h"
#include "http/filter.h"
#include "io/io.h"

struct cache;
struct cache_visit;
struct flight;

enum cache_query { QUERY_ALL, QUERY_NONE, QUERY_KEEP, QUERY_IGNORE };
enum cache_cookies { COOKIES_BYPASS, COOKIES_STRIP };

enum { CACHE_LIST = 1024, CACHE_NAME = 64 };

/* What a route says about its caching; copied by what outlives it. */
struct cache_policy {
    struct fresh_opts fresh; /* its policy fields */
    enum cache_query query;
    enum cache_cookies cookies;
    char query_names[CACHE_LIST]; /* "a,b" */
    char key_headers[CACHE_LIST]; /* lower case, sorted, "a,b" */
    char key_cookies[CACHE_LIST]; /* "a,b" */
    char tag_header[CACHE_NAME];  /* lower case; "" for none */
    uint64_t max_object_bytes;
    uint64_t collapse_ms;         /* longest wait for another's fetch; 0: never */
    double early;                 /* XFetch's beta; 0: off */
    bool heed_request;            /* client's no-cache, max-age and their like count */
    bool status_header;           /* Cache-Status (RFC 9211) */
};

struct cache_opts {
    struct io *io;
    struct board *board;
    struct lane *lane;
    struct cache_shared *shared;
    uint32_t worker;
};

/* NULL: the store cannot be opened, which is logged; the process serves without. */
struct cache *cache_open(const struct cache_opts *opts);
void cache_close(struct cache *c);

/* What the caller of cache_visit() does when told later. */
struct cache_host {
    /* The wait is over: the request goes on to its origin. */
    void (*go)(struct cache_visit *v);
    /* The wait is over: the exchange is about to be answered. Returns what to hand to release(). */
    void *(*detach)(struct cache_visit *v);
    void (*release)(void *token);
    /* Have this detached exchange answered by the same route; cache_fetch() has been called. */
    void (*refetch)(struct cache_visit *v, struct exchange *ex);
};

enum cache_verdict {
    CACHE_GO,       /* not from the cache: call cache_fetch() right before the origin is asked */
    CACHE_ANSWERED,
    CACHE_WAIT,     /* the host will be called, or call cache_leave() */
};

struct cache_visit {
    /* set by the caller */
    struct cache *cache;
    struct exchange *ex;
    const struct cache_policy *policy;
    const struct cache_host *host;
    void *user;
    /* private */
    struct str key;         /* in the exchange's arena once it fetches or waits */
    struct str query;       /* what the origin may see of it */
    const char *forward;    /* why it was not answered from the store (RFC 9211 2.2) */
    struct flight *flight;  /* waited for */
    struct cache_visit *next;
    bool alone; /* nobody waits for it: another leads */
    struct timer deadline;
    uint64_t began_ns, waits_ns; /* since when it looks; since when it waits */
    struct buf *old;        /* record to validate or to fall back on, or NULL */
    bool leads;             /* others may wait for this one */
    bool invalidates;       /* an unsafe method */
    bool capture;           /* the answer may be stored */
    uint64_t wait_until_ms; /* 0: has not waited yet */
    bool background;
};

enum cache_verdict cache_visit(struct cache_visit *v);

/* The request of a CACHE_GO goes to its origin now: strips what the key does
 * not cover, adds validators, and watches the answer. */
void cache_fetch(struct cache_visit *v);

/* The client of a waiting visit has gone. */
void cache_leave(struct cache_visit *v);
