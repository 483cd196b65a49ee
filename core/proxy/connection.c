// SPDX-License-Identifier: MIT
/* Connections to peers. Idle ones are read all the time, so that one which the
 * peer closes is dropped at once instead of being taken for the next request. */
#include "proxy/attempt.h"

#include <stdlib.h>

static const struct stream_events connection_events;

static void unlink_idle(struct connection *c)
{
    if (!c->next)
        return;
    c->next->prev = c->prev;
    c->prev->next = c->next;
    c->next = c->prev = NULL;
    c->peer->idle_count--;
    wheel_clear(&c->expiry);
}

static void on_expiry(struct timer *t)
{
    connection_close((struct connection *)((char *)t - offsetof(struct connection, expiry)), false);
}

struct connection *connection_new(struct peer *p)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c || stream_init(&c->stream, p->all->io, &connection_events, -1) < 0) {
        free(c);
        return NULL;
    }
    c->peer = p;
    peer_hold(p);
    c->expiry.on_fire = on_expiry;
    return c;
}

struct connection *connection_take(struct peer *p)
{
    struct connection *c = p->idle.next;
    if (c == &p->idle)
        return NULL;
    unlink_idle(c);
    c->reused = true;
    return c;
}

void connection_put(struct connection *c)
{
    struct peer *p = c->peer;
    uint64_t keep_ms = peer_setting(p, OWN_KEEPALIVE_MS);
    c->attempt = NULL;
    bool is_listed = p->references > p->idle_count + 1; /* by more than its connections */
    if (!keep_ms || !is_listed || c->stream.broken ||
        p->idle_count >= peer_setting(p, OWN_KEEPALIVE_MAX)) {
        connection_close(c, false);
        return;
    }
    c->next = p->idle.next;
    c->prev = &p->idle;
    p->idle.next->prev = c;
    p->idle.next = c;
    p->idle_count++;
    stream_read_start(&c->stream);
    wheel_set(&p->all->io->wheel, &c->expiry, p->all->io->now_ms + keep_ms);
}

void connection_close(struct connection *c, bool reset)
{
    unlink_idle(c);
    c->attempt = NULL;
    stream_close(&c->stream, reset);
}

static void on_read(struct stream *stream, struct str bytes)
{
    struct connection *c = (struct connection *)stream;
    if (c->attempt)
        attempt_on_read(c->attempt, bytes);
    else
        connection_close(c, true); /* a response nobody asked for */
}

static void on_end(struct stream *stream, int err)
{
    struct connection *c = (struct connection *)stream;
    if (c->attempt)
        attempt_on_end(c->attempt, err);
    else
        connection_close(c, false);
}

static void on_secure(struct stream *stream)
{
    struct connection *c = (struct connection *)stream;
    if (c->attempt)
        attempt_on_secure(c->attempt);
}

static void on_drain(struct stream *stream)
{
    struct connection *c = (struct connection *)stream;
    if (c->attempt)
        attempt_on_drain(c->attempt);
}

static void on_closed(struct stream *stream)
{
    struct connection *c = (struct connection *)stream;
    peer_release(c->peer);
    free(c);
}

static const struct stream_events connection_events = {
    .on_read = on_read, .on_secure = on_secure, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};
