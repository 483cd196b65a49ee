/* compression.h - what is counted of compressed answers, per route.
 *
 * Threads: as of the lane that holds it.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* Why an answer went out as it was; id, name. */
#define SKIP_LIST(X)                                                                               \
    X(NOT_ACCEPTED, "not_accepted") /* the client takes none of our codings */                     \
    X(SMALL, "small")               /* below min_bytes */                                          \
    X(TYPE, "type")                 /* of no listed type, or of none */                            \
    X(ENCODED, "encoded")           /* has a content coding already */                             \
    X(NO_TRANSFORM, "no_transform") /* Cache-Control forbids it */                                 \
    X(STATUS, "status")             /* no body, or a part of one */                                \
    X(SECRET, "secret")             /* could tell a secret by its length (BREACH) */               \
    X(CPU, "cpu")                   /* the machine is saturated */                                 \
    X(BUSY, "busy")                 /* task queue or memory of streams is full */                  \
    X(NOT_SMALLER, "not_smaller")   /* compressing did not help */

enum skip {
#define X(id, name) SKIP_##id,
    SKIP_LIST(X)
#undef X
        SKIP_COUNT,
    SKIP_NOT = SKIP_COUNT
};

enum { CODING_COUNT = 4 }; /* gzip, deflate, zstd, br, as codec.h has them behind identity */

struct coding_lane {
    _Atomic uint64_t bodies;
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t cpu_ns; /* also of those that went out as they were, being not_smaller */
};

struct compression_lane {
    struct coding_lane codings[CODING_COUNT];
    _Atomic uint64_t skipped[SKIP_COUNT];
    _Atomic uint64_t offloaded; /* bodies, or pieces of streams, done by task threads */
    _Atomic uint64_t reused;    /* bodies that were found beside a cached answer, made before */
    _Atomic uint64_t lowered;   /* bodies at a lower level because the CPU was busy */
};
