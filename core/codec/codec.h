/* codec.h - the content codings of HTTP (RFC 9110 8.4.1, 7932, 8878), whole
 * bodies and streams, over the fastest library for each.
 *
 *     gzip, deflate   level 0..2 ISA-L, 3..12 libdeflate; streams ISA-L, zlib
 *     zstd            -7..-1 and 1..19 as libzstd has them, 0 means -1
 *     br              0..11 as libbrotli has them
 *
 * What a context costs (80 KB to 9 MB, and as much as the compression itself to
 * set up for small bodies) is paid once: `struct codec` keeps one of each kind
 * for all bodies of a thread. Windows are fitted to the body, because brotli and
 * zstd otherwise touch megabytes for a kilobyte. "deflate" is the zlib format.
 *
 * Owner:   codec_new() to codec_free(), codec_stream_new() to ..._free(),
 *          codec_decoder_new() to ..._free().
 * Threads: one at a time for each object; no state is shared between objects.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "base/str.h"

enum codec_id { CODEC_IDENTITY, CODEC_GZIP, CODEC_DEFLATE, CODEC_ZSTD, CODEC_BROTLI, CODEC_COUNT };

struct codec;
struct codec_stream;
struct codec_decoder;

/* "gzip", "deflate", "zstd", "br", "identity": as in Content-Encoding. */
const char *codec_name(enum codec_id id);

/* The coding of a name in any case, "x-gzip" included; CODEC_COUNT: unknown. */
enum codec_id codec_from_name(struct str name);

/* The levels that a coding has; others are taken for the nearest. */
int codec_level_min(enum codec_id id);
int codec_level_max(enum codec_id id);
int codec_level(enum codec_id id, int wanted);

/* ---- whole bodies ---- */

/* NULL: out of memory. Contexts are made when first needed. */
struct codec *codec_new(void);
void codec_free(struct codec *c);

/* Appends the compressed body to *out. ERR_TOO_LARGE when that would take more
 * than max_bytes (0: any size): with body.len - 1, "not smaller". Else 0, ERR_NOMEM. */
int codec_compress(struct codec *c, enum codec_id id, int level, struct str body, size_t max_bytes,
                   struct buf *out);

/* ---- streams ---- */

enum codec_flush {
    CODEC_RUN,   /* keep what compresses better together */
    CODEC_FLUSH, /* all that was written can be decoded from the output so far */
    CODEC_END,   /* and nothing comes after it */
};

struct codec_stream_opts {
    enum codec_id id;
    int level;
    uint64_t size_bytes; /* of the body when known; 0: not */
    bool small;          /* a small window (16 KB), for many long-lived streams of short messages */
};

/* NULL: out of memory. */
struct codec_stream *codec_stream_new(const struct codec_stream_opts *opts);

/* Compresses bytes and appends what is ready to *out. 0 or ERR_NOMEM; the stream is of no use then. */
int codec_stream_write(struct codec_stream *s, struct str bytes, enum codec_flush flush, struct buf *out);

/* Memory it holds, about. */
size_t codec_stream_bytes(const struct codec_stream *s);
void codec_stream_free(struct codec_stream *s);

/* ---- back ---- */

struct codec_limits {
    uint64_t max_bytes; /* of the decoded body; 0: none */
    unsigned max_ratio; /* decoded to coded, once more than 64 KiB are decoded; 0: none */
};

/* NULL: out of memory, or no coding that can be decoded. */
struct codec_decoder *codec_decoder_new(enum codec_id id, const struct codec_limits *limits);

/* Decodes the next bytes and appends to *out. 0; ERR_TOO_LARGE (a limit),
 * ERR_PROTOCOL (malformed), ERR_NOMEM. */
int codec_decode(struct codec_decoder *d, struct str bytes, struct buf *out);

/* Whether what was decoded so far is a whole body. */
bool codec_decoder_done(const struct codec_decoder *d);
void codec_decoder_free(struct codec_decoder *d);
