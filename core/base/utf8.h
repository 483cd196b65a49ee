/* utf8.h - where valid UTF-8 sequences end.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>

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
