/* json_text.h - what the encoder and the decoder of JSON share.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "base/utf8.h"

#include <lua.h>

/* Pushes the metatable that marks a list; made at the first call. */
void json_push_array_metatable(lua_State *L);

/* Makes it the one of all libraries of ours in this state, by a name in the registry; before the first list is made. */
void json_share_array_metatable(lua_State *L);

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
