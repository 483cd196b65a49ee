// SPDX-License-Identifier: MIT
#include "pg/wire.h"

#include <stdio.h>
#include <stdlib.h>

void wire_add_u32(struct buf *b, uint32_t value)
{
    unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16), (unsigned char)(value >> 8),
                              (unsigned char)value};
    buf_add(b, bytes, 4);
}

void wire_add_u16(struct buf *b, uint16_t value)
{
    unsigned char bytes[2] = {(unsigned char)(value >> 8), (unsigned char)value};
    buf_add(b, bytes, 2);
}

static void add_head(struct buf *b, char type, size_t body)
{
    buf_add_char(b, type);
    wire_add_u32(b, (uint32_t)(body + 4));
}

static void add_text(struct buf *b, struct str text)
{
    buf_add_str(b, text);
    buf_add_char(b, 0);
}

void wire_parse(struct buf *b, const char *name, struct str sql)
{
    add_head(b, 'P', strlen(name) + 1 + sql.len + 1 + 2);
    add_text(b, str_from(name));
    add_text(b, sql);
    wire_add_u16(b, 0); /* the server finds the types */
}

void wire_bind(struct buf *b, const char *name, struct str params)
{
    add_head(b, 'B', 1 + strlen(name) + 1 + params.len + 2);
    buf_add_char(b, 0); /* the unnamed portal */
    add_text(b, str_from(name));
    buf_add_str(b, params);
    wire_add_u16(b, 0); /* results as text */
}

static void add_named(struct buf *b, char type, char kind, const char *name)
{
    add_head(b, type, 1 + strlen(name) + 1);
    buf_add_char(b, kind);
    add_text(b, str_from(name));
}

void wire_describe_statement(struct buf *b, const char *name)
{
    add_named(b, 'D', 'S', name);
}

void wire_describe_portal(struct buf *b)
{
    add_named(b, 'D', 'P', "");
}

void wire_execute(struct buf *b)
{
    add_head(b, 'E', 1 + 4);
    buf_add_char(b, 0);
    wire_add_u32(b, 0); /* all rows */
}

void wire_close(struct buf *b, const char *name)
{
    add_named(b, 'C', 'S', name);
}

void wire_sync(struct buf *b)
{
    add_head(b, 'S', 0);
}

int64_t wire_length(struct str in)
{
    if (in.len < WIRE_HEAD)
        return 0;
    uint32_t len = wire_u32(in.p + 1);
    if (len < 4 || len > WIRE_MESSAGE_MAX)
        return -1;
    return in.len >= (size_t)len + 1 ? (int64_t)len + 1 : 0;
}

/* ---- what the server says ---- */

enum { COLUMN_TAIL = 18 }; /* table 4, attribute 2, type 4, size 2, modifier 4, format 2 */

struct pg_columns *wire_columns(struct str body)
{
    if (body.len < 2 || wire_u16(body.p) > WIRE_COLUMNS_MAX)
        return NULL;
    unsigned count = wire_u16(body.p);
    const char *p = body.p + 2, *end = body.p + body.len;
    struct pg_columns *c = calloc(1, sizeof *c + count * sizeof *c->list + body.len);
    if (!c)
        return NULL;
    char *names = (char *)&c->list[count];
    c->refs = 1;
    c->count = count;
    for (unsigned i = 0; i < count; i++) {
        const char *zero = memchr(p, 0, (size_t)(end - p));
        if (!zero || end - zero <= COLUMN_TAIL) {
            free(c);
            return NULL;
        }
        c->list[i].name = (struct str){names, (size_t)(zero - p)};
        memcpy(names, p, c->list[i].name.len);
        names += c->list[i].name.len;
        c->list[i].oid = wire_u32(zero + 1 + 6);
        p = zero + 1 + COLUMN_TAIL;
    }
    return c;
}

bool wire_row(struct str body, unsigned columns, struct str *values)
{
    if (body.len < 2 || wire_u16(body.p) != columns)
        return false;
    const char *p = body.p + 2, *end = body.p + body.len;
    *values = (struct str){p, body.len - 2};
    for (unsigned i = 0; i < columns; i++) {
        if (end - p < 4)
            return false;
        int32_t len = (int32_t)wire_u32(p);
        p += 4;
        if (len < -1 || len > end - p)
            return false;
        p += len > 0 ? len : 0;
    }
    return p == end;
}

bool wire_types(struct str body, uint32_t **oids, unsigned *count)
{
    if (body.len < 2 || body.len != 2 + 4 * (size_t)wire_u16(body.p))
        return false;
    *count = wire_u16(body.p);
    *oids = malloc((*count + 1) * sizeof **oids);
    for (unsigned i = 0; *oids && i < *count; i++)
        (*oids)[i] = wire_u32(body.p + 2 + 4 * (size_t)i);
    return *oids != NULL;
}

void wire_error(struct str body, struct pg_error *out, bool *fatal)
{
    const char *p = body.p, *end = body.p + body.len;
    *fatal = false;
    pg_error_clear(out);
    memcpy(out->sqlstate, "XX000", PG_SQLSTATE);
    while (p < end && *p) {
        const char *text = p + 1, *zero = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;
        if (!zero)
            return;
        char **to = *p == 'M' ? &out->message : *p == 'D' ? &out->detail : *p == 'H' ? &out->hint :
                    *p == 'n' ? &out->constraint : *p == 't' ? &out->table : *p == 'c' ? &out->column : NULL;
        if (to && !*to)
            *to = strdup(text);
        else if (*p == 'V')
            *fatal = strcmp(text, "FATAL") == 0 || strcmp(text, "PANIC") == 0;
        else if (*p == 'C' && zero - text == PG_SQLSTATE - 1)
            memcpy(out->sqlstate, text, PG_SQLSTATE);
        p = zero + 1;
    }
}

uint64_t wire_tag(struct str body)
{
    uint64_t n = 0;
    struct str last = body;
    while (last.len && last.p[last.len - 1] == 0)
        last.len--;
    for (size_t i = last.len; i > 0; i--)
        if (last.p[i - 1] == ' ') {
            last = (struct str){last.p + i, last.len - i};
            break;
        }
    return str_to_u64(last, &n) ? n : 0;
}

void pg_columns_put(struct pg_columns *columns)
{
    if (columns && --columns->refs == 0)
        free(columns);
}

void pg_error_set(struct pg_error *e, const char *sqlstate, const char *format, ...)
{
    va_list args;
    pg_error_clear(e);
    snprintf(e->sqlstate, sizeof e->sqlstate, "%s", sqlstate);
    va_start(args, format);
    if (vasprintf(&e->message, format, args) < 0)
        e->message = NULL;
    va_end(args);
}

void pg_error_clear(struct pg_error *e)
{
    free(e->message);
    free(e->detail);
    free(e->hint);
    free(e->constraint);
    free(e->table);
    free(e->column);
    memset(e, 0, sizeof *e);
}
