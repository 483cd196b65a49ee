/* The key `redis` of a configuration:
 *
 *     redis = "redis://:secret@cache.internal/0"          -- the server "redis"
 *     redis = {
 *       redis = "redis://127.0.0.1",
 *       sessions = { url = env("SESSIONS_URL"), max = 5, command_ms = 100 },
 *     }
 *
 * and REDIS_URL, which is "redis" and goes before the file's. No message shows
 * any of an address.
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <stdio.h>

static const char *const DEFAULT_NAME = "redis";

static const struct pool_number numbers[] = {
    {"min", offsetof(struct redis_spec, min), 0, 10000},
    {"max", offsetof(struct redis_spec, max), 1, 10000},
    {"wait_ms", offsetof(struct redis_spec, wait_ms), 1, 3600000},
    {"command_ms", offsetof(struct redis_spec, command_ms), 1, 86400000},
    {"connect_ms", offsetof(struct redis_spec, connect_ms), 10, 600000},
    {"idle_ms", offsetof(struct redis_spec, idle_ms), 100, 86400000},
    {"lifetime_ms", offsetof(struct redis_spec, lifetime_ms), 100, 604800000},
};

/* Parts of an address that may stand for themselves. */
static const char *const words[] = {"host", "port", "user", "password", "database", NULL};
enum { WORD_BYTES = 512 };

static const struct pool_table table = {
    .section = "redis",
    .numbers = numbers,
    .number_count = sizeof numbers / sizeof *numbers,
    .words = words,
    .others = (const char *const[]){"url", NULL},
};

static void complain(struct file_job *job, const char *name, const char *what)
{
    config_pool_complain(job, &table, name, what);
}

static void set_url(struct config *c, struct redis_spec *spec, const char *url)
{
    struct str copy = arena_copy(&c->arena, str_from(url));
    spec->url = copy.p ? copy.p : "";
}

static struct redis_spec *find(struct config *c, const char *name)
{
    for (size_t i = 0; i < c->redis_count; i++)
        if (strcmp(c->redises[i].name, name) == 0)
            return &c->redises[i];
    return NULL;
}

static struct redis_spec *add(struct config *c, const char *name)
{
    if (c->redis_count == CONFIG_DATABASES_MAX || strlen(name) >= POOL_NAME)
        return NULL;
    struct str copy = arena_copy(&c->arena, str_from(name));
    struct redis_spec *spec = copy.p ? &c->redises[c->redis_count++] : NULL;
    if (spec)
        *spec = (struct redis_spec){.name = copy.p, .url = "", .min = -1};
    return spec;
}

/* The field of the table on top, a string or a number; false: it has none. */
static bool word(lua_State *L, struct file_job *job, const char *name, const char *key, char *out)
{
    lua_getfield(L, -1, key);
    bool given = lua_isstring(L, -1);
    if (!given && !lua_isnil(L, -1))
        complain(job, name, "host, port, user, password and database are strings");
    if (given && !config_secret(lua_tostring(L, -1), out, WORD_BYTES))
        complain(job, name, "the password's variable or file is not there");
    lua_pop(L, 1);
    return given;
}

/* Percent-encodes all that is not unreserved (RFC 3986 2.3). */
static void add_encoded(struct buf *out, const char *text)
{
    for (const char *p = text; *p; p++)
        if ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || strchr("-._~", *p))
            buf_add_char(out, *p);
        else
            buf_printf(out, "%%%02X", (unsigned char)*p);
}

/* Makes an address of the single words, host = ..., of the table on top of the stack. */
static void take_words(lua_State *L, struct file_job *job, struct redis_spec *spec)
{
    char text[WORD_BYTES];
    struct buf url = {0};
    bool any = false;
    buf_add_str(&url, STR("redis://"));
    if (word(L, job, spec->name, "user", text)) {
        add_encoded(&url, text);
        any = true;
    }
    if (word(L, job, spec->name, "password", text)) {
        buf_add_char(&url, ':');
        add_encoded(&url, text);
        any = true;
    }
    if (any)
        buf_add_char(&url, '@');
    bool host = word(L, job, spec->name, "host", text), number;
    buf_printf(&url, "%s", host ? text : "127.0.0.1");
    if ((number = word(L, job, spec->name, "port", text)))
        buf_printf(&url, ":%s", text);
    any = any || host || number;
    if (word(L, job, spec->name, "database", text)) {
        buf_printf(&url, "/%s", text);
        any = true;
    }
    buf_add_char(&url, 0);
    lua_getfield(L, -1, "url");
    if (any && !lua_isnil(L, -1))
        complain(job, spec->name, "give 'url' or single words like 'host', not both");
    else if (any && buf_ok(&url))
        set_url(job->config, spec, url.data);
    lua_pop(L, 1);
    buf_done(&url);
}

/* One option, its value on top of the stack. */
static void take_option(lua_State *L, struct file_job *job, struct redis_spec *spec, const char *key)
{
    if (config_pool_option(L, job, &table, spec->name, key, spec))
        return; /* words: see take_words() */
    if (strcmp(key, "url") != 0)
        config_pool_refuse(job, &table, spec->name, key);
    else if (lua_type(L, -1) == LUA_TSTRING)
        set_url(job->config, spec, lua_tostring(L, -1));
    else
        complain(job, spec->name, "'url' is a string");
}

static void check(struct file_job *job, const struct redis_spec *spec)
{
    char why[REDIS_WHY], what[REDIS_WHY + 64];
    const char *wrong = *spec->url ? redis_url_wrong(spec->url, why) : job->origin == ORIGIN_API ? NULL : "it is missing";
    if (wrong) {
        snprintf(what, sizeof what, "the address cannot be used: %s", wrong);
        complain(job, spec->name, what);
    }
    if (spec->max && spec->min > spec->max)
        complain(job, spec->name, "min is above max");
}

/* The server of a name, its value on top of the stack. */
static void take_server(lua_State *L, struct file_job *job, const char *name)
{
    struct redis_spec *spec = find(job->config, name);
    if (!spec && (spec = add(job->config, name)))
        spec->changes_only = job->origin == ORIGIN_API && !config_made_by_api(L);
    if (!spec) {
        problems_add(job->problems, job->name, config_line_of(job, "redis"),
                     "redis: at most %d servers, with names of at most %d bytes", CONFIG_DATABASES_MAX, POOL_NAME - 1);
        return;
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        set_url(job->config, spec, lua_tostring(L, -1));
    } else if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
            take_option(L, job, spec, lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?");
        take_words(L, job, spec);
    } else {
        complain(job, name, "a server is \"redis://user:password@host:port/database\" or { url = ..., max = ... }");
        return;
    }
    check(job, spec);
}

void config_take_redis(lua_State *L, struct file_job *job)
{
    if (lua_type(L, -1) == LUA_TSTRING) {
        take_server(L, job, DEFAULT_NAME);
        return;
    }
    if (!lua_istable(L, -1)) {
        problems_add(job->problems, job->name, config_line_of(job, "redis"),
                     "redis is an address, \"redis://host:6379\", or a table of them by name");
        return;
    }
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            take_server(L, job, lua_tostring(L, -2));
        else
            problems_add(job->problems, job->name, config_line_of(job, "redis"),
                         "redis is a table by name, like redis = { sessions = \"redis://host:6379\" }");
    }
}

/* What changed a server that is not there any more says nothing. */
static void drop_leftovers(struct config *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->redis_count; i++)
        if (!c->redises[i].changes_only || *c->redises[i].url)
            c->redises[kept++] = c->redises[i];
    c->redis_count = kept;
}

void config_finish_redis(struct config *c)
{
    drop_leftovers(c);
    const struct redis_spec *like = find(c, DEFAULT_NAME);
    for (size_t i = 0; !(like && *like->url) && i < c->redis_count; i++)
        if (*c->redises[i].url)
            like = &c->redises[i];
    for (size_t i = 0; i < c->redis_count; i++)
        if (!*c->redises[i].url)
            c->redises[i].url = like && *like->url ? like->url : "redis://127.0.0.1:6379";
}

void config_redis_url(struct config *c, const char *url, struct problems *problems)
{
    char why[REDIS_WHY];
    struct redis_spec *spec = find(c, DEFAULT_NAME);
    const char *wrong = redis_url_wrong(url, why);
    if (wrong) {
        problems_add(problems, "", 0, "REDIS_URL cannot be used: %s", wrong);
        return;
    }
    if (!spec)
        spec = add(c, DEFAULT_NAME);
    if (spec)
        set_url(c, spec, url);
}

void config_check_redis(const struct config *c, const char *file, struct problems *problems)
{
    for (size_t i = 0; i < c->redis_count; i++)
        for (size_t j = 0; j < c->database_count; j++)
            if (strcmp(c->redises[i].name, c->databases[j].name) == 0)
                problems_add(problems, file, 0, "redis.%s: a database has this name already, and both are pools; choose another",
                             c->redises[i].name);
}
