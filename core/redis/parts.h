/* parts.h - inside of core/redis: pool, connection, hub.
 *
 *     pool    jobs waiting (FIFO)    leases waiting (FIFO)
 *                 |                       |
 *             connection: shared       connection: leased     connection: the hub's
 *             job > job > job          job > job              channels > listeners
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "redis/redis.h"

#include <hiredis/read.h>

enum job_state { JOB_NEW, JOB_WAITING, JOB_SENT, JOB_FINISHED };

struct job_list {
    struct redis_job *first, *last;
    unsigned count;
};

void redis_jobs_add(struct job_list *list, struct redis_job *job);
void redis_jobs_add_first(struct job_list *list, struct redis_job *job);
void redis_jobs_remove(struct job_list *list, struct redis_job *job);
void redis_jobs_replace(struct job_list *list, struct redis_job *old, struct redis_job *job);

struct redis {
    struct io *io;
    struct board *board;
    uint32_t worker;
    struct redis_pool *pools;
    uv_prepare_t prepare;        /* ends the turn: sends and delivers */
    struct job_list finished;    /* done() is to be called */
    struct redis_lease *granted; /* the same of leases, in order */
    struct redis_lease **granted_end;
    struct redis_conn *dirty;    /* with something to send */
    bool delivering, stopping;
    uint64_t slow_ms;            /* of the next slow tick */
};

/* ---- url.c ---- */

struct redis_address {
    char *host;    /* NULL: a Unix socket */
    char *path;    /* of it */
    char *user;    /* NULL: none */
    char *password;
    unsigned port, database;
};

/* False: `why` says what is wrong with it. */
bool redis_address_parse(struct redis_address *a, const char *url, char why[REDIS_WHY]);
void redis_address_done(struct redis_address *a);
void redis_address_show(const struct redis_address *a, char *out, size_t size);

/* ---- reply.c ---- */

/* Where the replies of the job at the head are written. */
struct redis_reply {
    struct buf flat;
    size_t limit;   /* of flat */
    bool drop;      /* nobody wants them */
    bool too_large; /* the limit was met: they are dropped, too */
    bool oversize;  /* the next nil stands for a value that was skipped */
};

enum reply_result { REPLY_NONE, REPLY_WHOLE, REPLY_BROKEN };

/* A reader that writes to `reply`; NULL without memory. */
redisReader *reply_reader_new(struct redis_reply *reply);

/* Takes one whole reply out of what was fed. *skip: bytes of a value above the
 * limit that are still to come and must be passed by; it is then read as nil. */
enum reply_result reply_take(redisReader *reader, struct redis_reply *reply, uint64_t *skip);

/* ---- connection ---- */

enum conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_GREETING, CONN_READY, CONN_CLOSED };

struct redis_conn {
    struct redis_conn *next, *prev; /* of the pool */
    struct redis_conn *next_dirty;
    struct redis_pool *pool;
    enum conn_state state;
    uv_getaddrinfo_t lookup;
    struct addrinfo *addresses, *address; /* all, and the one that is tried */
    uv_poll_t *poll;             /* NULL: not connecting yet */
    int fd;
    int events;                  /* polled for */
    struct buf out;
    uint64_t sent;               /* bytes handed to the socket so far */
    redisReader *reader;
    struct redis_reply reply;
    size_t reply_at;             /* where in it the next one begins */
    uint64_t skip;               /* bytes of a value too large to read */
    struct job_list jobs;        /* under way, in order */
    struct redis_lease *lease;
    struct redis_hub *hub;       /* it is the hub's: what comes goes there */
    struct timer timer;          /* of opening, then of the head */
    uint64_t head_ms;            /* since when that is the head */
    uint64_t opened_ms, idle_ms;
    double life; /* of the pool's lifetime: 0.9 to 1.1 */
    uint64_t heard_ms;           /* when a reply came last */
    int error;                   /* errno of the last address that was tried */
    bool looking;                /* lookup is under way */
    bool dirty;
    bool draining;               /* to be closed once it has nothing to do */
    bool reserved;               /* takes no more jobs, a lease waits for it */
};

struct shape_name {
    char name[28];
    uint32_t len, index;
};

enum { SHAPE_NAMES = 128 /* of a pool and worker; those beyond share one entry */ };

struct redis_pool {
    struct redis_pool *next;
    struct redis *all;
    struct redis_spec spec;
    char *strings;               /* of the specification */
    struct redis_address address;
    char where[128];             /* "user@host:port/database" */
    unsigned refs;
    struct board_pool *shared;
    struct pool_lane *lane;
    struct redis_conn *conns;
    unsigned conn_count, opening;
    struct job_list waiting;
    struct redis_lease *leases, *last_lease;
    unsigned lease_count;
    struct redis_hub *hub;       /* NULL: nobody ever listened */
    uint64_t next_order;
    bool denied;                 /* others hold all places: not asked again in this tick */
    uint64_t retry_ms;           /* no attempt to connect before */
    uint64_t backoff_ms;
    uint64_t down_ms;            /* since when it cannot be reached; 0: it can */
    struct redis_error down;     /* why */
    struct timer retry;
    struct shape_name shapes[SHAPE_NAMES];
    unsigned shape_count;
};

static inline double redis_setting(const struct redis_pool *pool, enum setting_id id)
{
    return setting_number(&pool->all->board->settings, id);
}

static inline uint64_t redis_now_ms(const struct redis_pool *pool)
{
    return pool->all->io->now_ms;
}

/* ---- conn.c ---- */

/* Begins to open one; it holds a place, and tells pool_opened() or pool_refused(). False: it could not begin. */
bool redis_conn_open(struct redis_pool *pool);

/* Puts a job behind those under way. */
void redis_conn_place(struct redis_conn *c, struct redis_job *job);

/* Has what it holds sent at the end of the turn. */
void redis_conn_wake(struct redis_conn *c);
void redis_conn_flush(struct redis_conn *c);

/* Ends it. Jobs under way are answered with the error, or done again where that is safe. "" as code: we want it so. */
void redis_conn_close(struct redis_conn *c, const char *code, const char *why);

/* Asks whether the server is there. */
void redis_conn_check(struct redis_conn *c);

static inline bool redis_conn_is_idle(const struct redis_conn *c)
{
    return c->state == CONN_READY && !c->jobs.first && !c->lease;
}

/* ---- keep.c ---- */

void redis_pool_opened(struct redis_conn *c);
void redis_pool_refused(struct redis_pool *pool, const struct redis_error *why);

/* Opens one more connection if that may be. `spare`: leaves a place to each worker that has none. */
void redis_pool_grow(struct redis_pool *pool, bool spare);

/* ---- pool.c ---- */

bool redis_pool_is_hopeless(const struct redis_pool *pool);
void redis_pool_fail_all(struct redis_pool *pool);

/* The job has failed: done() is called at the end of the turn. */
void redis_pool_finish(struct redis_job *job);

/* The job has its replies: done() is called now. */
void redis_pool_answer(struct redis_job *job);

/* A command was answered. */
void redis_pool_count(const struct redis_job *job, unsigned command, bool failed);

/* Back into the queue, in front. */
void redis_pool_again(struct redis_job *job);

/* Something became free. */
void redis_pool_dispatch(struct redis_pool *pool);

/* Calls what is done. */
void redis_pool_deliver(struct redis *all);

uint64_t redis_pool_wait_ms(const struct redis_pool *pool);

/* ---- hub.c ---- */

/* Something came on its connection. */
void redis_hub_heard(struct redis_conn *c);

/* Its connection is gone. */
void redis_hub_lost(struct redis_hub *hub, const char *code, const char *why);
void redis_hub_tick(struct redis_pool *pool);

/* Tells listeners of what has come. */
void redis_hub_tell(struct redis_hub *hub);

/* Whether somebody listens. */
bool redis_hub_is_used(const struct redis_hub *hub);
void redis_hub_free(struct redis_hub *hub);
