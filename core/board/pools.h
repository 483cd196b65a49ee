/* pools.h - connection pools that all workers share: one cap on how many
 * connections there are, who holds how many, and what they did.
 *
 * A place under the cap is taken by counting oneself first and looking at the
 * sum after: two workers that meet may both step back, but never does the sum of
 * those that stay pass the cap. Each worker counts in its own lane, so that the
 * death of a worker gives its places back: the supervisor clears the lane.
 *
 * Owner:   the board.
 * Threads: any, by plain atomics; each field names its writer.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "stats/lane.h"

enum { POOLS_MAX = 16, POOL_NAME = 64, POOL_REASON = 240, POOL_WHERE = 160, POOL_CONTROL = 64 /* index of control */, POOL_WORKERS };

enum pool_kind { POOL_POSTGRES, POOL_REDIS };

enum pool_health { POOL_UNKNOWN, POOL_UP, POOL_DOWN };

/* One worker in one pool. Writer: that worker; the counters only grow. */
struct pool_lane {
    _Alignas(64) _Atomic uint32_t held; /* places: connections open or being opened */
    _Atomic uint32_t idle;              /* of them, with nothing to do */
    _Atomic uint32_t waiting;           /* requests for a connection */
    _Atomic uint32_t starved;           /* it waits for a place that others hold */
    _Atomic uint32_t open;              /* how many pools of the worker use this entry */
    lane_counter opened, refused, lost; /* connections; refused: could not be opened; lost: not closed by us */
    lane_counter statements, rows, errors, timeouts, cancels, repeats, rejected;
    lane_counter wait_sum_ns, use_sum_ns;
    struct sketch_coarse wait;          /* from asked to sent */
    struct sketch_coarse use;           /* from sent to answered */
};

struct board_pool {
    _Alignas(64) _Atomic uint32_t state; /* as board_route.state */
    _Atomic uint32_t incarnation;        /* how many pools have had this entry; the others' fields begin with zeros */
    char name[POOL_NAME];
    _Atomic uint32_t kind;             /* Writer: workers */
    _Atomic uint32_t min, max;         /* as configured. Writer: workers */
    _Atomic uint64_t wait_ms, statement_ms, connect_ms, idle_ms, lifetime_ms; /* in force. Writer: workers */
    _Atomic uint32_t min_set, max_set; /* by the API, plus one; 0: not. Writer: control */
    _Atomic uint32_t min_tried, max_tried; /* by a trial, plus one; 0: none. Writer: as of a setting on trial */
    _Atomic uint32_t health;           /* Writer: workers */
    _Atomic uint32_t server_max;       /* connections that the server gives to all; 0: not known. Writer: workers */
    _Atomic uint32_t deleted;          /* it goes when no worker has it open any more. Writer: control */
    _Atomic uint32_t forced;           /* and its connections close at once */
    uint32_t unused_ticks;             /* for so long nobody has it open. Writer: control */
    _Atomic uint32_t sequence;         /* of reason: odd while it is written. Writer: workers */
    char reason[POOL_REASON];          /* why it is down, without secrets */
    char where[POOL_WHERE];            /* "user@host:port/database". Writer: who opens it first */
    struct pool_lane lanes[POOL_WORKERS];
};

struct pools {
    struct board_pool list[POOLS_MAX];
};

/* The pool of a name, made when new, for a worker that says where its server is;
 * NULL when there are too many. Each open has its close. */
struct board_pool *pools_open(struct pools *all, struct str name, uint32_t worker, const char *where);
void pool_close(struct board_pool *p, uint32_t worker);

/* The i-th of POOLS_MAX; NULL: there is none. */
const struct board_pool *pools_at(const struct pools *all, int i);

/* It is wanted no longer; `force`: whoever uses it is broken off. */
void pool_delete(struct board_pool *p, bool force);

/* Control, each second: gives the entries of deleted pools, and of those that nobody
 * has had open for a while, back to the board. */
void pools_tick(struct pools *all);

/* Takes a place for a worker. False: the cap is reached. Control has one place of its own
 * beside the cap: who asks what is wrong with a full pool must not wait for it. */
bool pool_hold(struct board_pool *p, uint32_t worker, uint32_t max);
void pool_release(struct board_pool *p, uint32_t worker);

/* Places held by all workers, control aside. */
uint32_t pool_held(const struct board_pool *p);

/* Whether a worker other than this waits for a place. */
bool pool_others_starve(const struct board_pool *p, uint32_t worker);

/* Bounds in force; the stable ones leave trials aside. */
uint32_t pool_min(const struct board_pool *p);
uint32_t pool_max(const struct board_pool *p);
uint32_t pool_stable_min(const struct board_pool *p);
uint32_t pool_stable_max(const struct board_pool *p);

/* The API's bounds; they end a trial of them. */
void pool_set_bounds(struct board_pool *p, uint32_t min, uint32_t max);

void pool_set_health(struct board_pool *p, enum pool_health health, const char *reason);

/* Copies the reason; an empty text while it is being written. */
void pool_reason(struct board_pool *p, char out[POOL_REASON]);

/* A worker is gone, and with it its connections. */
void pools_forget_worker(struct pools *all, uint32_t worker);
