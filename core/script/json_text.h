/* json_text.h - what the encoder and the decoder of JSON share.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

#include <lua.h>

/* Pushes the metatable that marks a list; made at the first call. */
void json_push_array_metatable(lua_State *L);

/* Its identity for comparison, NULL when nothing was marked yet. Raises no error. */
const void *json_array_metatable(lua_State *L);

static inline bool json_is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Returns the end of the run of bytes that are neither control, quote,
 * backslash nor above ASCII. Eight at a time: for each lane, the top bit of
 * the sum says whether the byte is one of these (Hacker's Delight 6-1). */
static inline const char *json_plain_run(const char *p, const char *end)
{
    const uint64_t low = 0x0101010101010101, high = 0x8080808080808080;
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        uint64_t quote = w ^ low * '"', slash = w ^ low * '\\';
        if ((w | (w - low * 0x20) | (quote - low) | (slash - low)) & high)
            break;
        p += 8;
    }
    while (p < end && json_is_plain((unsigned char)*p))
        p++;
    return p;
}

static inline bool utf8_is_tail(const char *p, unsigned char low, unsigned char high)
{
    return (unsigned char)*p >= low && (unsigned char)*p <= high;
}

/* Length of the valid UTF-8 sequence at p (RFC 3629, section 4), or 0. */
static inline size_t utf8_len(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    size_t left = (size_t)(end - p);
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf)
        return left > 1 && utf8_is_tail(p + 1, 0x80, 0xbf) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef)
        return left > 2 && utf8_is_tail(p + 1, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf) &&
                       utf8_is_tail(p + 2, 0x80, 0xbf)
                   ? 3
                   : 0;
    if (c >= 0xf0 && c <= 0xf4)
        return left > 3 && utf8_is_tail(p + 1, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf) &&
                       utf8_is_tail(p + 2, 0x80, 0xbf) && utf8_is_tail(p + 3, 0x80, 0xbf)
                   ? 4
                   : 0;
    return 0;
}
