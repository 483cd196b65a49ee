/* stream.h - a TCP connection, with TLS or without, with an output buffer and back-pressure.
 *
 * Writes are gathered and handed to the kernel by stream_flush(): one
 * system call for everything said in one event. What the kernel does not take
 * waits in the buffer; stream_pending() tells how much, on_drain says when it
 * is gone.
 *
 * A stamped stream knows when its bytes arrived (see struct arrivals in io.h), not only when the loop came
 * to them: under load that is most of what a client waits for. Its socket, or
 * the listener that it was accepted from, has SO_TIMESTAMPNS on.
 *
 * Owner:   embedded in its connection, whose memory must live until on_closed.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "io/io.h"
#include "io/tls.h"

struct stream;
struct outgoing;

struct stream_events {
    /* Bytes in the shared read buffer, valid until return. */
    void (*on_read)(struct stream *s, struct str bytes);
    /* The peer ended its sending side (err 0), or the connection broke (err < 0). */
    void (*on_end)(struct stream *s, int err);
    /* The TLS handshake is done; NULL: nobody wants to know. */
    void (*on_secure)(struct stream *s);
    /* All that was written has been handed to the kernel. */
    void (*on_drain)(struct stream *s);
    /* The handle is gone: the memory may be freed now. */
    void (*on_closed)(struct stream *s);
};

struct stream {
    uv_tcp_t tcp;
    struct io *io;
    const struct stream_events *events;
    struct tls *tls;    /* NULL: plain */
    struct buf out;     /* not yet handed to libuv; with TLS: not yet sealed */
    struct buf wire;    /* with TLS: sealed, not yet handed to libuv */
    struct outgoing *sending; /* handed to libuv by uv_write; NULL: nothing */
    uint64_t bytes_written; /* taken by the kernel or handed to libuv */
    uint64_t arrived_ns;    /* when what was read last reached this machine; at most io->now_ns */
    int fd;                 /* private: of tcp; -1: not asked for yet */
    ssize_t got;            /* private: what on_alloc has read */
    bool asked;             /* private: by on_alloc, with the time it came */
    bool stamped;           /* owner may set after stream_init: the kernel stamps what arrives */
    bool reading;
    bool closing;
    bool broken; /* a write failed: nothing more goes out */
};

/* Takes over a connected or fresh socket; fd -1 makes none yet (for connect). */
int stream_init(struct stream *s, struct io *io, const struct stream_events *events, int fd);

/* Puts TLS below a stream that has not read or written yet; `name` as for
 * tls_new(). A client begins the handshake at once. What is written before its
 * end waits. Returns 0 or ERR_NOMEM. */
int stream_secure(struct stream *s, struct tls_context *context, const char *name);

/* Goes on without TLS after its handshake failed, to tell the peer so in plain words. */
void stream_expose(struct stream *s);

void stream_read_start(struct stream *s);
void stream_read_stop(struct stream *s);

/* Queues bytes (copied, or written straight through when many). */
void stream_write(struct stream *s, struct str bytes);

/* Hands what is queued to the kernel. */
void stream_flush_now(struct stream *s);
static inline void stream_flush(struct stream *s)
{
    if (s->tls || buf_len(&s->out))
        stream_flush_now(s);
}

/* Between requests an output buffer is lent to whoever writes next on the same
 * loop, so an idle connection holds none. */
void stream_lend(struct stream *s);   /* gives it away when it is empty */
void stream_borrow(struct stream *s); /* takes one, if there is one */

/* Bytes queued and not yet taken by the kernel. */
static inline size_t stream_pending(const struct stream *s)
{
    return buf_len(&s->out) + buf_len(&s->wire) + (s->sending ? s->tcp.write_queue_size : 0);
}

/* Ends the sending side once all is written (FIN); reading goes on. */
void stream_shutdown(struct stream *s);

/* Closes at once; `reset` sends RST, so that a cut answer is visibly cut. */
void stream_close(struct stream *s, bool reset);
