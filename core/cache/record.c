// SPDX-License-Identifier: MIT
#include "cache/record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct cache_key record_key(struct str text)
{
    XXH128_hash_t hash = XXH3_128bits(text.p, text.len);
    return (struct cache_key){hash.low64, hash.high64};
}

static uint64_t checksum(const char *bytes, size_t len)
{
    size_t from = offsetof(struct record, checksum) + sizeof(uint64_t);
    return XXH3_64bits(bytes + from, len - from);
}

static bool take(struct str *rest, uint32_t len, struct str *out)
{
    if (len > rest->len)
        return false;
    *out = (struct str){rest->p, len};
    rest->p += len;
    rest->len -= len;
    return true;
}

bool record_read(struct str bytes, struct str key, struct record_view *v)
{
    if (bytes.len < sizeof v->r)
        return false;
    memcpy(&v->r, bytes.p, sizeof v->r);
    const struct record *r = &v->r;
    struct str rest = {bytes.p + sizeof *r, bytes.len - sizeof *r};
    v->bytes = bytes;
    return r->magic == RECORD_MAGIC && r->total_bytes == bytes.len &&
           take(&rest, r->key_len, &v->key) && take(&rest, r->vary_len, &v->vary) &&
           take(&rest, r->etag_len, &v->etag) &&
           take(&rest, r->last_modified_len, &v->last_modified) &&
           take(&rest, r->tags_len, &v->tags) && take(&rest, r->head_len, &v->head) &&
           take(&rest, r->body_len, &v->body) && !rest.len && (!key.p || str_equal(v->key, key));
}

bool record_is_sound(const struct record_view *v)
{
    return checksum(v->bytes.p, v->bytes.len) == v->r.checksum;
}

bool record_write(const struct record_view *v, struct buf *out)
{
    struct record r = v->r;
    const struct str parts[] = {v->key,  v->vary, v->etag, v->last_modified,
                                v->tags, v->head, v->body};
    uint32_t *lengths[] = {&r.key_len,  &r.vary_len, &r.etag_len, &r.last_modified_len,
                           &r.tags_len, &r.head_len, &r.body_len};
    size_t total = sizeof r, from = buf_len(out);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        total += parts[i].len;
        if (total > UINT32_MAX / 2)
            return false;
        *lengths[i] = (uint32_t)parts[i].len;
    }
    r.magic = RECORD_MAGIC;
    r.body_hash = XXH3_64bits(v->body.p, v->body.len);
    r.total_bytes = (uint32_t)total;
    buf_room(out, total);
    buf_add(out, &r, sizeof r);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        buf_add_str(out, parts[i]);
    if (!buf_ok(out))
        return false;
    char *at = out->data + out->start + from;
    r.checksum = checksum(at, total);
    memcpy(at + offsetof(struct record, checksum), &r.checksum, sizeof r.checksum);
    return true;
}

size_t record_headers(struct str head, struct http_header *out, size_t max)
{
    size_t n = 0;
    while (head.len && n < max) {
        const char *end = memchr(head.p, '\r', head.len);
        const char *colon = end ? memchr(head.p, ':', (size_t)(end - head.p)) : NULL;
        if (!colon || end + 1 == head.p + head.len)
            break;
        out[n].name = (struct str){head.p, (size_t)(colon - head.p)};
        out[n++].value = str_trim((struct str){colon + 1, (size_t)(end - colon - 1)});
        head.len -= (size_t)(end + 2 - head.p);
        head.p = end + 2;
    }
    return n;
}
