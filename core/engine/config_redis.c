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

static const struct {
    const char *name;
    size_t offset;
    double min, max;
} numbers[] = {
    {"min", offsetof(struct redis_spec, min), 0, 10000},
    {"max", offsetof(struct redis_spec, max), 1, 10000},
    {"wait_ms", offsetof(struct redis_spec, wait_ms), 1, 3600000},
    {"command_ms", offsetof(struct redis_spec, command_ms), 1, 86400000},
    {"connect_ms", offsetof(struct redis_spec, connect_ms), 10, 600000},
    {"idle_ms", offsetof(struct redis_spec, idle_ms), 100, 86400000},
    {"lifetime_ms", offsetof(struct redis_spec, lifetime_ms), 100, 604800000},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void complain(struct file_job *job, const char *name, const char *what)
{
    problems_add(job->problems, job->name, config_line_of(job, name), "redis.%s: %s", name, what);
}

static void set_url(struct config *c, struct redis_spec *spec, const char *url)
{
    struct str copy = arena_copy(&c->arena, str_from(url));
    spec->url = copy.p ? copy.p : "";
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

static void refuse_key(struct file_job *job, const char *name, const char *key)
{
    char what[256];
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < NUMBERS + 1; i++) {
        const char *known = i < NUMBERS ? numbers[i].name : "url";
        unsigned distance = str_distance(str_from(key), str_from(known));
        if (distance < best) {
            best = distance;
            near = known;
        }
    }
    snprintf(what, sizeof what, "unknown key '%.100s'%s%s%s", key, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    complain(job, name, what);
}

/* One option, its value on top of the stack. */
static void take_option(lua_State *L, struct file_job *job, struct redis_spec *spec, const char *key)
{
    char what[160];
    for (size_t i = 0; i < NUMBERS; i++) {
        if (strcmp(key, numbers[i].name) != 0)
            continue;
        double value = lua_tonumber(L, -1);
        if (lua_type(L, -1) != LUA_TNUMBER || !(value >= numbers[i].min && value <= numbers[i].max) ||
            value != (double)(int64_t)value) {
            snprintf(what, sizeof what, "'%s' is a whole number from %.0f to %.0f", key, numbers[i].min, numbers[i].max);
            complain(job, spec->name, what);
            return;
        }
        *(int64_t *)((char *)spec + numbers[i].offset) = (int64_t)value;
        return;
    }
    if (strcmp(key, "url") != 0)
        refuse_key(job, spec->name, key);
    else if (lua_type(L, -1) == LUA_TSTRING)
        set_url(job->config, spec, lua_tostring(L, -1));
    else
        complain(job, spec->name, "'url' is a string");
}

static void check(struct file_job *job, const struct redis_spec *spec)
{
    char why[REDIS_WHY], what[REDIS_WHY + 64];
    const char *wrong = *spec->url ? redis_url_wrong(spec->url, why) : "it is missing";
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
    struct redis_spec *spec = add(job->config, name);
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

void config_redis_url(struct config *c, const char *url, struct problems *problems)
{
    char why[REDIS_WHY];
    struct redis_spec *spec = NULL;
    const char *wrong = redis_url_wrong(url, why);
    if (wrong) {
        problems_add(problems, "", 0, "REDIS_URL cannot be used: %s", wrong);
        return;
    }
    for (size_t i = 0; i < c->redis_count; i++)
        if (strcmp(c->redises[i].name, DEFAULT_NAME) == 0)
            spec = &c->redises[i];
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
