// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEEP_BYTES = 64 * 1024 };

void buf_done(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

char *buf_grow(struct buf *b, size_t size)
{
    size_t len = buf_len(b);
    if (b->start && b->data) {
        memmove(b->data, b->data + b->start, len);
        b->start = 0;
        b->end = len;
        if (b->size - len >= size)
            return b->data + len;
    }
    size_t want = b->size ? b->size * 2 : 512;
    while (want - len < size)
        want *= 2;
    char *data = realloc(b->data, want);
    if (!data) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->size = want;
    return data + len;
}

void buf_add_u64(struct buf *b, uint64_t value)
{
    char text[20], *p = text + sizeof text;
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    buf_add(b, p, (size_t)(text + sizeof text - p));
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    char *to = buf_room(b, 128);
    int len = to ? vsnprintf(to, 128, format, args) : -1;
    if (len >= 128) {
        to = buf_room(b, (size_t)len + 1);
        len = to ? vsnprintf(to, (size_t)len + 1, format, again) : -1;
    }
    va_end(again);
    if (len > 0)
        b->end += (size_t)len;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

void buf_consume(struct buf *b, size_t len)
{
    b->start += len;
    if (b->start >= b->end)
        buf_clear(b);
}

void buf_clear(struct buf *b)
{
    b->start = b->end = 0;
    if (b->size > KEEP_BYTES)
        buf_done(b);
}
