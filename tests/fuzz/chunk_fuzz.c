/* chunk_fuzz.c - the chunked coding: any cut gives the same payload and end,
 * and llhttp decodes what we accept to the same bytes.
 *
 * The first eight bytes of the input seed the cuts; the rest is the body.
 */
// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "http/body.h"

#include "llhttp.h"

#include <stdlib.h>

#define check(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum cut { WHOLE, BYTES, RANDOM };

struct reading {
    struct buf payload;
    size_t used;
    bool done, failed;
    bool decorated; /* with extensions or trailers */
};

static size_t piece_len(enum cut cut, uint64_t *seed, size_t rest)
{
    size_t len = rest;
    if (cut == BYTES)
        len = 1;
    else if (cut == RANDOM) {
        *seed = *seed * 6364136223846793005U + 1442695040888963407U; /* Knuth's MMIX */
        len = 1 + (*seed >> 33) % 17;
    }
    return len < rest ? len : rest;
}

/* Feeds one piece, from memory of its own, until it is used up. */
static size_t feed_piece(struct body_reader *r, struct reading *out, const char *bytes, size_t len)
{
    char *piece = memcpy(malloc(len), bytes, len);
    size_t at = 0;
    while (at < len && !r->done && !r->error) {
        struct str payload;
        size_t used = body_feed(r, piece + at, len - at, &payload);
        check(used <= len - at && payload.len <= used);
        check(used > 0);
        check(payload.p >= piece + at && payload.p + payload.len <= piece + at + used);
        buf_add_str(&out->payload, payload);
        at += used;
    }
    free(piece);
    return at;
}

static struct reading read_all(const char *bytes, size_t len, enum cut cut, uint64_t seed)
{
    struct reading out = {0};
    struct body_reader r;
    body_init(&r, FRAMING_CHUNKED, 0);
    while (out.used < len && !r.done && !r.error)
        out.used += feed_piece(&r, &out, bytes + out.used, piece_len(cut, &seed, len - out.used));
    check(r.payload_bytes == buf_len(&out.payload));
    check(r.payload_bytes + r.overhead_bytes == out.used);
    check(body_eof(&r) == r.done);
    check(!r.done || !r.error);
    out.done = r.done;
    out.failed = r.error != NULL;
    out.decorated = r.extension_bytes || r.trailer_bytes > 2;
    return out;
}

static bool begins_with(const struct buf *a, const struct buf *b)
{
    return buf_len(a) >= buf_len(b) && (!buf_len(b) || !memcmp(a->data, b->data, buf_len(b)));
}

static bool same_payload(const struct buf *a, const struct buf *b)
{
    return buf_len(a) == buf_len(b) && begins_with(a, b);
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    buf_add(parser->data, at, len);
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    return HPE_PAUSED;
}

static void compare_llhttp(const char *bytes, const struct reading *ours)
{
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const llhttp_settings_t settings = {.on_body = on_body,
                                               .on_message_complete = on_complete};
    struct buf payload = {0};
    llhttp_t parser;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &payload;
    check(llhttp_execute(&parser, head, sizeof head - 1) == HPE_OK);
    llhttp_errno_t verdict = llhttp_execute(&parser, bytes, ours->used);
    /* llhttp refuses some extensions and trailers that are none of its
     * business; that is no other reading of the payload */
    if (verdict == HPE_PAUSED)
        check(same_payload(&ours->payload, &payload));
    else
        check(verdict != HPE_OK && ours->decorated && begins_with(&ours->payload, &payload));
    buf_done(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t seed;
    if (size < sizeof seed)
        return 0;
    memcpy(&seed, data, sizeof seed);
    const char *bytes = (const char *)data + sizeof seed;
    size -= sizeof seed;
    struct reading whole = read_all(bytes, size, WHOLE, 0);
    for (enum cut cut = BYTES; cut <= RANDOM; cut++) {
        struct reading other = read_all(bytes, size, cut, seed);
        check(other.done == whole.done && other.failed == whole.failed && other.used == whole.used);
        check(same_payload(&other.payload, &whole.payload));
        buf_done(&other.payload);
    }
    if (whole.done)
        compare_llhttp(bytes, &whole);
    buf_done(&whole.payload);
    return 0;
}
