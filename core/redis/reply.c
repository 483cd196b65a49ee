/* Replies: hiredis' reader tells what it has parsed, and that is written flat,
 * so that a reply is one run of bytes with a bound, whatever its shape.
 *
 * A value above the bound is not waited for. Its length is known before its
 * bytes: the reader is then given a nil in its place, and the bytes are passed by
 * without being kept, so that the replies behind it are not lost.
 */
// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include <hiredis/sds.h>

#include <stdio.h>
#include <stdlib.h>

enum { LINE_MAX_BYTES = 64 * 1024 /* a status, an error or a length */, LENGTH_DIGITS = 20 };

/* ---- what the reader calls; each returns something that is not NULL ---- */

static bool fits(struct redis_reply *r, size_t more)
{
    if (r->drop || r->too_large)
        return false;
    r->too_large = buf_len(&r->flat) + more > r->limit;
    if (r->too_large)
        buf_clear(&r->flat);
    return !r->too_large;
}

static void add_u32(struct buf *b, uint32_t value)
{
    buf_add(b, &value, sizeof value);
}

static void *on_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_reply *r = task->privdata;
    if (!fits(r, len + 5))
        return r;
    buf_add_char(&r->flat, task->type == REDIS_REPLY_STATUS ? '+' : task->type == REDIS_REPLY_ERROR ? '-' : '$');
    add_u32(&r->flat, (uint32_t)len);
    buf_add(&r->flat, text, len);
    return r;
}

static void *on_array(const redisReadTask *task, int count)
{
    struct redis_reply *r = task->privdata;
    if (!fits(r, 5))
        return r;
    buf_add_char(&r->flat, '*');
    add_u32(&r->flat, (uint32_t)count);
    return r;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    struct redis_reply *r = task->privdata;
    int64_t integer = value;
    if (!fits(r, 9))
        return r;
    buf_add_char(&r->flat, ':');
    buf_add(&r->flat, &integer, sizeof integer);
    return r;
}

static void *on_nil(const redisReadTask *task)
{
    struct redis_reply *r = task->privdata;
    if (r->oversize) {
        r->oversize = false;
        r->too_large = true;
        buf_clear(&r->flat);
    } else if (fits(r, 1)) {
        buf_add_char(&r->flat, '_');
    }
    return r;
}

static void on_free(void *object)
{
    (void)object; /* it is the struct redis_reply */
}

redisReader *reply_reader_new(struct redis_reply *reply)
{
    static redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, on_free};
    redisReader *reader = redisReaderCreateWithFunctions(&functions);
    if (reader)
        redisReaderSetPrivdata(reader, reply);
    return reader;
}

/* ---- taking ---- */

/* Length of the value whose head stands at the reader's position; -1: it does not
 * (yet), or is none that a reader accepts. The type has been read before it. */
static int64_t length_at(const redisReader *reader, size_t *head)
{
    struct str rest = {reader->buf + reader->pos, reader->len - reader->pos};
    size_t n = 0;
    int64_t value = 0;
    while (n < rest.len && n < LENGTH_DIGITS - 2 && rest.p[n] >= '0' && rest.p[n] <= '9')
        value = value * 10 + (rest.p[n++] - '0');
    if (!n || n + 1 >= rest.len || rest.p[n] != '\r' || rest.p[n + 1] != '\n')
        return -1;
    *head = n + 2;
    return value;
}

/* Puts a nil in the place of the value at the reader's position. */
static bool pass_by(redisReader *reader, struct redis_reply *reply, uint64_t *skip, int64_t length, size_t head)
{
    *skip = (uint64_t)length + 2 - (reader->len - reader->pos - head);
    sdssetlen(reader->buf, reader->pos);
    reader->len = reader->pos;
    reply->oversize = true;
    return redisReaderFeed(reader, "-1\r\n", 4) == REDIS_OK;
}

enum reply_result reply_take(redisReader *reader, struct redis_reply *reply, uint64_t *skip)
{
    void *object = NULL;
    if (redisReaderGetReply(reader, &object) != REDIS_OK)
        return REPLY_BROKEN;
    if (object)
        return REPLY_WHOLE;
    size_t waiting = reader->len - reader->pos, head = 0;
    if (reader->ridx < 0 || !waiting)
        return REPLY_NONE;
    if (reader->rstack[reader->ridx].type != REDIS_REPLY_STRING)
        return waiting > LINE_MAX_BYTES ? REPLY_BROKEN : REPLY_NONE;
    int64_t length = length_at(reader, &head);
    if (length < 0)
        return waiting > LENGTH_DIGITS ? REPLY_BROKEN : REPLY_NONE;
    /* What does not fit is not gathered; small ones are, even when nobody wants them. */
    bool wanted = !reply->drop && !reply->too_large;
    if ((uint64_t)length <= LINE_MAX_BYTES || (wanted && (uint64_t)length <= reply->limit) || waiting - head >= (uint64_t)length + 2)
        return REPLY_NONE;
    return pass_by(reader, reply, skip, length, head) ? REPLY_NONE : REPLY_BROKEN;
}

/* ---- reading what was written ---- */

bool redis_item_next(struct str *rest, struct redis_item *out)
{
    uint32_t n = 0;
    if (!rest->len)
        return false;
    *out = (struct redis_item){.type = rest->p[0]};
    *rest = (struct str){rest->p + 1, rest->len - 1};
    switch (out->type) {
    case '_':
        return true;
    case ':':
        if (rest->len < sizeof out->integer)
            return false;
        memcpy(&out->integer, rest->p, sizeof out->integer);
        *rest = (struct str){rest->p + sizeof out->integer, rest->len - sizeof out->integer};
        return true;
    default:
        break;
    }
    if (rest->len < sizeof n)
        return false;
    memcpy(&n, rest->p, sizeof n);
    *rest = (struct str){rest->p + sizeof n, rest->len - sizeof n};
    if (out->type == '*') {
        out->count = n;
        return true;
    }
    if (rest->len < n)
        return false;
    out->text = (struct str){rest->p, n};
    *rest = (struct str){rest->p + n, rest->len - n};
    return true;
}

void redis_split_error(struct str text, char code[REDIS_CODE], struct str *message)
{
    size_t n = 0;
    while (n < text.len && n < REDIS_CODE - 1 && ((text.p[n] >= 'A' && text.p[n] <= 'Z') || text.p[n] == '_' || (n && text.p[n] >= '0' && text.p[n] <= '9')))
        n++;
    bool has_code = n > 1 && (n == text.len || text.p[n] == ' ');
    snprintf(code, REDIS_CODE, "%.*s", has_code ? (int)n : 3, has_code ? text.p : "ERR");
    *message = has_code && n < text.len ? (struct str){text.p + n + 1, text.len - n - 1} : text;
}

/* ---- writing commands ---- */

static void add_number(struct buf *b, char mark, uint64_t value)
{
    char text[24], *p = text + sizeof text;
    *--p = '\n';
    *--p = '\r';
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    *--p = mark;
    buf_add(b, p, (size_t)(text + sizeof text - p));
}

void redis_add_head(struct buf *b, unsigned arguments)
{
    add_number(b, '*', arguments);
}

void redis_add_argument(struct buf *b, struct str argument)
{
    add_number(b, '$', argument.len);
    buf_add_str(b, argument);
    buf_add(b, "\r\n", 2);
}
