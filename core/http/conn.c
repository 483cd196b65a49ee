/* One client connection: cutting the bytes into requests, deadlines, ends. */
// SPDX-License-Identifier: MIT
#include "http/conn.h"

#include "base/err.h"
#include "base/measure.h"
#include "http/decode.h"
#include "http/opinion.h"
#include "http/path.h"
#include "http/status.h"

#include <stdlib.h>

enum {
    WAITING_BYTES = 64 * 1024, /* pipelined bytes held before reading pauses */
    DRAIN_IDLE_MS = 250,       /* while draining: the next request may be on its way */
};

static const struct stream_events stream_events;
static void on_deadline(struct timer *t);

static uint64_t limit_ms(const struct conn *c, enum setting_id id)
{
    return setting_integer(&c->server->board->settings, id);
}

static void list_remove(struct conn *c)
{
    c->next->prev = c->prev;
    c->prev->next = c->next;
}

static void list_append(struct conn *head, struct conn *c)
{
    c->next = head;
    c->prev = head->prev;
    head->prev->next = c;
    head->prev = c;
}

struct conn *conn_new(struct server *s, int fd, const char *peer, uint64_t client, bool secure)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c || stream_init(&c->stream, s->io, &stream_events, fd) < 0) {
        free(c);
        return NULL;
    }
    c->server = s;
    c->client = client;
    c->secure = secure;
    if (client)
        clients_enter(&s->board->clients[s->worker], client);
    c->stream.stamped = MEASURE;
    c->deadline.on_fire = on_deadline;
    c->idle_since_ms = s->io->now_ms;
    strncpy(c->peer, peer, sizeof c->peer - 1);
    list_append(&s->conns, c);
    s->count++;
    lane_add(&s->lane->connections_accepted, 1);
    atomic_store_explicit(&s->lane->connections_open, s->count, memory_order_relaxed);
    if (secure) {
        if (stream_secure(&c->stream, s->tls, NULL) < 0) {
            conn_close(c, true);
            return NULL;
        }
        c->state = CONN_HEAD; /* the handshake must not take longer than a head */
        c->head_started_ms = s->io->now_ms;
    }
    stream_read_start(&c->stream);
    conn_arm(c);
    return c;
}

static void on_closed(struct stream *stream)
{
    struct conn *c = (struct conn *)stream;
    buf_done(&c->in);
    free(c);
}

void conn_close(struct conn *c, bool reset)
{
    struct server *s = c->server;
    if (c->state == CONN_CLOSING)
        return;
    c->state = CONN_CLOSING;
    wheel_clear(&c->deadline);
    list_remove(c);
    if (c->client)
        clients_leave(&s->board->clients[s->worker], c->client);
    s->count--;
    atomic_store_explicit(&s->lane->connections_open, s->count, memory_order_relaxed);
    stream_close(&c->stream, reset);
}

/* ---- deadlines ---- */

static void earliest(uint64_t *deadline, uint64_t candidate)
{
    if (!*deadline || candidate < *deadline)
        *deadline = candidate;
}

static bool is_reading_body(const struct conn *c)
{
    const struct exchange *ex = c->ex;
    return ex && !ex->tunnel && !ex->body_ended && !ex->body_paused && (ex->sink || ex->body_dropped);
}

/* When a transfer that has moved `bytes` since `since_ms` falls below its least
 * rate. A drip that never pauses for long pushes only its pause deadline away. */
static uint64_t rate_until_ms(uint64_t bytes, uint64_t since_ms, uint64_t grace_ms, uint64_t rate)
{
    uint64_t lasts_ms = rate ? bytes * 1000 / rate + 1 : UINT64_MAX / 2;
    return since_ms + (lasts_ms > grace_ms ? lasts_ms : grace_ms);
}

static uint64_t body_until_ms(const struct conn *c)
{
    uint64_t grace = limit_ms(c, SETTING_SERVER_BODY_TIMEOUT_MS);
    uint64_t at = c->read_progress_ms + grace;
    earliest(&at, rate_until_ms(c->ex->body_bytes, c->ex->body_started_ms, grace,
                                limit_ms(c, SETTING_SERVER_BODY_MIN_RATE)));
    return at;
}

static uint64_t drained_bytes(const struct conn *c)
{
    return c->stream.bytes_written - c->stream.tcp.write_queue_size;
}

static uint64_t write_until_ms(const struct conn *c)
{
    uint64_t grace = limit_ms(c, SETTING_SERVER_WRITE_TIMEOUT_MS);
    uint64_t at = c->write_progress_ms + grace;
    earliest(&at, rate_until_ms(drained_bytes(c) - c->write_drained, c->write_started_ms, grace,
                                limit_ms(c, SETTING_SERVER_WRITE_MIN_RATE)));
    return at;
}

static uint64_t idle_until_ms(const struct conn *c)
{
    uint64_t most = limit_ms(c, SETTING_SERVER_IDLE_TIMEOUT_MS);
    if (c->server->draining && most > DRAIN_IDLE_MS)
        most = DRAIN_IDLE_MS;
    return c->idle_since_ms + most;
}

bool conn_is_stale(const struct conn *c)
{
    return c->server->io->now_ms >= idle_until_ms(c);
}

/* The client sends no more, and there is nothing on its way to it. */
static bool is_half_closed(const struct conn *c)
{
    return c->eof_ms && c->ex && (c->ex->answer == ANSWER_NONE || c->ex->endless);
}

void conn_arm(struct conn *c)
{
    uint64_t at = 0;
    switch (c->state) {
    case CONN_IDLE:
        at = idle_until_ms(c);
        break;
    case CONN_HEAD:
        at = c->head_started_ms + limit_ms(c, SETTING_SERVER_HEAD_TIMEOUT_MS);
        break;
    case CONN_LINGER:
        at = c->idle_since_ms + limit_ms(c, SETTING_SERVER_LINGER_MS);
        break;
    case CONN_BUSY:
        if (is_reading_body(c))
            at = body_until_ms(c);
        if (is_half_closed(c))
            earliest(&at, c->eof_ms + limit_ms(c, SETTING_SERVER_HALF_CLOSE_MS));
        break;
    case CONN_CLOSING:
        return;
    }
    if (c->write_started_ms)
        earliest(&at, write_until_ms(c));
    if (at)
        wheel_set(&c->server->io->wheel, &c->deadline, at);
}

/* The client is gone, or is treated so: its request in flight is aborted. */
static void gone(struct conn *c, bool reset)
{
    struct exchange *ex = c->ex;
    if (c->state == CONN_CLOSING)
        return;
    if (ex) {
        if (ex->answer != ANSWER_ENDED)
            exchange_gone(ex);
        io_now(c->server->io);
        exchange_record(ex, 0);
        exchange_free(ex);
        c->ex = NULL;
    }
    conn_close(c, reset);
}

/* Notes whether output is pending and moving. */
static void watch_writes(struct conn *c)
{
    uint64_t now = c->server->io->now_ms;
    if (!stream_pending(&c->stream)) {
        c->write_started_ms = 0;
    } else if (!c->write_started_ms) {
        c->write_started_ms = c->write_progress_ms = now;
        c->write_drained = c->write_queue_seen = drained_bytes(c);
    } else if (drained_bytes(c) != c->write_queue_seen) {
        c->write_queue_seen = drained_bytes(c);
        c->write_progress_ms = now;
    }
}

static bool writes_too_slowly(struct conn *c)
{
    watch_writes(c);
    return c->write_started_ms && c->server->io->now_ms >= write_until_ms(c);
}

static bool reads_too_slowly(const struct conn *c)
{
    return is_reading_body(c) && c->server->io->now_ms >= body_until_ms(c);
}

static void on_deadline(struct timer *t)
{
    struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, deadline));
    uint64_t now = c->server->io->now_ms;
    if (writes_too_slowly(c)) {
        gone(c, true);
        return;
    }
    switch (c->state) {
    case CONN_IDLE:
        if (conn_is_stale(c)) {
            conn_close(c, false);
            return;
        }
        break;
    case CONN_LINGER:
        if (now >= c->idle_since_ms + limit_ms(c, SETTING_SERVER_LINGER_MS)) {
            conn_close(c, false);
            return;
        }
        break;
    case CONN_HEAD:
        if (now >= c->head_started_ms + limit_ms(c, SETTING_SERVER_HEAD_TIMEOUT_MS)) {
            conn_refuse(c, 408, "the request head did not arrive in time", "9110 15.5.9");
            return;
        }
        break;
    case CONN_BUSY:
        if (reads_too_slowly(c)) {
            conn_refuse(c, 408, "the request body did not arrive in time", "9110 15.5.9");
            return;
        }
        if (is_half_closed(c) && now >= c->eof_ms + limit_ms(c, SETTING_SERVER_HALF_CLOSE_MS)) {
            gone(c, false);
            return;
        }
        break;
    case CONN_CLOSING:
        return;
    }
    conn_arm(c);
}

/* ---- ends ---- */

/* Says goodbye, then reads on for a moment: closing with unread input would
 * reset the connection and destroy the answer on its way (RFC 9112 9.6). */
static void linger(struct conn *c)
{
    c->state = CONN_LINGER;
    c->idle_since_ms = c->server->io->now_ms;
    c->cur.len = 0;
    buf_clear(&c->in);
    stream_flush(&c->stream);
    if (!stream_pending(&c->stream))
        stream_shutdown(&c->stream);
    watch_writes(c);
    if (c->eof_ms && !stream_pending(&c->stream)) {
        conn_close(c, false);
        return;
    }
    stream_read_start(&c->stream);
    conn_arm(c);
}

static void record_refusal(struct conn *c, int status, size_t bytes)
{
    struct exchange *ex = exchange_new(c->server);
    if (!ex)
        return;
    ex->conn = c;
    ex->route = ROUTE_REFUSED;
    ex->started_ns = c->server->io->now_ns;
    ex->body_bytes = bytes;
    lane_add(&c->server->lane->started, 1);
    lane_add(&c->server->lane->refused, 1);
    exchange_record(ex, status);
    exchange_free(ex);
}

/* What RFC 9110 15.5.6 and RFC 6585 4 want beside a status; refused before any route is known, 405 is for CONNECT and TRACE. */
static const char *refusal_field(int status)
{
    return status == 405 ? "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" : status == 429 ? "Retry-After: 1\r\n" : "";
}

/* Texts of refusals are our own: nothing in them has to be escaped. */
static const char *refusal_code(int status)
{
    switch (status) {
    case 400: return "malformed_request";
    case 408: return "request_timeout";
    case 413: return "body_too_large";
    case 414: return "target_too_long";
    case 415: return "unknown_coding";
    case 429: return "too_many_connections";
    case 431: return "head_too_large";
    case 501: return "not_implemented";
    case 505: return "unknown_version";
    default: return "refused";
    }
}

void conn_refuse(struct conn *c, int status, const char *what, const char *rfc)
{
    struct exchange *ex = c->ex;
    if (c->state == CONN_CLOSING)
        return;
    if (ex && ex->answer == ANSWER_BEGUN) {
        exchange_gone(ex);
        exchange_abort(ex);
        return;
    }
    if (ex && ex->answer == ANSWER_ENDED) { /* the unread rest of a body is bad */
        exchange_record(ex, ex->status);
        exchange_free(ex);
        c->ex = NULL;
        linger(c);
        return;
    }
    if (ex) {
        exchange_gone(ex);
        exchange_record(ex, status);
        exchange_free(ex);
        c->ex = NULL;
    } else {
        record_refusal(c, status, c->cur.len);
    }
    struct str reason = status_reason(status);
    char text[512];
    int length = snprintf(text, sizeof text,
                          "{\"type\":\"about:blank\",\"title\":\"%.*s\",\"status\":%d,\"code\":\"%s\",\"detail\":\"%.200s (RFC %s)\"}\n",
                          STR_ARG(reason), status, refusal_code(status), what, rfc);
    buf_printf(&c->stream.out,
               "HTTP/1.1 %d %.*s\r\nContent-Type: application/problem+json\r\nDate: %.29s\r\n"
               "%sContent-Length: %d\r\nConnection: close\r\n\r\n%s",
               status, STR_ARG(reason), c->server->io->date, refusal_field(status), length, text);
    linger(c);
}

/* ---- bodies ---- */

void conn_feed_body(struct conn *c)
{
    struct exchange *ex = c->ex;
    uint64_t most = setting_integer(&c->server->board->settings, SETTING_SERVER_BODY_BYTES);
    while (c->ex == ex && c->cur.len && !ex->body_ended && !ex->body_paused &&
           (ex->sink || ex->body_dropped)) {
        struct str payload;
        bool decodes = ex->decode && ex->sink;
        size_t piece = decodes && c->cur.len > DECODE_PIECE ? DECODE_PIECE : c->cur.len;
        size_t used = body_feed(&ex->body, c->cur.p, piece, &payload);
        c->cur.p += used;
        c->cur.len -= used;
        c->read_progress_ms = c->server->io->now_ms;
        if (ex->body.error) {
            conn_refuse(c, 400, ex->body.error, "9112 7.1");
            return;
        }
        ex->body_bytes += payload.len;
        if (ex->body_bytes > most && !ex->tunnel) {
            conn_refuse(c, 413, "the request body is too large", "9110 15.5.14");
            return;
        }
        bool done = ex->body.done;
        const char *what;
        int status = decodes ? decode_piece(ex, payload, done, &payload, &what) : 0;
        if (status) {
            conn_refuse(c, status, what, "9110 8.4");
            return;
        }
        if (done)
            ex->body_ended = true;
        if (payload.len && ex->sink)
            ex->sink->on_data(ex, payload);
        if (done && c->ex == ex) {
            if (ex->sink)
                ex->sink->on_end(ex, 0);
            else if (ex->answer == ANSWER_ENDED)
                exchange_finish_later(ex);
        }
    }
    if (c->ex == ex && ex->tunnel && c->eof_ms && !c->cur.len && !ex->body_ended && !ex->body_paused) {
        ex->body_ended = true;
        if (ex->sink)
            ex->sink->on_end(ex, 0);
    }
}

void exchange_read_body(struct exchange *ex, const struct body_sink *sink)
{
    struct conn *c = ex->conn;
    ex->sink = sink;
    c->read_progress_ms = ex->body_started_ms = c->server->io->now_ms;
    if (ex->body_ended) {
        sink->on_end(ex, 0);
        return;
    }
    if (ex->head->expect_continue && !ex->continue_sent && !c->cur.len && !buf_len(&c->in)) {
        buf_add_str(&c->stream.out, STR("HTTP/1.1 100 Continue\r\n\r\n"));
        stream_flush(&c->stream);
    }
    ex->continue_sent = true;
    if (!c->processing)
        conn_process(c);
}

void exchange_pause_body(struct exchange *ex)
{
    ex->body_paused = true;
}

void exchange_resume_body(struct exchange *ex)
{
    struct conn *c = ex->conn;
    if (!ex->body_paused)
        return;
    ex->body_paused = false;
    c->read_progress_ms = ex->body_started_ms = c->server->io->now_ms; /* the pause was ours */
    ex->body_started_ms -= ex->body_bytes ? 1 : 0;
    if (!c->processing)
        conn_process(c);
}

/* ---- requests ---- */

static struct head_limits limits_of(const struct server *s)
{
    const struct settings *settings = &s->board->settings;
    return (struct head_limits){
        .head_bytes = setting_integer(settings, SETTING_SERVER_HEAD_BYTES),
        .target_bytes = setting_integer(settings, SETTING_SERVER_TARGET_BYTES),
        .fields = (unsigned)setting_integer(settings, SETTING_SERVER_FIELDS),
    };
}

static bool begin_exchange(struct conn *c, size_t head_len)
{
    struct server *s = c->server;
    struct head_limits limits = limits_of(s);
    struct head_refusal refusal = {400, "the two parsers of this engine disagree about the head", "9112 2.2"};
    struct exchange *ex = exchange_new(s);
    struct head *head = ex ? arena_alloc(ex->arena, sizeof *head) : NULL;
    if (!head) {
        conn_close(c, true);
        return false;
    }
    ex->conn = c;
    ex->raw_head = arena_copy(ex->arena, (struct str){c->cur.p, head_len});
    if (!ex->raw_head.p || !head_parse_request(ex->raw_head.p, head_len, &limits, head, &refusal) ||
        (opinion_matters(head) && !opinion_agrees(ex->raw_head.p, head_len, head, false))) {
        exchange_free(ex);
        conn_refuse(c, refusal.status, refusal.what, refusal.rfc);
        return false;
    }
    ex->head = head;
    if (head->path.p[0] == '*') {
        ex->path = head->path;
    } else if (!path_canonical(ex->arena, head->path, &ex->path)) {
        exchange_free(ex);
        conn_refuse(c, 400, "the path climbs above the root", "3986 5.2.4");
        return false;
    }
    if (head->content_length > setting_integer(&s->board->settings, SETTING_SERVER_BODY_BYTES)) {
        exchange_free(ex);
        conn_refuse(c, 413, "the request body is too large", "9110 15.5.14");
        return false;
    }
    c->cur.p += head_len;
    c->cur.len -= head_len;
    c->head_seen = 0;
    c->requests++;
    c->state = CONN_BUSY;
    c->ex = ex;
    stream_borrow(&c->stream);
    body_init(&ex->body, head->framing, head->content_length);
    ex->body_ended = head->framing == FRAMING_NONE;
    ex->route = ROUTE_NONE;
    ex->started_ns = c->stream.arrived_ns;
    ex->phase_ns[PHASE_QUEUE] = s->io->now_ns - ex->started_ns;
    lane_add(&s->lane->started, 1);
    return true;
}

/* Looks for a whole head; true when an exchange has begun. */
static bool take_head(struct conn *c)
{
    struct head_refusal refusal;
    size_t head_len = head_end(c->cur.p, c->cur.len, c->head_seen);
    if (head_len)
        return begin_exchange(c, head_len);
    struct head_limits limits = limits_of(c->server);
    if (head_hopeless(c->cur.p, c->cur.len, c->head_seen, &limits, &refusal)) {
        conn_refuse(c, refusal.status, refusal.what, refusal.rfc);
        return false;
    }
    if (c->state == CONN_IDLE) {
        c->state = CONN_HEAD;
        c->head_started_ms = c->server->io->now_ms;
    }
    c->head_seen = c->cur.len;
    return false;
}

static void work(struct conn *c)
{
    for (;;) {
        if (c->ex) {
            struct exchange *ex = c->ex;
            conn_feed_body(c);
            if (c->ex == ex)
                return;
        }
        if (c->state == CONN_LINGER || c->state == CONN_CLOSING || !c->cur.len)
            return;
        if (!take_head(c))
            return;
        c->server->app->on_request(c->ex);
    }
}

static void after_work(struct conn *c)
{
    if (c->stream.broken) {
        gone(c, false);
        return;
    }
    stream_flush(&c->stream);
    if (c->stream.broken) {
        gone(c, false);
        return;
    }
    watch_writes(c);
    if (c->state == CONN_LINGER)
        return;
    if (c->eof_ms && !c->ex) {
        if (c->state == CONN_HEAD)
            conn_refuse(c, 400, "the connection ended inside a request head", "9112 8");
        else
            linger(c);
        return;
    }
    if (buf_len(&c->in) >= WAITING_BYTES)
        stream_read_stop(&c->stream);
    else if (!c->eof_ms)
        stream_read_start(&c->stream);
    conn_arm(c);
    /* The kernel took all at once: who waited for room may go on. */
    if (c->ex && c->ex->answer == ANSWER_BEGUN && !stream_pending(&c->stream))
        exchange_drained(c->ex);
}

/* Processes what has been read: `fresh` bytes, or what waits in c->in. */
static void process(struct conn *c, struct str fresh)
{
    if (c->processing || c->state == CONN_CLOSING)
        return;
    bool direct = buf_len(&c->in) == 0;
    if (!direct)
        buf_add_str(&c->in, fresh);
    c->cur = direct ? fresh : buf_str(&c->in);
    size_t before = c->cur.len;
    c->processing = true;
    work(c);
    c->processing = false;
    if (c->state == CONN_CLOSING)
        return;
    if (c->state == CONN_LINGER)
        buf_clear(&c->in);
    else if (direct)
        buf_add_str(&c->in, c->cur);
    else
        buf_consume(&c->in, before - c->cur.len);
    c->cur = (struct str){NULL, 0};
    if (!buf_ok(&c->in) || !buf_ok(&c->stream.out)) {
        gone(c, true);
        return;
    }
    after_work(c);
}

void conn_process(struct conn *c)
{
    process(c, (struct str){NULL, 0});
}

void conn_flush(struct conn *c)
{
    if (c->processing || c->state == CONN_CLOSING)
        return;
    after_work(c);
}

void conn_exchange_over(struct conn *c)
{
    struct exchange *ex = c->ex;
    bool close = ex->close_after;
    exchange_free(ex);
    c->ex = NULL;
    if (c->state == CONN_CLOSING)
        return;
    c->state = CONN_IDLE;
    stream_lend(&c->stream);
    c->idle_since_ms = c->server->io->now_ms;
    c->head_seen = 0;
    list_remove(c);
    list_append(&c->server->conns, c); /* the list stays ordered by last use */
    if (close)
        linger(c);
    else if (!c->processing)
        conn_process(c);
}

/* ---- events ---- */

static void on_read(struct stream *stream, struct str bytes)
{
    struct conn *c = (struct conn *)stream;
    if (c->state == CONN_LINGER)
        return;
    process(c, bytes);
}

static void on_secure(struct stream *stream)
{
    struct conn *c = (struct conn *)stream;
    c->state = CONN_IDLE;
    c->idle_since_ms = c->server->io->now_ms;
    conn_arm(c);
}

static void on_end(struct stream *stream, int err)
{
    struct conn *c = (struct conn *)stream;
    if (err < 0 && stream->tls && tls_got_plain_http(stream->tls)) {
        stream_expose(stream);
        conn_refuse(c, 400, "this port speaks https, the request was http", "9110 4.2.2");
        return;
    }
    if (err < 0) {
        gone(c, false);
        return;
    }
    c->eof_ms = c->server->io->now_ms;
    if (c->state == CONN_LINGER) {
        if (!stream_pending(&c->stream))
            conn_close(c, false);
        return;
    }
    if (c->ex && !c->ex->tunnel) {
        if (!c->ex->body_ended && !c->ex->body_paused && !buf_len(&c->in)) {
            conn_refuse(c, 400, "the connection ended inside the request body", "9112 8");
            return;
        }
        conn_arm(c);
        return;
    }
    conn_process(c);
}

static void on_drain(struct stream *stream)
{
    struct conn *c = (struct conn *)stream;
    c->write_started_ms = 0;
    if (c->state == CONN_LINGER) {
        stream_shutdown(stream);
        if (c->eof_ms)
            conn_close(c, false);
        return;
    }
    if (!c->ex)
        return;
    if (c->pending_record)
        exchange_finish_later(c->ex);
    else
        exchange_drained(c->ex);
}

static const struct stream_events stream_events = {
    .on_read = on_read, .on_secure = on_secure, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};
