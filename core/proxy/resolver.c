// SPDX-License-Identifier: MIT
#include "proxy/resolver.h"

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>

enum { TRIES = 2 };

struct socket {
    uv_poll_t poll;
    struct resolver *resolver;
    ares_socket_t fd;
    struct socket *next;
};

struct resolver {
    struct io *io;
    ares_channel channel;
    struct socket *sockets;
    struct timer retry; /* when c-ares wants to look at the clock */
};

struct question {
    resolver_fn *fn;
    void *arg;
    uint16_t port;
};

static void arm(struct resolver *r)
{
    struct timeval tv;
    if (!ares_timeout(r->channel, NULL, &tv)) {
        wheel_clear(&r->retry);
        return;
    }
    uint64_t ms = (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000;
    wheel_set(&r->io->wheel, &r->retry, r->io->now_ms + ms + 1);
}

static void on_retry(struct timer *t)
{
    struct resolver *r = (struct resolver *)((char *)t - offsetof(struct resolver, retry));
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm(r);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct socket *s = poll->data;
    struct resolver *r = s->resolver;
    ares_socket_t fd = s->fd; /* s may go */
    io_now(r->io);
    bool readable = status < 0 || (events & UV_READABLE), writable = status < 0 || (events & UV_WRITABLE);
    ares_process_fd(r->channel, readable ? fd : ARES_SOCKET_BAD, writable ? fd : ARES_SOCKET_BAD);
    arm(r);
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void forget_socket(struct resolver *r, struct socket *s)
{
    for (struct socket **at = &r->sockets; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    uv_poll_stop(&s->poll);
    uv_close((uv_handle_t *)&s->poll, on_poll_closed);
}

/* c-ares says what it waits for on a socket; nothing: it is about to close it. */
static void on_socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
    struct resolver *r = user;
    struct socket *s = r->sockets;
    while (s && s->fd != fd)
        s = s->next;
    if (!readable && !writable) {
        if (s)
            forget_socket(r, s);
        return;
    }
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s || uv_poll_init(&r->io->loop, &s->poll, fd) < 0) {
            free(s);
            return; /* it will time out */
        }
        s->poll.data = s;
        s->resolver = r;
        s->fd = fd;
        s->next = r->sockets;
        r->sockets = s;
    }
    uv_poll_start(&s->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0), on_poll);
}

struct resolver *resolver_new(struct io *io, const char *servers, uint64_t timeout_ms)
{
    struct resolver *r = calloc(1, sizeof *r);
    struct ares_options options = {.timeout = (int)timeout_ms,
                                   .tries = TRIES,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = r};
    if (!r)
        return NULL;
    r->io = io;
    r->retry.on_fire = on_retry;
    if (ares_init_options(&r->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB) !=
        ARES_SUCCESS) {
        free(r);
        return NULL;
    }
    if (*servers && ares_set_servers_ports_csv(r->channel, servers) != ARES_SUCCESS) {
        resolver_free(r);
        return NULL;
    }
    return r;
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    ares_destroy(r->channel);
    while (r->sockets)
        forget_socket(r, r->sockets);
    wheel_clear(&r->retry);
    free(r);
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons(port);
}

/* The first address is the best reachable one (RFC 6724); those of its family
 * are as good, the others may not be reachable at all. */
static int take(const struct ares_addrinfo *found, uint16_t port, struct sockaddr_storage *out, uint64_t *ttl_ms)
{
    int n = 0;
    *ttl_ms = UINT64_MAX;
    for (const struct ares_addrinfo_node *node = found->nodes; node && n < RESOLVED_MAX; node = node->ai_next) {
        if (node->ai_family != found->nodes->ai_family || node->ai_addrlen > sizeof *out)
            continue;
        memset(&out[n], 0, sizeof *out);
        memcpy(&out[n], node->ai_addr, node->ai_addrlen);
        set_port(&out[n++], port);
        uint64_t ttl = node->ai_ttl > 0 ? (uint64_t)node->ai_ttl * 1000 : 0;
        *ttl_ms = ttl < *ttl_ms ? ttl : *ttl_ms;
    }
    return n;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    struct question *q = arg;
    struct sockaddr_storage list[RESOLVED_MAX];
    uint64_t ttl_ms = 0;
    (void)timeouts;
    int n = status == ARES_SUCCESS && found && found->nodes ? take(found, q->port, list, &ttl_ms) : 0;
    if (found)
        ares_freeaddrinfo(found);
    if (n)
        q->fn(q->arg, list, n, ttl_ms, NULL);
    else
        q->fn(q->arg, NULL, -1, 0, status == ARES_SUCCESS ? "the name has no address" : ares_strerror(status));
    free(q);
}

void resolver_ask(struct resolver *r, const char *host, uint16_t port, resolver_fn *fn, void *arg)
{
    struct question *q = malloc(sizeof *q);
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (!q) {
        fn(arg, NULL, -1, 0, "out of memory");
        return;
    }
    *q = (struct question){fn, arg, port};
    ares_getaddrinfo(r->channel, host, NULL, &hints, on_answer, q);
    arm(r);
}
