/* From what a handler returned to an answer:
 *
 *     "text"                          200, text/plain
 *     { ... }                         200, application/json
 *     404                             that status, no body
 *     201, body, { name = value }     all three; body: string, table, function
 *     function(write) ... end         200, streamed; write(bytes) waits when the
 *                                     client is slow and returns nil when it left;
 *                                     not called where an answer has no body
 *     perilune.forward(name, path)    answered by that upstream
 *
 * Header names and values are judged here, so nothing a script got from
 * elsewhere can split a response (RFC 9110 5.5).
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "script/json.h"

enum { HEADERS_MAX = 64 };

#define FORWARD_TYPE "perilune.forward"

struct draft {
    int status;
    struct http_header headers[HEADERS_MAX + 1];
    size_t count;
    bool has_type;
};

/* Raises an error without a position: the trampoline's line says nothing to the
 * user, and the log names the route and where it was declared. */
static int fail(lua_State *L, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    return lua_error(L);
}

static bool is_framing_field(struct str name)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "connection",
                                        "keep-alive",     "upgrade",           "trailer"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_iequal(name, str_from(names[i])))
            return true;
    return false;
}

/* Adds name and the value on top of the stack. */
static void add_header(lua_State *L, struct fiber *f, struct draft *d, struct str name)
{
    size_t len;
    int type = lua_type(L, -1);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
        fail(L, "the value of header '%s' is a %s; it must be a string, a number or a list "
                      "of them", name.p, lua_typename(L, type));
    const char *p = lua_tolstring(L, -1, &len);
    struct str value = arena_copy(f->ex->arena, str_trim((struct str){p, len}));
    if (!head_is_token(name))
        fail(L, "a header name holds characters that are not allowed there");
    if (!value.p || !head_is_value(value))
        fail(L, "the value of header '%s' holds line breaks or control characters", name.p);
    if (is_framing_field(name))
        fail(L, "header '%s' is set by the engine; leave it out", name.p);
    if (d->count == HEADERS_MAX)
        fail(L, "an answer has at most %d headers", HEADERS_MAX);
    d->has_type = d->has_type || str_iequal(name, STR("content-type"));
    d->headers[d->count++] = (struct http_header){name, value};
}

static void take_headers(lua_State *L, struct fiber *f, struct draft *d, int index)
{
    if (lua_isnoneornil(L, index))
        return;
    if (!lua_istable(L, index))
        fail(L, "the third value a handler returns is a table of headers, not a %s",
                   luaL_typename(L, index));
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            fail(L, "header names are strings, not a %s", luaL_typename(L, -2));
        size_t len;
        const char *p = lua_tolstring(L, -2, &len);
        struct str name = {p, len};
        if (!lua_istable(L, -1)) {
            add_header(L, f, d, name);
            continue;
        }
        int n = (int)lua_objlen(L, -1);
        for (int i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, i);
            add_header(L, f, d, name);
            lua_pop(L, 1);
        }
    }
}

/* The exchange is the server's again; the fiber has no more to do with it. */
static struct exchange *release(struct fiber *f)
{
    struct exchange *ex = f->ex;
    fiber_stop_clock(f);
    f->ex = NULL;
    ex->user = NULL;
    ex->on_gone = NULL;
    return ex;
}

static void default_type(struct draft *d, struct str type)
{
    if (!d->has_type)
        d->headers[d->count++] = (struct http_header){STR("Content-Type"), type};
}

static void send_whole(struct fiber *f, struct draft *d, struct str body)
{
    struct answer answer = {.status = d->status, .headers = d->headers, .header_count = d->count,
                            .length = (int64_t)body.len};
    exchange_answer(release(f), &answer, body);
}

/* ---- streams ---- */

static void cancel_drain(struct fiber *f)
{
    (void)f; /* on_drain goes with the exchange */
}

static int push_true(lua_State *L, void *user)
{
    (void)user;
    lua_pushboolean(L, 1);
    return 1;
}

static void on_drain(struct exchange *ex)
{
    struct fiber *f = ex->user;
    if (f && f->wait.cancel == cancel_drain)
        fiber_resume(f, push_true, NULL);
}

/* write(bytes): true, or nil and why. Waits while the client is behind. */
static int stream_write_lua(lua_State *L)
{
    struct fiber *f = lua_touserdata(L, lua_upvalueindex(1));
    size_t len;
    const char *p = luaL_checklstring(L, 1, &len);
    /* Fibers are recycled, so the same one can be at another request by now. */
    if (f != fiber_running(L) || (double)f->stream != lua_tonumber(L, lua_upvalueindex(2)))
        return fail(L, "write belongs to another request");
    if (!f->ex) {
        lua_pushnil(L);
        lua_pushliteral(L, "the client has gone");
        lua_pushliteral(L, "closed");
        return 3;
    }
    exchange_send(f->ex, (struct str){p, len});
    exchange_flush(f->ex);
    if (f->ex && exchange_pending(f->ex) >
                     setting_integer(&f->script->board->settings, SETTING_UPSTREAM_BUFFER_BYTES)) {
        int yields = fiber_wait(L, f, cancel_drain, NULL);
        f->wait.needs_client = true;
        return yields;
    }
    lua_pushboolean(L, f->ex != NULL);
    return 1;
}

static int send_stream(lua_State *L, struct fiber *f, struct draft *d, int function)
{
    struct answer answer = {.status = d->status, .headers = d->headers, .header_count = d->count,
                            .length = -1};
    f->stream = ++f->script->streams;
    f->ex->on_drain = on_drain;
    bool bodiless = exchange_is_bodiless(f->ex, d->status);
    exchange_begin(f->ex, &answer);
    if (bodiless) {
        if (f->ex)
            exchange_end(release(f));
        return 0;
    }
    exchange_flush(f->ex);
    lua_pushvalue(L, function);
    lua_pushlightuserdata(L, f);
    lua_pushnumber(L, (double)f->stream);
    lua_pushcclosure(L, stream_write_lua, 2);
    return 2;
}

/* ---- bodies ---- */

static void send_json(lua_State *L, struct fiber *f, struct draft *d, int index)
{
    struct buf *json = &f->script->json;
    const char *why = NULL;
    buf_clear(json);
    if (!json_encode(L, index, json, &why))
        fail(L, "the answer cannot be written as JSON: %s", why);
    default_type(d, STR("application/json"));
    send_whole(f, d, buf_str(json));
}

static int send_body(lua_State *L, struct fiber *f, struct draft *d, int index, int type)
{
    size_t len;
    const char *p;
    switch (type) {
    case LUA_TNONE:
    case LUA_TNIL:
        send_whole(f, d, (struct str){NULL, 0});
        return 0;
    case LUA_TNUMBER:
    case LUA_TSTRING:
        p = lua_tolstring(L, index, &len);
        default_type(d, STR("text/plain; charset=utf-8"));
        send_whole(f, d, (struct str){p, len});
        return 0;
    case LUA_TTABLE:
        send_json(L, f, d, index);
        return 0;
    case LUA_TFUNCTION:
        return send_stream(L, f, d, index);
    default:
        return fail(L, "a %s cannot be a body; return a string, a table or a function",
                          luaL_typename(L, index));
    }
}

/* ---- forwarding ---- */

static bool is_forward(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, FORWARD_TYPE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static int forward(lua_State *L, struct fiber *f, int index)
{
    struct str path = {NULL, 0};
    lua_getfield(L, index, "upstream");
    lua_getfield(L, index, "path");
    const char *name = lua_tostring(L, -2);
    if (lua_isstring(L, -1))
        path.p = lua_tolstring(L, -1, &path.len);
    for (size_t i = 0; i < path.len; i++)
        if ((unsigned char)path.p[i] <= ' ' || (unsigned char)path.p[i] >= 0x7f || path.p[i] == '#')
            return fail(L, "the path to forward to holds characters that need %%-encoding");
    for (size_t i = 0; name && i < f->script->named_count; i++)
        if (strcmp(f->script->named[i].name, name) == 0) {
            fiber_stop_clock(f);
            script_forward(f, &f->script->named[i], path);
            return 0;
        }
    return fail(L, "there is no upstream named '%s' in the configuration", name ? name : "?");
}

int answer_from_lua(lua_State *L, struct fiber *f, int first)
{
    struct draft draft; /* its headers are filled as they come: zeroing them all costs more than an answer */
    draft.status = 200;
    draft.count = 0;
    draft.has_type = false;
    int type = lua_type(L, first);
    if (type == LUA_TNONE || type == LUA_TNIL)
        return fail(L, "the handler returned nothing; return a string, a table, a status, "
                             "or status, body, headers");
    if (type == LUA_TTABLE && is_forward(L, first))
        return forward(L, f, first);
    if (type != LUA_TNUMBER)
        return send_body(L, f, &draft, first, type);
    double status = lua_tonumber(L, first);
    if (status < 200 || status > 599 || status != (int)status)
        return fail(L, "a status is a whole number from 200 to 599, not %f", status);
    lua_settop(L, first + 2);
    draft.status = (int)status;
    luaL_checkstack(L, 8, "headers");
    take_headers(L, f, &draft, first + 2);
    return send_body(L, f, &draft, first + 1, lua_type(L, first + 1));
}

void answer_open(lua_State *L)
{
    luaL_newmetatable(L, FORWARD_TYPE);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setfield(L, -2, "forward_type");
}
