/* wire.h - messages of PostgreSQL's protocol 3.0: writing ours, reading the server's.
 *
 * Every length and count that the server sends is checked against what is there.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "pg/pg.h"

enum { WIRE_HEAD = 5, WIRE_MESSAGE_MAX = 1 << 30, WIRE_COLUMNS_MAX = 1664 };

static inline uint32_t wire_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static inline uint16_t wire_u16(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint16_t)(u[0] << 8 | u[1]);
}

void wire_add_u32(struct buf *b, uint32_t value);
void wire_add_u16(struct buf *b, uint16_t value);

void wire_parse(struct buf *b, const char *name, struct str sql);
void wire_bind(struct buf *b, const char *name, struct str params);
void wire_describe_statement(struct buf *b, const char *name);
void wire_describe_portal(struct buf *b);
void wire_execute(struct buf *b);
void wire_close(struct buf *b, const char *name);
void wire_sync(struct buf *b);

/* Length of the whole message at the start of `in`; 0: more bytes are needed; -1: not a message. */
int64_t wire_length(struct str in);

/* RowDescription to columns; NULL: malformed or out of memory. */
struct pg_columns *wire_columns(struct str body);

/* DataRow: whether it holds exactly so many values; *values is what follows the count. */
bool wire_row(struct str body, unsigned columns, struct str *values);

/* ParameterDescription: *oids is malloc'ed. */
bool wire_types(struct str body, uint32_t **oids, unsigned *count);

/* ErrorResponse and NoticeResponse. *fatal: the server ends the connection. */
void wire_error(struct str body, struct pg_error *out, bool *fatal);

/* Rows that a command tag speaks of ("INSERT 0 5"). */
uint64_t wire_tag(struct str body);

void pg_columns_put(struct pg_columns *columns);
void pg_error_set(struct pg_error *e, const char *sqlstate, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void pg_error_clear(struct pg_error *e);
