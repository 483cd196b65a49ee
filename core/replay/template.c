// SPDX-License-Identifier: MIT
#include "replay/template.h"

/* Digits only, or hex digits and dashes, 8 or more, with a digit among them. */
static bool is_id(struct str s)
{
    size_t digits = 0, hex = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = ascii_lower(s.p[i]);
        digits += c >= '0' && c <= '9';
        hex += (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-';
    }
    return s.len && (digits == s.len || (hex == s.len && s.len >= 8 && digits));
}

struct str template_of(struct str path, char out[TEMPLATE_SIZE])
{
    size_t n = 0, i = 0;
    while (i < path.len) {
        size_t from = ++i; /* behind the slash */
        while (i < path.len && path.p[i] != '/')
            i++;
        struct str segment = {path.p + from, i - from};
        if (is_id(segment))
            segment = STR(":id");
        if (n + 1 + segment.len > TEMPLATE_SIZE)
            break;
        out[n++] = '/';
        memcpy(out + n, segment.p, segment.len);
        n += segment.len;
    }
    return (struct str){out, n};
}
