/* Statements by their text: what a pool remembers of each, bounded, the least
 * recently used forgotten first.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include <stdlib.h>

static const double WEIGHT = 0.05; /* of the newest in the moving average */

/* Skips white space and comments; comments nest. */
static struct str skip_space(struct str s)
{
    while (s.len) {
        if (strchr(" \t\r\n\f\v(", *s.p) && *s.p) {
            s = (struct str){s.p + 1, s.len - 1};
        } else if (s.len > 1 && s.p[0] == '-' && s.p[1] == '-') {
            const char *end = memchr(s.p, '\n', s.len);
            s = end ? (struct str){end, s.len - (size_t)(end - s.p)} : (struct str){s.p + s.len, 0};
        } else if (s.len > 1 && s.p[0] == '/' && s.p[1] == '*') {
            unsigned depth = 0;
            size_t i = 0;
            do {
                bool opens = i + 1 < s.len && s.p[i] == '/' && s.p[i + 1] == '*';
                bool closes = i + 1 < s.len && s.p[i] == '*' && s.p[i + 1] == '/';
                depth = depth + opens - closes;
                i += opens || closes ? 2 : 1;
            } while (depth && i < s.len);
            i = i < s.len ? i : s.len;
            s = (struct str){s.p + i, s.len - i};
        } else {
            break;
        }
    }
    return s;
}

static struct str take_word(struct str *s)
{
    *s = skip_space(*s);
    size_t n = 0;
    while (n < s->len && ((s->p[n] | 0x20) >= 'a' && (s->p[n] | 0x20) <= 'z'))
        n++;
    struct str word = {s->p, n};
    *s = (struct str){s->p + n, s->len - n};
    return word;
}

static bool is_one_of(struct str word, const char *const *list)
{
    for (; *list; list++)
        if (str_iequal(word, str_from(*list)))
            return true;
    return false;
}

static enum pg_verb verb_of(struct str sql)
{
    static const char *const control[] = {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", NULL};
    static const char *const session[] = {"reset", "discard", "listen", "unlisten", "declare", "fetch", "move", "close", "deallocate",
                                          "execute", "load", NULL};
    static const char *const local[] = {"local", "transaction", "constraints", NULL};
    struct str word = take_word(&sql);
    if (is_one_of(word, control))
        return PG_CONTROL;
    if (str_iequal(word, STR("copy")))
        return PG_COPY;
    if (str_iequal(word, STR("prepare"))) /* PREPARE TRANSACTION and PREPARE name */
        return str_iequal(take_word(&sql), STR("transaction")) ? PG_CONTROL : PG_SESSION;
    if (str_iequal(word, STR("set")))
        return is_one_of(take_word(&sql), local) ? PG_PLAIN : PG_SESSION;
    return is_one_of(word, session) ? PG_SESSION : PG_PLAIN;
}

/* ---- the table ---- */

static void unlink_aged(struct texts *t, struct pg_statement *st)
{
    *(st->older ? &st->older->newer : &t->oldest) = st->newer;
    *(st->newer ? &st->newer->older : &t->newest) = st->older;
    st->older = st->newer = NULL;
}

static void link_newest(struct texts *t, struct pg_statement *st)
{
    st->older = t->newest;
    st->newer = NULL;
    *(t->newest ? &t->newest->newer : &t->oldest) = st;
    t->newest = st;
}

static void forget(struct texts *t, struct pg_statement *st)
{
    struct pg_statement **at = &t->buckets[st->hash & (t->size - 1)];
    while (*at != st)
        at = &(*at)->next;
    *at = st->next;
    unlink_aged(t, st);
    t->count--;
    free(st->param_oids);
    free(st);
}

void texts_done(struct texts *t)
{
    for (struct pg_statement *st = t->oldest, *newer; st; st = newer) {
        newer = st->newer;
        forget(t, st);
    }
    free(t->buckets);
}

static bool grow(struct texts *t)
{
    unsigned size = t->size ? t->size * 2 : 64;
    struct pg_statement **buckets = calloc(size, sizeof(struct pg_statement *)); /* NOLINT(bugprone-sizeof-expression) */
    if (!buckets)
        return t->size > 0;
    for (unsigned i = 0; i < t->size; i++)
        for (struct pg_statement *st = t->buckets[i], *next; st; st = next) {
            next = st->next;
            st->next = buckets[st->hash & (size - 1)];
            buckets[st->hash & (size - 1)] = st;
        }
    free(t->buckets);
    t->buckets = buckets;
    t->size = size;
    return true;
}

static uint32_t shape_of(const struct pg_pool *pool, struct str sql)
{
    struct board *board = pool->all->board;
    struct str name = str_from(pool->spec.name);
    char *shape = pool->all->worker == POOL_CONTROL ? NULL : malloc(sql.len + 1); /* what control asks is not shown */
    if (!shape)
        return 0;
    struct str text = {shape, statement_shape(sql, shape)};
    uint32_t index = statements_open(&board->statements, board_hash(board, text, board_hash(board, name, 0)), name, text);
    free(shape);
    return index;
}

static struct pg_statement *hold(struct texts *t, struct pg_statement *st)
{
    if (st->refs++ == 0)
        unlink_aged(t, st);
    return st;
}

struct pg_statement *pg_statement_get(struct pg_pool *pool, struct str sql)
{
    struct texts *t = &pool->texts;
    uint64_t hash = board_hash(pool->all->board, sql, (uintptr_t)pool);
    if (t->count >= t->size && !grow(t))
        return NULL;
    for (struct pg_statement *st = t->buckets[hash & (t->size - 1)]; st; st = st->next)
        if (st->hash == hash && str_equal(st->sql, sql))
            return hold(t, st);
    if (t->count >= (unsigned)pg_setting(pool, SETTING_POOL_DB_TEXTS) && t->oldest)
        forget(t, t->oldest);
    struct pg_statement *st = calloc(1, sizeof *st + sql.len + 1);
    if (!st)
        return NULL;
    char *copy = (char *)(st + 1);
    memcpy(copy, sql.p, sql.len);
    st->sql = (struct str){copy, sql.len};
    st->pool = pool;
    st->hash = hash;
    st->id = ++t->next_id;
    st->refs = 1;
    st->verb = verb_of(sql);
    st->shape = shape_of(pool, sql);
    st->next = t->buckets[hash & (t->size - 1)];
    t->buckets[hash & (t->size - 1)] = st;
    t->count++;
    return st;
}

void pg_statement_hold(struct pg_statement *st)
{
    hold(&st->pool->texts, st);
}

void pg_statement_put(struct pg_statement *st)
{
    if (st && --st->refs == 0)
        link_newest(&st->pool->texts, st);
}

uint32_t pg_statement_shape(const struct pg_statement *st)
{
    return st->shape;
}

enum pg_verb pg_statement_verb(const struct pg_statement *st)
{
    return st->verb;
}

bool pg_statement_types(const struct pg_statement *st, const uint32_t **oids, unsigned *count)
{
    *oids = st->param_oids;
    *count = st->param_count;
    return st->typed;
}

void pg_statement_took(struct pg_statement *st, uint64_t ns)
{
    double ms = (double)ns / 1e6, most = 2 * st->mean_ms + 1;
    if (st->mean_ms > 0 && ms > most)
        ms = most; /* a hiccup is no habit */
    st->mean_ms = st->mean_ms > 0 ? st->mean_ms + WEIGHT * (ms - st->mean_ms) : ms;
}
