/* codec_module.c - `require "perilune.codec"`: compression as the server does it, for programs that want it.
 *
 * A library of its own, so that a program which only measures needs none of the compressors.
 *
 *     codec.compress(body, coding, level, max_bytes)   body, or nil and why
 *     codec.choose(accept, order)                      the coding that a client of this Accept-Encoding gets
 *     codec.decompress(body, coding, max_bytes)
 */
// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "codec/accept.h"

#include <lauxlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define CODEC "perilune.codec"

enum { DECODED_MOST = 64 << 20 };

struct holder {
    struct codec *codec;
};

static int collect(lua_State *L)
{
    struct holder *h = lua_touserdata(L, 1);
    codec_free(h->codec);
    return 0;
}

static enum codec_id coding_at(lua_State *L, int at)
{
    struct str name;
    name.p = luaL_checklstring(L, at, &name.len);
    enum codec_id id = codec_from_name(name);
    if (id == CODEC_COUNT)
        luaL_argerror(L, at, "gzip, deflate, br, zstd or identity");
    return id;
}

static int refuse(lua_State *L, int err)
{
    lua_pushnil(L);
    lua_pushstring(L, err == ERR_TOO_LARGE ? "the result would be larger than allowed" : err_text(err));
    lua_pushstring(L, err_word(err));
    return 3;
}

static int compress(lua_State *L)
{
    struct holder *h = lua_touserdata(L, lua_upvalueindex(1));
    struct str body;
    body.p = luaL_checklstring(L, 1, &body.len);
    enum codec_id id = coding_at(L, 2);
    int level = codec_level(id, (int)luaL_optinteger(L, 3, 6));
    double most = luaL_optnumber(L, 4, 0);
    luaL_argcheck(L, most >= 0 && most < 9e15, 4, "bytes, 0 (any) or above");
    struct buf out = {0};
    int err = codec_compress(h->codec, id, level, body, (size_t)most, &out);
    if (err == 0)
        lua_pushlstring(L, buf_str(&out).p, buf_len(&out));
    buf_done(&out);
    return err == 0 ? 1 : refuse(L, err);
}

static int decompress(lua_State *L)
{
    struct str body;
    body.p = luaL_checklstring(L, 1, &body.len);
    enum codec_id id = coding_at(L, 2);
    struct codec_limits limits = {.max_bytes = (uint64_t)luaL_optnumber(L, 3, DECODED_MOST)};
    struct codec_decoder *d = codec_decoder_new(id, &limits);
    struct buf out = {0};
    int err = d ? codec_decode(d, body, &out) : ERR_INVAL;
    if (err == 0 && !codec_decoder_done(d))
        err = ERR_PROTOCOL;
    if (err == 0)
        lua_pushlstring(L, buf_len(&out) ? buf_str(&out).p : "", buf_len(&out));
    buf_done(&out);
    codec_decoder_free(d);
    return err == 0 ? 1 : refuse(L, err);
}

/* choose(accept, order): "identity" when the client takes none of them. */
static int choose(lua_State *L)
{
    struct accept a = {0};
    struct str value;
    enum codec_id order[CODEC_COUNT];
    unsigned n = 0;
    value.p = luaL_checklstring(L, 1, &value.len);
    luaL_checktype(L, 2, LUA_TTABLE);
    accept_read(&a, value);
    for (int i = 1; i <= (int)lua_objlen(L, 2) && n < CODEC_COUNT; i++) {
        lua_rawgeti(L, 2, i);
        order[n++] = coding_at(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_pushstring(L, codec_name(accept_choose(&a, order, n)));
    return 1;
}

EXPORT int luaopen_perilune_codec(lua_State *L);
int luaopen_perilune_codec(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, choose);
    lua_setfield(L, -2, "choose");
    lua_pushcfunction(L, decompress);
    lua_setfield(L, -2, "decompress");
    struct holder *h = lua_newuserdata(L, sizeof *h);
    h->codec = NULL;
    if (luaL_newmetatable(L, CODEC)) {
        lua_pushcfunction(L, collect);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if (!(h->codec = codec_new()))
        return luaL_error(L, "out of memory");
    lua_pushcclosure(L, compress, 1);
    lua_setfield(L, -2, "compress");
    return 1;
}
