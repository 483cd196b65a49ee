/* body.c - the chunked coding is read by a byte-wise state machine:
 *
 *     SIZE_FIRST > SIZE (> EXTENSION <> QUOTED <> ESCAPED) > SIZE_LF
 *         > DATA > DATA_CR > DATA_LF > SIZE_FIRST ...
 *         > TRAILER_START (> TRAILER_NAME > TRAILER_VALUE > TRAILER_LF)... > END_LF
 *
 * Only DATA is taken in runs. Every other byte counts as overhead, so a peer
 * cannot keep us busy with framing: the coding's cost stays in proportion to
 * its payload (Go CVE-2023-39326).
 *
 * Quotes in extensions are followed only to refuse a line that ends inside of
 * them (RFC 9112 7.1.1; Kestrel CVE-2025-55315).
 */
// SPDX-License-Identifier: MIT
#include "http/body.h"

#include "http/head_parts.h"

enum {
    SIZE_DIGITS_MAX = 16, /* as many as 64 bits hold */
    EXTENSION_BYTES_MAX = 4 * 1024,
    TRAILER_BYTES_MAX = 8 * 1024,
    OVERHEAD_ALLOWANCE = 16 * 1024,
};

enum state {
    SIZE_FIRST,
    SIZE,
    EXTENSION,
    QUOTED,
    ESCAPED,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
};

static void fail(struct body_reader *r, const char *why)
{
    if (!r->error)
        r->error = why;
}

/* Goes on to `next` if the byte is the wanted one. */
static void expect(struct body_reader *r, char c, char wanted, enum state next, const char *why)
{
    if (c != wanted)
        fail(r, why);
    r->state = (uint8_t)next;
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static void step_size(struct body_reader *r, char c)
{
    if (head_class(c, CLASS_HEX)) {
        if (++r->digits > SIZE_DIGITS_MAX)
            fail(r, "a chunk size has too many digits");
        r->left = r->left << 4 | hex_digit(c);
        r->state = SIZE;
    } else if (r->state == SIZE_FIRST) {
        fail(r, "a chunk does not begin with its size");
    } else if (c == ';') {
        r->extension_bytes++;
        r->state = EXTENSION;
    } else {
        expect(r, c, '\r', SIZE_LF, "a chunk size is followed by something else than CRLF or ;");
    }
}

static void step_extension(struct body_reader *r, char c)
{
    if (c == '\r' && r->state == EXTENSION) {
        r->state = SIZE_LF;
        return;
    }
    if (c == '\t' || head_class(c, CLASS_CONTROL))
        fail(r, "a chunk extension contains a control byte");
    if (++r->extension_bytes > EXTENSION_BYTES_MAX)
        fail(r, "the chunk extensions are too long");
    if (r->state == ESCAPED)
        r->state = QUOTED;
    else if (c == '"')
        r->state = r->state == QUOTED ? EXTENSION : QUOTED;
    else if (c == '\\' && r->state == QUOTED)
        r->state = ESCAPED;
}

static void step_trailer(struct body_reader *r, char c)
{
    if (++r->trailer_bytes > TRAILER_BYTES_MAX)
        fail(r, "the trailers are too long");
    switch (r->state) {
    case TRAILER_START:
        if (c == '\r') {
            r->state = END_LF;
            return;
        }
        r->state = TRAILER_NAME;
        if (!head_class(c, CLASS_TOKEN))
            fail(r, "a trailer does not begin with a name");
        return;
    case TRAILER_NAME:
        if (c == ':')
            r->state = TRAILER_VALUE;
        else if (!head_class(c, CLASS_TOKEN))
            fail(r, "a trailer's name is not a token followed by a colon");
        return;
    case TRAILER_VALUE:
        if (c == '\r')
            r->state = TRAILER_LF;
        else if (head_class(c, CLASS_CONTROL))
            fail(r, "a trailer contains a control byte");
        return;
    default:
        expect(r, c, '\n', TRAILER_START, "a trailer contains a CR without LF");
    }
}

static void start_chunk(struct body_reader *r)
{
    r->digits = 0;
    r->left = 0;
    r->state = SIZE_FIRST;
}

/* Takes one byte that is not payload. */
static void step(struct body_reader *r, char c)
{
    switch ((enum state)r->state) {
    case SIZE_FIRST:
    case SIZE:
        step_size(r, c);
        break;
    case EXTENSION:
    case QUOTED:
    case ESCAPED:
        step_extension(r, c);
        break;
    case SIZE_LF:
        expect(r, c, '\n', r->left ? DATA : TRAILER_START, "a chunk size ends in CR without LF");
        break;
    case DATA_CR:
        expect(r, c, '\r', DATA_LF, "a chunk is longer than its size");
        break;
    case DATA_LF:
        start_chunk(r);
        expect(r, c, '\n', SIZE_FIRST, "a chunk ends in CR without LF");
        break;
    case END_LF:
        expect(r, c, '\n', END_LF, "the body ends in CR without LF");
        r->done = !r->error;
        break;
    default:
        step_trailer(r, c);
    }
    if (++r->overhead_bytes > r->payload_bytes + OVERHEAD_ALLOWANCE)
        fail(r, "the chunks are more framing than payload");
    if (r->error)
        r->done = false;
}

static size_t take_payload(struct body_reader *r, const char *bytes, size_t len,
                           struct str *payload)
{
    size_t take = len < r->left ? len : (size_t)r->left;
    *payload = (struct str){bytes, take};
    r->left -= take;
    r->payload_bytes += take;
    return take;
}

/* One run of payload with the framing on both sides of it. */
static size_t feed_chunked(struct body_reader *r, const char *bytes, size_t len,
                           struct str *payload)
{
    size_t used = 0;
    while (used < len && !r->done && !r->error) {
        if (r->state != DATA) {
            step(r, bytes[used++]);
            continue;
        }
        if (payload->len)
            break;
        used += take_payload(r, bytes + used, len - used, payload);
        if (r->left == 0)
            r->state = DATA_CR;
    }
    return used;
}

void body_init(struct body_reader *r, enum http_framing framing, uint64_t content_length)
{
    *r = (struct body_reader){.framing = framing, .state = SIZE_FIRST};
    if (framing == FRAMING_FIXED)
        r->left = content_length;
    else if (framing == FRAMING_EOF)
        r->left = UINT64_MAX;
    r->done = framing == FRAMING_NONE || (framing == FRAMING_FIXED && !content_length);
}

size_t body_feed(struct body_reader *r, const char *bytes, size_t len, struct str *payload)
{
    *payload = (struct str){bytes, 0};
    if (r->done || r->error)
        return 0;
    if (r->framing == FRAMING_CHUNKED)
        return feed_chunked(r, bytes, len, payload);
    size_t used = take_payload(r, bytes, len, payload);
    if (r->framing == FRAMING_FIXED)
        r->done = r->left == 0;
    return used;
}

bool body_eof(struct body_reader *r)
{
    if (r->framing == FRAMING_EOF && !r->error)
        r->done = true;
    return r->done;
}
