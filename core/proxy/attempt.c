// SPDX-License-Identifier: MIT
#include "proxy/attempt.h"

#include "base/err.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    INTERIM_MAX = 16,      /* 1xx responses before a final one */
    RESPONSE_HEAD_BYTES = 65536,
};

static struct io *io_of(const struct attempt *a)
{
    return a->peer->all->io;
}

static uint64_t setting(const struct attempt *a, enum setting_id id)
{
    return upstreams_setting(a->peer->all, id);
}

static void set_deadline(struct attempt *a, uint64_t ms)
{
    wheel_set(&io_of(a)->wheel, &a->deadline, io_of(a)->now_ms + ms);
}

uint64_t attempt_age_ns(const struct attempt *a)
{
    return io_of(a)->now_ns - a->began_ns;
}

bool attempt_is_ready(const struct attempt *a)
{
    return a->connection && a->phase >= ATTEMPT_WAITING;
}

/* ---- ends ---- */

static void stop_waiting(struct attempt *a)
{
    for (struct attempt **at = &a->peer->waiting; *at; at = &(*at)->next_waiting)
        if (*at == a) {
            *at = a->next_waiting;
            return;
        }
}

/* Frees what it holds but for the connection. */
static void wind_up(struct attempt *a)
{
    if (a->gone)
        *a->gone = true;
    a->gone = NULL;
    if (a->phase == ATTEMPT_RESOLVING)
        stop_waiting(a);
    wheel_clear(&a->deadline);
    buf_done(&a->in);
    a->phase = ATTEMPT_OVER;
    a->connection = NULL;
    peer_end(a->peer);
}

void attempt_cancel(struct attempt *a)
{
    struct peer *peer = a->peer;
    if (a->phase == ATTEMPT_OVER)
        return;
    if (a->connection)
        connection_close(a->connection, true);
    if (a->probe) /* nobody learnt anything: the next may probe */
        atomic_store_explicit(&peer->shared->probe_until_ms, 0, memory_order_relaxed);
    wind_up(a);
    peer_release(peer);
}

/* A kept connection that closes before a byte of the response may have been
 * closed before the request came: that says nothing about the peer. */
static bool is_stale(const struct attempt *a)
{
    return a->connection && a->connection->reused && a->phase == ATTEMPT_WAITING && !a->first_byte_ns;
}

static void fail(struct attempt *a, int err, const char *what)
{
    struct peer *peer = a->peer;
    bool stale = err == ERR_CLOSED && is_stale(a);
    if (a->connection)
        connection_close(a->connection, true);
    wind_up(a);
    call_on_failure(a, err, what, stale);
    peer_release(peer);
}

static void complete(struct attempt *a, bool leftover)
{
    struct connection *c = a->connection;
    struct peer *peer = a->peer;
    bool keep = a->keep_alive && call_is_sent(a->call) && !leftover && !a->eof &&
                a->reader.framing != FRAMING_EOF && !stream_pending(&c->stream);
    wind_up(a);
    if (keep)
        connection_put(c);
    else
        connection_close(c, false);
    call_on_end(a);
    peer_release(peer);
}

static void on_deadline(struct timer *t)
{
    struct attempt *a = (struct attempt *)((char *)t - offsetof(struct attempt, deadline));
    switch (a->phase) {
    case ATTEMPT_RESOLVING:
    case ATTEMPT_CONNECTING:
        fail(a, ERR_TIMEOUT, "connecting took longer than upstream.connect_timeout_ms");
        return;
    case ATTEMPT_WAITING:
        if (!call_is_sent(a->call)) { /* the request is still being sent */
            set_deadline(a, call_wait_ms(a->call));
            return;
        }
        fail(a, ERR_TIMEOUT, "no response within the time for a try or upstream.first_byte_timeout_ms");
        return;
    default:
        if (call_is_paused(a->call)) {
            set_deadline(a, setting(a, SETTING_UPSTREAM_IDLE_TIMEOUT_MS));
            return;
        }
        fail(a, ERR_TIMEOUT, "the response paused for longer than upstream.idle_timeout_ms");
    }
}

/* ---- sending ---- */

void attempt_send(struct attempt *a, struct str bytes)
{
    stream_write(&a->connection->stream, bytes);
}

void attempt_sent_all(struct attempt *a)
{
    if (a->phase == ATTEMPT_WAITING)
        set_deadline(a, call_wait_ms(a->call));
}

/* Queues the head, and what there is of the body. */
static void begin_request(struct attempt *a)
{
    struct stream *stream = &a->connection->stream;
    struct str body = call_body_bytes(a->call);
    a->phase = ATTEMPT_WAITING;
    a->sent = true;
    set_deadline(a, call_wait_ms(a->call));
    buf_add_str(&stream->out, call_head_bytes(a->call));
    if (body.len) {
        stream_write(stream, body);
        call_body_taken(a->call);
    }
}

static void use_connection(struct attempt *a)
{
    struct stream *stream = &a->connection->stream;
    begin_request(a);
    if (!call_is_paused(a->call))
        stream_read_start(stream);
    stream_flush(stream);
    if (stream->broken)
        fail(a, ERR_CLOSED, "the connection broke while the request was sent");
}

/* ---- connecting ---- */

static int connect_to(struct attempt *a, const char **why);

/* Connected, and secured where that is wanted: the request goes out. */
static void connected(struct attempt *a)
{
    struct connection *c = a->connection;
    a->connected_ns = call_age_ns(a->call);
    bool had_queue = call_body_bytes(a->call).len > 0, gone = false;
    a->gone = &gone;
    use_connection(a);
    if (gone)
        return;
    a->gone = NULL; /* NOLINT(clang-analyzer-unix.Malloc): gone would be true */
    if (had_queue && !stream_pending(&c->stream))
        call_on_drain(a);
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct connection *c = connect->data;
    struct attempt *a = c->attempt;
    if (!a || status == UV_ECANCELED)
        return; /* closed meanwhile */
    int on = 1, fd;
    io_now(io_of(a));
    if (status < 0) {
        char what[160];
        snprintf(what, sizeof what, "cannot connect: %s", uv_strerror(status));
        if (++a->addresses_tried < a->peer->resolved_count) { /* it has more */
            const char *why = what;
            connection_close(c, true);
            a->connection = NULL;
            int err = connect_to(a, &why);
            if (err < 0)
                fail(a, err, why);
            return;
        }
        fail(a, status == UV_ETIMEDOUT ? ERR_TIMEOUT : ERR_CONNECT, what);
        return;
    }
    if (uv_fileno((uv_handle_t *)&c->stream.tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!a->peer->is_tls) {
        connected(a);
        return;
    }
    if (stream_secure(&c->stream, call_tls(a->call), a->peer->tls_name) < 0)
        fail(a, ERR_NOMEM, "out of memory");
    else
        stream_read_start(&c->stream);
}

void attempt_on_secure(struct attempt *a)
{
    io_now(io_of(a));
    if (a->phase == ATTEMPT_CONNECTING)
        connected(a);
}

static int connect_to(struct attempt *a, const char **why)
{
    struct connection *c = connection_new(a->peer);
    if (!c) {
        *why = "out of memory";
        return ERR_NOMEM;
    }
    a->phase = ATTEMPT_CONNECTING;
    a->connection = c;
    c->attempt = a;
    c->connect.data = c;
    int err = uv_tcp_connect(&c->connect, &c->stream.tcp, peer_next_address(a->peer), on_connect);
    if (err < 0)
        *why = uv_strerror(err);
    return err < 0 ? ERR_CONNECT : 0;
}

void attempt_on_resolved(struct attempt *a, const char *why_not)
{
    const char *why = NULL;
    int err = why_not ? ERR_RESOLVE : connect_to(a, &why);
    if (err < 0)
        fail(a, err, why_not ? why_not : why);
}

static int reach(struct attempt *a, const char **why)
{
    a->phase = ATTEMPT_RESOLVING;
    set_deadline(a, setting(a, SETTING_UPSTREAM_CONNECT_TIMEOUT_MS));
    if (peer_resolve(a->peer))
        return connect_to(a, why);
    if (!a->peer->resolving) {
        *why = "the host name cannot be resolved";
        return ERR_RESOLVE;
    }
    a->next_waiting = a->peer->waiting;
    a->peer->waiting = a;
    return 0;
}

/* Takes an idle connection; false when there is none that works. */
static bool reuse(struct attempt *a)
{
    struct connection *c = a->no_reuse ? NULL : connection_take(a->peer);
    if (!c)
        return false;
    a->connection = c;
    c->attempt = a;
    begin_request(a);
    if (!call_is_sent(a->call))
        return true; /* the body follows, and is flushed with the head */
    stream_flush(&c->stream);
    if (!c->stream.broken)
        return true;
    connection_close(c, true);
    a->connection = NULL;
    a->no_reuse = true;
    return false;
}

int attempt_start(struct attempt *a, struct call *call, struct peer *peer, bool probe, bool no_reuse,
                  const char **why)
{
    *a = (struct attempt){.call = call, .peer = peer, .probe = probe, .no_reuse = no_reuse};
    a->deadline.on_fire = on_deadline;
    peer_hold(peer);
    peer_begin(peer);
    a->began_ns = io_of(a)->now_ns;
    if (reuse(a))
        return 0;
    int err = reach(a, why);
    if (err == 0)
        return 0;
    if (a->connection)
        connection_close(a->connection, true);
    wind_up(a);
    peer_release(peer);
    return err;
}

/* ---- receiving ---- */

/* Bounds the pause before more of the body; a tunnel has a bound of its own. */
static void watch_pause(struct attempt *a)
{
    if (a->tunnel)
        wheel_clear(&a->deadline);
    else
        set_deadline(a, setting(a, SETTING_UPSTREAM_IDLE_TIMEOUT_MS));
}

void attempt_pause(struct attempt *a)
{
    if (a->connection)
        stream_read_stop(&a->connection->stream);
}

/* Reads a response head; false when there is none yet, or the attempt is over. */
static bool take_head(struct attempt *a, struct str *bytes)
{
    struct head_limits limits = {RESPONSE_HEAD_BYTES, 8192, HEAD_FIELDS_MAX};
    struct head_refusal refusal;
    struct head head;
    size_t len = head_end(bytes->p, bytes->len, a->head_seen);
    if (!len) {
        if (head_hopeless(bytes->p, bytes->len, a->head_seen, &limits, &refusal))
            fail(a, ERR_PROTOCOL, refusal.what);
        else
            a->head_seen = bytes->len;
        return false;
    }
    if (!head_parse_response(bytes->p, len, &limits, call_method(a->call), &head, &refusal)) {
        fail(a, ERR_PROTOCOL, refusal.what);
        return false;
    }
    a->head_seen = 0;
    if (head.status == 101 && call_accepts_tunnel(a->call, &head)) {
        a->tunnel = true;
        head.framing = FRAMING_EOF;
        head.keep_alive = false;
    } else if (head.status < 200) {
        if (head.status == 101 || ++a->interim > INTERIM_MAX) {
            fail(a, ERR_PROTOCOL,
                 head.status == 101 ? "a 101 that nobody asked for, or not in this way" : "too many interim responses");
            return false;
        }
        bytes->p += len;
        bytes->len -= len;
        return true;
    }
    a->keep_alive = head.keep_alive;
    a->phase = ATTEMPT_BODY;
    body_init(&a->reader, head.framing, head.content_length);
    watch_pause(a);
    bytes->p += len;
    bytes->len -= len;
    call_on_head(a, &head);
    return true;
}

/* Delivers what is in *bytes until it is used up, the reader is paused or the
 * attempt is over (*gone). */
static void deliver(struct attempt *a, struct str *bytes, const bool *gone)
{
    while (!*gone) {
        if (a->phase == ATTEMPT_WAITING) {
            if (!bytes->len || !take_head(a, bytes))
                return;
            continue;
        }
        if (a->reader.done || a->reader.framing == FRAMING_NONE) {
            complete(a, bytes->len > 0);
            return;
        }
        if (!bytes->len || call_is_paused(a->call))
            return;
        struct str payload;
        size_t used = body_feed(&a->reader, bytes->p, bytes->len, &payload);
        bytes->p += used;
        bytes->len -= used;
        if (a->reader.error) {
            fail(a, ERR_PROTOCOL, a->reader.error);
            return;
        }
        if (payload.len)
            call_on_data(a, payload);
    }
}

/* Works through what has arrived; false when the attempt is over. */
static bool receive(struct attempt *a, struct str fresh)
{
    bool gone = false, *outer = a->gone;
    bool direct = !buf_len(&a->in);
    if (!direct)
        buf_add_str(&a->in, fresh);
    struct str bytes = direct ? fresh : buf_str(&a->in);
    size_t before = bytes.len;
    struct buf held = a->in; /* lives on when the attempt is over */
    a->in = (struct buf){0};
    a->delivering = true;
    a->gone = &gone;
    deliver(a, &bytes, &gone);
    if (gone) {
        buf_done(&held);
        if (outer)
            *outer = true;
        return false;
    }
    a->delivering = false; /* NOLINT(clang-analyzer-unix.Malloc): gone would be true */
    a->in = held;
    if (direct)
        buf_add_str(&a->in, bytes);
    else
        buf_consume(&a->in, before - bytes.len);
    if (a->phase == ATTEMPT_BODY)
        call_on_batch(a);
    if (gone) {
        if (outer)
            *outer = true;
        return false;
    }
    a->gone = outer;
    if (buf_ok(&a->in))
        return true;
    fail(a, ERR_NOMEM, "out of memory");
    return false;
}

void attempt_on_read(struct attempt *a, struct str bytes)
{
    if (!a->first_byte_ns)
        a->first_byte_ns = call_age_ns(a->call);
    if (a->phase == ATTEMPT_BODY)
        watch_pause(a);
    receive(a, bytes);
}

void attempt_on_end(struct attempt *a, int err)
{
    struct connection *c = a->connection;
    a->eof = true;
    if (a->phase == ATTEMPT_CONNECTING) {
        char what[TLS_WHY + 64];
        const char *why = c->stream.tls ? tls_trouble(c->stream.tls) : "";
        snprintf(what, sizeof what, "TLS with %s: %s", a->peer->tls_name,
                 *why ? why : "the peer closed the connection in the handshake");
        fail(a, ERR_TLS, what);
        return;
    }
    if (call_is_paused(a->call) && buf_len(&a->in))
        return; /* attempt_resume() comes back to it */
    if (a->phase == ATTEMPT_BODY && err == 0 && body_eof(&a->reader)) {
        complete(a, false);
        return;
    }
    if (a->phase == ATTEMPT_BODY)
        fail(a, ERR_CLOSED, "the response ended before its time");
    else
        fail(a, ERR_CLOSED, "the connection was closed before a response");
}

void attempt_on_drain(struct attempt *a)
{
    call_on_drain(a);
}

void attempt_resume(struct attempt *a)
{
    if (a->delivering)
        return;
    if (a->phase == ATTEMPT_BODY)
        watch_pause(a);
    if (attempt_is_ready(a) && !a->eof)
        stream_read_start(&a->connection->stream);
    if (buf_len(&a->in) && !receive(a, (struct str){NULL, 0}))
        return;
    if (a->eof && !call_is_paused(a->call) && !buf_len(&a->in))
        attempt_on_end(a, 0);
}
