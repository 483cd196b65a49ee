// SPDX-License-Identifier: MIT
#include "http/decode.h"

#include "base/err.h"
#include "codec/codec.h"
#include "http/filter.h"

#include <stdio.h>

struct decode {
    struct ending ending;
    struct codec_decoder *decoder;
    struct buf plain;
    bool any; /* a body of no byte has no coding either */
};

static void over(struct exchange *ex, struct ending *ending)
{
    struct decode *d = (struct decode *)ending;
    (void)ex;
    codec_decoder_free(d->decoder);
    buf_done(&d->plain);
}

static void refuse(struct exchange *ex, struct str coding)
{
    struct http_header takes = {STR("Accept-Encoding"), STR("gzip, deflate, zstd, br")};
    char why[160];
    int len = (int)(coding.len < 40 ? coding.len : 40);
    bool plain = true;
    for (int i = 0; i < len; i++) /* goes into a JSON string */
        plain = plain && coding.p[i] > ' ' && coding.p[i] < 127 && coding.p[i] != '"' && coding.p[i] != '\\';
    if (plain && len)
        snprintf(why, sizeof why, "the body's Content-Encoding '%.*s' is not known here, see Accept-Encoding", len, coding.p);
    else
        snprintf(why, sizeof why, "the body has more than one Content-Encoding, or a strange one; see Accept-Encoding");
    exchange_problem(ex, 415, "coding_unknown", why, &takes, 1);
}

/* The head of the plain body, whose length nobody knows yet. */
static const struct head *plain_head(struct exchange *ex)
{
    const struct head *from = ex->head;
    struct head *to = arena_alloc(ex->arena, sizeof *to);
    if (!to)
        return NULL;
    memcpy(to, from, offsetof(struct head, fields));
    memset(to->first, 0, sizeof to->first);
    to->field_count = 0;
    to->framing = FRAMING_CHUNKED;
    to->has_content_length = false;
    to->content_length = 0;
    for (unsigned i = 0; i < from->field_count; i++) {
        const struct head_field *f = &from->fields[i];
        if (f->id == FIELD_CONTENT_ENCODING || f->id == FIELD_CONTENT_LENGTH)
            continue;
        if (!to->first[f->id])
            to->first[f->id] = (unsigned char)(to->field_count + 1);
        to->fields[to->field_count++] = *f;
    }
    return to;
}

static unsigned codings(const struct head *head)
{
    unsigned n = 0;
    for (unsigned i = 0; i < head->field_count; i++)
        n += head->fields[i].id == FIELD_CONTENT_ENCODING;
    return n;
}

bool decode_request(struct exchange *ex)
{
    const struct settings *settings = &server_board(ex->server)->settings;
    struct codec_limits limits = {
        .max_bytes = setting_integer(settings, SETTING_SERVER_BODY_BYTES),
        .max_ratio = (unsigned)setting_integer(settings, SETTING_COMPRESSION_DECODE_RATIO),
    };
    struct str name = head_get(ex->head, FIELD_CONTENT_ENCODING);
    enum codec_id id = codec_from_name(name);
    if (ex->head->framing == FRAMING_NONE || (codings(ex->head) == 1 && id == CODEC_IDENTITY))
        return true;
    if (codings(ex->head) != 1 || id == CODEC_COUNT) {
        refuse(ex, codings(ex->head) == 1 ? name : (struct str){NULL, 0});
        return false;
    }
    struct decode *d = arena_alloc(ex->arena, sizeof *d);
    const struct head *head = plain_head(ex);
    struct codec_decoder *decoder = d && head ? codec_decoder_new(id, &limits) : NULL;
    if (!decoder) {
        exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return false;
    }
    *d = (struct decode){.ending = {.run = over}, .decoder = decoder};
    exchange_on_end(ex, &d->ending);
    ex->decode = d;
    ex->head = head;
    return true;
}

int decode_piece(struct exchange *ex, struct str bytes, bool end, struct str *plain, const char **what)
{
    struct decode *d = ex->decode;
    buf_clear(&d->plain);
    d->any = d->any || bytes.len;
    switch (codec_decode(d->decoder, bytes, &d->plain)) {
    case 0:
        break;
    case ERR_TOO_LARGE:
        *what = "the decoded request body is too large";
        return 413;
    case ERR_PROTOCOL:
        *what = "the request body is not what its Content-Encoding says";
        return 400;
    default:
        *what = "the server is out of memory";
        return 503;
    }
    if (end && d->any && !codec_decoder_done(d->decoder)) {
        *what = "the request body ends before its Content-Encoding does";
        return 400;
    }
    *plain = buf_str(&d->plain);
    return 0;
}
