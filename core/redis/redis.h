/* redis.h - Redis: connections that requests share, one's own, and publish/subscribe.
 *
 *     job (commands) > pool > connection > replies > done()
 *     listener (channels) > hub (one connection a worker) > messages > wake()
 *
 * The commands of all requests go down few connections one behind the other, and
 * those of one turn of the loop leave in one write; replies come in that order. A
 * job that is given up stays in its connection's line without anybody behind it,
 * so that its late reply goes nowhere. Whoever blocks or watches holds a lease: a
 * connection for itself. All subscribers of a worker share one more.
 *
 * hiredis parses replies (its reader, with functions of ours that write them flat
 * and bounded). Its asynchronous context is not used: it asserts that a peer sends
 * nothing unasked, which would let a peer end the process, it looks names up on
 * the loop, and it holds a value of any size.
 *
 * Source:  Redis 7 documentation, "Redis serialization protocol specification" (RESP2).
 * Owner:   the worker: redis_new() to redis_free(); jobs, leases and listeners as said below.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "io/io.h"

struct redis;      /* all pools of a worker */
struct redis_pool; /* one server */
struct redis_job;
struct redis_lease;
struct redis_listener;

enum { REDIS_CODE = 24, REDIS_WHY = 512, REDIS_COMMANDS_MAX = 10000 };

/* How a server is configured. 0 and -1 mean "as the setting says". */
struct redis_spec {
    const char *name;
    bool changes_only; /* while a configuration is read: it only changes a server that something else names */
    const char *url;  /* a secret */
    int64_t min;      /* -1: pool.redis.min */
    int64_t max;      /* 0: pool.redis.max */
    int64_t wait_ms, command_ms, connect_ms, idle_ms, lifetime_ms; /* 0: pool.redis.* */
};

/* Judges an address: NULL when it can be used, else what is wrong, without any part of it. */
const char *redis_url_wrong(const char *url, char why[REDIS_WHY]);

/* Asks for a PONG, waiting at most REDIS_PING_S for each step: NULL, or why there was none. A server that wants to know who
 * asks is there. Blocks; for `perilune doctor`. */
enum { REDIS_PING_S = 3 };
const char *redis_ping(const char *url, char why[REDIS_WHY]);

/* "user@host:port/database", without secrets. */
void redis_url_show(const char *url, char *out, size_t size);

/* ---- life ---- */

struct redis *redis_new(struct io *io, struct board *board, uint32_t worker);

/* Each tick: ages, warms, checks, shows. */
void redis_tick(struct redis *all);

/* Gives up everything, without done(). io_done() must follow, then redis_free(). */
void redis_stop(struct redis *all);
void redis_free(struct redis *all);

/* The pool of a specification, which is copied; shared while any generation uses
 * the same. NULL: out of memory or more than POOLS_MAX names. */
struct redis_pool *redis_open(struct redis *all, const struct redis_spec *spec);
void redis_release(struct redis_pool *pool);

/* Index of a command's name in the statements of the board, where it is measured. */
uint32_t redis_shape(struct redis_pool *pool, struct str name);

/* ---- writing commands ---- */

void redis_add_head(struct buf *b, unsigned arguments);
void redis_add_argument(struct buf *b, struct str argument);

/* ---- replies ----
 *
 * Flat, one behind the other: a type, then by type
 *     '+' '$' '-'  status, string, error: uint32 length, bytes
 *     ':'          int64
 *     '*'          uint32 count, then so many replies
 *     '_'          nil
 */
struct redis_item {
    char type;
    struct str text;  /* '+', '$', '-' */
    int64_t integer;  /* ':' */
    uint32_t count;   /* '*' */
};

/* Takes the next item from *rest. False: there is none. */
bool redis_item_next(struct str *rest, struct redis_item *out);

/* Splits an error's text, "WRONGTYPE Operation against ...", into code and message. */
void redis_split_error(struct str text, char code[REDIS_CODE], struct str *message);

/* ---- jobs ---- */

/* What went wrong: the server's word in capitals, or one of ours: "timeout", "connect", "lost",
 * "busy", "protocol", "too_large", "no_memory". */
struct redis_error {
    char code[REDIS_CODE]; /* "": nothing */
    char *message;         /* NULL: without memory */
};

void redis_error_set(struct redis_error *e, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void redis_error_clear(struct redis_error *e);

static const uint64_t REDIS_FOREVER = UINT64_MAX;

struct redis_job {
    struct redis_lease *lease;  /* NULL: any connection */
    uint64_t timeout_ms;        /* of all, from here on; 0: as the pool says; REDIS_FOREVER */
    void (*done)(struct redis_job *job); /* once; the job is freed after it */
    void *user;
    /* result, read-only and only in done() */
    struct redis_error error;   /* of the job; a command's own stands in the replies */
    struct str replies;         /* one per command */
    uint64_t queued_ns, sent_ns, done_ns;
    unsigned commands;
    /* private */
    struct redis_pool *pool;
    struct redis_conn *conn;    /* sent there */
    struct redis_job *next, *prev;
    struct timer timer;         /* of its deadline */
    uint64_t deadline_ms;
    uint64_t offset;            /* of its first byte in what the connection sends */
    uint64_t order;
    unsigned answered;          /* commands */
    unsigned char state, repeats;
    bool own;                   /* of the connection itself: greeting, check */
    bool too_large;
    size_t len;                 /* of bytes */
    uint32_t *shapes;           /* of its commands, in the same memory */
    char *bytes;
};

/* Commands as written by redis_add_*, with the shape of each. NULL without memory. */
struct redis_job *redis_job_new(struct redis_pool *pool, struct str bytes, const uint32_t *shapes, unsigned commands);
void redis_job_free(struct redis_job *job); /* one that was not submitted */
void redis_submit(struct redis_job *job);   /* done() comes later, never at once */

/* Nobody waits for it any more: done() will not be called. */
void redis_abandon(struct redis_job *job);

/* ---- leases ---- */

struct redis_lease {
    void (*done)(struct redis_lease *lease); /* once: a connection, or an error */
    void *user;
    struct redis_error error;
    uint64_t queued_ns, given_ns;
    bool tainted; /* its connection is not to be used by others: something is watched or open on it */
    bool lost;    /* its connection is gone */
    /* private */
    struct redis_pool *pool;
    struct redis_conn *conn;
    struct redis_lease *next, *prev;
    struct timer timer;
    uint64_t order;
    bool given;
    bool keeps; /* holds it for long: never the last one that requests could share */
};

/* Asks for a connection; done() comes later, never at once. NULL without memory. Ends with redis_lease_end(). */
struct redis_lease *redis_lease_new(struct redis_pool *pool, bool keeps, void (*done)(struct redis_lease *lease), void *user);

/* Gives it back; it is closed when a command is still under way on it, or it is tainted. */
void redis_lease_end(struct redis_lease *lease);

/* ---- publish/subscribe ---- */

struct redis_message {
    struct str channel, pattern, payload; /* pattern.p NULL: by the channel's name */
};

enum redis_heard { REDIS_HEARD_NOTHING, REDIS_HEARD_MESSAGE, REDIS_HEARD_GAP /* some may be missing: *error */ };

/* Subscribes to channels and patterns; wake() tells that something has come, never at once: that it is
 * open, a message, or why not. NULL without memory. Goes on over reconnects. Ends with redis_listener_end(). */
struct redis_listener *redis_listen(struct redis_pool *pool, const struct str *names, const bool *patterns, size_t count,
                                    void (*wake)(void *user), void *user);
void redis_listener_end(struct redis_listener *l);

/* Whether the server has confirmed all of it. */
bool redis_listener_is_open(const struct redis_listener *l);

/* What it failed with before it was open, or NULL. */
const struct redis_error *redis_listener_failed(const struct redis_listener *l);

/* Takes the next; the message is valid until the next call. */
enum redis_heard redis_listener_next(struct redis_listener *l, struct redis_message *out, struct redis_error *error);
