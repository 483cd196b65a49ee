/* db_values.h - Lua values to PostgreSQL's and back.
 *
 *     NULL                json.null (nil as a parameter, too)
 *     boolean             boolean
 *     int2 .. int8, oid   number; a string above 2^53
 *     float4, float8      number
 *     numeric             number while that is exact (15 digits), else a string
 *     bytea               string of its bytes
 *     json, jsonb         what it holds; as a parameter a string is JSON text already
 *     arrays              lists, nested as they are
 *     timestamp(tz)       string, RFC 3339: "2026-01-02T03:04:05.678Z"
 *     everything else     string as the server writes it
 *
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"

#include <lua.h>

enum { DB_NULL = -1 };

/* Pushes one value; len DB_NULL: NULL. */
void db_push_value(lua_State *L, uint32_t oid, const char *p, int32_t len);

/* Appends the arguments from `first` as a Bind message holds them. Raises what
 * cannot be sent. `scratch` is a buffer that survives the raise. */
void db_add_params(lua_State *L, int first, int count, const uint32_t *oids, struct buf *out, struct buf *scratch);
