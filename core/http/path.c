// SPDX-License-Identifier: MIT
#include "http/path.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_unreserved(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '.' || c == '_' || c == '~';
}

/* Decodes what needs no escape and raises the rest to upper case. */
static size_t normalise_escapes(char *out, struct str raw)
{
    size_t n = 0;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.p[i] != '%' || i + 2 >= raw.len || hex(raw.p[i + 1]) < 0 || hex(raw.p[i + 2]) < 0) {
            out[n++] = raw.p[i];
            continue;
        }
        int c = hex(raw.p[i + 1]) * 16 + hex(raw.p[i + 2]);
        if (is_unreserved(c)) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = "0123456789ABCDEF"[c >> 4];
            out[n++] = "0123456789ABCDEF"[c & 15];
        }
        i += 2;
    }
    return n;
}

/* RFC 3986 5.2.4 in place; false when it climbs above the root. */
static bool remove_dots(char *p, size_t *len)
{
    size_t in = 0, out = 0;
    while (in < *len) {
        size_t end = in + 1;
        while (end < *len && p[end] != '/')
            end++;
        size_t seg = end - in - 1;
        bool last = end == *len;
        if (seg == 1 && p[in + 1] == '.') {
            if (last)
                p[out++] = '/';
        } else if (seg == 2 && p[in + 1] == '.' && p[in + 2] == '.') {
            if (out == 0)
                return false;
            while (p[--out] != '/')
                ;
            if (last)
                p[out++] = '/';
        } else {
            memmove(p + out, p + in, end - in);
            out += end - in;
        }
        in = end;
    }
    *len = out;
    return true;
}

bool path_rewrite(struct arena *a, struct str raw, struct str *out)
{
    char *p = arena_alloc(a, raw.len + 1);
    *out = (struct str){p, 0};
    if (!p)
        return false;
    size_t len = normalise_escapes(p, raw);
    if (!remove_dots(p, &len))
        return false;
    if (len == 0)
        p[len++] = '/';
    out->len = len;
    return true;
}

struct str path_decode(struct arena *a, struct str s, bool form)
{
    if (!memchr(s.p, '%', s.len) && !(form && memchr(s.p, '+', s.len)))
        return s;
    char *p = arena_alloc(a, s.len + 1);
    if (!p)
        return (struct str){NULL, 0};
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '%' && i + 2 < s.len && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            p[n++] = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            i += 2;
        } else {
            p[n++] = form && s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return (struct str){p, n};
}

bool query_next(struct str *rest, struct str *name, struct str *value)
{
    while (rest->len) {
        const char *end = memchr(rest->p, '&', rest->len);
        size_t len = end ? (size_t)(end - rest->p) : rest->len;
        struct str pair = {rest->p, len};
        rest->p += end ? len + 1 : len;
        rest->len -= end ? len + 1 : len;
        if (!pair.len)
            continue;
        const char *eq = memchr(pair.p, '=', pair.len);
        size_t name_len = eq ? (size_t)(eq - pair.p) : pair.len;
        *name = (struct str){pair.p, name_len};
        *value = eq ? (struct str){eq + 1, pair.len - name_len - 1} : (struct str){pair.p, 0};
        return true;
    }
    return false;
}
