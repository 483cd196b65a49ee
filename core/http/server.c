/* Accepting connections, sharing them between workers, draining. */
// SPDX-License-Identifier: MIT
#include "http/conn.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/measure.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRESH_NS = 500 * 1000000 }; /* a worker with an older heartbeat does not count */

static void on_listener(uv_poll_t *poll, int status, int events);

/* Whether this worker has clearly more connections than another live one. */
static bool has_more_than_its_share(const struct server *s)
{
    uint64_t least = UINT64_MAX;
    if (s->worker < 0)
        return false;
    for (uint32_t i = 0; i < s->board->workers; i++) {
        struct board_process *p = board_worker(s->board, i);
        if ((int)i == s->worker || !atomic_load(&p->ready) ||
            s->io->now_ns > atomic_load(&p->heartbeat_ns) + FRESH_NS)
            continue;
        uint64_t open = lane_get(&board_lane(s->board, i)->connections_open);
        least = open < least ? open : least;
    }
    return least != UINT64_MAX && s->count > least + 1 + least / 8;
}

/* Closes the longest idle connection to make room. */
static void shed_idle(struct server *s)
{
    int looked = 0;
    for (struct conn *c = s->conns.next; c != &s->conns && looked < 256; c = c->next, looked++)
        if (c->state == CONN_IDLE || c->state == CONN_LINGER) {
            conn_close(c, false);
            return;
        }
}

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* An IPv6 client has a whole /64 to choose its address from. */
static uint64_t client_key(const struct server *s, const union address *from)
{
    struct str bytes = from->any.sa_family == AF_INET6 ? (struct str){(const char *)&from->v6.sin6_addr, 8}
                                                       : (struct str){(const char *)&from->v4.sin_addr, 4};
    return s->worker < 0 ? 0 : board_hash(s->board, bytes, 0) | 1;
}

static bool has_too_many(const struct server *s, uint64_t client)
{
    uint64_t most = setting_integer(&s->board->settings, SETTING_SERVER_CLIENT_CONNECTIONS);
    return most && client && clients_count(s->board->clients, s->board->workers, client) >= most;
}

/* Over TLS there is nobody yet to say it to. */
static void refuse_client(struct server *s, int fd, const char *peer, bool secure)
{
    lane_add(&s->lane->counters[COUNTER_CLIENT_REFUSED], 1);
    if (secure) {
        close(fd);
        return;
    }
    struct conn *c = conn_new(s, fd, peer, 0, false);
    if (c)
        conn_refuse(c, 429, "too many connections from this address, close some or use fewer", "6585 4");
}

static bool accept_one(struct listener *l)
{
    struct server *s = l->server;
    union address from = {0};
    socklen_t len = sizeof from;
    char peer[46] = "";
    int on = 1;
    int fd = accept4(l->fd, &from.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    if (s->count >= setting_integer(&s->board->settings, SETTING_SERVER_CONNECTIONS))
        shed_idle(s);
    if (s->count >= setting_integer(&s->board->settings, SETTING_SERVER_CONNECTIONS)) {
        close(fd);
        return true;
    }
    if (setting_number(&s->board->settings, SETTING_SERVER_NODELAY) != 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (from.any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &from.v6.sin6_addr, peer, sizeof peer);
    else
        inet_ntop(AF_INET, &from.v4.sin_addr, peer, sizeof peer);
    uint64_t client = client_key(s, &from);
    if (has_too_many(s, client))
        refuse_client(s, fd, peer, l->secure);
    else
        conn_new(s, fd, peer, client, l->secure);
    return true;
}

static void on_accept_again(struct timer *t)
{
    struct listener *l = (struct listener *)((char *)t - offsetof(struct listener, accept_again));
    accept_one(l); /* the others had their chance */
    uv_poll_start(&l->poll, UV_READABLE, on_listener);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct listener *l = poll->data;
    struct server *s = l->server;
    (void)events;
    if (status < 0)
        return;
    io_now(s->io);
    for (int i = 0; i < 16; i++) {
        if (has_more_than_its_share(s)) {
            uv_poll_stop(&l->poll);
            wheel_set(&s->io->wheel, &l->accept_again, s->io->now_ms + 1);
            return;
        }
        if (!accept_one(l))
            return;
    }
}

static int listen_on(struct server *s, int fd, bool secure)
{
    struct listener *l = calloc(1, sizeof *l);
    int on = 1; /* inherited by what is accepted */
    if (!l)
        return ERR_NOMEM;
    if (MEASURE)
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    *l = (struct listener){.server = s, .fd = fd, .secure = secure};
    l->accept_again.on_fire = on_accept_again;
    if (uv_poll_init(&s->io->loop, &l->poll, fd) < 0) {
        free(l);
        return ERR_IO;
    }
    l->poll.data = l;
    s->listeners[secure] = l;
    uv_poll_start(&l->poll, UV_READABLE, on_listener);
    return 0;
}

int server_new(struct server **out, const struct server_opts *opts)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->io = opts->io;
    s->board = opts->board;
    s->lane = opts->lane;
    s->app = opts->app;
    s->user = opts->user;
    s->access_log = opts->access_log;
    if (uv_random(NULL, NULL, &s->random, sizeof s->random, 0, NULL) < 0)
        s->random = opts->io->now_ns ^ (uint64_t)getpid() << 40;
    s->worker = opts->worker;
    s->conns.next = s->conns.prev = &s->conns;
    if (opts->tls)
        server_use_tls(s, opts->tls);
    int err = listen_on(s, opts->listen_fd, false);
    if (!err && opts->tls)
        err = listen_on(s, opts->tls_fd, true);
    if (err) {
        server_free(s);
        return err;
    }
    *out = s;
    return 0;
}

void server_use_tls(struct server *s, struct tls_context *tls)
{
    tls_context_release(s->tls);
    s->tls = tls_context_retain(tls);
}

void *server_user(const struct server *s)
{
    return s->user;
}

struct io *server_io(const struct server *s)
{
    return s->io;
}

struct board *server_board(const struct server *s)
{
    return s->board;
}

size_t server_connections(const struct server *s)
{
    return s->count;
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void stop_listening(struct server *s)
{
    for (int i = 0; i < 2; i++) {
        struct listener *l = s->listeners[i];
        if (!l)
            continue;
        wheel_clear(&l->accept_again);
        uv_close((uv_handle_t *)&l->poll, on_listener_closed);
        s->listeners[i] = NULL;
    }
}

/* A request may have arrived that the loop has not come to: closing now would
 * reset it. And a client that was busy a moment ago may be sending its next.
 * Those are answered, with Connection: close. */
static bool has_unread(const struct conn *c)
{
    int fd, bytes = 0;
    return uv_fileno((const uv_handle_t *)&c->stream.tcp, &fd) == 0 &&
           ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

void server_drain(struct server *s)
{
    s->draining = true;
    stop_listening(s);
    for (struct conn *c = s->conns.next, *next; c != &s->conns; c = next) {
        next = c->next;
        if (c->state == CONN_IDLE && !has_unread(c) && conn_is_stale(c))
            conn_close(c, false);
        else
            conn_arm(c);
    }
}

void server_free(struct server *s)
{
    stop_listening(s);
    while (s->conns.next != &s->conns) {
        struct conn *c = s->conns.next;
        if (c->ex) {
            if (c->ex->answer != ANSWER_ENDED)
                exchange_gone(c->ex);
            exchange_record(c->ex, 0);
            exchange_free(c->ex);
            c->ex = NULL;
        }
        conn_close(c, true);
    }
    server_end_detached(s);
    for (struct exchange *ex = s->spare, *next; ex; ex = next) {
        next = ex->user;
        arena_done(ex->arena);
        free(ex->arena);
        free(ex);
    }
    tls_context_release(s->tls);
    free(s);
}
