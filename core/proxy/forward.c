// SPDX-License-Identifier: MIT
#include "proxy/forward.h"

#include "base/err.h"
#include "base/log.h"
#include "http/trace.h"
#include "proxy/server_timing.h"
#include "proxy/websocket.h"

#include <stdio.h>

enum { EXTRA_HEADERS = 8 };

struct forward {
    struct exchange *ex;
    struct call *call; /* NULL before it begins and once it has ended */
    struct forward_opts opts;
    struct buf held;   /* the request body while it is gathered */
    bool holding;
    bool tunnel;       /* after a 101 */
    struct timer idle; /* of the tunnel */
    struct str websocket_key; /* p NULL: no tunnel is asked for */
    uint64_t buffer_bytes;
};

static struct forward *of(const struct exchange *ex)
{
    return ex->user;
}

static bool begin(struct forward *f, enum http_framing body, uint64_t length, bool whole_body);

/* ---- the way up: request ---- */

static uint64_t setting(const struct forward *f, enum setting_id id)
{
    return setting_integer(&server_board(f->ex->server)->settings, id);
}

/* What is gathered becomes the caller's. */
static struct buf stop_holding(struct forward *f)
{
    struct buf held = f->held;
    f->held = (struct buf){0};
    f->holding = false;
    return held;
}

/* Sends what was gathered; `whole`: there is no more of it. False: the exchange
 * has been answered and is gone. */
static bool let_go(struct forward *f, bool whole)
{
    struct buf held = stop_holding(f);
    struct upstream *upstream = f->opts.upstream;
    size_t len = buf_len(&held);
    bool ok = whole ? begin(f, len ? FRAMING_FIXED : FRAMING_NONE, len, true)
                    : begin(f, f->ex->head->framing, f->ex->head->content_length, false);
    if (ok)
        call_send(f->call, buf_str(&held));
    buf_done(&held);
    upstream_release(upstream);
    return ok;
}

static bool hold(struct forward *f, struct str bytes)
{
    buf_add_str(&f->held, bytes);
    if (buf_ok(&f->held))
        return buf_len(&f->held) <= setting(f, SETTING_UPSTREAM_BUFFER_REQUEST_BYTES) || let_go(f, false);
    struct buf held = stop_holding(f);
    upstream_release(f->opts.upstream);
    exchange_problem(f->ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
    buf_done(&held);
    return false;
}

static void on_body(struct exchange *ex, struct str bytes)
{
    struct forward *f = of(ex);
    if (f->holding) {
        hold(f, bytes);
        return;
    }
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
    if (f->holding && !let_go(f, true))
        return;
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

/* Our own span of the client's trace, or of a new one, which nobody samples
 * unless he wants to. `valid`: the client sent one to go on with. */
static struct http_header traceparent(struct exchange *ex, bool *valid)
{
    struct trace trace = {.flags = 0};
    char *text = arena_alloc(ex->arena, TRACEPARENT);
    *valid = trace_parse(head_get(ex->head, FIELD_TRACEPARENT), &trace);
    if (text)
        trace_write(text, exchange_trace(ex), server_random(ex->server) | 1, trace.flags);
    return (struct http_header){STR("traceparent"), {text, text ? TRACEPARENT : 0}};
}

static bool is_tracestate(const struct head_field *field)
{
    return field->name.len == 10 && str_iequal(field->name, STR("tracestate"));
}

static size_t request_headers(struct exchange *ex, struct http_header *out)
{
    const struct head *head = ex->head;
    bool traced = setting_number(&server_board(ex->server)->settings, SETTING_UPSTREAM_TRACE) != 0;
    bool goes_on = false;
    bool trusted =
        setting_number(&server_board(ex->server)->settings, SETTING_SERVER_TRUST_FORWARDED) != 0;
    size_t n = 0;
    if (traced)
        out[n++] = traceparent(ex, &goes_on);
    if (traced && !out[0].value.len)
        n = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *field = &head->fields[i];
        if (traced && (field->id == FIELD_TRACEPARENT || (!goes_on && is_tracestate(field))))
            continue;
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

/* ---- tunnels ---- */

static void tunnel_is_alive(struct forward *f)
{
    struct io *io = server_io(f->ex->server);
    wheel_set(&io->wheel, &f->idle, io->now_ms + setting(f, SETTING_UPSTREAM_TUNNEL_IDLE_MS));
}

static void on_tunnel_idle(struct timer *t)
{
    struct forward *f = (struct forward *)((char *)t - offsetof(struct forward, idle));
    struct call *call = f->call;
    f->call = NULL;
    call_cancel(call);
    exchange_end(f->ex);
}

static void on_tunnel_data(struct exchange *ex, struct str bytes)
{
    struct forward *f = of(ex);
    if (!f->call)
        return;
    tunnel_is_alive(f);
    call_send(f->call, bytes);
    call_flush(f->call);
    if (call_pending(f->call) > f->buffer_bytes)
        exchange_pause_body(ex);
}

static void on_tunnel_end(struct exchange *ex, int status)
{
    struct forward *f = of(ex);
    (void)status;
    if (f->call)
        call_shutdown(f->call);
}

static const struct body_sink tunnel_sink = {on_tunnel_data, on_tunnel_end};

static void begin_tunnel(struct forward *f, const struct http_header *headers, size_t n)
{
    struct answer answer = {.status = 101, .headers = headers, .header_count = n, .length = -1};
    take_times(f);
    f->idle.on_fire = on_tunnel_idle;
    f->tunnel = true;
    tunnel_is_alive(f);
    exchange_tunnel(f->ex, &answer, &tunnel_sink);
}

static void on_head(struct call *call, const struct head *head)
{
    struct forward *f = call_user(call);
    struct http_header headers[HEAD_FIELDS_MAX + 1];
    size_t n = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *field = &head->fields[i];
        if (field->id == FIELD_SERVER_TIMING)
            server_timing_read(field->value, f->ex->phase_ns);
        if (!head_is_hop_by_hop(field) && field->id != FIELD_CONTENT_LENGTH)
            headers[n++] = (struct http_header){field->name, field->value};
    }
    if (head->status == 101) {
        headers[n++] = (struct http_header){STR("Upgrade"), STR("websocket")};
        begin_tunnel(f, headers, n);
        return;
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
    if (f->tunnel)
        tunnel_is_alive(f);
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
    if (!f->tunnel)
        take_times(f);
    wheel_clear(&f->idle);
    f->call = NULL;
    exchange_end(f->ex);
}

/* RFC 9209: what went wrong between us and the upstream, in its words. */
static const char *proxy_status(const struct call *call, int err)
{
    switch (err) {
    case ERR_TIMEOUT:
        return call_was_sent(call) ? "perilune; error=http_response_timeout"
                                   : "perilune; error=connection_timeout";
    case ERR_CONNECT:
        return "perilune; error=connection_refused";
    case ERR_RESOLVE:
        return "perilune; error=dns_error";
    case ERR_TLS:
        return "perilune; error=tls_protocol_error";
    case ERR_BUSY:
        return "perilune; error=destination_unavailable";
    case ERR_CLOSED:
        return "perilune; error=connection_terminated";
    case ERR_NOMEM:
        return "perilune; error=proxy_internal_error";
    default:
        return "perilune; error=http_protocol_error";
    }
}

static void log_trouble(struct forward *f, struct call *call, const char *what)
{
    struct upstream *u = call_upstream(call);
    const struct peer *peer = call_peer(call);
    if (upstream_may_log(u))
        log_line(LOG_ERROR, "upstream %s, peer %s: %s (%.*s %.*s)", upstream_name(u),
                 peer ? peer_address(peer) : "(none)", what, STR_ARG(f->ex->head->method), STR_ARG(f->ex->path));
}

static void on_error(struct call *call, int err, const char *what)
{
    struct forward *f = call_user(call);
    struct exchange *ex = f->ex;
    struct http_header status = {STR("Proxy-Status"), str_from(proxy_status(call, err))};
    log_trouble(f, call, what);
    if (!f->tunnel)
        take_times(f);
    wheel_clear(&f->idle);
    f->call = NULL;
    if (ex->answer == ANSWER_BEGUN) {
        exchange_abort(ex);
        return;
    }
    if (err == ERR_TIMEOUT)
        exchange_problem(ex, 504, "upstream_timeout", "the upstream did not answer in time", &status, 1);
    else if (err == ERR_BUSY)
        exchange_problem(ex, 503, "upstream_drained", "no peer of the upstream takes requests", &status, 1);
    else if (err == ERR_CONNECT || err == ERR_RESOLVE || err == ERR_TLS)
        exchange_problem(ex, 502, "upstream_unreachable", "the upstream cannot be reached", &status, 1);
    else
        exchange_problem(ex, 502, "upstream_invalid", "the upstream gave no valid answer", &status, 1);
}

static const struct call_events call_events = {on_head, on_data,  on_batch,
                                               on_end,  on_error, on_call_drain};

static void on_gone(struct exchange *ex)
{
    struct forward *f = of(ex);
    struct call *call = f->call;
    if (f->holding) {
        struct buf held = stop_holding(f);
        buf_done(&held);
        upstream_release(f->opts.upstream);
    }
    wheel_clear(&f->idle);
    f->call = NULL;
    if (call)
        call_cancel(call);
}

/* ---- starting ---- */

static struct str cookie(const struct head *head, struct str name)
{
    for (unsigned i = 0; i < head->field_count; i++) {
        struct str rest = head->fields[i].value, pair;
        if (head->fields[i].id != FIELD_COOKIE)
            continue;
        while (str_next(&rest, ';', &pair))
            if (pair.len > name.len && pair.p[name.len] == '=' && str_starts(pair, name))
                return (struct str){pair.p + name.len + 1, pair.len - name.len - 1};
    }
    return (struct str){NULL, 0};
}

static struct str hash_key(const struct exchange *ex, const struct upstream_spec *spec)
{
    switch (spec->hash) {
    case HASH_HEADER:
        return head_find(ex->head, str_from(spec->hash_name));
    case HASH_COOKIE:
        return cookie(ex->head, str_from(spec->hash_name));
    case HASH_PATH:
        return ex->path;
    case HASH_ADDRESS:
        return str_from(exchange_peer(ex));
    default:
        return (struct str){NULL, 0};
    }
}

static bool begin(struct forward *f, enum http_framing body, uint64_t length, bool whole_body)
{
    struct exchange *ex = f->ex;
    struct http_header headers[HEAD_FIELDS_MAX + EXTRA_HEADERS];
    struct call_opts call = {
        .all = f->opts.all,
        .upstream = f->opts.upstream,
        .method = ex->head->method,
        .target = f->opts.target,
        .host = f->opts.host.len ? f->opts.host : ex->head->host,
        .headers = headers,
        .header_count = request_headers(ex, headers),
        .body = body,
        .body_length = length,
        .whole_body = whole_body,
        .timeout_ms = f->opts.timeout_ms,
        .websocket_key = f->websocket_key,
        .key = hash_key(ex, upstream_spec(f->opts.upstream)),
        .events = &call_events,
        .user = f,
    };
    if (!call.host.len)
        call.host = str_from(upstream_authority(f->opts.upstream));
    f->call = call_new(&call);
    if (f->call)
        return true;
    exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
    return false;
}

/* Whether the body is gathered before the upstream hears of the request. */
static bool is_held(const struct forward *f)
{
    const struct head *head = f->ex->head;
    if (head->framing == FRAMING_NONE ||
        !(f->opts.buffer_request || upstream_spec(f->opts.upstream)->buffer_request))
        return false;
    return head->framing == FRAMING_CHUNKED ||
           head->content_length <= setting(f, SETTING_UPSTREAM_BUFFER_REQUEST_BYTES);
}

/* False: the exchange has been answered. */
static bool judge_websocket(struct forward *f)
{
    static const struct http_header known[] = {{STR("Upgrade"), STR("websocket")},
                                               {STR("Sec-WebSocket-Version"), STR("13")}};
    struct websocket_refusal refusal;
    struct exchange *ex = f->ex;
    if (!ex->head->upgrade || !websocket_is_asked(ex->head))
        return true;
    if (!setting(f, SETTING_UPSTREAM_WEBSOCKET)) {
        exchange_problem(ex, 403, "websocket_disabled", "WebSockets are turned off here", NULL, 0);
        return false;
    }
    f->websocket_key = websocket_key(ex->head, &refusal);
    if (f->websocket_key.p)
        return true;
    ex->close_after = true; /* what follows may be meant for somebody else */
    exchange_problem(ex, refusal.status, "websocket_handshake", refusal.detail, known,
                     refusal.status == 426 ? 2 : 0);
    return false;
}

void forward_start(struct exchange *ex, const struct forward_opts *opts)
{
    struct forward *f = arena_alloc(ex->arena, sizeof *f);
    if (!f) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    *f = (struct forward){.ex = ex, .opts = *opts};
    f->buffer_bytes = setting(f, SETTING_UPSTREAM_BUFFER_BYTES);
    if (!judge_websocket(f))
        return;
    f->holding = is_held(f);
    ex->user = f;
    ex->on_drain = on_exchange_drain;
    ex->on_gone = on_gone;
    if (f->holding) /* a reload may drop it meanwhile */
        upstream_hold(opts->upstream);
    else if (!begin(f, ex->head->framing, ex->head->content_length, false))
        return;
    if (exchange_has_body(ex))
        exchange_read_body(ex, &body_sink);
    if (of(ex) == f && f->call)
        call_flush(f->call);
}
