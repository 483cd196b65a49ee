// SPDX-License-Identifier: MIT
#include "task/kernel.h"

#include "base/err.h"

#define XXH_INLINE_ALL
#include <math.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zlib.h>

static void add_hex(struct buf *out, const unsigned char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        buf_add_char(out, digits[p[i] >> 4]);
        buf_add_char(out, digits[p[i] & 15]);
    }
}

/* ---- hashes: lower-case hexadecimal ---- */

static int run_digest(const struct kernel *kernel, struct kernel_call *call)
{
    const EVP_MD *const digests[] = {EVP_sha256(), EVP_sha512(), EVP_sha1(), EVP_md5()};
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (!EVP_Digest(call->data.len ? call->data.p : "", call->data.len, value, &len, digests[kernel->id], NULL))
        return ERR_NOMEM;
    add_hex(call->out, value, len);
    return 0;
}

static int run_hmac(const struct kernel *kernel, struct kernel_call *call)
{
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    (void)kernel;
    if (!HMAC(EVP_sha256(), call->text.p, (int)call->text.len, (const unsigned char *)(call->data.len ? call->data.p : ""),
              call->data.len, value, &len))
        return ERR_NOMEM;
    add_hex(call->out, value, len);
    return 0;
}

static int run_xxh3(const struct kernel *kernel, struct kernel_call *call)
{
    (void)kernel;
    buf_printf(call->out, "%016llx", (unsigned long long)XXH3_64bits(call->data.p, call->data.len));
    return 0;
}

static int run_crc32(const struct kernel *kernel, struct kernel_call *call)
{
    (void)kernel;
    uLong crc = crc32_z(0, (const unsigned char *)(call->data.len ? call->data.p : ""), call->data.len);
    buf_printf(call->out, "%08lx", (unsigned long)crc);
    return 0;
}

/* ---- codings ---- */

static int run_encode(const struct kernel *kernel, struct kernel_call *call)
{
    enum codec_id id = (enum codec_id)kernel->id;
    int level = codec_level(id, isnan(call->number) ? 5 : (int)call->number);
    if (!call->codec)
        return ERR_NOMEM;
    return codec_compress(call->codec, id, level, call->data, call->max_bytes, call->out);
}

enum { DECODE_STEP = 65536 };

static int run_decode(const struct kernel *kernel, struct kernel_call *call)
{
    struct codec_limits limits = {.max_bytes = call->max_bytes};
    struct codec_decoder *d = codec_decoder_new((enum codec_id)kernel->id, &limits);
    int err = d ? 0 : ERR_NOMEM;
    for (size_t at = 0; err == 0 && at < call->data.len && !atomic_load_explicit(call->stop, memory_order_relaxed);) {
        size_t left = call->data.len - at, step = left < DECODE_STEP ? left : DECODE_STEP;
        err = codec_decode(d, (struct str){call->data.p + at, step}, call->out);
        at += step;
    }
    if (err == 0 && !codec_decoder_done(d))
        err = ERR_PROTOCOL;
    if (d)
        codec_decoder_free(d);
    return err;
}

/* ---- numbers ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y); /* behind all others */
    return (x > y) - (x < y);
}

static int run_sort(const struct kernel *kernel, struct kernel_call *call)
{
    (void)kernel;
    buf_add_str(call->out, call->data);
    if (buf_ok(call->out) && call->data.len)
        qsort(call->out->data + call->out->start, call->data.len / sizeof(double), sizeof(double), compare);
    return 0;
}

#define BYTES KERNEL_BYTES, KERNEL_BYTES
#define NUMBERS KERNEL_NUMBERS, KERNEL_NUMBERS

static const struct kernel kernels[] = {
    {"sha256", BYTES, NULL, NULL, false, 0, run_digest},
    {"sha512", BYTES, NULL, NULL, false, 1, run_digest},
    {"sha1", BYTES, NULL, NULL, false, 2, run_digest},
    {"md5", BYTES, NULL, NULL, false, 3, run_digest},
    {"hmac_sha256", BYTES, "key", NULL, true, 0, run_hmac},
    {"xxh3", BYTES, NULL, NULL, false, 0, run_xxh3},
    {"crc32", BYTES, NULL, NULL, false, 0, run_crc32},
    {"gzip", BYTES, NULL, "level", false, CODEC_GZIP, run_encode},
    {"deflate", BYTES, NULL, "level", false, CODEC_DEFLATE, run_encode},
    {"zstd", BYTES, NULL, "level", false, CODEC_ZSTD, run_encode},
    {"br", BYTES, NULL, "level", false, CODEC_BROTLI, run_encode},
    {"decode_gzip", BYTES, NULL, NULL, false, CODEC_GZIP, run_decode},
    {"decode_deflate", BYTES, NULL, NULL, false, CODEC_DEFLATE, run_decode},
    {"decode_zstd", BYTES, NULL, NULL, false, CODEC_ZSTD, run_decode},
    {"decode_br", BYTES, NULL, NULL, false, CODEC_BROTLI, run_decode},
    {"sort", NUMBERS, NULL, NULL, false, 0, run_sort},
};

const struct kernel *kernel_at(unsigned i)
{
    return i < sizeof kernels / sizeof *kernels ? &kernels[i] : NULL;
}

const struct kernel *kernel_find(struct str name)
{
    const struct kernel *k;
    for (unsigned i = 0; (k = kernel_at(i)); i++)
        if (str_equal(name, str_from(k->name)))
            return k;
    return NULL;
}
