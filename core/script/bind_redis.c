// SPDX-License-Identifier: MIT
#include "script/bind_redis.h"

#include "redis/redis.h"
#include "script/json_text.h"
#include "script/state.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define HOLD_TYPE "perilune.redis_hold"

enum { NUMBER_MAX = 32, EXACT_BITS = 53, CHANNELS_MAX = 1024 };

/* A connection or a subscription as Lua holds it. */
struct redis_hold {
    struct redis_hold *next, *prev; /* of the fiber */
    struct fiber *fiber;            /* NULL: over */
    struct redis_lease *lease;
    struct redis_listener *listener;
    struct timer timer;             /* of receive() */
    bool waits;
    bool opened;                    /* the subscription is confirmed */
};

/* ---- replies ---- */

static void push_integer(lua_State *L, int64_t value)
{
    char text[NUMBER_MAX];
    if (value >= -(INT64_C(1) << EXACT_BITS) && value <= INT64_C(1) << EXACT_BITS) {
        lua_pushnumber(L, (double)value);
        return;
    }
    snprintf(text, sizeof text, "%lld", (long long)value);
    lua_pushstring(L, text);
}

static void push_item(lua_State *L, const struct redis_item *item, struct str *rest);

static void push_list(lua_State *L, uint32_t count, struct str *rest)
{
    luaL_checkstack(L, 6, "a reply is nested too deeply");
    lua_createtable(L, (int)count, 0);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (uint32_t i = 1; i <= count; i++) {
        struct redis_item item = {.type = '_'};
        redis_item_next(rest, &item);
        push_item(L, &item, rest);
        lua_rawseti(L, -2, (int)i);
    }
}

static void push_error_table(lua_State *L, struct str text)
{
    char code[REDIS_CODE];
    struct str message;
    redis_split_error(text, code, &message);
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, message.p, message.len);
    lua_setfield(L, -2, "error");
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
}

/* Inside of lists: a missing value is json.null, an error a table. */
static void push_item(lua_State *L, const struct redis_item *item, struct str *rest)
{
    switch (item->type) {
    case ':':
        push_integer(L, item->integer);
        break;
    case '*':
        push_list(L, item->count, rest);
        break;
    case '-':
        push_error_table(L, item->text);
        break;
    case '_':
        lua_pushlightuserdata(L, NULL);
        break;
    default:
        lua_pushlstring(L, item->text.p, item->text.len);
    }
}

static int push_failure(lua_State *L, const struct redis_error *e)
{
    lua_pushnil(L);
    lua_pushstring(L, e->message ? e->message : "out of memory");
    lua_pushstring(L, e->code);
    return 3;
}

static int push_reply(lua_State *L, void *user)
{
    const struct redis_job *job = user;
    struct str rest = job->replies, message;
    struct redis_item item = {.type = '_'};
    char code[REDIS_CODE];
    if (job->error.code[0])
        return push_failure(L, &job->error);
    redis_item_next(&rest, &item);
    if (item.type == '_') {
        lua_pushnil(L);
        return 1;
    }
    if (item.type == '-') {
        redis_split_error(item.text, code, &message);
        lua_pushnil(L);
        lua_pushlstring(L, message.p, message.len);
        lua_pushstring(L, code);
        return 3;
    }
    push_item(L, &item, &rest);
    return 1;
}

static int push_replies(lua_State *L, void *user)
{
    const struct redis_job *job = user;
    struct str rest = job->replies;
    if (job->error.code[0])
        return push_failure(L, &job->error);
    push_list(L, job->commands, &rest);
    return 1;
}

/* ---- commands ---- */

static struct redis_pool *pool_of(lua_State *L, const struct script *s)
{
    int index = luaL_checkint(L, 1);
    if (index < 0 || (size_t)index >= s->redis_count || !s->redises[index].pool)
        luaL_error(L, "Redis can only be asked while serving");
    return s->redises[index].pool;
}

static unsigned count_argument(lua_State *L, int index, int number)
{
    unsigned n = 0;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        return 1;
    case LUA_TTABLE:
        n = (unsigned)lua_objlen(L, index);
        if (n)
            return n;
        for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
            n += 2;
        return n;
    default:
        luaL_error(L, "argument %d is %s; Redis takes strings, numbers, lists and tables of them%s", number,
                   lua_isnoneornil(L, index) ? "nil" : luaL_typename(L, index),
                   lua_isboolean(L, index) ? " (pass 1 or 0 for true or false)" : "");
        return 0;
    }
}

/* A plain value at index. */
static void add_value(lua_State *L, int index, int number, struct buf *out)
{
    char text[NUMBER_MAX];
    size_t len;
    if (lua_type(L, index) == LUA_TSTRING) {
        const char *p = lua_tolstring(L, index, &len);
        redis_add_argument(out, (struct str){p, len});
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        double value = lua_tonumber(L, index);
        bool whole = value >= -9007199254740992.0 && value <= 9007199254740992.0 && value == (double)(int64_t)value;
        int n = whole ? snprintf(text, sizeof text, "%lld", (long long)value) : snprintf(text, sizeof text, "%.17g", value);
        redis_add_argument(out, (struct str){text, (size_t)n});
    } else {
        luaL_error(L, "argument %d holds a %s; its members must be strings or numbers", number, luaL_typename(L, index));
    }
}

static void add_argument(lua_State *L, int index, int number, struct buf *out)
{
    if (!lua_istable(L, index)) {
        add_value(L, index, number, out);
        return;
    }
    unsigned n = (unsigned)lua_objlen(L, index);
    int top = lua_gettop(L);
    for (unsigned i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        add_value(L, top + 1, number, out);
        lua_settop(L, top);
    }
    if (n)
        return;
    for (lua_pushnil(L); lua_next(L, index); lua_settop(L, top + 1)) {
        add_value(L, top + 1, number, out);
        add_value(L, top + 2, number, out);
    }
    lua_settop(L, top);
}

static unsigned count_words(struct str name)
{
    unsigned n = 1;
    for (size_t i = 0; i < name.len; i++)
        n += name.p[i] == ' ';
    return n;
}

static void add_name(struct str name, struct buf *out)
{
    struct str word;
    while (str_next(&name, ' ', &word))
        redis_add_argument(out, word);
}

/* Writes the command whose name stands at `first` and its arguments up to `last`. Raises. */
static void add_command(lua_State *L, struct redis_pool *pool, int first, int last, struct script *s)
{
    size_t len;
    const char *p = luaL_checklstring(L, first, &len);
    struct str name = {p, len};
    unsigned count = count_words(name);
    for (int i = first + 1; i <= last; i++)
        count += count_argument(L, i, i - first);
    redis_add_head(&s->params, count);
    add_name(name, &s->params);
    for (int i = first + 1; i <= last; i++)
        add_argument(L, i, i - first, &s->params);
    uint32_t shape = redis_shape(pool, name);
    buf_add(&s->shapes, &shape, sizeof shape);
}

static void clear_scratch(struct script *s)
{
    buf_clear(&s->params);
    buf_clear(&s->shapes);
    s->params.failed = s->shapes.failed = false;
}

static struct redis_hold *hold_at(lua_State *L, int index, const struct fiber *f)
{
    struct redis_hold *hold = luaL_checkudata(L, index, HOLD_TYPE);
    if (hold->fiber != f)
        luaL_error(L, "this connection or subscription is over");
    return hold;
}

static void note_phases(const struct fiber *f, const struct redis_job *job)
{
    if (!f->ex)
        return;
    f->ex->phase_ns[PHASE_POOL_WAIT] += (job->sent_ns ? job->sent_ns : job->done_ns) - job->queued_ns;
    if (job->sent_ns)
        f->ex->phase_ns[PHASE_REDIS] += job->done_ns - job->sent_ns;
}

static void count_commands(struct fiber *f, const struct redis_job *job)
{
    for (unsigned i = 0; i < job->commands; i++)
        db_count_call(f, job->shapes[i]);
}

static void on_one(struct redis_job *job)
{
    struct fiber *f = job->user;
    note_phases(f, job);
    db_count_call(f, job->shapes[0]);
    io_now(f->script->io);
    fiber_resume(f, push_reply, job);
}

static void on_many(struct redis_job *job)
{
    struct fiber *f = job->user;
    note_phases(f, job);
    count_commands(f, job);
    io_now(f->script->io);
    fiber_resume(f, push_replies, job);
}

static void cancel_job(struct fiber *f)
{
    redis_abandon(f->wait.op);
}

static int wait_for(lua_State *L, struct fiber *f, void (*cancel)(struct fiber *), void *op)
{
    int yields = fiber_wait(L, f, cancel, op);
    f->wait.needs_client = setting_number(&f->script->board->settings, SETTING_POOL_REDIS_CANCEL_GONE) != 0;
    return yields;
}

/* Sends what stands in the scratch buffers; waits for it. */
static int submit(lua_State *L, struct fiber *f, struct redis_pool *pool, unsigned commands, void (*done)(struct redis_job *job))
{
    struct script *s = f->script;
    bool own = lua_toboolean(L, 2);
    struct redis_lease *lease = own ? hold_at(L, 2, f)->lease : NULL;
    double timeout = luaL_checknumber(L, 3);
    if (own && !lease)
        return luaL_error(L, "this connection is over");
    struct redis_job *job = buf_ok(&s->params) && buf_ok(&s->shapes)
                                ? redis_job_new(pool, buf_str(&s->params), (const uint32_t *)buf_str(&s->shapes).p, commands)
                                : NULL;
    if (!job)
        return luaL_error(L, "out of memory");
    job->lease = lease;
    job->timeout_ms = timeout < 0 ? REDIS_FOREVER : (uint64_t)timeout;
    job->done = done;
    job->user = f;
    redis_submit(job);
    return wait_for(L, f, cancel_job, job);
}

static int lua_run(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct redis_pool *pool = pool_of(L, f->script);
    clear_scratch(f->script);
    add_command(L, pool, 4, lua_gettop(L), f->script);
    return submit(L, f, pool, 1, on_one);
}

static int lua_many(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct redis_pool *pool = pool_of(L, f->script);
    luaL_checktype(L, 4, LUA_TTABLE);
    size_t count = lua_objlen(L, 4);
    lua_settop(L, 4);
    if (!count || count > REDIS_COMMANDS_MAX)
        return luaL_error(L, "a pipeline has 1 to %d commands, not %d", REDIS_COMMANDS_MAX, (int)count);
    clear_scratch(f->script);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, 4, (int)i);
        luaL_checktype(L, 5, LUA_TTABLE);
        int n = (int)lua_objlen(L, 5);
        luaL_checkstack(L, n + 8, "too many arguments");
        for (int j = 1; j <= n; j++)
            lua_rawgeti(L, 5, j);
        add_command(L, pool, 6, 5 + n, f->script);
        lua_settop(L, 4);
    }
    return submit(L, f, pool, (unsigned)count, on_many);
}

/* ---- holds ---- */

static void end_hold(struct redis_hold *hold)
{
    if (!hold->fiber)
        return;
    *(hold->prev ? &hold->prev->next : &hold->fiber->holds) = hold->next;
    if (hold->next)
        hold->next->prev = hold->prev;
    hold->fiber = NULL;
    wheel_clear(&hold->timer);
    if (hold->lease)
        redis_lease_end(hold->lease);
    if (hold->listener)
        redis_listener_end(hold->listener);
    hold->lease = NULL;
    hold->listener = NULL;
}

void redis_request_over(struct fiber *f)
{
    while (f->holds)
        end_hold(f->holds);
}

static int hold_gc(lua_State *L)
{
    end_hold(luaL_checkudata(L, 1, HOLD_TYPE));
    return 0;
}

static int lua_hold(lua_State *L)
{
    struct redis_hold *hold = lua_newuserdata(L, sizeof *hold);
    memset(hold, 0, sizeof *hold);
    luaL_getmetatable(L, HOLD_TYPE);
    lua_setmetatable(L, -2);
    return 1;
}

static void hold_begin(struct redis_hold *hold, struct fiber *f)
{
    hold->fiber = f;
    hold->prev = NULL;
    hold->next = f->holds;
    if (f->holds)
        f->holds->prev = hold;
    f->holds = hold;
}

static int push_lease(lua_State *L, void *user)
{
    const struct redis_hold *hold = user;
    if (hold->lease->error.code[0])
        return push_failure(L, &hold->lease->error);
    lua_pushboolean(L, 1);
    return 1;
}

static void on_lease(struct redis_lease *lease)
{
    struct redis_hold *hold = lease->user;
    struct fiber *f = hold->fiber;
    io_now(f->script->io);
    if (f->ex)
        f->ex->phase_ns[PHASE_POOL_WAIT] += lease->given_ns - lease->queued_ns;
    fiber_resume(f, push_lease, hold);
}

static void cancel_nothing(struct fiber *f)
{
    (void)f; /* the hold is on the fiber's list */
}

static int lua_lease(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct redis_pool *pool = pool_of(L, f->script);
    struct redis_hold *hold = luaL_checkudata(L, 2, HOLD_TYPE);
    hold->lease = hold->fiber ? NULL : redis_lease_new(pool, lua_toboolean(L, 3), on_lease, hold);
    if (!hold->lease)
        return luaL_error(L, "out of memory");
    hold_begin(hold, f);
    return wait_for(L, f, cancel_nothing, hold);
}

static int lua_taint(lua_State *L)
{
    const struct redis_hold *hold = luaL_checkudata(L, 1, HOLD_TYPE);
    if (hold->lease)
        hold->lease->tainted = lua_toboolean(L, 2);
    return 0;
}

static int lua_release(lua_State *L)
{
    end_hold(luaL_checkudata(L, 1, HOLD_TYPE));
    return 0;
}

/* ---- subscriptions ---- */

/* What a fiber that waits for its subscription gets; 0 values: nothing yet. */
static int push_heard(lua_State *L, void *user)
{
    struct redis_hold *hold = user;
    struct redis_message m;
    struct redis_error error = {0};
    switch (redis_listener_next(hold->listener, &m, &error)) {
    case REDIS_HEARD_MESSAGE:
        lua_pushlstring(L, m.payload.p, m.payload.len);
        lua_pushlstring(L, m.channel.p, m.channel.len);
        if (!m.pattern.p)
            return 2;
        lua_pushlstring(L, m.pattern.p, m.pattern.len);
        return 3;
    case REDIS_HEARD_GAP:
        push_failure(L, &error);
        redis_error_clear(&error);
        return 3;
    case REDIS_HEARD_NOTHING:
        break;
    }
    return 0;
}

static int push_opened(lua_State *L, void *user)
{
    struct redis_hold *hold = user;
    const struct redis_error *failed = redis_listener_failed(hold->listener);
    if (failed)
        return push_failure(L, failed);
    hold->opened = true;
    lua_pushboolean(L, 1);
    return 1;
}

static void resume(struct redis_hold *hold, int (*push)(lua_State *L, void *user))
{
    struct fiber *f = hold->fiber;
    hold->waits = false;
    wheel_clear(&hold->timer);
    io_now(f->script->io);
    fiber_resume(f, push, hold);
}

static void wake(void *user)
{
    struct redis_hold *hold = user;
    if (hold->waits)
        resume(hold, hold->opened ? push_heard : push_opened);
}

static int push_late(lua_State *L, void *user)
{
    (void)user;
    lua_pushnil(L);
    lua_pushliteral(L, "no message came in time");
    lua_pushliteral(L, "timeout");
    return 3;
}

static void on_receive_late(struct timer *t)
{
    struct redis_hold *hold = (struct redis_hold *)((char *)t - offsetof(struct redis_hold, timer));
    if (hold->waits)
        resume(hold, push_late);
}

static void cancel_receive(struct fiber *f)
{
    struct redis_hold *hold = f->wait.op;
    hold->waits = false;
    wheel_clear(&hold->timer);
}

/* Adds the strings of the list at `index`; how many there are now. */
static size_t take_names(lua_State *L, int index, bool pattern, struct str *names, bool *patterns, size_t count)
{
    size_t n = lua_objlen(L, index);
    if (count + n > CHANNELS_MAX)
        luaL_error(L, "a subscription has at most %d channels and patterns", CHANNELS_MAX);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "the name of a channel is a string, not a %s", luaL_typename(L, -1));
        names[count].p = lua_tolstring(L, -1, &names[count].len); /* the list keeps it alive */
        patterns[count++] = pattern;
        lua_pop(L, 1);
    }
    return count;
}

static int lua_subscribe(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct redis_pool *pool = pool_of(L, f->script);
    struct redis_hold *hold = luaL_checkudata(L, 2, HOLD_TYPE);
    struct str names[CHANNELS_MAX];
    bool patterns[CHANNELS_MAX];
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    size_t count = take_names(L, 3, false, names, patterns, 0);
    count = take_names(L, 4, true, names, patterns, count);
    if (!count)
        return luaL_error(L, "a subscription needs at least one channel or pattern");
    hold->listener = hold->fiber ? NULL : redis_listen(pool, names, patterns, count, wake, hold);
    if (!hold->listener)
        return luaL_error(L, "out of memory");
    hold_begin(hold, f);
    hold->waits = true;
    if (f->ex)
        f->ex->endless = true;
    int yields = fiber_wait(L, f, cancel_receive, hold);
    f->wait.needs_client = true;
    return yields;
}

static int lua_receive(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct redis_hold *hold = hold_at(L, 1, f);
    double timeout = luaL_optnumber(L, 2, -1);
    if (!hold->opened)
        return luaL_error(L, "this is no subscription");
    hold->timer.on_fire = on_receive_late;
    int n = push_heard(L, hold);
    if (n)
        return n;
    if (timeout >= 0)
        wheel_set(&f->script->io->wheel, &hold->timer, f->script->io->now_ms + (uint64_t)timeout);
    hold->waits = true;
    int yields = fiber_wait(L, f, cancel_receive, hold);
    f->wait.needs_client = true;
    return yields;
}

/* ---- the rest ---- */

/* open(name): its handle; nil: of the name "redis", else the only one there is. */
static int lua_open_redis(lua_State *L)
{
    const struct script *s = state_of(L);
    const char *name = luaL_optstring(L, 1, "redis");
    for (size_t i = 0; i < s->redis_count; i++)
        if (strcmp(s->redises[i].name, name) == 0 || (s->redis_count == 1 && lua_isnoneornil(L, 1))) {
            lua_pushinteger(L, (int)i);
            return 1;
        }
    return 0;
}

static int lua_sha1(lua_State *L)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[SHA_DIGEST_LENGTH];
    char text[SHA_DIGEST_LENGTH * 2];
    size_t len;
    const char *p = luaL_checklstring(L, 1, &len);
    SHA1((const unsigned char *)p, len, hash);
    for (size_t i = 0; i < SHA_DIGEST_LENGTH; i++) {
        text[i * 2] = digits[hash[i] >> 4];
        text[i * 2 + 1] = digits[hash[i] & 15];
    }
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

static int lua_retries(lua_State *L)
{
    lua_pushnumber(L, setting_number(&state_of(L)->board->settings, SETTING_POOL_REDIS_RETRIES));
    return 1;
}

void bind_redis_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"open", lua_open_redis}, {"run", lua_run},         {"many", lua_many},       {"hold", lua_hold},
        {"lease", lua_lease},     {"taint", lua_taint},     {"release", lua_release}, {"subscribe", lua_subscribe},
        {"receive", lua_receive}, {"sha1", lua_sha1},       {"retries", lua_retries}, {0}};
    luaL_newmetatable(L, HOLD_TYPE);
    lua_pushcfunction(L, hold_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "redis");
}
