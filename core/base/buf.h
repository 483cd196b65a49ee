/* buf.h - a growing run of bytes, written at the end and read at the start.
 *
 * A failed allocation marks the buffer instead of failing each call: write
 * all, then ask once with buf_ok().
 *
 * Owner:   whoever holds the struct; ends with buf_done().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

#include <stdarg.h>

struct buf {
    char *data;    /* malloc'ed, or NULL */
    size_t start;  /* bytes before this are consumed */
    size_t end;    /* one past the last written byte */
    size_t size;   /* of data */
    bool failed;   /* an allocation failed; content is incomplete */
};

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->data + b->start, b->end - b->start};
}

static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

void buf_done(struct buf *b);

/* Makes room for `size` bytes and returns where they go, or NULL; claim what
 * was written with buf_wrote(). */
char *buf_grow(struct buf *b, size_t size); /* its slow path */
static inline char *buf_room(struct buf *b, size_t size)
{
    return b->data && b->size - b->end >= size ? b->data + b->end : buf_grow(b, size);
}

static inline void buf_wrote(struct buf *b, size_t size)
{
    b->end += size;
}

static inline void buf_add(struct buf *b, const void *bytes, size_t len)
{
    char *to = len ? buf_room(b, len) : NULL;
    if (!to)
        return;
    memcpy(to, bytes, len);
    b->end += len;
}

static inline void buf_add_str(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.len);
}

static inline void buf_add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_add_u64(struct buf *b, uint64_t value);
void buf_printf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args);

/* Drops bytes from the start. */
void buf_consume(struct buf *b, size_t len);

/* Forgets the content; memory above 64 KiB goes back. */
void buf_clear(struct buf *b);
