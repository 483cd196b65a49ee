/* Streams: a context of their own each, with a window that is bounded whatever
 * the level, because one slow client holds it for as long as it likes.
 *
 * gzip holds 0.08 to 0.22 MB with ISA-L and 0.27 MB with zlib (small: 40 KB),
 * zstd 1 MB (small: 0.15 MB), brotli 0.4 to 3 MB (small: 0.1 MB at quality 1).
 */
// SPDX-License-Identifier: MIT
#include "codec/codec.h"

#include "base/err.h"

#include <brotli/encode.h>
#include <isa-l/igzip_lib.h>
#include <malloc.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

enum {
    ISAL_LEVELS = 3,
    ROOM = 16 << 10,   /* output is made in pieces of this */
    WINDOW_BITS = 17,  /* of zstd and brotli */
    SMALL_BITS = 14,
    SMALL_ZLIB_BITS = 12,
    SMALL_ZLIB_MEMORY = 5,
    ZLIB_MEMORY = 8,
    TABLE_BITS = 16,   /* of zstd's hash tables */
    SMALL_TABLE_BITS = 12,
    BROTLI_QUALITY = 6, /* denser ones hold 10 MB and more */
    BROTLI_HINT = 64 << 10, /* chooses smaller tables than "unknown" */
};

enum engine { ENGINE_ISAL, ENGINE_ZLIB, ENGINE_ZSTD, ENGINE_BROTLI };

struct codec_stream {
    enum engine engine;
    size_t bytes;
    bool fed; /* something was written since the last flush */
    struct isal_zstream *isal;
    z_stream zlib;
    ZSTD_CCtx *zstd;
    BrotliEncoderState *brotli;
};

/* ---- making ---- */

static bool open_isal(struct codec_stream *s, const struct codec_stream_opts *opts)
{
    uint32_t buffer = !opts->level ? 0 : opts->level == 1 ? ISAL_DEF_LVL1_SMALL : ISAL_DEF_LVL2_SMALL;
    struct isal_zstream *z = s->isal = malloc(sizeof *z + buffer);
    if (!z)
        return false;
    isal_deflate_init(z);
    z->level = (uint32_t)opts->level;
    z->level_buf = buffer ? (uint8_t *)(z + 1) : NULL;
    z->level_buf_size = buffer;
    z->gzip_flag = opts->id == CODEC_GZIP ? IGZIP_GZIP : IGZIP_ZLIB;
    s->bytes += sizeof *z + buffer;
    return true;
}

static bool open_zlib(struct codec_stream *s, const struct codec_stream_opts *opts)
{
    int level = opts->level < 1 ? 1 : opts->level > 9 ? 9 : opts->level;
    int bits = opts->small ? SMALL_ZLIB_BITS : MAX_WBITS;
    int memory = opts->small ? SMALL_ZLIB_MEMORY : ZLIB_MEMORY;
    s->bytes += (1U << (bits + 2)) + (1U << (memory + 9)) + 6000; /* zconf.h */
    return deflateInit2(&s->zlib, level, Z_DEFLATED, bits + (opts->id == CODEC_GZIP ? 16 : 0), memory,
                        Z_DEFAULT_STRATEGY) == Z_OK;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The window that holds a body of known size, at most `bits`. */
static int window_of(const struct codec_stream_opts *opts, int bits)
{
    int fitted = BROTLI_MIN_WINDOW_BITS;
    if (!opts->size_bytes)
        return bits;
    while (fitted < bits && (1ULL << fitted) < opts->size_bytes + 16)
        fitted++;
    return fitted;
}

static bool open_zstd(struct codec_stream *s, const struct codec_stream_opts *opts)
{
    int bits = window_of(opts, opts->small ? SMALL_BITS : WINDOW_BITS);
    ZSTD_CCtx *z = s->zstd = ZSTD_createCCtx();
    if (!z)
        return false;
    ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, opts->level ? opts->level : -1);
    ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, bits);
    ZSTD_CCtx_setParameter(z, ZSTD_c_hashLog, opts->small ? SMALL_TABLE_BITS : TABLE_BITS);
    ZSTD_CCtx_setParameter(z, ZSTD_c_chainLog, opts->small ? SMALL_TABLE_BITS : TABLE_BITS);
    if (opts->size_bytes)
        ZSTD_CCtx_setPledgedSrcSize(z, opts->size_bytes);
    return true;
}

static void *count_alloc(void *user, size_t size)
{
    struct codec_stream *s = user;
    void *p = malloc(size);
    s->bytes += p ? malloc_usable_size(p) : 0;
    return p;
}

static void count_free(void *user, void *p)
{
    struct codec_stream *s = user;
    s->bytes -= p ? malloc_usable_size(p) : 0;
    free(p);
}

static bool open_brotli(struct codec_stream *s, const struct codec_stream_opts *opts)
{
    int bits = window_of(opts, opts->small ? SMALL_BITS : WINDOW_BITS);
    BrotliEncoderState *b = s->brotli = BrotliEncoderCreateInstance(count_alloc, count_free, s);
    if (!b)
        return false;
    BrotliEncoderSetParameter(b, BROTLI_PARAM_QUALITY, (uint32_t)least(opts->level, BROTLI_QUALITY));
    BrotliEncoderSetParameter(b, BROTLI_PARAM_LGWIN, (uint32_t)bits);
    bool hinted = opts->size_bytes && opts->size_bytes < BROTLI_HINT;
    BrotliEncoderSetParameter(b, BROTLI_PARAM_SIZE_HINT, hinted ? (uint32_t)opts->size_bytes : BROTLI_HINT);
    return true;
}

static bool open_stream(struct codec_stream *s, const struct codec_stream_opts *opts)
{
    switch (s->engine) {
    case ENGINE_ISAL:
        return open_isal(s, opts);
    case ENGINE_ZLIB:
        return open_zlib(s, opts);
    case ENGINE_ZSTD:
        return open_zstd(s, opts);
    default:
        return open_brotli(s, opts);
    }
}

static enum engine engine_of(const struct codec_stream_opts *opts)
{
    if (opts->id == CODEC_ZSTD)
        return ENGINE_ZSTD;
    if (opts->id == CODEC_BROTLI)
        return ENGINE_BROTLI;
    return opts->level < ISAL_LEVELS && !opts->small ? ENGINE_ISAL : ENGINE_ZLIB;
}

struct codec_stream *codec_stream_new(const struct codec_stream_opts *wanted)
{
    struct codec_stream_opts opts = *wanted;
    struct codec_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    opts.level = codec_level(opts.id, opts.level);
    s->bytes = sizeof *s;
    s->engine = engine_of(&opts);
    if (!open_stream(s, &opts)) {
        codec_stream_free(s);
        return NULL;
    }
    return s;
}

size_t codec_stream_bytes(const struct codec_stream *s)
{
    return s->bytes + (s->zstd ? ZSTD_sizeof_CCtx(s->zstd) : 0);
}

void codec_stream_free(struct codec_stream *s)
{
    if (!s)
        return;
    free(s->isal);
    if (s->engine == ENGINE_ZLIB && s->zlib.state)
        deflateEnd(&s->zlib);
    ZSTD_freeCCtx(s->zstd);
    if (s->brotli)
        BrotliEncoderDestroyInstance(s->brotli);
    free(s);
}

/* ---- writing ---- */

static int write_isal(struct isal_zstream *z, struct str in, enum codec_flush flush, struct buf *out)
{
    z->next_in = (uint8_t *)in.p;
    z->avail_in = (uint32_t)in.len;
    z->flush = flush == CODEC_FLUSH ? SYNC_FLUSH : NO_FLUSH;
    z->end_of_stream = flush == CODEC_END;
    for (;;) {
        char *to = buf_room(out, ROOM);
        if (!to)
            return ERR_NOMEM;
        z->next_out = (uint8_t *)to;
        z->avail_out = ROOM;
        if (isal_deflate(z) != COMP_OK)
            return ERR_NOMEM;
        buf_wrote(out, ROOM - z->avail_out);
        if (flush == CODEC_END ? z->internal_state.state == ZSTATE_END : !z->avail_in && z->avail_out)
            return 0;
    }
}

static int write_zlib(z_stream *z, struct str in, enum codec_flush flush, struct buf *out)
{
    int mode = flush == CODEC_RUN ? Z_NO_FLUSH : flush == CODEC_FLUSH ? Z_SYNC_FLUSH : Z_FINISH;
    z->next_in = (Bytef *)in.p;
    z->avail_in = (uInt)in.len;
    for (;;) {
        char *to = buf_room(out, ROOM);
        if (!to)
            return ERR_NOMEM;
        z->next_out = (Bytef *)to;
        z->avail_out = ROOM;
        int status = deflate(z, mode);
        if (status == Z_STREAM_ERROR)
            return ERR_NOMEM;
        buf_wrote(out, ROOM - z->avail_out);
        if (flush == CODEC_END ? status == Z_STREAM_END : z->avail_out > 0)
            return 0;
    }
}

static int write_zstd(ZSTD_CCtx *z, struct str bytes, enum codec_flush flush, struct buf *out)
{
    ZSTD_EndDirective mode = flush == CODEC_RUN     ? ZSTD_e_continue
                             : flush == CODEC_FLUSH ? ZSTD_e_flush
                                                    : ZSTD_e_end;
    ZSTD_inBuffer in = {bytes.p, bytes.len, 0};
    for (;;) {
        char *to = buf_room(out, ROOM);
        if (!to)
            return ERR_NOMEM;
        ZSTD_outBuffer made = {to, ROOM, 0};
        size_t left = ZSTD_compressStream2(z, &made, &in, mode);
        if (ZSTD_isError(left))
            return ERR_NOMEM;
        buf_wrote(out, made.pos);
        if (flush == CODEC_RUN ? in.pos == in.size : !left)
            return 0;
    }
}

static bool run_brotli(BrotliEncoderState *b, BrotliEncoderOperation mode, struct str bytes, struct buf *out)
{
    const uint8_t *in = (const uint8_t *)bytes.p;
    size_t left = bytes.len;
    do {
        size_t none = 0, made = 0;
        if (!BrotliEncoderCompressStream(b, mode, &left, &in, &none, NULL, NULL))
            return false;
        const uint8_t *from = BrotliEncoderTakeOutput(b, &made);
        buf_add(out, from, made);
    } while (left || BrotliEncoderHasMoreOutput(b));
    return buf_ok(out);
}

/* Flushing comes apart: what still waits as output keeps the encoder from it. */
static int write_brotli(BrotliEncoderState *b, struct str bytes, enum codec_flush flush, struct buf *out)
{
    BrotliEncoderOperation mode = flush == CODEC_FLUSH ? BROTLI_OPERATION_FLUSH : BROTLI_OPERATION_FINISH;
    bool ok = !bytes.len || run_brotli(b, BROTLI_OPERATION_PROCESS, bytes, out);
    if (ok && flush != CODEC_RUN)
        ok = run_brotli(b, mode, (struct str){NULL, 0}, out);
    return ok ? 0 : ERR_NOMEM;
}

int codec_stream_write(struct codec_stream *s, struct str bytes, enum codec_flush flush, struct buf *out)
{
    s->fed = s->fed || bytes.len;
    if (flush != CODEC_END && !bytes.len && (flush == CODEC_RUN || !s->fed))
        return 0; /* a second flush would add bytes for nothing */
    if (flush == CODEC_FLUSH)
        s->fed = false;
    switch (s->engine) {
    case ENGINE_ISAL:
        return write_isal(s->isal, bytes, flush, out);
    case ENGINE_ZLIB:
        return write_zlib(&s->zlib, bytes, flush, out);
    case ENGINE_ZSTD:
        return write_zstd(s->zstd, bytes, flush, out);
    default:
        return write_brotli(s->brotli, bytes, flush, out);
    }
}
