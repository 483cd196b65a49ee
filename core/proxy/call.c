// SPDX-License-Identifier: MIT
#include "proxy/call.h"

#include "base/err.h"
#include "proxy/peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RESOLVED_MS = 10000,   /* an address is resolved again after this */
    INTERIM_MAX = 16,      /* 1xx responses before a final one */
    RESPONSE_HEAD_BYTES = 65536,
};

enum call_phase { CALL_RESOLVING, CALL_CONNECTING, CALL_WAITING, CALL_BODY, CALL_DONE };

struct call {
    const struct call_events *events;
    void *user;
    struct upstreams *all;
    struct upstream *upstream;
    struct peer *peer; /* NULL while resolving */
    uv_getaddrinfo_t *resolve; /* NULL unless resolving */
    uv_timer_t *kick;  /* starts the call from the loop */
    struct timer deadline;
    enum call_phase phase;
    enum http_method method;
    enum http_framing body; /* of the request */
    uint64_t body_left;
    struct buf head;        /* of the request, kept for a retry */
    struct buf queue;       /* request body before there is a connection */
    struct buf in;          /* response bytes not yet used */
    size_t head_seen;
    struct body_reader reader;
    struct call_times times;
    uint64_t began_ns;
    uint64_t timeout_ms;
    unsigned interim;
    bool sent_all;     /* the request is complete */
    bool keep_alive;   /* what the response says */
    bool paused;
    bool eof;
    bool retried;
    bool delivering;   /* inside call_on_read's loop */
    bool *gone;        /* set when the call is freed while delivering */
};

static void use_peer(struct call *call, struct peer *peer);
static void connect_peer(struct call *call);

void *call_user(const struct call *call)
{
    return call->user;
}

const struct call_times *call_times(const struct call *call)
{
    return &call->times;
}

struct upstream *call_upstream(const struct call *call)
{
    return call->upstream;
}

static uint64_t setting(const struct call *call, enum setting_id id)
{
    return setting_integer(&call->all->board->settings, id);
}

static uint64_t since(struct call *call)
{
    return call->all->io->now_ns - call->began_ns;
}

static void set_deadline(struct call *call, uint64_t ms)
{
    wheel_set(&call->all->io->wheel, &call->deadline, call->all->io->now_ms + ms);
}

static void on_kick_closed(uv_handle_t *handle)
{
    free(handle);
}

static void stop_kick(struct call *call)
{
    if (!call->kick)
        return;
    uv_close((uv_handle_t *)call->kick, on_kick_closed);
    call->kick = NULL;
}

static void call_free(struct call *call)
{
    if (call->gone)
        *call->gone = true;
    if (call->resolve) {
        call->resolve->data = NULL;
        uv_cancel((uv_req_t *)call->resolve);
    }
    stop_kick(call);
    wheel_clear(&call->deadline);
    buf_done(&call->head);
    buf_done(&call->queue);
    buf_done(&call->in);
    free(call);
}

static void drop_peer(struct call *call, bool reset)
{
    if (call->peer)
        peer_close(call->peer, reset);
    call->peer = NULL;
}

void call_cancel(struct call *call)
{
    drop_peer(call, true);
    call_free(call);
}

static void fail(struct call *call, int err, const char *what)
{
    const struct call_events *events = call->events;
    bool gone = false, *outer = call->gone;
    snprintf(call->upstream->trouble, sizeof call->upstream->trouble, "%s", what);
    drop_peer(call, true);
    call->times.ended = since(call);
    call->gone = &gone;
    events->on_error(call, err, what);
    if (outer)
        *outer = true;
    if (!gone) {
        call->gone = NULL;
        call_free(call);
    }
}

static bool may_retry(const struct call *call)
{
    bool idempotent = call->method == METHOD_GET || call->method == METHOD_HEAD ||
                      call->method == METHOD_OPTIONS || call->method == METHOD_PUT ||
                      call->method == METHOD_DELETE;
    return call->peer && call->peer->reused && !call->retried && idempotent &&
           call->body == FRAMING_NONE && call->phase == CALL_WAITING && !buf_len(&call->in) &&
           !call->interim;
}

static void fail_or_retry(struct call *call, int err, const char *what)
{
    if (!may_retry(call)) {
        fail(call, err, what);
        return;
    }
    call->retried = true;
    drop_peer(call, true);
    connect_peer(call);
}

static void on_deadline(struct timer *t)
{
    struct call *call = (struct call *)((char *)t - offsetof(struct call, deadline));
    switch (call->phase) {
    case CALL_RESOLVING:
    case CALL_CONNECTING:
        fail(call, ERR_TIMEOUT, "connecting took longer than upstream.connect_timeout_ms");
        return;
    case CALL_WAITING:
        if (!call->sent_all) { /* the request is still being sent */
            set_deadline(call, call->timeout_ms);
            return;
        }
        fail(call, ERR_TIMEOUT, "no response within upstream.first_byte_timeout_ms");
        return;
    default:
        if (call->paused) {
            set_deadline(call, setting(call, SETTING_UPSTREAM_IDLE_TIMEOUT_MS));
            return;
        }
        fail(call, ERR_TIMEOUT, "the response paused for longer than upstream.idle_timeout_ms");
    }
}

/* ---- sending ---- */

static void frame_body(struct call *call, struct stream *stream, struct buf *out, struct str bytes)
{
    if (call->body == FRAMING_CHUNKED)
        buf_printf(out, "%zx\r\n", bytes.len);
    if (stream)
        stream_write(stream, bytes);
    else
        buf_add_str(out, bytes);
    if (call->body == FRAMING_CHUNKED)
        buf_add_str(out, STR("\r\n"));
}

void call_send(struct call *call, struct str bytes)
{
    if (!bytes.len || call->sent_all || call->body == FRAMING_NONE)
        return;
    if (call->body == FRAMING_FIXED) {
        if (bytes.len > call->body_left)
            bytes.len = (size_t)call->body_left;
        call->body_left -= bytes.len;
    }
    bool ready = call->peer && call->phase >= CALL_WAITING;
    frame_body(call, ready ? &call->peer->stream : NULL,
               ready ? &call->peer->stream.out : &call->queue, bytes);
}

static void request_sent(struct call *call)
{
    call->times.sent = since(call);
    if (call->phase == CALL_WAITING)
        set_deadline(call, call->timeout_ms);
}

void call_send_end(struct call *call)
{
    if (call->sent_all)
        return;
    bool ready = call->peer && call->phase >= CALL_WAITING;
    if (call->body == FRAMING_CHUNKED)
        buf_add_str(ready ? &call->peer->stream.out : &call->queue, STR("0\r\n\r\n"));
    call->sent_all = true;
    if (ready)
        request_sent(call);
}

void call_flush(struct call *call)
{
    if (call->peer && call->phase >= CALL_WAITING)
        stream_flush(&call->peer->stream);
}

size_t call_pending(const struct call *call)
{
    return buf_len(&call->queue) + (call->peer ? stream_pending(&call->peer->stream) : 0);
}

static void use_peer(struct call *call, struct peer *peer)
{
    struct stream *stream = &peer->stream;
    call->peer = peer;
    peer->call = call;
    call->phase = CALL_WAITING;
    set_deadline(call, call->timeout_ms);
    buf_add_str(&stream->out, buf_str(&call->head));
    stream_write(stream, buf_str(&call->queue));
    buf_done(&call->queue);
    if (call->sent_all)
        request_sent(call);
    if (!call->paused)
        stream_read_start(stream);
    stream_flush(stream);
    if (stream->broken)
        fail_or_retry(call, ERR_CLOSED, "the connection broke while the request was sent");
}

/* ---- connecting ---- */

static void on_connect(uv_connect_t *connect, int status)
{
    struct peer *peer = connect->data;
    struct call *call = peer->call;
    if (!call || status == UV_ECANCELED)
        return; /* closed meanwhile */
    int on = 1, fd;
    io_now(call->all->io);
    if (status < 0) {
        char what[160];
        snprintf(what, sizeof what, "cannot connect: %s", uv_strerror(status));
        call->upstream->address_until_ms = 0;
        fail(call, status == UV_ETIMEDOUT ? ERR_TIMEOUT : ERR_CONNECT, what);
        return;
    }
    if (uv_fileno((uv_handle_t *)&peer->stream.tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    call->times.connected = since(call);
    bool had_queue = buf_len(&call->queue) > 0;
    bool gone = false, *outer = call->gone;
    call->gone = &gone;
    use_peer(call, peer);
    if (gone) {
        if (outer)
            *outer = true;
        return;
    }
    call->gone = outer; /* NOLINT(clang-analyzer-unix.Malloc): gone would be true */
    if (had_queue && !call_pending(call) && call->events->on_drain)
        call->events->on_drain(call);
}

static void connect_to(struct call *call)
{
    struct upstream *u = call->upstream;
    struct peer *peer = peer_new(u);
    if (!peer) {
        fail(call, ERR_NOMEM, "out of memory");
        return;
    }
    call->phase = CALL_CONNECTING;
    call->peer = peer;
    peer->call = call;
    peer->connect.data = peer;
    int err = uv_tcp_connect(&peer->connect, &peer->stream.tcp, (struct sockaddr *)&u->address,
                             on_connect);
    if (err < 0)
        fail(call, ERR_CONNECT, uv_strerror(err));
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *list)
{
    struct call *call = resolve->data;
    free(resolve);
    if (!call) {
        uv_freeaddrinfo(list);
        return;
    }
    call->resolve = NULL;
    io_now(call->all->io);
    if (status < 0 || !list) {
        fail(call, ERR_RESOLVE, status < 0 ? uv_strerror(status) : "the name has no address");
        return;
    }
    struct upstream *u = call->upstream;
    memcpy(&u->address, list->ai_addr, list->ai_addrlen);
    u->address_until_ms = call->all->io->now_ms + RESOLVED_MS;
    uv_freeaddrinfo(list);
    connect_to(call);
}

static bool is_numeric(struct upstream *u)
{
    if (uv_ip4_addr(u->host, u->port, (struct sockaddr_in *)&u->address) < 0 &&
        uv_ip6_addr(u->host, u->port, (struct sockaddr_in6 *)&u->address) < 0)
        return false;
    u->address_until_ms = UINT64_MAX;
    return true;
}

static void connect_peer(struct call *call)
{
    struct upstream *u = call->upstream;
    char port[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    call->phase = CALL_RESOLVING;
    set_deadline(call, setting(call, SETTING_UPSTREAM_CONNECT_TIMEOUT_MS));
    if (call->all->io->now_ms < u->address_until_ms || is_numeric(u)) {
        connect_to(call);
        return;
    }
    call->resolve = calloc(1, sizeof *call->resolve);
    snprintf(port, sizeof port, "%u", u->port);
    if (!call->resolve) {
        fail(call, ERR_NOMEM, "out of memory");
        return;
    }
    call->resolve->data = call;
    int err = uv_getaddrinfo(&call->all->io->loop, call->resolve, on_resolved, u->host, port, &hints);
    if (err < 0) {
        free(call->resolve);
        call->resolve = NULL;
        fail(call, ERR_RESOLVE, uv_strerror(err));
    }
}

static void on_kick(uv_timer_t *timer)
{
    struct call *call = timer->data;
    stop_kick(call);
    io_now(call->all->io);
    connect_peer(call);
}

static void render_head(struct call *call, const struct call_opts *opts)
{
    struct buf *out = &call->head;
    buf_add_str(out, opts->method);
    buf_add_char(out, ' ');
    buf_add_str(out, opts->target);
    buf_add_str(out, STR(" HTTP/1.1\r\nHost: "));
    buf_add_str(out, opts->host);
    buf_add_str(out, STR("\r\n"));
    for (size_t i = 0; i < opts->header_count; i++) {
        buf_add_str(out, opts->headers[i].name);
        buf_add_str(out, STR(": "));
        buf_add_str(out, opts->headers[i].value);
        buf_add_str(out, STR("\r\n"));
    }
    if (opts->body == FRAMING_CHUNKED)
        buf_add_str(out, STR("Transfer-Encoding: chunked\r\n"));
    else if (opts->body == FRAMING_FIXED || call->method == METHOD_POST || call->method == METHOD_PUT)
        buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)opts->body_length);
    buf_add_str(out, STR("\r\n"));
}

struct call *call_new(const struct call_opts *opts)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->events = opts->events;
    call->user = opts->user;
    call->all = opts->all;
    call->upstream = opts->upstream;
    call->method = head_method_id(opts->method);
    call->body = opts->body == FRAMING_EOF ? FRAMING_CHUNKED : opts->body;
    call->body_left = opts->body_length;
    call->sent_all = call->body == FRAMING_NONE;
    call->deadline.on_fire = on_deadline;
    call->began_ns = io_now(call->all->io);
    call->timeout_ms =
        opts->timeout_ms ? opts->timeout_ms : setting(call, SETTING_UPSTREAM_FIRST_BYTE_TIMEOUT_MS);
    render_head(call, opts);
    struct peer *peer = peer_take(call->upstream);
    if (peer) {
        peer->call = call;
        call->peer = peer;
        call->phase = CALL_WAITING;
        set_deadline(call, call->timeout_ms);
        buf_add_str(&peer->stream.out, buf_str(&call->head));
        if (call->sent_all)
            request_sent(call);
        if (call->body == FRAMING_NONE) {
            stream_flush(&peer->stream);
            if (!peer->stream.broken)
                return call;
            call->retried = true;
            drop_peer(call, true);
        } else {
            return call;
        }
    }
    /* A failure must not be told from inside: begin from the loop. */
    call->kick = calloc(1, sizeof *call->kick);
    if (!call->kick) {
        call_free(call);
        return NULL;
    }
    uv_timer_init(&call->all->io->loop, call->kick);
    call->kick->data = call;
    uv_timer_start(call->kick, on_kick, 0, 0);
    return call;
}

/* ---- receiving ---- */

void call_pause(struct call *call)
{
    call->paused = true;
    if (call->peer)
        stream_read_stop(&call->peer->stream);
}

static void complete(struct call *call, bool leftover)
{
    struct peer *peer = call->peer;
    call->times.ended = since(call);
    call->phase = CALL_DONE;
    call->peer = NULL;
    wheel_clear(&call->deadline);
    if (peer) {
        if (call->keep_alive && call->sent_all && !leftover && !call->eof &&
            call->reader.framing != FRAMING_EOF && !stream_pending(&peer->stream))
            peer_put(peer);
        else
            peer_close(peer, false);
    }
    const struct call_events *events = call->events;
    bool gone = false, *outer = call->gone;
    call->gone = &gone;
    events->on_end(call);
    if (outer)
        *outer = true;
    if (!gone) {
        call->gone = NULL;
        call_free(call);
    }
}

/* Reads a response head; false when there is none yet, or the call has ended. */
static bool take_head(struct call *call, struct str *bytes)
{
    struct head_limits limits = {RESPONSE_HEAD_BYTES, 8192, HEAD_FIELDS_MAX};
    struct head_refusal refusal;
    struct head head;
    size_t len = head_end(bytes->p, bytes->len, call->head_seen);
    if (!len) {
        if (head_hopeless(bytes->p, bytes->len, call->head_seen, &limits, &refusal))
            fail(call, ERR_PROTOCOL, refusal.what);
        else
            call->head_seen = bytes->len;
        return false;
    }
    if (!head_parse_response(bytes->p, len, &limits, call->method, &head, &refusal)) {
        fail(call, ERR_PROTOCOL, refusal.what);
        return false;
    }
    call->head_seen = 0;
    if (head.status < 200) {
        if (head.status == 101 || ++call->interim > INTERIM_MAX) {
            fail(call, ERR_PROTOCOL,
                 head.status == 101 ? "a 101 that nobody asked for" : "too many interim responses");
            return false;
        }
        bytes->p += len;
        bytes->len -= len;
        return true;
    }
    call->keep_alive = head.keep_alive;
    call->phase = CALL_BODY;
    body_init(&call->reader, head.framing, head.content_length);
    set_deadline(call, setting(call, SETTING_UPSTREAM_IDLE_TIMEOUT_MS));
    call->events->on_head(call, &head);
    bytes->p += len;
    bytes->len -= len;
    return true;
}

/* Delivers what is in *bytes until it is used up, the reader is paused or the
 * call has ended (*gone). */
static void deliver(struct call *call, struct str *bytes, bool *gone)
{
    while (!*gone) {
        if (call->phase == CALL_WAITING) {
            if (!bytes->len || !take_head(call, bytes))
                return;
            continue;
        }
        if (call->reader.done || call->reader.framing == FRAMING_NONE) {
            complete(call, bytes->len > 0);
            return;
        }
        if (!bytes->len || call->paused)
            return;
        struct str payload;
        size_t used = body_feed(&call->reader, bytes->p, bytes->len, &payload);
        bytes->p += used;
        bytes->len -= used;
        if (call->reader.error) {
            fail(call, ERR_PROTOCOL, call->reader.error);
            return;
        }
        if (payload.len)
            call->events->on_data(call, payload);
    }
}

/* Works through what has arrived; false when the call has ended. */
static bool receive(struct call *call, struct str fresh)
{
    bool gone = false, *outer = call->gone;
    bool direct = !buf_len(&call->in);
    if (!direct)
        buf_add_str(&call->in, fresh);
    struct str bytes = direct ? fresh : buf_str(&call->in);
    size_t before = bytes.len;
    struct buf held = call->in; /* lives on when the call is freed under us */
    call->in = (struct buf){0};
    call->delivering = true;
    call->gone = &gone;
    deliver(call, &bytes, &gone);
    if (gone) {
        buf_done(&held);
        if (outer)
            *outer = true;
        return false;
    }
    call->delivering = false; /* NOLINT(clang-analyzer-unix.Malloc): gone would be true */
    call->gone = outer;
    call->in = held;
    if (direct)
        buf_add_str(&call->in, bytes);
    else
        buf_consume(&call->in, before - bytes.len);
    if (call->phase == CALL_BODY && call->events->on_batch) {
        call->gone = &gone;
        call->events->on_batch(call);
        if (gone) {
            if (outer)
                *outer = true;
            return false;
        }
        call->gone = outer;
    }
    if (buf_ok(&call->in))
        return true;
    fail(call, ERR_NOMEM, "out of memory");
    return false;
}

void call_on_read(struct call *call, struct str bytes)
{
    if (!call->times.first_byte)
        call->times.first_byte = since(call);
    if (call->phase == CALL_BODY)
        set_deadline(call, setting(call, SETTING_UPSTREAM_IDLE_TIMEOUT_MS));
    receive(call, bytes);
}

void call_on_end(struct call *call, int err)
{
    call->eof = true;
    if (call->paused && buf_len(&call->in))
        return; /* call_resume() comes back to it */
    if (call->phase == CALL_BODY && err == 0 && body_eof(&call->reader)) {
        complete(call, false);
        return;
    }
    if (call->phase == CALL_BODY)
        fail(call, ERR_CLOSED, "the response ended before its time");
    else
        fail_or_retry(call, ERR_CLOSED, "the connection was closed before a response");
}

void call_on_drain(struct call *call)
{
    if (call->events->on_drain)
        call->events->on_drain(call);
}

void call_resume(struct call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    if (call->delivering)
        return;
    set_deadline(call, setting(call, SETTING_UPSTREAM_IDLE_TIMEOUT_MS));
    if (call->peer && !call->eof)
        stream_read_start(&call->peer->stream);
    if (buf_len(&call->in) && !receive(call, (struct str){NULL, 0}))
        return;
    if (call->eof && !call->paused && !buf_len(&call->in))
        call_on_end(call, 0);
}
