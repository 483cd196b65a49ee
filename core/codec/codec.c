/* Whole bodies: one call into the library that is fastest at the level. */
// SPDX-License-Identifier: MIT
#include "codec/codec.h"

#include "base/err.h"

#include <brotli/encode.h>
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>

enum {
    ISAL_LEVELS = 3,      /* 0, 1, 2: faster and denser than zlib's lowest */
    DEFLATE_LEVEL_MAX = 12,
    HEAVY_LEVEL = 10,     /* libdeflate needs 9 MB from here on: not kept */
    ZSTD_KEEP_BYTES = 8 << 20, /* a zstd context that grew beyond is not kept */
    BODY_MAX = 1 << 30,   /* lengths of ISA-L have 32 bits */
};

struct codec {
    struct isal_zstream *isal;
    uint8_t *isal_buffer; /* of level 1 and 2 */
    struct libdeflate_compressor *deflate[DEFLATE_LEVEL_MAX + 1];
    ZSTD_CCtx *zstd;
};

struct codec *codec_new(void)
{
    return calloc(1, sizeof(struct codec));
}

void codec_free(struct codec *c)
{
    if (!c)
        return;
    free(c->isal);
    free(c->isal_buffer);
    for (int i = 0; i <= DEFLATE_LEVEL_MAX; i++)
        libdeflate_free_compressor(c->deflate[i]);
    ZSTD_freeCCtx(c->zstd);
    free(c);
}

/* Each of these writes at most `size` bytes to `to` and returns how many, 0
 * when they do not fit. Without memory *failed is set. */

static size_t with_isal(struct codec *c, bool gzip, int level, struct str body, char *to, size_t size,
                        bool *failed)
{
    struct isal_zstream *z = c->isal;
    if (!z)
        z = c->isal = malloc(sizeof *z);
    if (level && !c->isal_buffer)
        c->isal_buffer = malloc(ISAL_DEF_LVL2_DEFAULT);
    if (!z || (level && !c->isal_buffer)) {
        *failed = true;
        return 0;
    }
    isal_deflate_stateless_init(z); /* stores what does not compress; isal_deflate() can grow it by half */
    z->level = (uint32_t)level;
    z->level_buf = level ? c->isal_buffer : NULL;
    z->level_buf_size = level == 2 ? ISAL_DEF_LVL2_DEFAULT : level ? ISAL_DEF_LVL1_DEFAULT : 0;
    z->gzip_flag = gzip ? IGZIP_GZIP : IGZIP_ZLIB;
    z->end_of_stream = 1;
    z->next_in = (uint8_t *)body.p;
    z->avail_in = (uint32_t)body.len;
    z->next_out = (uint8_t *)to;
    z->avail_out = (uint32_t)size;
    return isal_deflate_stateless(z) == COMP_OK ? size - z->avail_out : 0;
}

static size_t with_libdeflate(struct codec *c, bool gzip, int level, struct str body, char *to, size_t size,
                              bool *failed)
{
    /* Ours begin where ISA-L ends: 3 is libdeflate's fastest. */
    int own = level == ISAL_LEVELS ? 1 : level;
    struct libdeflate_compressor *with = c->deflate[own];
    if (!with)
        with = libdeflate_alloc_compressor(own);
    if (!with) {
        *failed = true;
        return 0;
    }
    size_t len = gzip ? libdeflate_gzip_compress(with, body.p, body.len, to, size)
                      : libdeflate_zlib_compress(with, body.p, body.len, to, size);
    if (own < HEAVY_LEVEL)
        c->deflate[own] = with;
    else
        libdeflate_free_compressor(with);
    return len;
}

static size_t with_zstd(struct codec *c, int level, struct str body, char *to, size_t size, bool *failed)
{
    if (!c->zstd && !(c->zstd = ZSTD_createCCtx())) {
        *failed = true;
        return 0;
    }
    ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, level ? level : -1);
    size_t len = ZSTD_compress2(c->zstd, to, size, body.p, body.len);
    if (ZSTD_sizeof_CCtx(c->zstd) > ZSTD_KEEP_BYTES) {
        ZSTD_freeCCtx(c->zstd);
        c->zstd = NULL;
    }
    return ZSTD_isError(len) ? 0 : len;
}

/* The smallest window that holds the whole body: with the default one quality 9
 * takes 34 MB and 24 times as long for a kilobyte. */
static int fitted_window(size_t len)
{
    int bits = BROTLI_MIN_WINDOW_BITS;
    while (bits < BROTLI_DEFAULT_WINDOW && ((size_t)1 << bits) < len + 16)
        bits++;
    return bits;
}

static size_t with_brotli(int level, struct str body, char *to, size_t size)
{
    size_t len = size;
    if (!BrotliEncoderCompress(level, fitted_window(body.len), BROTLI_MODE_GENERIC, body.len,
                               (const uint8_t *)body.p, &len, (uint8_t *)to))
        return 0;
    return len;
}

/* More than any of the codings needs for what cannot be compressed. */
static size_t most_bytes(size_t len)
{
    return len + len / 128 + 512;
}

int codec_compress(struct codec *c, enum codec_id id, int level, struct str body, size_t max_bytes,
                   struct buf *out)
{
    size_t most = most_bytes(body.len), len = 0;
    bool failed = false;
    if (body.len > BODY_MAX)
        return ERR_TOO_LARGE;
    if (max_bytes && max_bytes < most)
        most = max_bytes;
    level = codec_level(id, level);
    char *to = buf_room(out, most);
    if (!to)
        return ERR_NOMEM;
    if (!body.p)
        body.p = "";
    switch (id) {
    case CODEC_GZIP:
    case CODEC_DEFLATE:
        len = level < ISAL_LEVELS ? with_isal(c, id == CODEC_GZIP, level, body, to, most, &failed)
                                  : with_libdeflate(c, id == CODEC_GZIP, level, body, to, most, &failed);
        break;
    case CODEC_ZSTD:
        len = with_zstd(c, level, body, to, most, &failed);
        break;
    case CODEC_BROTLI:
        len = with_brotli(level, body, to, most);
        break;
    case CODEC_IDENTITY:
    case CODEC_COUNT:
        return ERR_INVAL;
    }
    if (!len)
        return failed ? ERR_NOMEM : ERR_TOO_LARGE;
    buf_wrote(out, len);
    return 0;
}
