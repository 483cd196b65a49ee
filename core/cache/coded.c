/* The coded bodies of a stored answer are records of their own, found by the
 * answer's key, the coding, its level and a hash of the plain body: one of an
 * older body is never found again, and the eviction takes it. Purges of the
 * answer take them along, by key and by tag. */
// SPDX-License-Identifier: MIT
#include "cache/parts.h"

struct place {
    struct coded coded;
    struct cache *cache;
    struct str key, tags; /* in the exchange's arena */
    uint64_t requested_ms, body_hash;
};

static void write_key(const struct place *p, enum codec_id id, int level, struct buf *out)
{
    buf_add_str(out, p->key);
    buf_printf(out, "\n\001%s %d %016llx", codec_name(id), level, (unsigned long long)p->body_hash);
}

static bool find(struct coded *coded, enum codec_id id, int level, void (*use)(void *user, struct str bytes), void *user)
{
    struct place *p = (struct place *)coded;
    struct cache *c = p->cache;
    struct record_view view;
    struct buf key = {0};
    bool found = false;
    write_key(p, id, level, &key);
    if (buf_ok(&key) && cache_enter(c)) {
        found = cache_get(c, buf_str(&key), &view) && view.r.kind == RECORD_CODED_BODY && cache_is_sound(c, &view);
        if (found)
            use(user, view.body);
        cache_exit(c);
    }
    buf_done(&key);
    return found;
}

static void keep(struct coded *coded, enum codec_id id, int level, struct str bytes)
{
    struct place *p = (struct place *)coded;
    struct cache *c = p->cache;
    struct buf key = {0}, out = {0};
    write_key(p, id, level, &key);
    struct record_view v = {.key = buf_str(&key), .tags = p->tags, .body = bytes};
    v.r.kind = RECORD_CODED_BODY;
    v.r.requested_ms = v.r.responded_ms = p->requested_ms;
    if (buf_ok(&key) && record_write(&v, &out))
        writer_put(c->writer, &out, setting_integer(&c->board->settings, SETTING_CACHE_QUEUE_BYTES), 0, 0);
    buf_done(&key);
    buf_done(&out);
}

void coded_offer(struct cache *c, struct exchange *ex, const struct record_view *v)
{
    struct place *p = v->body.len ? arena_alloc(ex->arena, sizeof *p) : NULL;
    if (!p)
        return;
    *p = (struct place){.coded = {find, keep}, .cache = c, .requested_ms = v->r.requested_ms, .body_hash = v->r.body_hash};
    p->key = arena_copy(ex->arena, v->key);
    p->tags = arena_copy(ex->arena, v->tags);
    if (p->key.p && p->tags.p)
        ex->coded = &p->coded;
}
