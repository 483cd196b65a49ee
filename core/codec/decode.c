/* Back to plain bytes, never more of them than the limits say: a kilobyte can
 * decode to a gigabyte. */
// SPDX-License-Identifier: MIT
#include "codec/codec.h"

#include "base/err.h"

#include <brotli/decode.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

enum {
    ROOM = 16 << 10,
    RATIO_FREE_BYTES = 64 << 10,
    ZSTD_WINDOW_BITS = 23, /* RFC 9659: what a decoder for HTTP must take, and no more */
};

struct codec_decoder {
    enum codec_id id;
    struct codec_limits limits;
    uint64_t in_bytes, out_bytes;
    bool done;
    z_stream zlib;
    ZSTD_DCtx *zstd;
    BrotliDecoderState *brotli;
};

struct codec_decoder *codec_decoder_new(enum codec_id id, const struct codec_limits *limits)
{
    struct codec_decoder *d = calloc(1, sizeof *d);
    bool open = false;
    if (!d)
        return NULL;
    d->id = id;
    d->limits = *limits;
    if (id == CODEC_GZIP || id == CODEC_DEFLATE)
        open = inflateInit2(&d->zlib, MAX_WBITS + (id == CODEC_GZIP ? 16 : 0)) == Z_OK;
    else if (id == CODEC_ZSTD)
        open = (d->zstd = ZSTD_createDCtx()) &&
               !ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_BITS));
    else if (id == CODEC_BROTLI)
        open = (d->brotli = BrotliDecoderCreateInstance(NULL, NULL, NULL));
    if (open)
        return d;
    codec_decoder_free(d);
    return NULL;
}

void codec_decoder_free(struct codec_decoder *d)
{
    if (!d)
        return;
    if (d->zlib.state)
        inflateEnd(&d->zlib);
    ZSTD_freeDCtx(d->zstd);
    if (d->brotli)
        BrotliDecoderDestroyInstance(d->brotli);
    free(d);
}

bool codec_decoder_done(const struct codec_decoder *d)
{
    return d->done;
}

/* Each decodes from *in into `size` bytes at `to`: sets `done` and *made, and
 * returns 0 or ERR_PROTOCOL. */

static int step_zlib(struct codec_decoder *d, struct str *in, char *to, size_t size, size_t *made)
{
    z_stream *z = &d->zlib;
    if (d->done) { /* a further gzip member, RFC 1952 2.2 */
        if (d->id != CODEC_GZIP)
            return ERR_PROTOCOL;
        inflateReset(z);
        d->done = false;
    }
    z->next_in = (Bytef *)in->p;
    z->avail_in = (uInt)in->len;
    z->next_out = (Bytef *)to;
    z->avail_out = (uInt)size;
    int status = inflate(z, Z_NO_FLUSH);
    d->done = status == Z_STREAM_END;
    *made = size - z->avail_out;
    *in = (struct str){(const char *)z->next_in, z->avail_in};
    return status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR ? 0 : ERR_PROTOCOL;
}

static int step_zstd(struct codec_decoder *d, struct str *in, char *to, size_t size, size_t *made)
{
    ZSTD_inBuffer from = {in->p, in->len, 0};
    ZSTD_outBuffer out = {to, size, 0};
    size_t status = ZSTD_decompressStream(d->zstd, &out, &from);
    if (ZSTD_isError(status))
        return ERR_PROTOCOL;
    d->done = status == 0;
    *made = out.pos;
    *in = (struct str){in->p + from.pos, in->len - from.pos};
    return 0;
}

static int step_brotli(struct codec_decoder *d, struct str *in, char *to, size_t size, size_t *made)
{
    const uint8_t *from = (const uint8_t *)in->p;
    uint8_t *out = (uint8_t *)to;
    size_t left = in->len, room = size;
    if (d->done)
        return ERR_PROTOCOL;
    BrotliDecoderResult result = BrotliDecoderDecompressStream(d->brotli, &left, &from, &room, &out, NULL);
    d->done = result == BROTLI_DECODER_RESULT_SUCCESS;
    *made = size - room;
    *in = (struct str){(const char *)from, left};
    return result == BROTLI_DECODER_RESULT_ERROR ? ERR_PROTOCOL : 0;
}

static int step(struct codec_decoder *d, struct str *in, char *to, size_t size, size_t *made)
{
    switch (d->id) {
    case CODEC_ZSTD:
        return step_zstd(d, in, to, size, made);
    case CODEC_BROTLI:
        return step_brotli(d, in, to, size, made);
    default:
        return step_zlib(d, in, to, size, made);
    }
}

static bool is_over(const struct codec_decoder *d)
{
    const struct codec_limits *l = &d->limits;
    return (l->max_bytes && d->out_bytes > l->max_bytes) ||
           (l->max_ratio && d->out_bytes > RATIO_FREE_BYTES && d->out_bytes / l->max_ratio > d->in_bytes);
}

int codec_decode(struct codec_decoder *d, struct str bytes, struct buf *out)
{
    struct str in = bytes;
    size_t made;
    if (!bytes.len)
        return 0;
    d->in_bytes += bytes.len;
    do { /* a full piece of output may have left more inside */
        char *to = buf_room(out, ROOM);
        if (!to)
            return ERR_NOMEM;
        made = 0;
        int err = step(d, &in, to, ROOM, &made);
        if (err)
            return err;
        d->out_bytes += made;
        buf_wrote(out, made);
        if (is_over(d))
            return ERR_TOO_LARGE;
    } while (in.len || (made == ROOM && !d->done));
    return 0;
}
