// SPDX-License-Identifier: MIT
#include "replay/json.h"

static bool fail(struct json *j)
{
    j->failed = true;
    return false;
}

void json_init(struct json *j, struct str line)
{
    j->start = j->p = line.p;
    j->end = line.p + line.len;
    j->depth = 0;
    j->path_len = 0;
    j->began = j->failed = j->closed = false;
}

static void skip_space(struct json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\r' || *j->p == '\n'))
        j->p++;
}

/* At an opening quote; leaves j->p behind the closing one. */
static bool take_string(struct json *j, struct str *out, bool *escaped)
{
    const char *from = ++j->p;
    for (const char *at = from; (at = memchr(at, '"', (size_t)(j->end - at))); at++) {
        size_t slashes = 0;
        while (at - slashes > from && at[-1 - (long)slashes] == '\\')
            slashes++;
        if (slashes % 2)
            continue;
        *out = (struct str){from, (size_t)(at - from)};
        *escaped = memchr(from, '\\', out->len) != NULL;
        j->p = at + 1;
        return true;
    }
    j->p = from - 1;
    return fail(j);
}

static bool skip_array(struct json *j)
{
    unsigned depth = 0;
    struct str ignored;
    bool escaped;
    do {
        if (j->p == j->end)
            return fail(j);
        if (*j->p == '"') {
            if (!take_string(j, &ignored, &escaped))
                return false;
            continue;
        }
        depth += *j->p == '[' || *j->p == '{';
        depth -= *j->p == ']' || *j->p == '}';
        j->p++;
    } while (depth);
    return true;
}

static bool take_word(struct json *j, struct str *out)
{
    const char *from = j->p;
    while (j->p < j->end && *j->p > ' ' && *j->p != ',' && *j->p != '}' && *j->p != ']' && *j->p != '"')
        j->p++;
    *out = (struct str){from, (size_t)(j->p - from)};
    return out->len || fail(j);
}

static bool open_object(struct json *j)
{
    if (j->depth == JSON_DEPTH)
        return fail(j);
    j->prefix[j->depth++] = j->path_len;
    j->p++;
    return true;
}

/* Behind a member: a comma goes on, a brace closes. Returns whether a key comes next. */
static bool between_members(struct json *j, bool first)
{
    for (bool after = !first;; after = true) {
        skip_space(j);
        if (j->p == j->end)
            return fail(j);
        if (*j->p == '}') {
            j->p++;
            if (--j->depth == 0) {
                skip_space(j);
                j->closed = true;
                return j->p == j->end ? false : fail(j);
            }
            continue;
        }
        if (after) {
            if (*j->p != ',')
                return fail(j);
            j->p++;
            skip_space(j);
        }
        return (j->p < j->end && *j->p == '"') || fail(j);
    }
}

/* A path that does not fit is one no table knows: it is cut. */
static void join_path(struct json *j, struct str key)
{
    j->path_len = j->prefix[j->depth - 1];
    if (j->path_len && j->path_len < JSON_PATH)
        j->path[j->path_len++] = '.';
    size_t room = JSON_PATH - j->path_len, len = key.len < room ? key.len : room;
    memcpy(j->path + j->path_len, key.p, len);
    j->path_len += len;
}

bool json_next(struct json *j, struct json_value *out)
{
    bool first = false;
    struct str key;
    if (!j->began) {
        skip_space(j);
        if (j->p == j->end || *j->p != '{')
            return fail(j);
        j->began = first = true;
        open_object(j);
    }
    while (!j->failed && !j->closed && between_members(j, first)) {
        if (!take_string(j, &key, &out->escaped))
            return false;
        join_path(j, key);
        skip_space(j);
        if (j->p == j->end || *j->p != ':')
            return fail(j);
        j->p++;
        skip_space(j);
        first = false;
        char c = j->p < j->end ? *j->p : 0;
        if (c == '{') {
            first = open_object(j);
            continue;
        }
        if (c == '[') {
            if (!skip_array(j))
                return false;
            continue;
        }
        out->path = (struct str){j->path, j->path_len};
        out->string = c == '"';
        return out->string ? take_string(j, &out->text, &out->escaped) : (out->escaped = false, take_word(j, &out->text));
    }
    return false;
}

static bool hex4(const char *p, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = ascii_lower(p[i]);
        if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
            return false;
        *out = *out * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

/* UTF-8 of a code point; surrogate halves come out as '?'. */
static size_t encode(unsigned code, char out[3])
{
    if (code < 0x80)
        return out[0] = (char)code, 1;
    if (code >= 0xD800 && code < 0xE000)
        return out[0] = '?', 1;
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    out[0] = (char)(0xE0 | code >> 12);
    out[1] = (char)(0x80 | (code >> 6 & 63));
    out[2] = (char)(0x80 | (code & 63));
    return 3;
}

size_t json_plain(struct str s, char *out, size_t size)
{
    static const char letters[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    size_t n = 0;
    for (size_t i = 0; i < s.len && n + 3 <= size; i++) {
        unsigned code;
        if (s.p[i] != '\\' || i + 1 == s.len) {
            out[n++] = s.p[i];
            continue;
        }
        char c = s.p[++i];
        const char *known = c ? strchr(letters, c) : NULL;
        if (known) {
            out[n++] = meaning[known - letters];
        } else if (c == 'u' && s.len - i > 4 && hex4(s.p + i + 1, &code)) {
            n += encode(code, out + n);
            i += 4;
        } else {
            out[n++] = '?';
        }
    }
    return n;
}
