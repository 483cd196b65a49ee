/* One request and its answer: writing heads, framing bodies, ending. */
// SPDX-License-Identifier: MIT
#include "http/conn.h"
#include "base/measure.h"
#include "http/access_log.h"
#include "http/filter.h"
#include "http/status.h"
#include "http/timing.h"
#include "http/trace.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SPARE_MAX = 256,             /* exchanges kept for reuse */
    DROP_BYTES = 64 * 1024,      /* an unread body up to this is read and dropped */
    CORK_BYTES = 128 * 1024,     /* answers to pipelined requests gathered before a write */
};

struct exchange *exchange_new(struct server *s)
{
    struct exchange *ex = s->spare;
    struct arena *arena;
    if (ex) {
        s->spare = ex->user;
        s->spare_count--;
        arena = ex->arena;
    } else {
        ex = malloc(sizeof *ex);
        arena = malloc(sizeof *arena);
        if (!ex || !arena) {
            free(ex);
            free(arena);
            return NULL;
        }
        arena_init(arena);
    }
    memset(ex, 0, sizeof *ex);
    ex->arena = arena;
    ex->server = s;
    return ex;
}

void exchange_free(struct exchange *ex)
{
    struct server *s = ex->server;
    while (ex->filters) {
        struct filter *f = ex->filters;
        ex->filters = f->next;
        f->ops->done(ex, f);
    }
    while (ex->endings) {
        struct ending *e = ex->endings;
        ex->endings = e->next;
        e->run(ex, e);
    }
    arena_reset(ex->arena);
    if (s->spare_count < SPARE_MAX) {
        ex->user = s->spare;
        s->spare = ex;
        s->spare_count++;
        return;
    }
    arena_done(ex->arena);
    free(ex->arena);
    free(ex);
}

const char *exchange_peer(const struct exchange *ex)
{
    return ex->conn->peer;
}

bool exchange_is_secure(const struct exchange *ex)
{
    return ex->conn->secure;
}

bool exchange_has_body(const struct exchange *ex)
{
    return ex->head->framing != FRAMING_NONE;
}

size_t exchange_pending(const struct exchange *ex)
{
    size_t bytes = stream_pending(&ex->conn->stream);
    for (const struct filter *f = ex->filters; f; f = f->next)
        bytes += f->held_bytes;
    return bytes;
}

void exchange_gone(struct exchange *ex)
{
    if (ex->on_gone)
        ex->on_gone(ex);
    ex->on_gone = NULL;
}

void exchange_drained(struct exchange *ex)
{
    if (ex->on_drain && ex->answer == ANSWER_BEGUN && !exchange_pending(ex))
        ex->on_drain(ex);
}

static uint64_t queued_total(const struct conn *c)
{
    return c->stream.bytes_written + buf_len(&c->stream.out);
}

/* Whether the rest of the request body is worth reading to keep the connection. */
static bool body_is_cheap_to_drop(const struct exchange *ex)
{
    if (ex->body_ended)
        return true;
    if (ex->head->expect_continue && !ex->continue_sent && !ex->body.payload_bytes)
        return false; /* the client may never send it */
    return ex->body.framing == FRAMING_FIXED && ex->body.left <= DROP_BYTES;
}

/* Appends to a head; the caller made room. */
static inline char *put(char *to, struct str s)
{
    return s.len ? mempcpy(to, s.p, s.len) : to;
}

static char *put_u64(char *to, uint64_t value)
{
    char text[20], *p = text + sizeof text;
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return mempcpy(to, p, (size_t)(text + sizeof text - p));
}

static char *put_connection(char *to, const struct exchange *ex)
{
    if (ex->tunnel)
        return put(to, STR("Connection: Upgrade\r\n"));
    if (ex->close_after)
        return put(to, STR("Connection: close\r\n"));
    if (ex->head->minor == 0)
        return put(to, STR("Connection: keep-alive\r\n"));
    return to;
}

bool exchange_is_bodiless(const struct exchange *ex, int status)
{
    return status == 204 || status == 304 || status < 200 || ex->head->method_id == METHOD_HEAD;
}

static char *put_framing(char *to, struct exchange *ex, const struct answer *a)
{
    if (ex->tunnel) {
        ex->length_left = -1;
        ex->close_after = true;
        return to;
    }
    ex->no_body = exchange_is_bodiless(ex, a->status);
    ex->length_left = ex->no_body ? 0 : a->length;
    if (a->length >= 0) {
        if (a->status == 204 || a->status < 200 || (a->status == 304 && a->length == 0))
            return to;
        to = put(to, STR("Content-Length: "));
        return put(put_u64(to, (uint64_t)a->length), STR("\r\n"));
    }
    if (ex->no_body)
        return to;
    if (ex->head->minor == 1) {
        ex->chunked = true;
        return put(to, STR("Transfer-Encoding: chunked\r\n"));
    }
    ex->close_after = true;
    return to;
}

static char *put_status(char *to, const struct answer *a)
{
    if (a->status == 200 && !a->reason.len)
        return put(to, STR("HTTP/1.1 200 OK\r\n"));
    to = put(put_u64(put(to, STR("HTTP/1.1 ")), (uint64_t)a->status), STR(" "));
    return put(put(to, a->reason.len ? a->reason : status_reason(a->status)), STR("\r\n"));
}

static char *put_fields(char *to, const struct answer *a, const char *date)
{
    bool has_date = a->prepared.len > 0;
    to = put(to, a->prepared);
    for (size_t i = 0; i < a->header_count; i++) {
        const struct http_header *h = &a->headers[i];
        to = put(put(put(put(to, h->name), STR(": ")), h->value), STR("\r\n"));
        has_date = has_date || (h->name.len == 4 && str_iequal(h->name, STR("date")));
    }
    if (has_date)
        return to;
    return put(mempcpy(put(to, STR("Date: ")), date, 29), STR("\r\n"));
}

/* No head is longer. */
static size_t head_room(const struct answer *a)
{
    size_t room = 256 + a->reason.len + a->prepared.len;
    for (size_t i = 0; i < a->header_count; i++)
        room += a->headers[i].name.len + a->headers[i].value.len + 4;
    return room;
}

/* ---- the wire, behind the last filter ---- */

static void wire_begin(struct exchange *ex, const struct answer *a)
{
    struct conn *c = ex->conn;
    struct server *s = ex->server;
    struct buf *out = &c->stream.out;
    ex->status = a->status;
    ex->bytes_out_before = queued_total(c);
    uint64_t most = setting_integer(&s->board->settings, SETTING_SERVER_REQUESTS_PER_CONNECTION);
    if (!ex->head->keep_alive || s->draining || (most && c->requests >= most) ||
        !body_is_cheap_to_drop(ex))
        ex->close_after = true;
    bool timing = timing_wanted(ex);
    char *start = buf_room(out, head_room(a) + (timing ? TIMING_ROOM : 0));
    if (!start)
        return; /* the buffer knows */
    char *to = put_status(start, a);
    to = put_fields(to, a, s->io->date);
    if (timing)
        to = timing_put(to, ex, s->io->now_ns);
    to = put_framing(to, ex, a);
    to = put(put_connection(to, ex), STR("\r\n"));
    buf_wrote(out, (size_t)(to - start));
}

static void wire_send(struct exchange *ex, struct str bytes)
{
    struct stream *stream = &ex->conn->stream;
    if (ex->no_body || !bytes.len)
        return;
    if (ex->chunked) {
        buf_printf(&stream->out, "%zx\r\n", bytes.len);
        stream_write(stream, bytes);
        buf_add_str(&stream->out, STR("\r\n"));
    } else {
        if (ex->length_left >= 0) {
            if ((int64_t)bytes.len > ex->length_left)
                bytes.len = (size_t)ex->length_left;
            ex->length_left -= (int64_t)bytes.len;
        }
        stream_write(stream, bytes);
    }
    ex->body_out += bytes.len;
}

/* Whether it is one of the benchmark that the control API runs. */
static __attribute__((noinline)) bool is_benchmark(const struct exchange *ex)
{
    struct str tag = {ex->server->board->benchmark.tag, BENCHMARK_TAG};
    for (size_t i = 0; ex->head && i < ex->head->field_count; i++)
        if (ex->head->fields[i].id == FIELD_OTHER && str_iequal(ex->head->fields[i].name, STR("perilune-benchmark")))
            return str_equal(ex->head->fields[i].value, tag);
    return false;
}

void exchange_record(struct exchange *ex, int status)
{
    struct server *s = ex->server;
    uint64_t slow_ns = (uint64_t)(int64_t)(setting_number(&s->board->settings, SETTING_STATS_SLOW_MS) * 1e6);
    bool benchmark = atomic_load_explicit(&s->board->benchmark.active, memory_order_acquire) && is_benchmark(ex);
    if (benchmark)
        slow_ns = UINT64_MAX; /* no sample of traffic */
    if (ex->head && s->io->now_ns - ex->started_ns > slow_ns)
        exchange_trace(ex);
    struct sample sample = {
        .route = benchmark ? ROUTE_BENCHMARK : ex->route,
        .status = (uint32_t)status,
        .latency_ns = (ex->tunnel ? ex->tunnel_ns : s->io->now_ns) - ex->started_ns,
        .bytes_in = ex->raw_head.len + ex->body_bytes,
        .bytes_out = ex->answer == ANSWER_NONE ? 0 : queued_total(ex->conn) - ex->bytes_out_before,
        .body_out = ex->body_out,
        .phase_ns = ex->phase_ns,
        .at_unix_ms = s->io->unix_ms,
        .trace_id = ex->trace_id[0] ? ex->trace_id : NULL,
        .method = ex->head ? ex->head->method : (struct str){NULL, 0},
    };
    lane_record(s->lane, &sample, s->board->routes_max, slow_ns);
    if (s->access_log && !ex->detached)
        access_log_add(s->access_log, ex, &sample, s->lane);
}

/* Ends the exchange when its answer is out and its body is in. */
static void finish(struct exchange *ex)
{
    struct conn *c = ex->conn;
    bool more = c->processing && c->cur.len;
    if (!ex->wire_ended || (!ex->body_ended && !ex->close_after))
        return;
    if (!more) /* held back while the rest of a body was read and dropped */
        stream_flush(&c->stream);
    if (c->stream.broken)
        return;
    if (stream_pending(&c->stream) && !more) {
        c->pending_record = true;
        return;
    }
    c->pending_record = false;
    if (MEASURE)
        io_now(ex->server->io);
    if (ex->ready_ns && ex->server->io->now_ns > ex->ready_ns)
        ex->phase_ns[PHASE_WRITE] = ex->server->io->now_ns - ex->ready_ns;
    exchange_record(ex, ex->status);
    conn_exchange_over(c);
}

void exchange_finish_later(struct exchange *ex)
{
    finish(ex);
}

static void wire_end(struct exchange *ex)
{
    struct conn *c = ex->conn;
    if (!ex->no_body && !ex->chunked && ex->length_left > 0) {
        exchange_abort(ex);
        return;
    }
    if (ex->chunked)
        buf_add_str(&c->stream.out, STR("0\r\n\r\n"));
    ex->wire_ended = true;
    ex->ready_ns = ex->server->io->now_ns; /* whoever ended it has just read the clock */
    ex->body_dropped = !ex->body_ended;
    ex->sink = NULL;
    bool more = c->processing && c->cur.len && !ex->close_after;
    if (!more || buf_len(&c->stream.out) > CORK_BYTES)
        stream_flush(&c->stream);
    finish(ex);
    /* The exchange may be gone now; the connection lives until its callback. */
    conn_flush(c);
}

/* ---- what the application says, through its filters ---- */

void filter_begin(struct exchange *ex, struct filter *f, const struct answer *a)
{
    if (f)
        f->ops->begin(ex, f, a);
    else
        wire_begin(ex, a);
}

void filter_send(struct exchange *ex, struct filter *f, struct str bytes)
{
    if (f)
        f->ops->send(ex, f, bytes);
    else
        wire_send(ex, bytes);
}

void filter_flush(struct exchange *ex, struct filter *f)
{
    if (f)
        f->ops->flush(ex, f);
    else
        conn_flush(ex->conn);
}

void filter_end(struct exchange *ex, struct filter *f)
{
    if (f)
        f->ops->end(ex, f);
    else
        wire_end(ex);
}

void filter_answer(struct exchange *ex, struct filter *f, const struct answer *a, struct str body)
{
    if (f && f->ops->answer) {
        f->ops->answer(ex, f, a, body);
        return;
    }
    filter_begin(ex, f, a);
    filter_send(ex, f, body);
    filter_end(ex, f);
}

void exchange_on_end(struct exchange *ex, struct ending *e)
{
    e->next = ex->endings;
    ex->endings = e;
}

void filter_push(struct exchange *ex, struct filter *f)
{
    f->next = ex->filters;
    ex->filters = f;
}

static struct filter *first_filter(const struct exchange *ex)
{
    return ex->tunnel ? NULL : ex->filters;
}

void exchange_begin(struct exchange *ex, const struct answer *a)
{
    if (ex->answer != ANSWER_NONE)
        return;
    ex->answer = ANSWER_BEGUN;
    filter_begin(ex, ex->filters, a);
}

void exchange_send(struct exchange *ex, struct str bytes)
{
    if (ex->answer == ANSWER_BEGUN)
        filter_send(ex, first_filter(ex), bytes);
}

void exchange_end(struct exchange *ex)
{
    if (ex->answer != ANSWER_BEGUN)
        return;
    ex->answer = ANSWER_ENDED;
    filter_end(ex, first_filter(ex));
}

void exchange_answer(struct exchange *ex, const struct answer *answer, struct str body)
{
    if (ex->answer != ANSWER_NONE)
        return;
    ex->answer = ANSWER_ENDED;
    if (ex->filters) {
        filter_answer(ex, ex->filters, answer, body);
        return;
    }
    wire_begin(ex, answer);
    wire_send(ex, body);
    wire_end(ex);
}

void exchange_problem(struct exchange *ex, int status, const char *code, const char *detail,
                      const struct http_header *headers, size_t header_count)
{
    char text[1024];
    struct http_header all[8] = {{STR("Content-Type"), STR("application/problem+json")},
                                 {STR("Cache-Control"), STR("no-store")}};
    size_t n = 2;
    for (size_t i = 0; i < header_count && n < 8; i++)
        all[n++] = headers[i];
    int len = snprintf(text, sizeof text,
                       "{\"type\":\"about:blank\",\"title\":\"%.*s\",\"status\":%d,\"code\":\"%s\","
                       "\"detail\":\"%s\",\"trace_id\":\"%s\"}\n",
                       STR_ARG(status_reason(status)), status, code, detail, exchange_trace(ex));
    if (len >= (int)sizeof text)
        len = sizeof text - 1;
    struct answer a = {.status = status, .headers = all, .header_count = n, .length = len};
    exchange_answer(ex, &a, (struct str){text, (size_t)len});
}

void exchange_abort(struct exchange *ex)
{
    struct conn *c = ex->conn;
    ex->answer = ANSWER_ENDED;
    struct filter *first = first_filter(ex);
    if (first && first->ops->broken && first->ops->broken(ex, first))
        return;
    if (ex->detached) {
        exchange_detached_over(ex);
        return;
    }
    io_now(ex->server->io);
    exchange_record(ex, ex->status);
    exchange_free(ex);
    c->ex = NULL;
    stream_flush(&c->stream);
    conn_close(c, true);
}

void exchange_flush(struct exchange *ex)
{
    filter_flush(ex, first_filter(ex));
}

void exchange_tunnel(struct exchange *ex, const struct answer *answer, const struct body_sink *sink)
{
    if (ex->answer != ANSWER_NONE)
        return;
    ex->answer = ANSWER_BEGUN;
    ex->tunnel = true;
    ex->tunnel_ns = io_now(ex->server->io);
    lane_add(&ex->server->lane->counters[COUNTER_TUNNELS], 1);
    wire_begin(ex, answer);
    body_init(&ex->body, FRAMING_EOF, 0);
    ex->body_ended = false;
    exchange_read_body(ex, sink);
}

static bool trace_from_header(struct exchange *ex)
{
    struct trace trace;
    if (!trace_parse(head_get(ex->head, FIELD_TRACEPARENT), &trace))
        return false;
    memcpy(ex->trace_id, trace.id.p, TRACE_ID);
    return true;
}

/* SplitMix64 (Steele, Lea and Flood, 2014) from a random start: ids need to
 * differ, not to be secret, and each request needs some. */
uint64_t server_random(struct server *s)
{
    uint64_t x = s->random += 0x9e3779b97f4a7c15ULL;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

const char *exchange_trace(struct exchange *ex)
{
    if (!ex->trace_id[0] && !trace_from_header(ex)) {
        trace_hex(ex->trace_id, server_random(ex->server) | 1);
        trace_hex(ex->trace_id + 16, server_random(ex->server));
    }
    return ex->trace_id;
}
