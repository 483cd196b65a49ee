/* The request object that handlers see: a view that makes Lua values only of
 * what is asked for, and keeps what it made.
 *
 *     req.method req.path req.query_string req.host req.remote_address
 *     req.trace_id req.generation        strings and numbers
 *     req.params.id                      parameters of the route, decoded
 *     req.raw_params.id                  the same as they stand in the path
 *     req.query.page                     first value of each name, decoded
 *     req.headers["user-agent"]          any case; repeated ones joined by ", "
 *     req.body                           waits for the whole body
 *     req.anything = value               kept for the handlers down the chain
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "http/path.h"
#include "script/json.h"

#define REQUEST_TYPE "perilune.request"
#define HEADERS_TYPE "perilune.headers"

static struct exchange *exchange_of(lua_State *L, struct request_box *box)
{
    if (!box->fiber) {
        luaL_error(L, "this request is over: a request object cannot be kept for later");
        return NULL;
    }
    if (!box->fiber->ex)
        luaL_error(L, "the client has gone, or the answer has been given: nothing is left of the request");
    return box->fiber->ex;
}

static void push_str(lua_State *L, struct str s)
{
    lua_pushlstring(L, s.len ? s.p : "", s.len);
}

static void push_params(lua_State *L, struct fiber *f, bool decoded)
{
    unsigned count = f->match ? f->match->params : 0;
    lua_createtable(L, 0, (int)count);
    for (unsigned i = 0; i < count; i++) {
        push_str(L, f->match->names[i]);
        push_str(L, decoded ? path_decode(f->ex->arena, f->match->values[i], false)
                            : f->match->values[i]);
        lua_rawset(L, -3);
    }
}

static void push_query(lua_State *L, struct exchange *ex)
{
    struct str rest = ex->head->query, name, value;
    lua_newtable(L);
    while (rest.p && query_next(&rest, &name, &value)) {
        push_str(L, path_decode(ex->arena, name, true));
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        bool known = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (known) {
            lua_pop(L, 1);
            continue;
        }
        push_str(L, path_decode(ex->arena, value, true));
        lua_rawset(L, -3);
    }
}

static void push_lower(lua_State *L, struct str s)
{
    char text[256];
    if (s.len > sizeof text) {
        push_str(L, s);
        return;
    }
    for (size_t i = 0; i < s.len; i++)
        text[i] = ascii_lower(s.p[i]);
    lua_pushlstring(L, text, s.len);
}

/* All header fields as a table with lower-case names. */
static void push_all_headers(lua_State *L, const struct head *head)
{
    lua_createtable(L, 0, (int)head->field_count);
    for (unsigned i = 0; i < head->field_count; i++) {
        push_lower(L, head->fields[i].name);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            push_str(L, head->fields[i].value);
        } else {
            lua_pushliteral(L, ", ");
            push_str(L, head->fields[i].value);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

/* req.headers[name]: one field, without a table of all. */
static int headers_index(lua_State *L)
{
    struct request_box **link = luaL_checkudata(L, 1, HEADERS_TYPE);
    struct exchange *ex = exchange_of(L, *link);
    size_t len;
    const char *p = luaL_checklstring(L, 2, &len);
    struct str name = {p, len}, found = {NULL, 0};
    luaL_Buffer b;
    int count = 0;
    for (unsigned i = 0; i < ex->head->field_count; i++) {
        const struct head_field *field = &ex->head->fields[i];
        if (!str_iequal(field->name, name))
            continue;
        if (count == 0) {
            found = field->value;
        } else {
            if (count == 1) {
                luaL_buffinit(L, &b);
                luaL_addlstring(&b, found.p, found.len);
            }
            luaL_addlstring(&b, ", ", 2);
            luaL_addlstring(&b, field->value.p, field->value.len);
        }
        count++;
    }
    if (count == 0)
        lua_pushnil(L);
    else if (count == 1)
        push_str(L, found);
    else
        luaL_pushresult(&b);
    return 1;
}

static int headers_next(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_next(L, 1))
        return 2;
    lua_pushnil(L);
    return 1;
}

/* req.headers() iterates: for name, value in req.headers() do */
static int headers_call(lua_State *L)
{
    struct request_box **link = luaL_checkudata(L, 1, HEADERS_TYPE);
    struct exchange *ex = exchange_of(L, *link);
    lua_pushcfunction(L, headers_next);
    push_all_headers(L, ex->head);
    lua_pushnil(L);
    return 3;
}

/* ---- the body ---- */

/* A body above what a script may hold: 413, and the handler ends here. */
static void too_large(struct exchange *ex)
{
    fiber_client_gone(ex);
    ex->close_after = true;
    exchange_problem(ex, 413, "body_too_large",
                     "the request body is larger than this route can hold", NULL, 0);
}

static uint64_t most_bytes(const struct fiber *f)
{
    return setting_integer(&f->script->board->settings, SETTING_SCRIPT_BODY_BYTES);
}

static void on_body(struct exchange *ex, struct str bytes)
{
    struct fiber *f = ex->user;
    if (!f)
        return;
    buf_add_str(&f->body, bytes);
    if (buf_len(&f->body) > most_bytes(f) || !buf_ok(&f->body))
        too_large(ex);
}

static int push_body(lua_State *L, void *user)
{
    struct fiber *f = user;
    struct str body = buf_str(&f->body);
    lua_pushlstring(L, body.len ? body.p : "", body.len);
    return 1;
}

static void on_body_end(struct exchange *ex, int status)
{
    struct fiber *f = ex->user;
    (void)status;
    if (!f)
        return;
    f->body_whole = true;
    if (f->wait.cancel)
        fiber_resume(f, push_body, f);
}

static const struct body_sink body_sink = {on_body, on_body_end};

static void cancel_body(struct fiber *f)
{
    (void)f; /* the sink goes with the exchange */
}

static int read_body(lua_State *L, struct fiber *f)
{
    if (f->body_whole || !exchange_has_body(f->ex))
        return push_body(L, f);
    if (f->script->running != f)
        return luaL_error(L, "req.body can only be read while its own request is handled");
    /* The sink's events come later, so the wait is in place before them. */
    int yields = fiber_wait(L, f, cancel_body, NULL);
    f->wait.needs_client = true;
    f->body_wanted = true;
    return yields;
}

void request_read_body(struct fiber *f)
{
    f->body_wanted = false;
    if (f->ex->head->content_length > most_bytes(f))
        too_large(f->ex);
    else
        exchange_read_body(f->ex, &body_sink);
}

/* ---- the object ---- */

static void push_cache(lua_State *L, struct request_box *box)
{
    if (!box->has_cache) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfenv(L, 1);
        box->has_cache = true;
        return;
    }
    lua_getfenv(L, 1);
}

/* Makes the value of a known lazy field; false when there is none. */
static bool push_lazy(lua_State *L, struct request_box *box, struct str key)
{
    struct exchange *ex = exchange_of(L, box);
    if (str_equal(key, STR("params"))) {
        push_params(L, box->fiber, true);
    } else if (str_equal(key, STR("raw_params"))) {
        push_params(L, box->fiber, false);
    } else if (str_equal(key, STR("headers"))) {
        struct request_box **link = lua_newuserdata(L, sizeof(struct request_box *));
        *link = box;
        luaL_getmetatable(L, HEADERS_TYPE);
        lua_setmetatable(L, -2);
        lua_createtable(L, 1, 0); /* the view keeps the request alive */
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 1);
        lua_setfenv(L, -2);
    } else if (str_equal(key, STR("query"))) {
        push_query(L, ex);
    } else {
        return false;
    }
    return true;
}

static int request_index(lua_State *L)
{
    struct request_box *box = luaL_checkudata(L, 1, REQUEST_TYPE);
    size_t len;
    const char *p = luaL_checklstring(L, 2, &len);
    struct str key = {p, len};
    if (box->has_cache) {
        lua_getfenv(L, 1);
        lua_pushvalue(L, 2);
        lua_rawget(L, -2);
        if (!lua_isnil(L, -1))
            return 1;
        lua_pop(L, 2);
    }
    struct exchange *ex = exchange_of(L, box);
    if (str_equal(key, STR("method")))
        push_str(L, ex->head->method);
    else if (str_equal(key, STR("path")))
        push_str(L, ex->path);
    else if (str_equal(key, STR("query_string")))
        push_str(L, ex->head->query);
    else if (str_equal(key, STR("host")))
        push_lower(L, ex->head->host);
    else if (str_equal(key, STR("remote_address")))
        lua_pushstring(L, exchange_peer(ex));
    else if (str_equal(key, STR("trace_id")))
        lua_pushstring(L, exchange_trace(ex));
    else if (str_equal(key, STR("generation")))
        lua_pushnumber(L, (double)box->fiber->script->generation);
    else if (str_equal(key, STR("route")))
        lua_pushstring(L, box->fiber->route->pattern);
    else if (str_equal(key, STR("body")))
        return read_body(L, box->fiber);
    else if (push_lazy(L, box, key)) {
        push_cache(L, box);
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -3);
        lua_rawset(L, -3);
        lua_pop(L, 1);
    } else
        lua_pushnil(L);
    return 1;
}

static int request_newindex(lua_State *L)
{
    struct request_box *box = luaL_checkudata(L, 1, REQUEST_TYPE);
    luaL_checkstring(L, 2);
    push_cache(L, box);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    return 0;
}

void request_push(lua_State *L, struct fiber *f)
{
    struct request_box *box = lua_newuserdata(L, sizeof *box);
    box->fiber = f;
    box->has_cache = false;
    f->box = box;
    lua_rawgeti(L, LUA_REGISTRYINDEX, f->script->request_type);
    lua_setmetatable(L, -2);
}

static void make_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_register(L, NULL, methods);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void request_open(lua_State *L)
{
    static const luaL_Reg request[] = {
        {"__index", request_index}, {"__newindex", request_newindex}, {0}};
    static const luaL_Reg headers[] = {{"__index", headers_index}, {"__call", headers_call}, {0}};
    make_type(L, REQUEST_TYPE, request);
    make_type(L, HEADERS_TYPE, headers);
    luaL_getmetatable(L, REQUEST_TYPE);
    state_of(L)->request_type = luaL_ref(L, LUA_REGISTRYINDEX); /* found faster than by name */
}
