// SPDX-License-Identifier: MIT
#include "cache/store.h"

#include "base/err.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_BYTES = 480,         /* of a key's text in the index; LMDB's keys end at 511 */
    TAG_BYTES = 200,
    PAGE_BYTES = 4096,
    INLINE_BYTES = 2000,      /* larger records take whole pages */
    ENTRY_OVERHEAD = 300,     /* index entries of a record */
    GHOSTS_LEAST = 1024,
    MAP_EXTRA = 32 << 20,     /* for pages that are kept for readers, and the indexes */
    MOST_STEPS = 100000,      /* of one eviction; a transaction stays short */
};

enum queue { QUEUE_SMALL = 'S', QUEUE_MAIN = 'M', QUEUE_GHOST = 'G' };

struct totals {
    uint64_t next; /* position and id for what comes next */
    uint64_t entries, ghosts;
    uint64_t small_bytes, main_bytes;
    uint64_t evictions, evicted_bytes;
};

struct place { /* value of `where` */
    uint64_t position;
    uint32_t size;
    uint32_t queue;
};

struct position { /* key of `queues`; big-endian, so that order is age */
    unsigned char bytes[9];
};

struct store {
    MDB_env *env;
    MDB_dbi entries, where, queues, ghosts, names, tags, meta;
    MDB_txn *read;
    int reading;
    MDB_txn *write;
    struct totals t; /* of the transaction */
    uint64_t bytes;
    _Atomic uint8_t *uses;
    uint64_t uses_mask;
};

static MDB_val val(const void *p, size_t len)
{
    return (MDB_val){len, (void *)p};
}

static MDB_val key_val(const struct cache_key *key)
{
    return val(key, sizeof *key);
}

static struct position position_of(enum queue queue, uint64_t n)
{
    struct position p;
    p.bytes[0] = (unsigned char)queue;
    for (int i = 8; i > 0; i--, n >>= 8)
        p.bytes[i] = (unsigned char)n;
    return p;
}

/* ---- opening ---- */

/* Whether the file holds all pages that it says are in use; a file that was
 * cut would kill whoever touches the rest. */
static bool file_is_whole(MDB_env *env, const char *folder)
{
    char path[4096];
    struct stat file;
    MDB_envinfo info;
    MDB_stat stat_;
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    return stat(path, &file) == 0 && mdb_env_info(env, &info) == 0 &&
           mdb_env_stat(env, &stat_) == 0 &&
           (uint64_t)file.st_size >= (info.me_last_pgno + 1) * stat_.ms_psize;
}

static int open_tables(struct store *s)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return rc;
    const struct {
        const char *name;
        unsigned flags;
        MDB_dbi *out;
    } tables[] = {{"entries", 0, &s->entries},
                  {"where", 0, &s->where},
                  {"queues", 0, &s->queues},
                  {"ghosts", 0, &s->ghosts},
                  {"names", 0, &s->names},
                  {"tags", MDB_DUPSORT | MDB_DUPFIXED, &s->tags},
                  {"meta", 0, &s->meta}};
    for (size_t i = 0; !rc && i < sizeof tables / sizeof *tables; i++)
        rc = mdb_dbi_open(txn, tables[i].name, MDB_CREATE | tables[i].flags, tables[i].out);
    if (!rc)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

static int open_env(struct store *s, const struct store_opts *o)
{
    int rc = mdb_env_create(&s->env);
    if (!rc)
        rc = mdb_env_set_mapsize(s->env, (o->bytes + o->bytes / 4 + MAP_EXTRA) / PAGE_BYTES * PAGE_BYTES);
    if (!rc)
        rc = mdb_env_set_maxdbs(s->env, 8);
    if (!rc)
        rc = mdb_env_set_maxreaders(s->env, 254);
    if (!rc)
        rc = mdb_env_open(s->env, o->folder, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (!rc && !file_is_whole(s->env, o->folder))
        rc = MDB_CORRUPTED;
    return rc ? rc : open_tables(s);
}

int store_open(struct store **out, const struct store_opts *o, char *why, size_t why_size)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->bytes = o->bytes;
    s->uses = o->uses;
    s->uses_mask = o->uses_mask;
    int rc = open_env(s, o);
    if (rc) {
        snprintf(why, why_size, "%s", mdb_strerror(rc));
        store_close(s);
        return ERR_IO;
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s->write)
        store_write_abort(s);
    if (s->read)
        mdb_txn_abort(s->read);
    if (s->env)
        mdb_env_close(s->env);
    free(s);
}

void store_sync(struct store *s)
{
    mdb_env_sync(s->env, 1);
}

/* ---- reading ---- */

bool store_begin(struct store *s)
{
    if (s->reading++)
        return true;
    int rc = s->read ? mdb_txn_renew(s->read) : mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->read);
    if (rc)
        s->reading--;
    return rc == 0;
}

bool store_get(struct store *s, struct cache_key key, struct str *out)
{
    MDB_val k = key_val(&key), v;
    if (mdb_get(s->read, s->entries, &k, &v))
        return false;
    *out = (struct str){v.mv_data, v.mv_size};
    return true;
}

void store_end(struct store *s)
{
    if (!--s->reading)
        mdb_txn_reset(s->read);
}

static _Atomic uint8_t *uses_of(const struct store *s, const struct cache_key *key)
{
    return &s->uses[key->high & s->uses_mask];
}

void store_used(struct store *s, struct cache_key key)
{
    _Atomic uint8_t *uses = uses_of(s, &key);
    uint8_t n = atomic_load_explicit(uses, memory_order_relaxed);
    if (n < 3)
        atomic_store_explicit(uses, n + 1, memory_order_relaxed);
}

static void read_totals(struct store *s, MDB_txn *txn, struct totals *t)
{
    MDB_val k = val("totals", 6), v;
    memset(t, 0, sizeof *t);
    if (mdb_get(txn, s->meta, &k, &v) == 0 && v.mv_size == sizeof *t)
        memcpy(t, v.mv_data, sizeof *t);
}

bool store_usage(struct store *s, struct store_usage *out)
{
    struct totals t;
    if (!store_begin(s))
        return false;
    read_totals(s, s->read, &t);
    store_end(s);
    *out = (struct store_usage){t.entries, t.small_bytes + t.main_bytes, t.small_bytes, t.evictions,
                                t.evicted_bytes};
    return true;
}

/* ---- writing ---- */

bool store_write_begin(struct store *s)
{
    int dead;
    mdb_reader_check(s->env, &dead); /* a killed reader would keep old pages for ever */
    if (mdb_txn_begin(s->env, NULL, 0, &s->write))
        return false;
    read_totals(s, s->write, &s->t);
    return true;
}

bool store_write_commit(struct store *s)
{
    MDB_txn *txn = s->write;
    MDB_val k = val("totals", 6), v = val(&s->t, sizeof s->t);
    if (mdb_put(txn, s->meta, &k, &v, 0)) {
        store_write_abort(s);
        return false;
    }
    s->write = NULL;
    return mdb_txn_commit(txn) == 0;
}

void store_write_abort(struct store *s)
{
    mdb_txn_abort(s->write);
    s->write = NULL;
}

uint32_t store_size(size_t record_bytes)
{
    size_t bytes = record_bytes + 16;
    if (bytes > INLINE_BYTES)
        bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return (uint32_t)(bytes + ENTRY_OVERHEAD);
}

/* Calls `each` with the tags of a list separated by blanks or commas. */
static bool tag_next(struct str *rest, struct str *tag)
{
    while (rest->len && memchr(" ,\t", *rest->p, 3)) {
        rest->p++;
        rest->len--;
    }
    tag->p = rest->p;
    while (rest->len && !memchr(" ,\t", *rest->p, 3)) {
        rest->p++;
        rest->len--;
    }
    tag->len = (size_t)(rest->p - tag->p);
    if (tag->len > TAG_BYTES)
        tag->len = TAG_BYTES;
    return tag->len > 0;
}

struct name { /* key of `names`: the text, cut, and the hash that makes it one */
    char bytes[NAME_BYTES + sizeof(struct cache_key)];
    size_t len;
};

static struct name name_of(struct str text, const struct cache_key *key)
{
    struct name n;
    n.len = text.len < NAME_BYTES ? text.len : NAME_BYTES;
    memcpy(n.bytes, text.p, n.len);
    memcpy(n.bytes + n.len, key, sizeof *key);
    n.len += sizeof *key;
    return n;
}

static uint64_t *bytes_of(struct store *s, uint32_t queue)
{
    return queue == QUEUE_SMALL ? &s->t.small_bytes : &s->t.main_bytes;
}

static void drop_index(struct store *s, const struct cache_key *key)
{
    MDB_val k = key_val(key), v;
    struct record_view view;
    if (mdb_get(s->write, s->entries, &k, &v) ||
        !record_read((struct str){v.mv_data, v.mv_size}, (struct str){NULL, 0}, &view))
        return;
    struct name name = name_of(view.key, key);
    MDB_val n = val(name.bytes, name.len);
    struct str tags = view.tags, tag;
    while (tag_next(&tags, &tag)) {
        MDB_val t = val(tag.p, tag.len), hash = key_val(key);
        mdb_del(s->write, s->tags, &t, &hash);
    }
    mdb_del(s->write, s->names, &n, NULL);
}

/* Removes an entry from all tables. False: there was none. */
static bool drop(struct store *s, const struct cache_key *key)
{
    MDB_val k = key_val(key), v;
    struct place place;
    if (mdb_get(s->write, s->where, &k, &v) || v.mv_size != sizeof place)
        return false;
    memcpy(&place, v.mv_data, sizeof place);
    struct position at = position_of((enum queue)place.queue, place.position);
    MDB_val p = val(&at, sizeof at);
    drop_index(s, key);
    mdb_del(s->write, s->queues, &p, NULL);
    mdb_del(s->write, s->where, &k, NULL);
    mdb_del(s->write, s->entries, &k, NULL);
    *bytes_of(s, place.queue) -= place.size;
    s->t.entries--;
    return true;
}

static bool enqueue(struct store *s, const struct cache_key *key, enum queue queue, uint32_t size)
{
    struct place place = {s->t.next++, size, queue};
    struct position at = position_of(queue, place.position);
    MDB_val k = key_val(key), w = val(&place, sizeof place), p = val(&at, sizeof at);
    *bytes_of(s, queue) += size;
    return !mdb_put(s->write, s->where, &k, &w, 0) && !mdb_put(s->write, s->queues, &p, &k, 0);
}

/* The oldest of a queue. */
static bool oldest(struct store *s, enum queue queue, struct cache_key *key, struct position *at)
{
    MDB_cursor *cursor;
    struct position from = position_of(queue, 0);
    MDB_val p = val(&from, sizeof from), k;
    if (mdb_cursor_open(s->write, s->queues, &cursor))
        return false;
    bool found = mdb_cursor_get(cursor, &p, &k, MDB_SET_RANGE) == 0 && p.mv_size == sizeof *at &&
                 *(unsigned char *)p.mv_data == (unsigned char)queue && k.mv_size == sizeof *key;
    if (found) {
        memcpy(at, p.mv_data, sizeof *at);
        memcpy(key, k.mv_data, sizeof *key);
    }
    mdb_cursor_close(cursor);
    return found;
}

static void forget_ghost(struct store *s, const struct cache_key *key, const struct position *at)
{
    MDB_val k = key_val(key), p = val(at, sizeof *at);
    mdb_del(s->write, s->queues, &p, NULL);
    mdb_del(s->write, s->ghosts, &k, NULL);
    s->t.ghosts--;
}

static void remember_ghost(struct store *s, const struct cache_key *key)
{
    struct position at = position_of(QUEUE_GHOST, s->t.next++), old;
    struct cache_key first;
    MDB_val k = key_val(key), p = val(&at, sizeof at);
    uint64_t most = s->t.entries > GHOSTS_LEAST ? s->t.entries : GHOSTS_LEAST;
    if (mdb_put(s->write, s->ghosts, &k, &p, 0) || mdb_put(s->write, s->queues, &p, &k, 0))
        return;
    s->t.ghosts++;
    while (s->t.ghosts > most && oldest(s, QUEUE_GHOST, &first, &old))
        forget_ghost(s, &first, &old);
}

/* Whether the key fell out of the small queue lately; it is forgotten then. */
static bool take_ghost(struct store *s, const struct cache_key *key)
{
    MDB_val k = key_val(key), v;
    struct position at;
    if (mdb_get(s->write, s->ghosts, &k, &v) || v.mv_size != sizeof at)
        return false;
    memcpy(&at, v.mv_data, sizeof at);
    forget_ghost(s, key, &at);
    return true;
}

static void evict(struct store *s, const struct cache_key *key, uint32_t size)
{
    s->t.evictions++;
    s->t.evicted_bytes += size;
    drop(s, key);
}

/* Moves an entry to the newest end of the main queue. */
static void requeue(struct store *s, const struct cache_key *key, const struct position *at,
                    enum queue from, uint32_t size)
{
    MDB_val p = val(at, sizeof *at);
    mdb_del(s->write, s->queues, &p, NULL);
    *bytes_of(s, from) -= size;
    enqueue(s, key, QUEUE_MAIN, size);
}

/* One step of S3-FIFO on the oldest entry of a queue. False: it is empty. */
static bool evict_step(struct store *s, enum queue queue)
{
    struct cache_key key;
    struct position at;
    struct place place;
    if (!oldest(s, queue, &key, &at))
        return false;
    MDB_val k = key_val(&key), v;
    if (mdb_get(s->write, s->where, &k, &v) || v.mv_size != sizeof place)
        return false;
    memcpy(&place, v.mv_data, sizeof place);
    _Atomic uint8_t *uses = uses_of(s, &key);
    uint8_t n = atomic_load_explicit(uses, memory_order_relaxed);
    if (queue == QUEUE_SMALL && n > 1) {
        atomic_store_explicit(uses, 0, memory_order_relaxed);
        requeue(s, &key, &at, queue, place.size);
    } else if (queue == QUEUE_SMALL) {
        evict(s, &key, place.size);
        remember_ghost(s, &key);
    } else if (n > 0) {
        atomic_store_explicit(uses, n - 1, memory_order_relaxed);
        requeue(s, &key, &at, queue, place.size);
    } else {
        evict(s, &key, place.size);
    }
    return true;
}

static void make_room(struct store *s, uint64_t most)
{
    for (int i = 0; i < MOST_STEPS && s->t.small_bytes + s->t.main_bytes > most; i++) {
        enum queue queue = s->t.small_bytes > most / 10 || !s->t.main_bytes ? QUEUE_SMALL : QUEUE_MAIN;
        if (!evict_step(s, queue) && !evict_step(s, queue == QUEUE_MAIN ? QUEUE_SMALL : QUEUE_MAIN))
            return;
    }
}

void store_shrink(struct store *s)
{
    make_room(s, (s->t.small_bytes + s->t.main_bytes) / 5 * 4);
}

static bool put_index(struct store *s, const struct record_view *view, const struct cache_key *key)
{
    struct name name = name_of(view->key, key);
    MDB_val n = val(name.bytes, name.len), k = key_val(key);
    struct str tags = view->tags, tag;
    bool ok = !mdb_put(s->write, s->names, &n, &k, 0);
    while (ok && tag_next(&tags, &tag)) {
        MDB_val t = val(tag.p, tag.len);
        int rc = mdb_put(s->write, s->tags, &t, &k, MDB_NODUPDATA);
        ok = rc == 0 || rc == MDB_KEYEXIST;
    }
    return ok;
}

bool store_put(struct store *s, struct str record)
{
    struct record_view view;
    if (!record_read(record, (struct str){NULL, 0}, &view))
        return true;
    struct cache_key key = record_key(view.key);
    uint32_t size = store_size(record.len);
    if (size > s->bytes / 8)
        return true;
    MDB_val k = key_val(&key), v;
    struct place place = {.queue = QUEUE_SMALL};
    bool known = mdb_get(s->write, s->where, &k, &v) == 0 && v.mv_size == sizeof place;
    if (known)
        memcpy(&place, v.mv_data, sizeof place); /* an update keeps its queue */
    drop(s, &key);
    if (!known && take_ghost(s, &key))
        place.queue = QUEUE_MAIN;
    if (!known)
        atomic_store_explicit(uses_of(s, &key), 0, memory_order_relaxed);
    make_room(s, s->bytes - size);
    uint64_t id = s->t.next;
    s->t.entries++;
    if (!enqueue(s, &key, (enum queue)place.queue, size) || !put_index(s, &view, &key))
        return false;
    v = val(NULL, record.len);
    if (mdb_put(s->write, s->entries, &k, &v, MDB_RESERVE))
        return false;
    memcpy(v.mv_data, record.p, record.len);
    memcpy((char *)v.mv_data + offsetof(struct record, id), &id, sizeof id);
    return true;
}

/* ---- purging ---- */

/* The name behind `from` in order, if it begins with the prefix. */
static bool next_name(struct store *s, struct str prefix, const struct name *after, struct name *out,
                      struct cache_key *key)
{
    MDB_cursor *cursor;
    MDB_val n = after->len ? val(after->bytes, after->len) : val(prefix.p, prefix.len), k;
    if (mdb_cursor_open(s->write, s->names, &cursor))
        return false;
    int rc = n.mv_size ? mdb_cursor_get(cursor, &n, &k, MDB_SET_RANGE)
                       : mdb_cursor_get(cursor, &n, &k, MDB_FIRST);
    if (!rc && after->len && n.mv_size == after->len && !memcmp(n.mv_data, after->bytes, after->len))
        rc = mdb_cursor_get(cursor, &n, &k, MDB_NEXT);
    bool found = !rc && k.mv_size == sizeof *key && n.mv_size <= sizeof out->bytes &&
                 n.mv_size - sizeof *key >= prefix.len && !memcmp(n.mv_data, prefix.p, prefix.len);
    if (found) {
        memcpy(out->bytes, n.mv_data, n.mv_size);
        out->len = n.mv_size;
        memcpy(key, k.mv_data, sizeof *key);
    }
    mdb_cursor_close(cursor);
    return found;
}

/* Whether an entry's whole text begins with `text`; `exact`: is it, or a variant of it. */
static bool text_fits(struct store *s, const struct cache_key *key, struct str text, bool exact)
{
    MDB_val k = key_val(key), v;
    struct record_view view;
    return mdb_get(s->write, s->entries, &k, &v) == 0 &&
           record_read((struct str){v.mv_data, v.mv_size}, (struct str){NULL, 0}, &view) &&
           str_starts(view.key, text) &&
           (!exact || view.key.len == text.len || view.key.p[text.len] == '\n');
}

static uint64_t purge_names(struct store *s, struct str text, bool exact)
{
    struct name at = {.len = 0}, next;
    struct cache_key key;
    uint64_t count = 0;
    struct str prefix = {text.p, text.len < NAME_BYTES ? text.len : NAME_BYTES};
    while (next_name(s, prefix, &at, &next, &key)) {
        if (text_fits(s, &key, text, exact))
            count += drop(s, &key);
        at = next;
    }
    return count;
}

uint64_t store_purge_key(struct store *s, struct str text)
{
    return purge_names(s, text, true);
}

uint64_t store_purge_prefix(struct store *s, struct str text)
{
    return purge_names(s, text, false);
}

uint64_t store_purge_tag(struct store *s, struct str tag)
{
    MDB_val t = val(tag.p, tag.len < TAG_BYTES ? tag.len : TAG_BYTES), k;
    uint64_t count = 0;
    struct cache_key key;
    while (tag.len && mdb_get(s->write, s->tags, &t, &k) == 0 && k.mv_size == sizeof key) {
        memcpy(&key, k.mv_data, sizeof key);
        if (drop(s, &key)) {
            count++;
        } else {
            k = key_val(&key);
            mdb_del(s->write, s->tags, &t, &k);
        }
    }
    return count;
}

uint64_t store_purge_all(struct store *s)
{
    uint64_t count = s->t.entries;
    MDB_dbi tables[] = {s->entries, s->where, s->queues, s->ghosts, s->names, s->tags};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        mdb_drop(s->write, tables[i], 0);
    s->t.entries = s->t.ghosts = s->t.small_bytes = s->t.main_bytes = 0;
    return count;
}
