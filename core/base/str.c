// SPDX-License-Identifier: MIT
#include "base/str.h"

#include <math.h>
#include <stdlib.h>

bool str_iequal(struct str a, struct str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

struct str str_trim(struct str s)
{
    while (s.len && (*s.p == ' ' || *s.p == '\t')) {
        s.p++;
        s.len--;
    }
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool str_next(struct str *rest, char separator, struct str *out)
{
    while (rest->len) {
        const char *end = memchr(rest->p, separator, rest->len);
        size_t len = end ? (size_t)(end - rest->p) : rest->len;
        *out = str_trim((struct str){rest->p, len});
        size_t used = end ? len + 1 : len;
        rest->p += used;
        rest->len -= used;
        if (out->len)
            return true;
    }
    return false;
}

bool str_to_u64(struct str s, uint64_t *out)
{
    uint64_t value = 0;
    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(s.p[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *out = value;
    return true;
}

bool str_to_double(struct str s, double *out)
{
    char text[64], *end;
    if (!s.len || s.len >= sizeof text || !memchr("-0123456789", s.p[0], 11))
        return false;
    memcpy(text, s.p, s.len);
    text[s.len] = 0;
    if (strpbrk(text, "xXnN"))
        return false;
    double value = strtod(text, &end);
    if (*end || !isfinite(value))
        return false;
    *out = value;
    return true;
}

unsigned str_distance(struct str a, struct str b)
{
    unsigned char row[64];
    if (a.len >= sizeof row || b.len >= sizeof row)
        return 99;
    for (size_t j = 0; j <= b.len; j++)
        row[j] = (unsigned char)j;
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned char)i;
        for (size_t j = 1; j <= b.len; j++) {
            unsigned cost = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            if (row[j] + 1U < cost)
                cost = row[j] + 1U;
            if (row[j - 1] + 1U < cost)
                cost = row[j - 1] + 1U;
            row[j] = (unsigned char)cost;
        }
    }
    return row[b.len];
}

uint64_t str_hash(struct str s)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (unsigned char)s.p[i]) * 0x100000001b3U;
    return hash;
}
