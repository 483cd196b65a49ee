/* coded.h - coded bodies that are kept beside a stored answer, so that each is
 * made once: the cache offers the place, the compressing filter uses it.
 *
 * Owner:   the exchange's arena.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "codec/codec.h"

struct coded {
    /* Hands the kept body to `use`, which may end the exchange. False: there is none. */
    bool (*find)(struct coded *c, enum codec_id id, int level, void (*use)(void *user, struct str bytes), void *user);
    void (*keep)(struct coded *c, enum codec_id id, int level, struct str bytes);
};
