// SPDX-License-Identifier: MIT
#include "proxy/call.h"

#include "base/err.h"
#include "base/log.h"
#include "proxy/attempt.h"
#include "proxy/balance.h"
#include "proxy/latency.h"
#include "proxy/websocket.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TRIED_MAX = UPSTREAM_RETRIES_LIMIT + 2,
    SPARE_MAX = 256,      /* calls kept for reuse */
    SPARE_BYTES = 4096,   /* of head that one may keep */
};

struct call {
    const struct call_events *events;
    void *user;
    struct upstreams *all;
    struct upstream *upstream;
    struct attempt own;       /* the first, and retries */
    struct attempt *hedge;    /* NULL without one */
    struct attempt *current;  /* whose response is shown, or will be */
    struct timer hedge_timer;
    struct call *next_failed; /* in all->failed, or all->spare */
    int failed_err;           /* 0: not in that list */
    const char *failed_why;
    struct peer *pinned;
    struct peer *tried[TRIED_MAX];
    unsigned tried_count;
    unsigned retries;
    enum http_method method;
    enum http_framing body;   /* of the request */
    uint64_t body_left;
    struct buf head;          /* of the request */
    struct buf queue;         /* its body, framed: what is not yet sent, or all of it */
    struct str key;
    char websocket_key[WEBSOCKET_KEY]; /* "" when no tunnel is asked for */
    struct call_times times;
    uint64_t began_ns;
    uint64_t timeout_ms;
    bool whole_body;          /* the queue keeps all */
    bool body_gone;           /* body bytes have been sent and are not kept */
    bool sent_all;            /* the request is complete */
    bool paused;
    bool stale_once;          /* a kept connection has failed us already */
    bool answered;
    bool sent;                /* the last attempt had sent something */
    bool tunnel;              /* after a 101: bytes both ways */
    bool shut;                /* our side of the tunnel is to be closed once all is sent */
    bool ending;
};

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

const struct peer *call_peer(const struct call *call)
{
    return call->tried_count ? call->tried[call->tried_count - 1] : NULL;
}

bool call_was_sent(const struct call *call)
{
    return call->sent;
}

static double share(const struct call *call, enum own_setting which)
{
    return upstream_number(call->upstream, which);
}

/* What the configuration gave the upstream is on the board as well, with what came after it. */
static uint64_t own_of(const struct call *call, enum own_setting which, int64_t configured)
{
    const struct upstream *u = call->upstream;
    return u->values || configured < 0 ? (uint64_t)(int64_t)upstream_number(u, which) : (uint64_t)configured;
}

/* ---- what attempts ask ---- */

struct tls_context *call_tls(const struct call *call)
{
    return call->upstream->tls;
}

struct str call_head_bytes(const struct call *call)
{
    return buf_str(&call->head);
}

struct str call_body_bytes(const struct call *call)
{
    return buf_str(&call->queue);
}

void call_body_taken(struct call *call)
{
    if (call->whole_body)
        return;
    call->body_gone = true;
    buf_done(&call->queue);
}

bool call_is_sent(const struct call *call)
{
    return call->sent_all;
}

bool call_is_paused(const struct call *call)
{
    return call->paused;
}

bool call_accepts_tunnel(const struct call *call, const struct head *head)
{
    return call->websocket_key[0] && websocket_is_accepted(head, call->websocket_key);
}

enum http_method call_method(const struct call *call)
{
    return call->method;
}

uint64_t call_age_ns(const struct call *call)
{
    return call->all->io->now_ns - call->began_ns;
}

uint64_t call_wait_ms(const struct call *call)
{
    uint64_t try_ms = own_of(call, OWN_TRY_TIMEOUT_MS, call->upstream->spec.try_timeout_ms);
    bool others = call->upstream->count > 1 && !call->pinned;
    return try_ms && others && try_ms < call->timeout_ms ? try_ms : call->timeout_ms;
}

/* ---- ends ---- */

static void forget_failure(struct call *call)
{
    for (struct call **at = &call->all->failed; *at; at = &(*at)->next_failed)
        if (*at == call) {
            *at = call->next_failed;
            return;
        }
}

/* A call with nothing in it but perhaps room for a head. */
static struct call *call_take(struct upstreams *all)
{
    struct call *call = all->spare;
    if (!call)
        return calloc(1, sizeof *call);
    struct buf head = call->head;
    all->spare = call->next_failed;
    all->spare_count--;
    memset(call, 0, sizeof *call);
    call->head = head;
    return call;
}

static void call_put(struct call *call, struct upstreams *all)
{
    if (!all || all->spare_count == SPARE_MAX || !buf_ok(&call->head) || call->head.size > SPARE_BYTES) {
        buf_done(&call->head);
        free(call);
        return;
    }
    buf_clear(&call->head);
    call->next_failed = all->spare;
    all->spare = call;
    all->spare_count++;
}

void calls_drop_spare(struct upstreams *all)
{
    while (all->spare) {
        struct call *call = all->spare;
        all->spare = call->next_failed;
        buf_done(&call->head);
        free(call);
    }
}

static void call_free(struct call *call)
{
    struct upstreams *all = call->all->ended ? NULL : call->all; /* it goes with its last peer then */
    attempt_cancel(&call->own);
    if (call->hedge)
        attempt_cancel(call->hedge);
    if (call->failed_err)
        forget_failure(call);
    wheel_clear(&call->hedge_timer);
    buf_done(&call->queue);
    for (unsigned i = 0; i < call->tried_count; i++)
        peer_release(call->tried[i]);
    upstream_release(call->upstream);
    free(call->hedge);
    call_put(call, all);
}

void call_cancel(struct call *call)
{
    if (!call->ending)
        call_free(call);
}

static void give_up(struct call *call, int err, const char *what)
{
    call->times.ended = call_age_ns(call);
    call->ending = true;
    call->events->on_error(call, err, what);
    call_free(call);
}

/* ---- attempts ---- */

static struct peer *choose(struct call *call, bool *probe)
{
    struct balance_choice choice = {.tried = call->tried,
                                    .tried_count = call->tried_count,
                                    .key = call->key,
                                    .may_probe = call->body == FRAMING_NONE || call->whole_body};
    *probe = false;
    if (call->pinned)
        return call->tried_count ? NULL : call->pinned;
    struct upstream *u = call->upstream;
    if (u->count == 1 && !call->tried_count) { /* nothing to weigh */
        struct peer *p = u->members[0].peer;
        enum peer_state state = peer_state(p, call->all->io->now_ms);
        *probe = state != PEER_READY && p->shared->breaker == BREAKER_OPEN;
        return state == PEER_DRAINING ? NULL : p;
    }
    return balance_choose(u, &choice, probe);
}

static void note_tried(struct call *call, struct peer *peer)
{
    peer_hold(peer);
    call->tried[call->tried_count++] = peer;
}

/* Starts the own attempt at a peer. 0, or why it could not begin. */
static int begin_at(struct call *call, struct peer *peer, bool probe, bool no_reuse, const char **why)
{
    call->current = &call->own;
    if (!no_reuse)
        note_tried(call, peer);
    return attempt_start(&call->own, call, peer, probe, no_reuse, why);
}

static bool is_idempotent(const struct call *call)
{
    switch (call->method) {
    case METHOD_GET:
    case METHOD_HEAD:
    case METHOD_OPTIONS:
    case METHOD_PUT:
    case METHOD_DELETE:
        return true;
    default:
        return false;
    }
}

/* Whether the same request can be sent once more. */
static bool is_repeatable(const struct call *call)
{
    return is_idempotent(call) && (call->body == FRAMING_NONE || (call->whole_body && call->sent_all));
}

static bool may_retry(struct call *call, bool sent)
{
    uint64_t most = own_of(call, OWN_RETRIES, call->upstream->spec.retries);
    return !call->answered && !call->pinned && call->tried_count && call->tried_count < TRIED_MAX &&
           call->retries < most && call->upstream->count > 1 &&
           (sent ? is_repeatable(call) : !call->body_gone);
}

static bool take_budget(struct call *call)
{
    return budget_take(&call->upstream->budget, call->all->io->now_ms,
                       share(call, OWN_BUDGET_SHARE),
                       setting_number(&call->all->board->settings, SETTING_UPSTREAM_BUDGET_FLOOR));
}

/* Goes on at another peer; false when that may not or cannot be. */
static bool retry(struct call *call, bool sent, const char *what)
{
    const char *why = what;
    while (may_retry(call, sent)) {
        bool probe;
        struct peer *before = call->tried[call->tried_count - 1], *peer = choose(call, &probe);
        if (!peer || !take_budget(call))
            return false;
        if (upstream_may_log(call->upstream))
            log_line(LOG_WARN, "upstream %s, peer %s: %s; asking %s instead", upstream_name(call->upstream),
                     peer_address(before), why, peer_address(peer));
        call->retries++;
        lane_add(&peer->lane->retries, 1);
        if (begin_at(call, peer, probe, false, &why) == 0)
            return true;
        peer_failed(peer, call->upstream, probe, false);
    }
    return false;
}

/* An attempt is over without a response; goes on with what is left. */
static void go_on(struct call *call, int err, const char *what, bool sent, bool stale)
{
    struct peer *peer = call->tried_count ? call->tried[call->tried_count - 1] : NULL;
    const char *why = what;
    call->sent = sent;
    if (stale && !call->stale_once && !call->answered && is_repeatable(call)) {
        call->stale_once = true;
        if (begin_at(call, peer, call->own.probe, true, &why) == 0)
            return;
        what = why;
    }
    if (!retry(call, sent, what))
        give_up(call, err, what);
}

/* ---- failures before the caller has its call ---- */

static void on_teller(uv_timer_t *timer)
{
    struct upstreams *all = timer->data;
    io_now(all->io);
    while (all->failed) {
        struct call *call = all->failed;
        int err = call->failed_err;
        all->failed = call->next_failed;
        call->failed_err = 0;
        go_on(call, err, call->failed_why, false, false);
    }
}

static bool tell_later(struct call *call, int err, const char *why)
{
    struct upstreams *all = call->all;
    if (!all->teller) {
        all->teller = calloc(1, sizeof *all->teller);
        if (!all->teller)
            return false;
        uv_timer_init(&all->io->loop, all->teller);
        all->teller->data = all;
    }
    call->failed_err = err;
    call->failed_why = why;
    call->next_failed = all->failed;
    all->failed = call;
    uv_timer_start(all->teller, on_teller, 0, 0);
    return true;
}

/* ---- hedging ---- */

static void drop_hedge(struct call *call)
{
    struct attempt *hedge = call->hedge;
    call->hedge = NULL;
    if (call->current == hedge)
        call->current = &call->own;
    attempt_cancel(hedge);
    free(hedge);
}

static void on_hedge_due(struct timer *t)
{
    struct call *call = (struct call *)((char *)t - offsetof(struct call, hedge_timer));
    struct upstream *u = call->upstream;
    const char *why;
    bool probe;
    if (call->answered || call->hedge || call->own.phase == ATTEMPT_OVER ||
        call->tried_count == TRIED_MAX || !is_repeatable(call))
        return;
    struct peer *peer = choose(call, &probe);
    if (!peer || probe ||
        !budget_take_hedge(&u->budget, call->all->io->now_ms, share(call, OWN_BUDGET_SHARE),
                           setting_number(&call->all->board->settings, SETTING_UPSTREAM_BUDGET_FLOOR),
                           share(call, OWN_HEDGE_SHARE)) ||
        !(call->hedge = malloc(sizeof *call->hedge)))
        return;
    lane_add(&peer->lane->hedges, 1);
    note_tried(call, peer);
    if (attempt_start(call->hedge, call, peer, false, false, &why) == 0)
        return;
    peer_failed(peer, u, false, false);
    free(call->hedge);
    call->hedge = NULL;
}

static void arm_hedge(struct call *call)
{
    struct upstream *u = call->upstream;
    if (!u->latencies || u->count < 2 || call->websocket_key[0] || !is_idempotent(call))
        return;
    uint64_t after = latencies_quantile_ms(u->latencies, u->spec.hedge);
    uint64_t least = own_of(call, OWN_HEDGE_MIN_MS, -1);
    call->hedge_timer.on_fire = on_hedge_due;
    if (after)
        wheel_set(&call->all->io->wheel, &call->hedge_timer,
                  call->all->io->now_ms + (after > least ? after : least));
}

/* ---- what attempts tell ---- */

void call_on_failure(struct attempt *a, int err, const char *what, bool stale)
{
    struct call *call = a->call;
    if (!stale && err != ERR_NOMEM && !call->pinned && !call->tunnel)
        peer_failed(a->peer, call->upstream, a->probe, a->sent);
    if (call->answered) {
        give_up(call, err, what);
        return;
    }
    if (a == call->hedge) {
        drop_hedge(call);
        if (call->own.phase == ATTEMPT_OVER)
            go_on(call, err, what, true, false);
        return;
    }
    if (call->hedge) {
        call->current = call->hedge; /* which has the word from here on */
        return;
    }
    go_on(call, err, what, a->sent, stale);
}

static bool is_retried_status(const struct call *call, int status)
{
    const struct upstream_spec *spec = &call->upstream->spec;
    return (status == 502 && spec->retry_502) || (status == 503 && spec->retry_503) ||
           (status == 504 && spec->retry_504);
}

/* Judges the peer by its answer. A quick refusal must not look attractive, so
 * its latency does not count. */
static void note_answer(struct call *call, struct attempt *a, int status)
{
    if (call->pinned)
        return;
    if (status >= 502 && status <= 504) {
        peer_failed(a->peer, call->upstream, a->probe, true);
        return;
    }
    peer_answered(a->peer, attempt_age_ns(a), a->probe);
    if (call->upstream->latencies)
        latencies_record(call->upstream->latencies, call_age_ns(call));
}

/* An answer that is not to be shown: true when another attempt goes on. */
static bool pass_over(struct call *call, struct attempt *a)
{
    if (call->hedge && call->own.phase != ATTEMPT_OVER && call->hedge->phase != ATTEMPT_OVER) {
        if (a == call->hedge) {
            drop_hedge(call);
        } else {
            attempt_cancel(a);
            call->current = call->hedge;
        }
        return true;
    }
    if (a == call->hedge || !may_retry(call, true))
        return false;
    bool probe;
    const char *why;
    struct peer *peer = choose(call, &probe);
    if (!peer || !take_budget(call))
        return false;
    attempt_cancel(a);
    call->retries++;
    lane_add(&peer->lane->retries, 1);
    int err = begin_at(call, peer, probe, false, &why);
    if (err < 0)
        go_on(call, err, why, false, false);
    return true;
}

void call_on_head(struct attempt *a, const struct head *head)
{
    struct call *call = a->call;
    note_answer(call, a, head->status);
    if (is_retried_status(call, head->status) && pass_over(call, a))
        return;
    call->answered = true;
    call->tunnel = a->tunnel;
    call->current = a;
    wheel_clear(&call->hedge_timer);
    if (a == call->hedge) {
        lane_add(&a->peer->lane->hedge_wins, 1);
        attempt_cancel(&call->own);
    } else if (call->hedge) {
        drop_hedge(call);
    }
    call->times.connected = a->connected_ns;
    call->times.first_byte = a->first_byte_ns;
    call->events->on_head(call, head);
}

void call_on_data(struct attempt *a, struct str bytes)
{
    a->call->events->on_data(a->call, bytes);
}

void call_on_batch(struct attempt *a)
{
    if (a->call->events->on_batch)
        a->call->events->on_batch(a->call);
}

void call_on_end(struct attempt *a)
{
    struct call *call = a->call;
    call->times.ended = call_age_ns(call);
    call->ending = true;
    call->events->on_end(call);
    call_free(call);
}

static void shut_when_sent(struct call *call)
{
    struct connection *c = call->current->connection;
    if (call->shut && c && !stream_pending(&c->stream))
        stream_shutdown(&c->stream);
}

void call_shutdown(struct call *call)
{
    call->shut = true;
    shut_when_sent(call);
}

void call_on_drain(struct attempt *a)
{
    shut_when_sent(a->call);
    if (a == a->call->current && a->call->events->on_drain)
        a->call->events->on_drain(a->call);
}

/* ---- sending ---- */

static void emit(struct call *call, struct str bytes)
{
    bool ready = attempt_is_ready(call->current);
    if (ready)
        attempt_send(call->current, bytes);
    if (!ready || call->whole_body)
        buf_add_str(&call->queue, bytes);
    else
        call->body_gone = true;
}

void call_send(struct call *call, struct str bytes)
{
    if (call->tunnel) {
        if (attempt_is_ready(call->current))
            attempt_send(call->current, bytes);
        return;
    }
    if (!bytes.len || call->sent_all || call->body == FRAMING_NONE)
        return;
    if (call->body == FRAMING_FIXED) {
        if (bytes.len > call->body_left)
            bytes.len = (size_t)call->body_left;
        call->body_left -= bytes.len;
        emit(call, bytes);
        return;
    }
    char size[24];
    emit(call, (struct str){size, (size_t)snprintf(size, sizeof size, "%zx\r\n", bytes.len)});
    emit(call, bytes);
    emit(call, STR("\r\n"));
}

void call_send_end(struct call *call)
{
    if (call->sent_all)
        return;
    if (call->body == FRAMING_CHUNKED)
        emit(call, STR("0\r\n\r\n"));
    call->sent_all = true;
    attempt_sent_all(call->current);
}

void call_flush(struct call *call)
{
    if (attempt_is_ready(call->current))
        stream_flush(&call->current->connection->stream);
}

size_t call_pending(const struct call *call)
{
    const struct connection *c = call->current->connection;
    return buf_len(&call->queue) + (c ? stream_pending(&c->stream) : 0);
}

void call_pause(struct call *call)
{
    call->paused = true;
    attempt_pause(call->current);
}

void call_resume(struct call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    attempt_resume(call->current);
}

/* ---- starting ---- */

/* Appends to a head; the caller made room. */
static inline char *put(char *to, struct str s)
{
    return s.len ? mempcpy(to, s.p, s.len) : to;
}

/* No head is longer. */
static size_t head_room(const struct call_opts *opts)
{
    size_t room = opts->method.len + opts->target.len + opts->host.len + 128;
    for (size_t i = 0; i < opts->header_count; i++)
        room += opts->headers[i].name.len + opts->headers[i].value.len + 4;
    return room;
}

static void render_head(struct call *call, const struct call_opts *opts)
{
    char *start = buf_room(&call->head, head_room(opts)), *to = start;
    if (!start)
        return; /* the buffer knows */
    to = put(put(put(to, opts->method), STR(" ")), opts->target);
    to = put(put(put(to, STR(" HTTP/1.1\r\nHost: ")), opts->host), STR("\r\n"));
    for (size_t i = 0; i < opts->header_count; i++) {
        const struct http_header *h = &opts->headers[i];
        to = put(put(put(put(to, h->name), STR(": ")), h->value), STR("\r\n"));
    }
    if (opts->websocket_key.p)
        to = put(to, STR("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    if (opts->body == FRAMING_CHUNKED)
        to = put(to, STR("Transfer-Encoding: chunked\r\n"));
    else if (opts->body == FRAMING_FIXED || call->method == METHOD_POST || call->method == METHOD_PUT)
        to += sprintf(to, "Content-Length: %llu\r\n", (unsigned long long)opts->body_length);
    to = put(to, STR("\r\n"));
    buf_wrote(&call->head, (size_t)(to - start));
}

struct call *call_new(const struct call_opts *opts)
{
    struct call *call = call_take(opts->all);
    if (!call)
        return NULL;
    call->events = opts->events;
    call->user = opts->user;
    call->all = opts->all;
    call->upstream = opts->upstream;
    upstream_hold(call->upstream);
    call->pinned = opts->peer;
    call->key = opts->key;
    if (opts->websocket_key.p)
        snprintf(call->websocket_key, sizeof call->websocket_key, "%.*s", STR_ARG(opts->websocket_key));
    call->method = head_method_id(opts->method);
    call->body = opts->body == FRAMING_EOF ? FRAMING_CHUNKED : opts->body;
    call->body_left = opts->body_length;
    call->whole_body = opts->whole_body;
    call->sent_all = call->body == FRAMING_NONE;
    call->began_ns = io_now(call->all->io);
    call->timeout_ms =
        opts->timeout_ms ? opts->timeout_ms : own_of(call, OWN_FIRST_BYTE_TIMEOUT_MS, -1);
    call->current = &call->own;
    render_head(call, opts);
    budget_request(&call->upstream->budget, call->all->io->now_ms);
    bool probe;
    const char *why = "no peer may be used: all are drained";
    struct peer *peer = choose(call, &probe);
    int err = peer ? begin_at(call, peer, probe, false, &why) : ERR_BUSY;
    if (err == 0) {
        arm_hedge(call);
        return call;
    }
    if (peer && err != ERR_NOMEM && !call->pinned)
        peer_failed(peer, call->upstream, probe, false);
    if (!buf_ok(&call->head) || !tell_later(call, err, why)) {
        call_free(call);
        return NULL;
    }
    return call;
}
