/* parts.h - inside of core/pg: pool, connection and statement.
 *
 *     pool    jobs waiting (FIFO)    leases waiting (FIFO)
 *                 |                       |
 *             connection: shared       connection: leased
 *             job > job > job          one job at a time
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "pg/pg.h"
#include "task/task.h"

#include <libpq-fe.h>
#include <openssl/ssl.h>

enum job_state { JOB_NEW, JOB_WAITING, JOB_SENT, JOB_FINISHED };

struct job_list {
    struct pg_job *first, *last;
    unsigned count;
};

void jobs_add(struct job_list *list, struct pg_job *job);
void jobs_add_first(struct job_list *list, struct pg_job *job);
void jobs_remove(struct job_list *list, struct pg_job *job);

struct pg {
    struct io *io;
    struct board *board;
    uint32_t worker;
    struct pg_pool *pools;
    struct tasks *tasks;        /* connecting and cancelling */
    uv_prepare_t prepare;       /* ends the turn: sends and delivers */
    struct job_list finished;   /* done() is to be called */
    struct pg_lease *granted;   /* the same of leases, in order */
    struct pg_lease **granted_end;
    struct pg_conn *dirty;      /* with something to send */
    _Atomic bool stopping;
    bool delivering;
    uint64_t second;            /* of the last slow tick */
};

/* ---- statement.c ---- */

struct pg_statement {
    struct pg_statement *next;        /* of its bucket */
    struct pg_statement *older, *newer;
    struct pg_pool *pool;
    struct str sql;                   /* NUL-terminated */
    uint64_t hash, id;
    uint32_t shape;                   /* its index on the board */
    unsigned refs;
    enum pg_verb verb;
    bool typed;
    unsigned param_count;
    uint32_t *param_oids;
    double mean_ms;                   /* moving average of its time at the server */
};

struct texts {
    struct pg_statement **buckets;
    unsigned size, count;
    struct pg_statement *oldest, *newest; /* those that nobody holds */
    uint64_t next_id;
};

void texts_done(struct texts *texts);

/* A statement was measured. */
void pg_statement_took(struct pg_statement *st, uint64_t ns);

/* ---- connection ---- */

/* A statement as one connection has it prepared. */
struct prepared {
    struct prepared *next;          /* of its bucket */
    struct prepared *older, *newer;
    uint64_t id;                    /* of the statement */
    unsigned refs;
    struct pg_columns *columns;
    bool ready;                     /* the server has said so */
    bool dropped;                   /* no longer in the table */
};

enum { PREPARED_BUCKETS = 64, PREPARED_NAME = 24 };

enum conn_state { CONN_OPENING, CONN_READY, CONN_CLOSED };

struct pg_conn {
    struct pg_conn *next, *prev;     /* of the pool */
    struct pg_conn *next_dirty;
    struct pg_pool *pool;
    enum conn_state state;
    PGconn *pq;
    SSL *ssl;                        /* NULL: plain */
    int fd;
    uv_poll_t poll;
    int events;                      /* polled for */
    struct buf out, in;
    uint64_t sent;                   /* bytes handed to the socket so far */
    uint64_t skip;                   /* bytes of a message too large to read */
    struct job_list jobs;            /* under way, in order */
    double expected_ms;              /* that they take the server */
    struct pg_job *current;          /* replies belong to it */
    struct pg_job *open;             /* placed without a Sync yet */
    struct pg_error error;           /* of the transaction being answered */
    struct prepared *buckets[PREPARED_BUCKETS];
    struct prepared *oldest, *newest;
    unsigned prepared_count;
    struct pg_lease *lease;
    struct timer timer;              /* of the statement at the head */
    uint64_t head_ns;                /* since when that is the head */
    uint64_t opened_ms, idle_ms;
    double life;                     /* of the pool's lifetime: 0.9 to 1.1 */
    char status;                     /* as ReadyForQuery said */
    bool dirty, paused;
    bool reserved;                   /* takes no more jobs, a lease waits for it */
    bool draining;                   /* to be closed once it has nothing to do */
    bool cancelling;                 /* a cancel request is under way */
    bool cancelled;                  /* asked already for the statement at the head */
    bool checking;                   /* an exchange of our own is under way: a check, a rollback */
    bool ending;                     /* its lease is over, its transaction not yet */
    bool gone;                       /* its handle is being closed */
    bool fatal;                      /* the server has said why it leaves */
    bool reading;                    /* in its parser */
};

struct pg_pool {
    struct pg_pool *next;
    struct pg *all;
    struct pg_spec spec;
    char *strings;                   /* of the specification */
    char *where;                     /* "user@host:port/database" */
    unsigned refs;
    struct board_pool *shared;
    struct pool_lane *lane;
    struct texts texts;
    struct pg_conn *conns;
    unsigned conn_count, opening;
    struct job_list waiting;
    struct pg_lease *leases, *last_lease;
    unsigned lease_count;
    uint64_t next_order;
    bool denied;                     /* others hold all places: not asked again in this tick */
    uint64_t retry_ms;               /* no attempt to connect before */
    uint64_t backoff_ms;
    uint64_t down_ms;                /* since when it cannot be reached; 0: it can */
    struct pg_error down;            /* why */
    struct timer retry;
};

/* ---- conn.c ---- */

/* A connection that is being opened, holding a place; NULL without one. */
struct pg_conn *pg_conn_new(struct pg_pool *pool);

/* It is logged in: takes `pq` over. False: it cannot be used. */
bool pg_conn_begin(struct pg_conn *c, PGconn *pq);

/* It could not be opened: frees it. */
void pg_conn_unopened(struct pg_conn *c);

/* Puts a job behind those under way. */
void pg_conn_place(struct pg_conn *c, struct pg_job *job);

/* Ends the turn: the last Sync, and everything to the socket. */
void pg_conn_flush(struct pg_conn *c);

/* Has it sent at the end of the turn. */
void pg_conn_wake(struct pg_conn *c);

/* Ends the transaction that read-only jobs share. */
void pg_conn_end_batch(struct pg_conn *c);

/* Another job stands at the head now, or none. */
void pg_conn_new_head(struct pg_conn *c);

/* Reads on after a stream's rows were taken. */
void pg_conn_resume(struct pg_conn *c);

/* Ends it. Jobs under way are answered with the error, or done again where that is safe. */
void pg_conn_close(struct pg_conn *c, const char *sqlstate, const char *why);

/* Asks the server to stop what stands at the head. */
void pg_conn_cancel(struct pg_conn *c);

/* Asks whether the server is there. */
void pg_conn_check(struct pg_conn *c);

/* Its lease is over: rolls back what is open, then it is anybody's. */
void pg_conn_end_lease(struct pg_conn *c);

/* The job at the head, or what is known of it, has changed: times it anew. */
void pg_conn_time(struct pg_conn *c);

static inline bool pg_conn_is_idle(const struct pg_conn *c)
{
    return c->state == CONN_READY && !c->jobs.first && !c->lease && !c->cancelling && !c->ending && !c->checking;
}

/* ---- reply.c ---- */
enum { PG_STREAM_BYTES = 64 * 1024 /* rows held for a slow taker */, PG_REPEATS = 3 };

/* Takes all whole messages; returns how many bytes those are. */
size_t pg_conn_take_messages(struct pg_conn *c, struct str in);

/* The job is no longer under way here. */
void pg_conn_take_off(struct pg_conn *c, struct pg_job *job);

/* The last job of the transaction at the head; NULL when its Sync is not written yet. */
struct pg_job *pg_conn_last_of_head(const struct pg_conn *c);

/* Whether somebody waits for it who would not notice that it is done again. */
static inline bool pg_job_may_repeat(const struct pg_job *job)
{
    return !job->lease && job->done && job->repeats < PG_REPEATS;
}

/* ---- prepared.c ---- */
struct prepared *prepared_find(struct pg_conn *c, uint64_t id);
struct prepared *prepared_add(struct pg_conn *c, uint64_t id); /* makes room by closing the oldest */
void prepared_drop(struct pg_conn *c, struct prepared *p);
void prepared_put(struct prepared *p);
void prepared_clear(struct pg_conn *c);
void prepared_name(uint64_t id, char out[PREPARED_NAME]);

/* ---- connect.c ---- */
bool connect_start(struct pg_conn *c);

/* False: it cannot be done now. */
bool cancel_start(struct pg_conn *c);

/* ---- keep.c ---- */

/* What became of connect_start(). */
void pool_opened(struct pg_conn *c, PGconn *pq);
void pool_refused(struct pg_conn *c, const struct pg_error *why);

/* Opens one more connection if that may be. */
void pool_grow(struct pg_pool *pool);

/* ---- pool.c ---- */

/* The server is away for longer than anybody should wait. */
bool pool_is_hopeless(const struct pg_pool *pool);

/* Tells all who wait that there is no connection. */
void pool_fail_all(struct pg_pool *pool);

/* The job has its result: done() is called at the end of the turn. */
void pool_finish(struct pg_job *job);

/* Back into the queue, in front. */
void pool_again(struct pg_job *job);

/* Something became free. */
void pool_dispatch(struct pg_pool *pool);

/* Calls what is done. */
void pool_deliver(struct pg *all);

uint64_t pool_statement_ms(const struct pg_pool *pool, const struct pg_job *job);
double pool_expected_ms(const struct pg_job *job); /* at the server, from those before */

static inline double pg_setting(const struct pg_pool *pool, enum setting_id id)
{
    return setting_number(&pool->all->board->settings, id);
}
