/* The compression policy: which answers, how densely (http/compress.h does it).
 *
 * It is no stage: the filter is put in place when the client accepts any coding,
 * so that others pay nothing.
 */
// SPDX-License-Identifier: MIT
#include "http/compress.h"
#include "script/fields.h"
#include "script/state.h"

#include <stdlib.h>

static bool read_types(lua_State *L, struct compress_rules *r)
{
    lua_getfield(L, -1, "types");
    size_t n = lua_objlen(L, -1);
    r->types = calloc(n + 1, sizeof *r->types);
    for (size_t i = 0; r->types && i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        const char *type = lua_tostring(L, -1);
        char *copy = type && *type ? strdup(type) : NULL;
        if (copy)
            r->types[r->type_count++] = copy;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return r->types && r->type_count == n;
}

static void read_order(lua_State *L, struct compress_rules *r)
{
    lua_getfield(L, -1, "order");
    size_t n = lua_objlen(L, -1);
    for (size_t i = 0; i < n && r->order_count < CODEC_COUNT; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        enum codec_id id = codec_from_name(str_from(lua_tostring(L, -1)));
        if (id != CODEC_COUNT)
            r->order[r->order_count++] = id;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* A level, or a list of { level =, up_to = } that the schema has judged. */
static void read_steps(lua_State *L, struct level_step *steps)
{
    size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    for (size_t i = 0; i < n && i < LEVEL_STEPS; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        steps[i].level = (int)field_number(L, "level", 0);
        steps[i].up_to_bytes = i + 1 < n ? (uint64_t)field_number(L, "up_to", 0) : UINT64_MAX;
        lua_pop(L, 1);
    }
    if (!n)
        steps[0] = (struct level_step){UINT64_MAX, (int)lua_tonumber(L, -1)};
}

static void read_levels(lua_State *L, struct compress_rules *r)
{
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++) {
        lua_getfield(L, -1, codec_name(id));
        read_steps(L, r->steps[id]);
        lua_pop(L, 1);
    }
}

static void *read_compression(lua_State *L, struct script *s, const struct route *route)
{
    (void)s;
    (void)route;
    if (!field_flag(L, "enabled"))
        return NULL;
    struct compress_rules *r = compress_rules_new();
    if (!r || !read_types(L, r)) {
        if (r)
            compress_rules_put(r);
        luaL_error(L, "out of memory, or an empty type in 'types'");
        return NULL;
    }
    lua_getfield(L, -1, "min_bytes");
    r->min_bytes = lua_isnumber(L, -1) ? (int64_t)lua_tonumber(L, -1) : -1;
    lua_pop(L, 1);
    read_order(L, r);
    read_levels(L, r);
    r->cpu_high = field_number(L, "cpu_high", 0);
    r->cpu_full = field_number(L, "cpu_full", 0);
    r->lag_full_ns = (uint64_t)(field_number(L, "lag_full_ms", 0) * 1e6);
    r->skip_set_cookie = field_flag(L, "skip_set_cookie");
    r->skip_cross_site = field_flag(L, "skip_cross_site");
    r->decode_requests = field_flag(L, "decode_requests");
    return r;
}

static void free_compression(void *policy)
{
    compress_rules_put(policy);
}

const struct policy_kind policy_compression = {.name = "compression", .read = read_compression, .free = free_compression};
