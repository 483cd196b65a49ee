/* server.h - HTTP/1.1 connections of clients, one request after another.
 *
 *     bytes > head (judged whole) > exchange > app answers > next request
 *
 * A connection works on one exchange at a time; pipelined requests wait as
 * bytes, and reading pauses when too many wait. The app is told of a request
 * when its head is complete and answers whenever it likes, whole or in
 * pieces; everything said in one event leaves in one write.
 *
 * Owner:   the process; server_new() to server_free().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/arena.h"
#include "board/board.h"
#include "http/body.h"
#include "http/head.h"
#include "io/stream.h"

struct server;
struct conn;
struct exchange;
struct coded;
struct decode;
struct access_log;

struct http_header {
    struct str name, value;
};

/* What the application does with requests. */
struct server_app {
    /* A request begins: its head is judged, its body not yet read. Must answer
     * now or later, exactly once. */
    void (*on_request)(struct exchange *ex);
};

/* Where a request body goes; set by exchange_read_body(). */
struct body_sink {
    void (*on_data)(struct exchange *ex, struct str bytes);
    /* status 0: whole. Else what the refusal would be (400, 408, 413); the
     * server answers it itself unless an answer has begun. */
    void (*on_end)(struct exchange *ex, int status);
};

enum answer_state { ANSWER_NONE, ANSWER_BEGUN, ANSWER_ENDED };

/* One request and its answer. Public fields are read-only for the app, but
 * for those marked "app". */
struct exchange {
    struct conn *conn;
    struct server *server;
    struct arena *arena;        /* lives until the exchange ends */
    const struct head *head;
    struct str path;            /* canonical */
    struct str raw_head;        /* as read, in the arena */
    void *user;                 /* app: its own state */
    void (*on_gone)(struct exchange *ex); /* app: the client has gone before the answer was ended;
                                           * ex is valid during the call and dead after it */
    uint32_t route;             /* app: index on the board, for the sample */
    void (*on_drain)(struct exchange *ex); /* app: the output queue is empty again */
    uint64_t started_ns;        /* when the last of its head reached this machine */
    uint64_t phase_ns[PHASE_COUNT]; /* app: adds what it measured */
    char trace_id[33];          /* 32 hex digits */
    int status;                 /* of the answer, 0 before */
    enum answer_state answer;   /* what the app has said */
    struct filter *filters;     /* between the app and the wire; see filter.h */
    struct ending *endings;     /* the same */
    struct coded *coded;        /* app: where coded bodies of this answer are kept, or NULL; see coded.h */
    bool close_after;           /* app may set: no further request */
    bool detached;              /* has no client, see exchange_detached_new() */
    /* private */
    struct decode *decode;      /* of the request body, see decode.h */
    struct exchange *next, *prev; /* of the detached ones */
    struct body_reader body;
    const struct body_sink *sink;
    uint64_t body_bytes;
    uint64_t body_started_ms;
    uint64_t ready_ns;
    uint64_t bytes_out_before;
    uint64_t body_out;
    int64_t length_left;        /* of a fixed-length answer; -1: chunked or to EOF */
    bool wire_ended;            /* the last filter has said all */
    bool body_paused;
    bool body_ended;
    bool body_dropped;
    bool continue_sent;
    bool chunked;
    bool no_body;               /* HEAD, 204, 304 */
    bool tunnel;                /* after a 101: bytes both ways, no filters */
    uint64_t tunnel_ns;         /* since when */
    bool endless;               /* waits for what may never come: a client that closed its sending side has gone */
};

struct server_opts {
    struct io *io;
    struct board *board;
    struct lane *lane;             /* where samples go */
    const struct server_app *app;
    int listen_fd;                 /* shared by the workers, stays the caller's */
    int tls_fd;                    /* the same for TLS; -1: none */
    struct tls_context *tls;       /* kept by reference; NULL without tls_fd */
    int worker;                    /* index, for a fair share of new connections; -1: take all */
    struct access_log *access_log; /* stays the caller's; NULL: none */
    void *user;
};

int server_new(struct server **out, const struct server_opts *opts);
/* New connections use another context (new certificates); open ones keep theirs. */
void server_use_tls(struct server *s, struct tls_context *tls);

void *server_user(const struct server *s);
struct io *server_io(const struct server *s);
struct board *server_board(const struct server *s);

/* For ids, not for secrets. */
uint64_t server_random(struct server *s);

/* Stops accepting; idle connections close, busy ones after their answer. */
void server_drain(struct server *s);

/* Open client connections. */
size_t server_connections(const struct server *s);

/* Closes everything that is left. */
void server_free(struct server *s);

/* Starts reading the request body into a sink (sending 100 Continue when the
 * client waits for it). Without it a body is dropped after the answer. */
void exchange_read_body(struct exchange *ex, const struct body_sink *sink);
void exchange_pause_body(struct exchange *ex);
void exchange_resume_body(struct exchange *ex);

/* Whether the request has a body at all. */
bool exchange_has_body(const struct exchange *ex);

struct answer {
    int status;
    struct str reason; /* empty: the registered one */
    const struct http_header *headers; /* judged by the caller; no framing fields */
    size_t header_count;
    int64_t length; /* of the body; -1: unknown, chunked or to the end of the connection */
    struct str prepared; /* header lines ready to be sent, Date among them; no filter sees them */
};

/* Whether an answer of this status has no body (RFC 9110 6.4.1). */
bool exchange_is_bodiless(const struct exchange *ex, int status);

/* Begins an answer; then exchange_send() as often as needed, and exchange_end(). */
void exchange_begin(struct exchange *ex, const struct answer *answer);
void exchange_send(struct exchange *ex, struct str bytes);
void exchange_end(struct exchange *ex);

/* begin, send and end in one. */
void exchange_answer(struct exchange *ex, const struct answer *answer, struct str body);

/* Answers 101 and turns the connection into a tunnel: from here on the sink gets
 * the client's bytes (on_end: it sends no more), exchange_send() sends as they are,
 * exchange_end() ends it. `answer` has Upgrade and what else belongs there. */
void exchange_tunnel(struct exchange *ex, const struct answer *answer, const struct body_sink *sink);

/* A short application/problem+json answer (RFC 9457). `detail` is shown as it is. */
void exchange_problem(struct exchange *ex, int status, const char *code, const char *detail,
                      const struct http_header *headers, size_t header_count);

/* Cuts the connection so that a begun answer is visibly incomplete. */
void exchange_abort(struct exchange *ex);

/* A GET of our own like this one, from nobody: the app answers it to the filters, and the
 * last of them ends it. NULL without memory. */
struct exchange *exchange_detached_new(const struct exchange *like);
void exchange_detached_over(struct exchange *ex);

/* Sends what is queued; called once at the end of an event that wrote outside
 * of on_request. */
void exchange_flush(struct exchange *ex);

/* Bytes of the answer that the client has not taken yet, in filters or below. */
size_t exchange_pending(const struct exchange *ex);

/* Whether the client came over TLS. */
bool exchange_is_secure(const struct exchange *ex);

/* Trace id of the request: from traceparent when that is valid, else a new one. */
const char *exchange_trace(struct exchange *ex);

/* "127.0.0.1" of the client. */
const char *exchange_peer(const struct exchange *ex);
