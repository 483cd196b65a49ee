/* attempt.h - one try of a call at one peer; inside of core/proxy only.
 *
 *     attempt_start > (an idle connection | resolve, connect) > head and body sent
 *         > call_on_head > call_on_data ... > call_on_end
 *                    any time: call_on_failure, or attempt_cancel
 *
 * The attempt tells its call, which decides what a failure means: a retry, the
 * end, or nothing because another attempt is under way.
 *
 * Owner:   its call. After call_on_end, call_on_failure or attempt_cancel() it
 *          is over and may be started again or freed.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/body.h"
#include "proxy/call.h"
#include "proxy/parts.h"

enum attempt_phase {
    ATTEMPT_OVER,
    ATTEMPT_RESOLVING,
    ATTEMPT_CONNECTING,
    ATTEMPT_WAITING, /* for the response head */
    ATTEMPT_BODY,
};

struct attempt {
    struct call *call;
    struct peer *peer;
    struct connection *connection; /* NULL while resolving */
    struct attempt *next_waiting;  /* for an address of the peer */
    unsigned addresses_tried;
    struct timer deadline;
    enum attempt_phase phase;
    struct buf in;                 /* response bytes not yet used */
    size_t head_seen;
    struct body_reader reader;
    uint64_t began_ns;
    uint64_t connected_ns;         /* since the call began; 0 on a reused connection */
    uint64_t first_byte_ns;        /* since the call began */
    unsigned interim;
    bool probe;                    /* its peer is ejected: the outcome decides */
    bool sent;                     /* bytes of the request have gone out */
    bool keep_alive;               /* what the response says */
    bool eof;
    bool tunnel;                   /* after a 101: bytes both ways */
    bool delivering;
    bool no_reuse;                 /* only a new connection will do */
    bool *gone;                    /* set when it is over while somebody delivers */
};

/* Returns 0, or ERR_* when it cannot even begin; then it is over. */
int attempt_start(struct attempt *a, struct call *call, struct peer *peer, bool probe, bool no_reuse,
                  const char **why);

/* Ends it without a word: what has not come is not wanted any more. */
void attempt_cancel(struct attempt *a);

/* More of the request may have been queued by the call. */
void attempt_send(struct attempt *a, struct str bytes);
void attempt_sent_all(struct attempt *a);
bool attempt_is_ready(const struct attempt *a); /* connected: bytes can be sent */

void attempt_pause(struct attempt *a);
void attempt_resume(struct attempt *a);

/* Since it began. */
uint64_t attempt_age_ns(const struct attempt *a);

/* ---- what an attempt tells its call (call.c) ---- */

void call_on_head(struct attempt *a, const struct head *head);
void call_on_data(struct attempt *a, struct str bytes);
void call_on_batch(struct attempt *a);
void call_on_end(struct attempt *a);
void call_on_failure(struct attempt *a, int err, const char *what, bool stale);
void call_on_drain(struct attempt *a);

/* ---- what it asks its call ---- */

struct tls_context *call_tls(const struct call *call);
struct str call_head_bytes(const struct call *call);
/* Framed bytes of the body to send on a new connection; then they may be dropped. */
struct str call_body_bytes(const struct call *call);
void call_body_taken(struct call *call);
bool call_is_sent(const struct call *call);
bool call_is_paused(const struct call *call);
bool call_accepts_tunnel(const struct call *call, const struct head *head);
uint64_t call_wait_ms(const struct call *call); /* for a response head, from now */
uint64_t call_age_ns(const struct call *call);
enum http_method call_method(const struct call *call);

/* ---- events of a busy connection ---- */

void attempt_on_read(struct attempt *a, struct str bytes);
/* The peer has addresses now, or there are none, and why. */
void attempt_on_resolved(struct attempt *a, const char *why_not);
void attempt_on_secure(struct attempt *a);
void attempt_on_end(struct attempt *a, int err);
void attempt_on_drain(struct attempt *a);
