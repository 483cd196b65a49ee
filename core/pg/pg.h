/* pg.h - PostgreSQL: pools of connections that requests share.
 *
 *     job (one statement) > pool > connection > reply > done()
 *
 * Statements of concurrent requests go down few connections one behind the other
 * without waiting for each other's round trips, each with a Sync of its own, so
 * that they know nothing of each other. Jobs declared read-only share a Sync with
 * others of their turn of the loop, which costs the server a third; when one of
 * them fails, all of them are done again alone. Transactions and streamed rows
 * hold a lease: a connection for themselves.
 *
 * libpq finds the server, negotiates TLS and logs in (on a thread: names and key
 * derivation take milliseconds), and cancels. Once logged in, the extended query
 * protocol is spoken here: libpq 15 makes a system call for every Sync and copies
 * every result, which is half of what a small statement costs the client.
 *
 * Source:  PostgreSQL 15 documentation, chapter 55, "Frontend/Backend Protocol".
 * Owner:   the worker: pg_new() to pg_free(); jobs and leases as said below.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "io/io.h"

struct pg;        /* all pools of a worker */
struct pg_pool;   /* one database */
struct pg_statement;
struct pg_job;
struct pg_lease;

enum { PG_SQLSTATE = 6, PG_SQL_MAX = 1 << 20, PG_PARAMETERS_MAX = 65535, PG_WHY = 512 };

/* How a database is configured. 0 and -1 mean "as the setting says". */
struct pg_spec {
    const char *name;
    const char *dsn;  /* URL or key=value words; a secret */
    int64_t min;      /* -1: pool.db.min */
    int64_t max;      /* 0: pool.db.max */
    int64_t wait_ms, statement_ms, connect_ms, idle_ms, lifetime_ms; /* 0: pool.db.* */
    bool changes_only; /* while a configuration is read: it only changes a database that something else names */
    bool pooler;      /* a transaction-mode pooler stands in front: keep nothing on a connection */
};

/* Judges a connection string: NULL when it can be used, else what is wrong; never
 * shows any part of it but a keyword. */
const char *pg_dsn_wrong(const char *dsn, char why[PG_WHY]);

/* Logs in and leaves again, waiting at most PG_PING_S: NULL, or why that failed. Blocks; for `perilune doctor`. */
enum { PG_PING_S = 3 };
const char *pg_ping(const char *dsn, char why[PG_WHY]);

/* "user@host:port/database", without secrets. */
void pg_dsn_show(const char *dsn, char *out, size_t size);

/* ---- life ---- */

struct pg *pg_new(struct io *io, struct board *board, uint32_t worker);

/* Each tick: ages, warms, checks, shows. */
void pg_tick(struct pg *all);

/* Gives up everything, without done(). False: a thread that connects did not come back within grace_ms
 * (0: a minute), so nothing may be freed. Else io_done() must follow, then pg_free(). */
bool pg_stop(struct pg *all, unsigned grace_ms);
void pg_free(struct pg *all);

/* The pool of a specification, which is copied; shared while any generation uses
 * the same. NULL: out of memory or more than POOLS_MAX names. */
struct pg_pool *pg_open(struct pg *all, const struct pg_spec *spec);
void pg_release(struct pg_pool *pool);
const struct pg_spec *pg_pool_spec(const struct pg_pool *pool);

/* ---- statements ---- */

/* What a statement does to the session, as its first word tells. */
enum pg_verb { PG_PLAIN, PG_CONTROL /* BEGIN, COMMIT, ... */, PG_SESSION /* SET, LISTEN, ... */, PG_COPY };

/* The statement of a text, remembered by the pool; NULL without memory. Held until
 * pg_statement_put(). */
struct pg_statement *pg_statement_get(struct pg_pool *pool, struct str sql);
void pg_statement_hold(struct pg_statement *st); /* once more; or again, before the pool was asked for another */
void pg_statement_put(struct pg_statement *st);
enum pg_verb pg_statement_verb(const struct pg_statement *st);

/* Index of its shape in the statements of the board. */
uint32_t pg_statement_shape(const struct pg_statement *st);

/* Types of its parameters. False: not known yet, run a job of PG_DESCRIBE first. */
bool pg_statement_types(const struct pg_statement *st, const uint32_t **oids, unsigned *count);

/* ---- jobs ---- */

enum pg_mode {
    PG_ISOLATED, /* a transaction of its own */
    PG_READ,     /* the same, declared to change nothing: it may be done twice */
    PG_DESCRIBE, /* asks for the types of the parameters only */
    PG_STREAM,   /* on a lease: rows come by pg_job_more() */
};

struct pg_column {
    struct str name;
    uint32_t oid;
};

struct pg_columns {
    unsigned refs, count;
    struct pg_column list[];
};

/* What went wrong. */
struct pg_error {
    char sqlstate[PG_SQLSTATE]; /* "": nothing */
    char *message;              /* NULL: without memory */
    char *detail, *hint, *constraint, *table, *column; /* or NULL */
};

struct pg_job {
    struct pg_statement *statement; /* held */
    enum pg_mode mode;
    struct pg_lease *lease;    /* NULL: any connection */
    struct buf params;         /* as they stand in a Bind message: formats, then values */
    uint64_t statement_ms;     /* 0: as the pool says */
    void (*done)(struct pg_job *job); /* once; the job is freed after it */
    void (*more)(struct pg_job *job); /* PG_STREAM: rows have come */
    void *user;
    /* result, read-only */
    struct pg_error error;
    struct pg_columns *columns; /* NULL: returns no rows */
    struct buf rows;            /* values one behind the other: length (big endian, -1: NULL), bytes */
    uint64_t row_count;         /* in `rows` */
    uint64_t affected;          /* as the command tag says */
    uint64_t queued_ns, sent_ns, done_ns;
    /* private */
    struct pg_pool *pool;
    struct pg_conn *conn;       /* sent there */
    struct pg_job *next, *prev;
    struct timer timer;         /* of its wait */
    struct prepared *prepared;
    double expected_ms;         /* at the server, when it was placed */
    uint64_t offset;            /* of its first byte in what the connection sends */
    uint64_t order;
    unsigned char state;        /* see parts.h */
    bool sync_after;            /* the last of its transaction */
    bool complete;              /* CommandComplete was seen */
    bool parses;                /* its messages prepare the statement */
    bool too_large;
    bool alone;                 /* done again: shares nothing any more */
    bool innocent;              /* behind one that was cancelled: may be hit in its place */
    bool timed_out;
    bool wanting;               /* more() is waited for */
    unsigned repeats;
};

/* A job with its statement held and empty parameters; NULL without memory. Given away by pg_submit(). */
struct pg_job *pg_job_new(struct pg_pool *pool, struct pg_statement *st, enum pg_mode mode);
void pg_job_free(struct pg_job *job); /* one that was not submitted */
void pg_submit(struct pg_job *job);

/* Nobody waits for it any more: done() will not be called. */
void pg_abandon(struct pg_job *job);

/* The rows in `rows` are used: reads on; more() or done() comes. */
void pg_job_more(struct pg_job *job);

/* ---- leases ---- */

struct pg_lease {
    void (*done)(struct pg_lease *lease); /* once: conn, or error */
    void *user;
    struct pg_error error;
    uint64_t queued_ns, given_ns;
    bool lost;   /* its connection is gone */
    /* private */
    struct pg_pool *pool;
    struct pg_conn *conn;
    struct pg_lease *next, *prev;
    struct timer timer;
    uint64_t order;
    bool given, begun;
};

/* Asks for a connection; done() comes later, never at once. NULL without memory. Ends with pg_lease_end(). */
struct pg_lease *pg_lease_new(struct pg_pool *pool, void (*done)(struct pg_lease *lease), void *user);

/* Gives it back; a transaction that is still open is rolled back, a statement
 * under way is cancelled. */
void pg_lease_end(struct pg_lease *lease);

/* 'I' idle, 'T' in a transaction, 'E' in a failed one, 0: lost. */
char pg_lease_status(const struct pg_lease *lease);
