/* perilune.http: requests of handlers to other services.
 *
 *     res, message, code = http.request { url = "http://...", method = "GET",
 *         headers = { ... }, body = "...", timeout_ms = 1000 }
 *     res.status, res.headers["content-type"], res.body
 *
 * core.http_request(method, url or upstream name, path, headers, body, timeout_ms)
 * is wrapped by lua/perilune/http.lua, which checks the arguments.
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "base/err.h"

#include <stdlib.h>

enum { REQUEST_HEADERS = 64 };

struct http_op {
    struct call *call;
    struct fiber *fiber;
    struct arena arena;  /* of the response head */
    struct head head;
    struct buf body;
    size_t body_most;
    uint64_t began_ns;
    int err;
    const char *what;
};

static void op_free(struct http_op *op)
{
    arena_done(&op->arena);
    buf_done(&op->body);
    free(op);
}

static void push_headers(lua_State *L, const struct head *head)
{
    char name[256];
    lua_createtable(L, 0, (int)head->field_count);
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *field = &head->fields[i];
        size_t len = field->name.len < sizeof name ? field->name.len : sizeof name;
        for (size_t j = 0; j < len; j++)
            name[j] = ascii_lower(field->name.p[j]);
        lua_pushlstring(L, name, len);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        bool known = !lua_isnil(L, -1);
        if (known)
            lua_pushliteral(L, ", ");
        else
            lua_pop(L, 1);
        lua_pushlstring(L, field->value.len ? field->value.p : "", field->value.len);
        if (known)
            lua_concat(L, 3);
        lua_rawset(L, -3);
    }
}

static int push_result(lua_State *L, void *user)
{
    struct http_op *op = user;
    if (op->err < 0) {
        lua_pushnil(L);
        lua_pushfstring(L, "%s: %s", err_text(op->err), op->what);
        lua_pushstring(L, err_word(op->err));
        return 3;
    }
    struct str body = buf_str(&op->body);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, op->head.status);
    lua_setfield(L, -2, "status");
    push_headers(L, &op->head);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, body.len ? body.p : "", body.len);
    lua_setfield(L, -2, "body");
    return 1;
}

static void finish(struct http_op *op, int err, const char *what)
{
    struct fiber *f = op->fiber;
    op->err = err;
    op->what = what;
    if (f->ex) /* seen from the route, a call is time at an upstream */
        f->ex->phase_ns[PHASE_FIRST_BYTE] += f->script->io->now_ns - op->began_ns;
    fiber_resume(f, push_result, op);
    op_free(op);
}

static void on_head(struct call *call, const struct head *head)
{
    struct http_op *op = call_user(call);
    op->head = *head;
    for (unsigned i = 0; i < head->field_count; i++) {
        op->head.fields[i].name = arena_copy(&op->arena, head->fields[i].name);
        op->head.fields[i].value = arena_copy(&op->arena, head->fields[i].value);
    }
}

static void on_data(struct call *call, struct str bytes)
{
    struct http_op *op = call_user(call);
    if (buf_len(&op->body) + bytes.len > op->body_most) {
        call_cancel(call);
        finish(op, ERR_TOO_LARGE, "the response body is above script.body_bytes");
        return;
    }
    buf_add_str(&op->body, bytes);
}

static void on_end(struct call *call)
{
    finish(call_user(call), 0, "");
}

static void on_error(struct call *call, int err, const char *what)
{
    finish(call_user(call), err, what);
}

static const struct call_events events = {.on_head = on_head, .on_data = on_data, .on_end = on_end,
                                          .on_error = on_error};

static void cancel(struct fiber *f)
{
    struct http_op *op = f->wait.op;
    call_cancel(op->call);
    op_free(op);
}

static int failure(lua_State *L, const char *message, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, code);
    return 3;
}

static size_t take_headers(lua_State *L, int index, struct http_header *out)
{
    size_t n = 0;
    if (!lua_istable(L, index))
        return 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        size_t name_len, value_len;
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "request headers are strings by name");
        const char *name = lua_tolstring(L, -2, &name_len);
        const char *value = lua_tolstring(L, -1, &value_len);
        if (n == REQUEST_HEADERS)
            luaL_error(L, "a request has at most %d headers here", REQUEST_HEADERS);
        out[n++] = (struct http_header){{name, name_len}, {value, value_len}};
        if (!head_is_token(out[n - 1].name) || !head_is_value(out[n - 1].value))
            luaL_error(L, "header '%s' holds characters that are not allowed", name);
    }
    return n;
}

static int lua_http_request(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct script *s = f->script;
    struct http_header headers[REQUEST_HEADERS];
    struct url url;
    size_t url_len, body_len = 0;
    const char *method = luaL_checkstring(L, 1);
    const char *text = luaL_checklstring(L, 2, &url_len);
    const char *body = lua_tolstring(L, 4, &body_len);
    const char *wrong = url_parse((struct str){text, url_len}, &url);
    if (wrong)
        return failure(L, wrong, "invalid");
    if (!s->upstreams)
        return luaL_error(L, "requests can only be made while serving");
    size_t header_count = take_headers(L, 3, headers); /* may raise, so before any allocation */
    struct upstream *upstream = upstream_get(s->upstreams, url.host, url.port, url.is_tls);
    struct http_op *op = calloc(1, sizeof *op);
    if (!op || !upstream) {
        free(op);
        return failure(L, "out of memory", "no_memory");
    }
    struct call_opts opts = {
        .all = s->upstreams,
        .upstream = upstream,
        .method = str_from(method),
        .target = url.path.len ? url.path : STR("/"),
        .host = url.authority,
        .headers = headers,
        .header_count = header_count,
        .body = body ? FRAMING_FIXED : FRAMING_NONE,
        .body_length = body_len,
        .timeout_ms = (uint64_t)luaL_optnumber(L, 5, 0),
        .events = &events,
        .user = op,
    };
    char *target = NULL;
    if (opts.target.p[0] != '/') { /* "http://host?query" */
        target = malloc(opts.target.len + 1);
        if (target) {
            target[0] = '/';
            memcpy(target + 1, opts.target.p, opts.target.len);
            opts.target = (struct str){target, opts.target.len + 1};
        }
    }
    op->fiber = f;
    op->began_ns = s->io->now_ns;
    op->body_most = setting_integer(&s->board->settings, SETTING_SCRIPT_BODY_BYTES);
    op->call = call_new(&opts);
    free(target);
    if (!op->call) {
        op_free(op);
        return failure(L, "out of memory", "no_memory");
    }
    if (body) {
        call_send(op->call, (struct str){body, body_len});
        call_send_end(op->call);
        call_flush(op->call);
    }
    return fiber_wait(L, f, cancel, op);
}

void bind_http_open(lua_State *L)
{
    lua_pushcfunction(L, lua_http_request);
    lua_setfield(L, -2, "http_request");
}
