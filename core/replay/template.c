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
        if (i + 1 != hex)
            return false;
    }
    return s.len && (digits == s.len || (s.len >= 8 && digits));
}

static struct template_folder *folder_of(struct templates *t, uint64_t hash)
{
    for (uint64_t at = hash;; at++) {
        struct template_folder *one = &t->folders[at % TEMPLATE_FOLDERS];
        if (one->hash == hash)
            return one;
        if (one->hash)
            continue;
        if (t->settled || t->folder_count >= TEMPLATE_FOLDERS / 2)
            return NULL;
        t->folder_count++;
        one->hash = hash;
        return one;
    }
}

/* Whether a name of a folder was not seen before (and is now). */
static bool is_new(struct templates *t, uint64_t hash)
{
    for (uint64_t at = hash;; at++) {
        uint64_t *one = &t->names[at % TEMPLATE_NAMES];
        if (*one == hash)
            return false;
        if (*one)
            continue;
        if (t->name_count >= TEMPLATE_NAMES / 2)
            return false;
        t->name_count++;
        *one = hash;
        return true;
    }
}

/* Whether the names in the folder that `out` says so far are ids. The root has none: its names are the
 * parts of a site. */
static bool holds_ids(struct templates *t, struct str folder, struct str name)
{
    if (!folder.len)
        return false;
    uint64_t hash = str_hash(folder) | 1;
    struct template_folder *f = folder_of(t, hash);
    if (!f)
        return false;
    if (f->children <= TEMPLATE_CHILDREN && !t->settled && is_new(t, ((hash ^ str_hash(name)) * 0x9E3779B97F4A7C15U) | 1))
        f->children++;
    return f->children > TEMPLATE_CHILDREN;
}

size_t templates_apply(struct templates *t, struct str path, char out[TEMPLATE_SIZE])
{
    size_t n = 0, i = 0;
    while (i < path.len) {
        size_t from = ++i; /* behind the slash */
        const char *slash = memchr(path.p + from, '/', path.len - from);
        i = slash ? (size_t)(slash - path.p) : path.len;
        struct str segment = {path.p + from, i - from};
        if (is_id(segment))
            segment = STR(":id");
        else if (segment.len && segment.p[0] != ':' && holds_ids(t, (struct str){out, n}, segment))
            segment = STR(":name");
        if (n + 1 + segment.len > TEMPLATE_SIZE)
            break;
        out[n++] = '/';
        memcpy(out + n, segment.p, segment.len);
        n += segment.len;
    }
    return n;
}
