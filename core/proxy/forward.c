// SPDX-License-Identifier: MIT
#include "proxy/forward.h"

#include "base/err.h"
#include "base/log.h"
#include "proxy/peer.h"
#include "proxy/server_timing.h"

#include <stdio.h>

enum { LOG_EVERY_MS = 1000, EXTRA_HEADERS = 8 };

struct forward {
    struct exchange *ex;
    struct call *call; /* NULL once it has ended */
    uint64_t buffer_bytes;
};

static struct forward *of(const struct exchange *ex)
{
    return ex->user;
}

/* ---- the way up: request ---- */

static void on_body(struct exchange *ex, struct str bytes)
{
    struct forward *f = of(ex);
    if (!f->call)
        return;
    call_send(f->call, bytes);
    call_flush(f->call);
    if (call_pending(f->call) > f->buffer_bytes)
        exchange_pause_body(ex);
}

static void on_body_end(struct exchange *ex, int status)
{
    struct forward *f = of(ex);
    (void)status;
    if (!f->call)
        return;
    call_send_end(f->call);
    call_flush(f->call);
}

static const struct body_sink body_sink = {on_body, on_body_end};

static void on_call_drain(struct call *call)
{
    struct forward *f = call_user(call);
    exchange_resume_body(f->ex);
}

static bool is_replaced(const struct head_field *field, bool trusted)
{
    switch (field->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_EXPECT:
        return true;
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_PROTO:
    case FIELD_X_FORWARDED_HOST:
    case FIELD_X_REAL_IP:
    case FIELD_FORWARDED:
        return !trusted;
    default:
        return false;
    }
}

static struct http_header forwarded_for(struct exchange *ex, bool trusted)
{
    struct str peer = str_from(exchange_peer(ex));
    struct str before = head_get(ex->head, FIELD_X_FORWARDED_FOR);
    char *p = arena_alloc(ex->arena, before.len + peer.len + 3);
    struct str value = peer;
    if (trusted && before.len && p)
        value = (struct str){p, (size_t)sprintf(p, "%.*s, %.*s", STR_ARG(before), STR_ARG(peer))};
    return (struct http_header){STR("X-Forwarded-For"), value};
}

static size_t request_headers(struct exchange *ex, struct http_header *out)
{
    const struct head *head = ex->head;
    bool trusted =
        setting_number(&server_board(ex->server)->settings, SETTING_SERVER_TRUST_FORWARDED) != 0;
    size_t n = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *field = &head->fields[i];
        if (head_is_hop_by_hop(field) || is_replaced(field, trusted) ||
            (trusted && field->id == FIELD_X_FORWARDED_FOR))
            continue;
        out[n++] = (struct http_header){field->name, field->value};
    }
    out[n++] = forwarded_for(ex, trusted);
    if (!trusted || !head->first[FIELD_X_FORWARDED_PROTO])
        out[n++] = (struct http_header){STR("X-Forwarded-Proto"), exchange_is_secure(ex) ? STR("https") : STR("http")};
    if (head->host.len && (!trusted || !head->first[FIELD_X_FORWARDED_HOST]))
        out[n++] = (struct http_header){STR("X-Forwarded-Host"), head->host};
    if (!trusted || !head->first[FIELD_X_REAL_IP])
        out[n++] = (struct http_header){STR("X-Real-IP"), str_from(exchange_peer(ex))};
    return n;
}

/* ---- the way down: response ---- */

static void take_times(struct forward *f)
{
    const struct call_times *t = call_times(f->call);
    uint64_t *phase = f->ex->phase_ns;
    uint64_t begun = t->connected;
    phase[PHASE_CONNECT] = t->connected;
    if (t->first_byte)
        phase[PHASE_FIRST_BYTE] = t->first_byte - begun;
    else if (t->ended)
        phase[PHASE_FIRST_BYTE] = t->ended - begun;
    if (t->ended && t->first_byte)
        phase[PHASE_BODY] = t->ended - t->first_byte;
}

static void on_head(struct call *call, const struct head *head)
{
    struct forward *f = call_user(call);
    struct http_header headers[HEAD_FIELDS_MAX];
    size_t n = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *field = &head->fields[i];
        if (field->id == FIELD_SERVER_TIMING)
            server_timing_read(field->value, f->ex->phase_ns);
        if (!head_is_hop_by_hop(field) && field->id != FIELD_CONTENT_LENGTH)
            headers[n++] = (struct http_header){field->name, field->value};
    }
    bool bodiless = head->framing == FRAMING_NONE;
    int64_t length = head->has_content_length ? (int64_t)head->content_length : -1;
    if (bodiless && !head->has_content_length && f->ex->head->method_id != METHOD_HEAD &&
        head->status != 304)
        length = 0;
    struct answer answer = {
        .status = head->status,
        .reason = head->reason,
        .headers = headers,
        .header_count = n,
        .length = length,
    };
    exchange_begin(f->ex, &answer);
}

static void on_data(struct call *call, struct str bytes)
{
    struct forward *f = call_user(call);
    exchange_send(f->ex, bytes);
    if (exchange_pending(f->ex) > f->buffer_bytes)
        call_pause(call);
}

static void on_batch(struct call *call)
{
    struct forward *f = call_user(call);
    exchange_flush(f->ex);
}

static void on_exchange_drain(struct exchange *ex)
{
    struct forward *f = of(ex);
    if (f->call)
        call_resume(f->call);
}

static void on_end(struct call *call)
{
    struct forward *f = call_user(call);
    take_times(f);
    f->call = NULL;
    exchange_end(f->ex);
}

static void log_trouble(struct forward *f, struct upstream *u, const char *what)
{
    uint64_t now = f->ex->server ? server_io(f->ex->server)->now_ms : 0;
    if (now < u->logged_ms + LOG_EVERY_MS)
        return;
    u->logged_ms = now;
    log_line(LOG_ERROR, "upstream %s: %s (%.*s %.*s)", upstream_name(u), what,
             STR_ARG(f->ex->head->method), STR_ARG(f->ex->path));
}

static void on_error(struct call *call, int err, const char *what)
{
    struct forward *f = call_user(call);
    struct exchange *ex = f->ex;
    log_trouble(f, call_upstream(call), what);
    take_times(f);
    f->call = NULL;
    if (ex->answer == ANSWER_BEGUN) {
        exchange_abort(ex);
        return;
    }
    if (err == ERR_TIMEOUT)
        exchange_problem(ex, 504, "upstream_timeout", "the upstream did not answer in time", NULL, 0);
    else if (err == ERR_CONNECT || err == ERR_RESOLVE)
        exchange_problem(ex, 502, "upstream_unreachable", "the upstream cannot be reached", NULL, 0);
    else
        exchange_problem(ex, 502, "upstream_invalid", "the upstream gave no valid answer", NULL, 0);
}

static const struct call_events call_events = {on_head, on_data,  on_batch,
                                               on_end,  on_error, on_call_drain};

static void on_gone(struct exchange *ex)
{
    struct forward *f = of(ex);
    struct call *call = f->call;
    if (!call)
        return;
    f->call = NULL;
    call_cancel(call);
}

void forward_start(struct exchange *ex, const struct forward_opts *opts)
{
    struct forward *f = arena_alloc(ex->arena, sizeof *f);
    struct http_header headers[HEAD_FIELDS_MAX + EXTRA_HEADERS];
    if (!f) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    struct call_opts call = {
        .all = opts->all,
        .upstream = opts->upstream,
        .method = ex->head->method,
        .target = opts->target,
        .host = opts->host.len ? opts->host : ex->head->host,
        .headers = headers,
        .header_count = request_headers(ex, headers),
        .body = ex->head->framing,
        .body_length = ex->head->content_length,
        .timeout_ms = opts->timeout_ms,
        .events = &call_events,
        .user = f,
    };
    if (!call.host.len)
        call.host = str_from(upstream_name(opts->upstream));
    *f = (struct forward){.ex = ex};
    f->buffer_bytes = setting_integer(&server_board(ex->server)->settings,
                                      SETTING_UPSTREAM_BUFFER_BYTES);
    ex->user = f;
    ex->on_drain = on_exchange_drain;
    ex->on_gone = on_gone;
    f->call = call_new(&call);
    if (!f->call) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    if (exchange_has_body(ex))
        exchange_read_body(ex, &body_sink);
    if (of(ex) == f && f->call)
        call_flush(f->call);
}
