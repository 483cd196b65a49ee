// SPDX-License-Identifier: MIT
#include "io/stream.h"

#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { STRAIGHT_BYTES = 8 * 1024 }; /* from here on, skip the copy */

/* What the kernel did not take at once. */
struct outgoing {
    uv_write_t write;
    struct stream *stream;
    struct buf bytes;
};

/* The C library's write() and recvmsg() may be cancelled with their thread, for which they pay 40 instructions each where
 * there are several threads. Ours never are. */
static ssize_t write_now(int fd, struct str bytes)
{
    return syscall(SYS_write, fd, bytes.p, bytes.len);
}

static ssize_t receive_message(int fd, struct msghdr *message)
{
    return syscall(SYS_recvmsg, fd, message, 0);
}

/* The stamp is wall clock, which may be set at any time: what it gives is kept
 * between the read before and now. */
static void note_arrival(struct stream *s, const struct msghdr *message)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(message);
    struct timespec stamp;
    uint64_t before = s->arrived_ns, now = s->io->now_ns;
    s->arrived_ns = now;
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
        return;
    memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
    int64_t at = stamp.tv_sec * 1000000000LL + stamp.tv_nsec - s->io->wall_ahead_ns;
    if (at > (int64_t)before && at < (int64_t)now)
        s->arrived_ns = (uint64_t)at;
    io_note_arrival(s->io, s->arrived_ns);
}

static inline int fd_of(struct stream *s)
{
    if (s->fd < 0 && uv_fileno((uv_handle_t *)&s->tcp, &s->fd) < 0)
        s->fd = -1;
    return s->fd;
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
    int fd = fd_of(s);
    ssize_t n;
    if (fd < 0)
        return UV_EBADF;
    do
        n = receive_message(fd, &message);
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
    s->asked = s->stamped && io_asks_arrival(s->io);
    if (s->asked)
        s->got = receive(s);
    *buf = uv_buf_init(s->io->read_buffer, s->asked ? 0 : IO_READ_BYTES);
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
    if (n == UV_ENOBUFS && s->asked) {
        n = s->got;
    } else {
        uint64_t now = io_now(s->io), estimate = s->stamped ? s->io->arrivals.estimate_ns : now;
        s->arrived_ns = estimate > s->arrived_ns ? estimate : now;
    }
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
    s->fd = -1;
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

static void on_write_failed(struct stream *s)
{
    s->broken = true;
    buf_clear(&s->out);
    buf_clear(&s->wire);
}

/* What is to be written next. */
static struct buf *queue_of(struct stream *s)
{
    return s->tls ? &s->wire : &s->out;
}

static void on_uv_write(uv_write_t *write, int status)
{
    struct outgoing *o = (struct outgoing *)write;
    struct stream *s = o->stream;
    struct buf *queue = queue_of(s);
    buf_clear(&o->bytes);
    if (!queue->data) {
        *queue = o->bytes;
        o->bytes = (struct buf){0};
    }
    buf_done(&o->bytes);
    free(o);
    s->sending = NULL;
    if (s->closing)
        return;
    io_now(s->io);
    if (status < 0) {
        on_write_failed(s);
        s->events->on_end(s, ERR_CLOSED);
        return;
    }
    stream_flush_now(s);
    if (!s->closing && !stream_pending(s))
        s->events->on_drain(s);
}

/* What the kernel takes at once of the queue and, behind it, `extra`. What
 * uv_try_write() does, less its way there; nothing of ours is queued in libuv. */
static ssize_t write_both(int fd, struct str queued, struct str extra)
{
    struct iovec both[2] = {{(void *)queued.p, queued.len}, {(void *)extra.p, extra.len}};
    return writev(fd, both, 2);
}

/* Writes the queue and `extra` as far as the kernel takes them. Bytes of
 * `extra` that are dealt with. */
static size_t try_write(struct stream *s, struct str extra)
{
    struct buf *queue = queue_of(s);
    struct str queued = buf_str(queue), one = queued.len ? queued : extra;
    int fd = fd_of(s);
    ssize_t wrote = -1;
    if (fd >= 0)
        do
            wrote = queued.len && extra.len ? write_both(fd, queued, extra) : write_now(fd, one);
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
    if (bytes.len >= STRAIGHT_BYTES && !s->sending && !s->tls) {
        size_t used = try_write(s, bytes);
        bytes.p += used;
        bytes.len -= used;
    }
    if (!s->broken && bytes.len)
        buf_add_str(&s->out, bytes);
}

/* Leaves what is queued to libuv. */
static void send_later(struct stream *s)
{
    struct buf *queue = queue_of(s);
    struct outgoing *o = malloc(sizeof *o);
    if (!o) {
        on_write_failed(s);
        return;
    }
    o->stream = s;
    o->bytes = *queue;
    *queue = (struct buf){0};
    size_t left = buf_len(&o->bytes);
    uv_buf_t rest = uv_buf_init(o->bytes.data + o->bytes.start, (unsigned)left);
    if (uv_write(&o->write, (uv_stream_t *)&s->tcp, &rest, 1, on_uv_write) < 0) {
        buf_done(&o->bytes);
        free(o);
        on_write_failed(s);
        return;
    }
    s->sending = o;
    if (!s->tls)
        s->bytes_written += left;
}

void stream_flush_now(struct stream *s)
{
    struct buf *queue = queue_of(s);
    if (s->closing || s->broken)
        return;
    if (s->tls && !seal(s)) {
        on_write_failed(s);
        return;
    }
    if (s->sending || !buf_len(queue))
        return;
    try_write(s, (struct str){NULL, 0});
    if (!s->broken && buf_len(queue))
        send_later(s);
}

void stream_lend(struct stream *s)
{
    struct io *io = s->io;
    if (!s->out.data || buf_len(&s->out) || s->out.failed)
        return;
    if (io->spare_count < IO_SPARE_BUFFERS)
        io->spare[io->spare_count++] = s->out;
    else
        free(s->out.data);
    s->out = (struct buf){0};
}

void stream_borrow(struct stream *s)
{
    struct io *io = s->io;
    if (!s->out.data && io->spare_count)
        s->out = io->spare[--io->spare_count];
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
    if (s->closing || fd_of(s) < 0)
        return;
    end_tls(s);
    shutdown(fd_of(s), SHUT_WR);
}

static void on_uv_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    buf_done(&s->out);
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
    if (reset && fd_of(s) >= 0) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd_of(s), SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    uv_close((uv_handle_t *)&s->tcp, on_uv_closed);
}
