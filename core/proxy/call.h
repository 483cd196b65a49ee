/* call.h - one HTTP/1.1 request to an upstream and its response, streamed.
 *
 *     call_new > (resolve, connect | an idle connection) > head sent
 *         > call_send ... call_send_end > on_head > on_data ... > on_end
 *                                   any time: on_error, or call_cancel
 *
 * A call makes attempts, one or more, and shows the first that is answered:
 *   stale   a kept connection had just been closed by the peer: once more at the
 *           same peer, on a new one
 *   retry   a peer cannot be reached, breaks off, takes too long, or (if so
 *           configured) answers 502, 503 or 504: at another peer
 *   hedge   no answer by the time most have come: one at another peer besides
 * All of that only before any byte of a response, only if the request is
 * idempotent and its body, if any, is still at hand (RFC 9110 9.2.2); but what
 * was never sent may always go elsewhere. Retries and hedges are bounded by
 * the upstream's budget.
 *
 * Owner:   the call ends itself: after on_end, on_error or call_cancel() it is
 *          gone and no further event comes.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/server.h"
#include "proxy/upstream.h"

struct call;

struct call_events {
    /* The head of the final response; views are valid during the call. */
    void (*on_head)(struct call *call, const struct head *head);
    void (*on_data)(struct call *call, struct str bytes);
    /* What has arrived in one event has been delivered: time to flush. */
    void (*on_batch)(struct call *call);
    void (*on_end)(struct call *call);
    /* err is one of ERR_*; `what` a sentence for the log. */
    void (*on_error)(struct call *call, int err, const char *what);
    /* The request queue is empty again. */
    void (*on_drain)(struct call *call);
};

struct call_opts {
    struct upstreams *all;
    struct upstream *upstream;
    struct str method;
    struct str target;                 /* path and query */
    struct str host;                   /* value of Host */
    const struct http_header *headers; /* judged by the caller; no framing fields, no Host */
    size_t header_count;
    enum http_framing body;            /* NONE, FIXED or CHUNKED */
    uint64_t body_length;              /* FIXED: bytes that call_send() will get */
    bool whole_body;                   /* all of it is sent before the loop goes on, and kept */
    uint64_t timeout_ms;               /* to the first byte; 0: the setting */
    struct str key;                    /* of BALANCE_HASH, outlives the call; p NULL: none */
    struct str websocket_key;          /* asks for a tunnel, see websocket.h; p NULL: no */
    struct peer *peer;                 /* only this one, whatever its state; NULL: as balanced */
    const struct call_events *events;
    void *user;
};

/* Times in ns since the call began, 0 while unknown. */
struct call_times {
    uint64_t connected; /* 0 on a reused connection */
    uint64_t first_byte;
    uint64_t ended;
};

/* Starts a call; events come later, never from inside. NULL without memory. */
struct call *call_new(const struct call_opts *opts);
void *call_user(const struct call *call);
const struct call_times *call_times(const struct call *call);
struct upstream *call_upstream(const struct call *call);

/* The peer of the last attempt, NULL when there was none; valid during an event. */
const struct peer *call_peer(const struct call *call);

/* Whether the attempt that failed last had been connected; for on_error. */
bool call_was_sent(const struct call *call);

/* Sends body bytes (framed here); then call_send_end() once. */
void call_send(struct call *call, struct str bytes);
void call_send_end(struct call *call);
void call_flush(struct call *call);

/* After on_head with 101, call_send() sends bytes as they are; this says that no
 * more will come. */
void call_shutdown(struct call *call);

/* Bytes of the request not yet taken by the kernel. */
size_t call_pending(const struct call *call);

/* Stops and restarts reading the response. */
void call_pause(struct call *call);
void call_resume(struct call *call);

/* Ends the call now: its connection is closed unless it was complete. */
void call_cancel(struct call *call);
