// SPDX-License-Identifier: MIT
#include "proxy/peer.h"

#include <stdio.h>
#include <stdlib.h>

static const struct stream_events peer_events;

const char *url_parse(struct str text, struct url *out)
{
    uint64_t port = 80;
    if (str_starts(text, STR("https://")))
        return "https:// upstreams are not supported by this version; use http://";
    if (!str_starts(text, STR("http://")))
        return "a URL begins with http://, like http://127.0.0.1:3000";
    struct str rest = {text.p + 7, text.len - 7};
    size_t end = 0;
    while (end < rest.len && !memchr("/?#", rest.p[end], 3))
        end++;
    out->authority = (struct str){rest.p, end};
    out->path = (struct str){rest.p + end, rest.len - end};
    struct str host = out->authority;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.p[i] <= ' ' || (unsigned char)text.p[i] >= 0x7f)
            return "a URL holds no blanks, control or non-ASCII characters";
    if (memchr(text.p, '#', text.len))
        return "a URL here holds no '#fragment'";
    if (memchr(host.p, '@', host.len))
        return "a URL here holds no user name or password";
    const char *colon = memrchr(host.p, ':', host.len);
    if (host.len && host.p[0] == '[') {
        const char *close = memchr(host.p, ']', host.len);
        if (!close)
            return "an IPv6 address needs its closing ']'";
        colon = close + 1 < host.p + host.len ? close + 1 : NULL;
        if (colon && *colon != ':')
            return "behind ']' comes ':' and a port, or nothing";
        out->host = (struct str){host.p + 1, (size_t)(close - host.p - 1)};
    } else {
        out->host = (struct str){host.p, colon ? (size_t)(colon - host.p) : host.len};
    }
    if (colon) {
        struct str digits = {colon + 1, (size_t)(host.p + host.len - colon - 1)};
        if (!str_to_u64(digits, &port) || port == 0 || port > 65535)
            return "a port is a number from 1 to 65535";
    }
    if (!out->host.len || out->host.len > 255)
        return "a URL needs a host name of 1 to 255 characters";
    out->port = (uint16_t)port;
    return NULL;
}

struct upstreams *upstreams_new(struct io *io, struct board *board)
{
    struct upstreams *all = calloc(1, sizeof *all);
    if (all) {
        all->io = io;
        all->board = board;
    }
    return all;
}

void upstreams_free(struct upstreams *all)
{
    for (struct upstream *u = all->first; u; u = u->next)
        while (u->idle.next != &u->idle)
            peer_close(u->idle.next, false);
    for (struct upstream *u = all->first, *next; u; u = next) {
        next = u->next;
        free(u->host);
        free(u);
    }
    free(all);
}

struct upstream *upstream_get(struct upstreams *all, struct str host, uint16_t port)
{
    for (struct upstream *u = all->first; u; u = u->next)
        if (u->port == port && str_equal(str_from(u->host), host))
            return u;
    struct upstream *u = calloc(1, sizeof *u);
    if (!u || !(u->host = strndup(host.p, host.len))) {
        free(u);
        return NULL;
    }
    u->all = all;
    u->port = port;
    u->idle.next = u->idle.prev = &u->idle;
    bool v6 = memchr(host.p, ':', host.len) != NULL;
    snprintf(u->name, sizeof u->name, v6 ? "[%.*s]:%u" : "%.*s:%u", STR_ARG(host), port);
    u->next = all->first;
    all->first = u;
    return u;
}

const char *upstream_name(const struct upstream *u)
{
    return u->name;
}

const char *upstream_trouble(const struct upstream *u)
{
    return u->trouble;
}

/* ---- idle connections ---- */

static void unlink_idle(struct peer *p)
{
    if (!p->next)
        return;
    p->next->prev = p->prev;
    p->prev->next = p->next;
    p->next = p->prev = NULL;
    p->upstream->idle_count--;
    wheel_clear(&p->expiry);
}

static void on_expiry(struct timer *t)
{
    peer_close((struct peer *)((char *)t - offsetof(struct peer, expiry)), false);
}

struct peer *peer_new(struct upstream *u)
{
    struct peer *p = calloc(1, sizeof *p);
    if (!p || stream_init(&p->stream, u->all->io, &peer_events, -1) < 0) {
        free(p);
        return NULL;
    }
    p->upstream = u;
    p->expiry.on_fire = on_expiry;
    return p;
}

struct peer *peer_take(struct upstream *u)
{
    struct peer *p = u->idle.next;
    if (p == &u->idle)
        return NULL;
    unlink_idle(p);
    p->reused = true;
    return p;
}

void peer_put(struct peer *p)
{
    struct upstream *u = p->upstream;
    const struct settings *settings = &u->all->board->settings;
    uint64_t keep_ms = setting_integer(settings, SETTING_UPSTREAM_KEEPALIVE_MS);
    p->call = NULL;
    if (!keep_ms || p->stream.broken ||
        u->idle_count >= setting_integer(settings, SETTING_UPSTREAM_KEEPALIVE_MAX)) {
        peer_close(p, false);
        return;
    }
    p->next = u->idle.next;
    p->prev = &u->idle;
    u->idle.next->prev = p;
    u->idle.next = p;
    u->idle_count++;
    stream_read_start(&p->stream);
    wheel_set(&u->all->io->wheel, &p->expiry, u->all->io->now_ms + keep_ms);
}

void peer_close(struct peer *p, bool reset)
{
    unlink_idle(p);
    p->call = NULL;
    stream_close(&p->stream, reset);
}

static void on_read(struct stream *stream, struct str bytes)
{
    struct peer *p = (struct peer *)stream;
    if (p->call)
        call_on_read(p->call, bytes);
    else
        peer_close(p, true); /* a response nobody asked for */
}

static void on_end(struct stream *stream, int err)
{
    struct peer *p = (struct peer *)stream;
    if (p->call)
        call_on_end(p->call, err);
    else
        peer_close(p, false);
}

static void on_drain(struct stream *stream)
{
    struct peer *p = (struct peer *)stream;
    if (p->call)
        call_on_drain(p->call);
}

static void on_closed(struct stream *stream)
{
    free((struct peer *)stream);
}

static const struct stream_events peer_events = {
    .on_read = on_read, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};
