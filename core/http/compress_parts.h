/* compress_parts.h - inside of compress.c and compress_judge.c. */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/compress.h"

#include "stats/compression.h"

/* What the head of an answer says, as far as compression is concerned. */
struct verdict {
    enum skip skip;   /* SKIP_NOT: compress */
    bool vary;        /* another client would get another body */
    bool weaken;      /* the entity tag, of an answer without a body */
    bool lowered;     /* by the load */
    bool events;      /* text/event-stream */
    bool needs_coding; /* the client refuses the plain body */
    enum codec_id id;
    int level;
    int full_level;   /* what it would be without load */
};

struct load {
    double cpu_share;
    uint64_t lag_ns;
};

/* `length` -1: unknown. */
void compress_judge(struct verdict *v, const struct exchange *ex, const struct compress_rules *rules,
                    const struct settings *settings, const struct load *load,
                    const struct answer *answer, int64_t length);

/* The head as it goes out: coded tells whether with a coding. In the exchange's
 * arena; false: out of memory. */
bool compress_head(struct exchange *ex, const struct verdict *v, bool coded, const struct answer *in,
                   struct answer *out);

/* A copy of a head that outlives the call. */
bool compress_keep_head(struct exchange *ex, const struct answer *in, struct answer *out);

/* Bytes that a body has at least to be worth it. */
uint64_t compress_min_bytes(const struct compress_rules *rules, const struct settings *settings);
