/* conn.h - inside of the server: connection and server, for conn.c,
 * exchange.c and server.c only.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/server.h"

enum conn_state {
    CONN_IDLE,    /* between requests, nothing read of the next */
    CONN_HEAD,    /* part of a head has arrived */
    CONN_BUSY,    /* an exchange is under way */
    CONN_LINGER,  /* refused: reads on for a moment so that the answer arrives */
    CONN_CLOSING,
};

struct conn {
    struct stream stream;
    struct server *server;
    struct conn *next, *prev; /* all connections */
    struct timer deadline;
    struct buf in;            /* read and not yet used */
    struct str cur;           /* while processing: what is left of it */
    struct exchange *ex;      /* NULL between requests */
    enum conn_state state;
    size_t head_seen;         /* bytes of `in` searched for the end of the head */
    uint64_t head_started_ms;
    uint64_t idle_since_ms;
    uint64_t read_progress_ms;
    uint64_t write_started_ms; /* output is pending since; 0: none */
    uint64_t write_progress_ms;
    uint64_t write_queue_seen;
    uint64_t write_drained;
    uint64_t eof_ms;          /* the client closed its sending side; 0: not */
    uint32_t requests;
    uint64_t client;          /* key of the address in the table of clients; 0: not in it */
    bool secure;              /* came over TLS */
    bool processing;          /* inside conn_process(): answers wait for its flush */
    bool pending_record;      /* the answer is complete but not all taken */
    char peer[46];
};

/* A listening socket, shared with the other workers. */
struct listener {
    uv_poll_t poll;
    struct server *server;
    struct timer accept_again;
    int fd;
    bool secure;
};

struct server {
    struct io *io;
    struct board *board;
    struct lane *lane;
    const struct server_app *app;
    struct access_log *access_log; /* NULL: none */
    void *user;
    struct conn conns; /* list head */
    size_t count;
    int worker;
    struct listener *listeners[2]; /* plain and TLS; NULL when not listening */
    struct tls_context *tls;
    struct exchange *detached; /* without a client */
    struct exchange *spare; /* recycled exchanges, linked by user */
    unsigned spare_count;
    uint64_t random; /* state of server_random() */
    bool draining;
};

/* NULL: it could not be made, and is closed. `client` is 0 or the key of its address. */
struct conn *conn_new(struct server *s, int fd, const char *peer, uint64_t client, bool secure);

/* Goes on after the exchange of a connection has ended. */
void conn_exchange_over(struct conn *c);

/* Works through what is buffered. */
void conn_process(struct conn *c);

/* Whether an idle connection has been so for as long as it may. */
bool conn_is_stale(const struct conn *c);

/* Sets the timer to the nearest deadline. */
void conn_arm(struct conn *c);
void conn_close(struct conn *c, bool reset);

/* Answers a refusal and lingers. */
void conn_refuse(struct conn *c, int status, const char *what, const char *rfc);

/* Feeds buffered bytes to the body of the current exchange. */
void conn_feed_body(struct conn *c);

/* Writes out and follows up on what could not be written. */
void conn_flush(struct conn *c);

/* Ends those without a client. */
void server_end_detached(struct server *s);

struct exchange *exchange_new(struct server *s);
void exchange_free(struct exchange *ex);

/* Tells the application that the client has gone. */
void exchange_gone(struct exchange *ex);

/* The output queue is empty: whoever waited for room may go on. */
void exchange_drained(struct exchange *ex);

/* Ends an exchange whose answer is complete once its bytes are out and in. */
void exchange_finish_later(struct exchange *ex);

/* Records the sample and ends the exchange; status 0: the client had gone. */
void exchange_record(struct exchange *ex, int status);
