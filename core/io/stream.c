// SPDX-License-Identifier: MIT
#include "io/stream.h"

#include "base/err.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { STRAIGHT_BYTES = 8 * 1024 }; /* from here on, skip the copy */

/* The stamp is wall clock, which may be set at any time: what it gives is kept
 * between the read before and now. */
static void note_arrival(struct stream *s, const struct msghdr *message)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(message);
    struct timespec stamp, wall;
    uint64_t before = s->arrived_ns;
    s->arrived_ns = s->io->now_ns;
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
        return;
    memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
    clock_gettime(CLOCK_REALTIME, &wall);
    int64_t age = (wall.tv_sec - stamp.tv_sec) * 1000000000LL + wall.tv_nsec - stamp.tv_nsec;
    if (age > 0 && s->io->now_ns - before > (uint64_t)age)
        s->arrived_ns = s->io->now_ns - (uint64_t)age;
}

static ssize_t receive(struct stream *s)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec into = {s->io->read_buffer, IO_READ_BYTES};
    struct msghdr message = {.msg_iov = &into,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd;
    ssize_t n;
    if (uv_fileno((uv_handle_t *)&s->tcp, &fd) < 0)
        return UV_EBADF;
    do
        n = recvmsg(fd, &message, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : UV_ECONNRESET;
    io_now(s->io);
    note_arrival(s, &message);
    return n > 0 ? n : UV_EOF;
}

/* libuv reads without ancillary data. So a stamped stream reads here, and tells
 * libuv that it has no buffer, which is how one declines a read: on_uv_read is
 * called with UV_ENOBUFS and nothing else happens. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct stream *s = handle->data;
    if (s->stamped)
        s->got = receive(s);
    *buf = uv_buf_init(s->io->read_buffer, s->stamped ? 0 : IO_READ_BYTES);
}

/* ---- TLS ---- */

/* Opens what has arrived and tells the owner, as if it had come in the clear. */
static void take_cipher(struct stream *s, struct str cipher)
{
    struct buf *plain = &s->io->plain;
    bool shaking = tls_state(s->tls) == TLS_SHAKING;
    enum tls_state state = tls_receive(s->tls, cipher, plain, &s->wire);
    if (shaking && (state == TLS_OPEN || state == TLS_ENDED) && s->events->on_secure)
        s->events->on_secure(s);
    stream_flush(s);
    if (!s->closing && buf_len(plain))
        s->events->on_read(s, buf_str(plain));
    buf_clear(plain);
    if (s->closing || state == TLS_SHAKING || state == TLS_OPEN)
        return;
    stream_read_stop(s);
    s->events->on_end(s, state == TLS_ENDED ? 0 : ERR_PROTOCOL);
}

/* Seals what waits to be written; false when the session broke. */
static bool seal(struct stream *s)
{
    if (tls_state(s->tls) == TLS_SHAKING || !buf_len(&s->out))
        return true;
    if (!tls_seal(s->tls, buf_str(&s->out), &s->wire))
        return false;
    s->bytes_written += buf_len(&s->out);
    buf_clear(&s->out);
    return true;
}

int stream_secure(struct stream *s, struct tls_context *context, const char *name)
{
    s->tls = tls_new(context, name);
    if (!s->tls)
        return ERR_NOMEM;
    if (name)
        tls_receive(s->tls, (struct str){NULL, 0}, &s->io->plain, &s->wire);
    stream_flush(s);
    return 0;
}

void stream_expose(struct stream *s)
{
    tls_free(s->tls);
    s->tls = NULL;
    buf_clear(&s->wire);
}

static void on_uv_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
    struct stream *s = handle->data;
    if (n == UV_ENOBUFS && s->stamped)
        n = s->got;
    else
        s->arrived_ns = io_now(s->io);
    if (n == 0)
        return;
    if (n > 0 && s->tls) {
        take_cipher(s, (struct str){buf->base, (size_t)n});
        return;
    }
    if (n > 0) {
        s->events->on_read(s, (struct str){buf->base, (size_t)n});
        return;
    }
    stream_read_stop(s);
    /* An end without close_notify may be somebody else's doing (RFC 8446 6.1). */
    s->events->on_end(s, n == UV_EOF && !s->tls ? 0 : ERR_CLOSED);
}

int stream_init(struct stream *s, struct io *io, const struct stream_events *events, int fd)
{
    memset(s, 0, sizeof *s);
    s->io = io;
    s->events = events;
    if (uv_tcp_init(&io->loop, &s->tcp) < 0)
        return ERR_NOMEM;
    s->tcp.data = s;
    if (fd >= 0 && uv_tcp_open(&s->tcp, fd) < 0) {
        close(fd);
        return ERR_IO;
    }
    return 0;
}

void stream_read_start(struct stream *s)
{
    if (s->reading || s->closing)
        return;
    if (uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_uv_read) == 0)
        s->reading = true;
}

void stream_read_stop(struct stream *s)
{
    if (!s->reading)
        return;
    uv_read_stop((uv_stream_t *)&s->tcp);
    s->reading = false;
}

size_t stream_pending(const struct stream *s)
{
    return buf_len(&s->out) + buf_len(&s->wire) + (s->writing ? s->tcp.write_queue_size : 0);
}

static void on_write_failed(struct stream *s)
{
    s->broken = true;
    buf_clear(&s->out);
    buf_clear(&s->wire);
}

static void on_uv_write(uv_write_t *write, int status)
{
    struct stream *s = write->data;
    s->writing = false;
    buf_clear(&s->sending);
    if (s->closing)
        return;
    io_now(s->io);
    if (status < 0) {
        on_write_failed(s);
        s->events->on_end(s, ERR_CLOSED);
        return;
    }
    stream_flush(s);
    if (!s->closing && !stream_pending(s))
        s->events->on_drain(s);
}

/* What is to be written next. */
static struct buf *queue_of(struct stream *s)
{
    return s->tls ? &s->wire : &s->out;
}

/* Writes the queue and `extra` as far as the kernel takes them at once. */
static size_t try_write(struct stream *s, struct str extra)
{
    uv_buf_t bufs[2];
    unsigned n = 0;
    struct buf *queue = queue_of(s);
    struct str queued = buf_str(queue);
    if (queued.len)
        bufs[n++] = uv_buf_init((char *)queued.p, (unsigned)queued.len);
    if (extra.len)
        bufs[n++] = uv_buf_init((char *)extra.p, (unsigned)extra.len);
    /* What uv_try_write() does, less its way there; nothing of ours is queued in libuv. */
    int fd;
    ssize_t wrote = -1;
    if (uv_fileno((uv_handle_t *)&s->tcp, &fd) == 0)
        do
            wrote = n == 1 ? write(fd, bufs[0].base, bufs[0].len) : writev(fd, (struct iovec *)bufs, (int)n);
        while (wrote < 0 && errno == EINTR);
    if (wrote < 0 && (errno == EAGAIN || errno == ENOBUFS))
        return 0;
    if (wrote < 0) {
        on_write_failed(s);
        return extra.len;
    }
    if (!s->tls)
        s->bytes_written += (size_t)wrote;
    size_t from_queue = (size_t)wrote < queued.len ? (size_t)wrote : queued.len;
    buf_consume(queue, from_queue);
    return (size_t)wrote - from_queue;
}

void stream_write(struct stream *s, struct str bytes)
{
    if (s->closing || s->broken)
        return;
    if (bytes.len >= STRAIGHT_BYTES && !s->writing && !s->tls) {
        size_t used = try_write(s, bytes);
        bytes.p += used;
        bytes.len -= used;
    }
    if (!s->broken && bytes.len)
        buf_add_str(&s->out, bytes);
}

void stream_flush(struct stream *s)
{
    struct buf *queue = queue_of(s);
    if (s->closing || s->broken)
        return;
    if (s->tls && !seal(s)) {
        on_write_failed(s);
        return;
    }
    if (s->writing || !buf_len(queue))
        return;
    try_write(s, (struct str){NULL, 0});
    size_t left = buf_len(queue);
    if (!left || s->broken)
        return;
    struct buf empty = s->sending;
    s->sending = *queue;
    *queue = empty;
    s->write.data = s;
    s->writing = true;
    if (!s->tls)
        s->bytes_written += left;
    uv_buf_t rest = uv_buf_init(s->sending.data + s->sending.start, (unsigned)left);
    if (uv_write(&s->write, (uv_stream_t *)&s->tcp, &rest, 1, on_uv_write) < 0) {
        s->writing = false;
        on_write_failed(s);
    }
}

static void end_tls(struct stream *s)
{
    if (!s->tls || s->broken)
        return;
    tls_end(s->tls, &s->wire);
    stream_flush(s);
}

void stream_shutdown(struct stream *s)
{
    int fd;
    if (s->closing || uv_fileno((uv_handle_t *)&s->tcp, &fd) < 0)
        return;
    end_tls(s);
    shutdown(fd, SHUT_WR);
}

static void on_uv_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    buf_done(&s->out);
    buf_done(&s->sending);
    buf_done(&s->wire);
    tls_free(s->tls);
    s->events->on_closed(s);
}

void stream_close(struct stream *s, bool reset)
{
    if (s->closing)
        return;
    if (!reset)
        end_tls(s);
    s->closing = true;
    s->reading = false;
    int fd;
    if (reset && uv_fileno((uv_handle_t *)&s->tcp, &fd) == 0) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    uv_close((uv_handle_t *)&s->tcp, on_uv_closed);
}
