/* What one connection has prepared, bounded; the least recently used is closed first.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "pg/wire.h"

#include <stdio.h>
#include <stdlib.h>

static struct prepared **bucket_of(struct pg_conn *c, uint64_t id)
{
    return &c->buckets[id % PREPARED_BUCKETS];
}

void prepared_name(uint64_t id, char out[PREPARED_NAME])
{
    snprintf(out, PREPARED_NAME, "p%llu", (unsigned long long)id);
}

static void unlink_aged(struct pg_conn *c, struct prepared *p)
{
    *(p->older ? &p->older->newer : &c->oldest) = p->newer;
    *(p->newer ? &p->newer->older : &c->newest) = p->older;
    p->older = p->newer = NULL;
}

static void link_newest(struct pg_conn *c, struct prepared *p)
{
    p->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = p;
    c->newest = p;
}

struct prepared *prepared_find(struct pg_conn *c, uint64_t id)
{
    struct prepared *p = *bucket_of(c, id);
    while (p && p->id != id)
        p = p->next;
    if (p && p != c->newest) {
        unlink_aged(c, p);
        link_newest(c, p);
    }
    return p;
}

void prepared_put(struct prepared *p)
{
    if (!p || --p->refs > 0)
        return;
    pg_columns_put(p->columns);
    free(p);
}

void prepared_drop(struct pg_conn *c, struct prepared *p)
{
    struct prepared **at = bucket_of(c, p->id);
    if (p->dropped)
        return;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    unlink_aged(c, p);
    c->prepared_count--;
    p->dropped = true;
    prepared_put(p);
}

struct prepared *prepared_add(struct pg_conn *c, uint64_t id)
{
    char name[PREPARED_NAME];
    while (c->prepared_count >= (unsigned)pg_setting(c->pool, SETTING_POOL_DB_PREPARED)) {
        prepared_name(c->oldest->id, name);
        wire_close(&c->out, name);
        prepared_drop(c, c->oldest);
    }
    struct prepared *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->id = id;
    p->refs = 1;
    p->next = *bucket_of(c, id);
    *bucket_of(c, id) = p;
    link_newest(c, p);
    c->prepared_count++;
    return p;
}

void prepared_clear(struct pg_conn *c)
{
    for (struct prepared *p = c->oldest, *newer; p; p = newer) {
        newer = p->newer;
        prepared_drop(c, p);
    }
}
