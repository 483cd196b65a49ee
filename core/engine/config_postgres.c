/* The table `postgres` of a configuration:
 *
 *     postgres = {
 *       main = "postgresql://app:secret@db.internal/shop",
 *       reports = { dsn = env("REPORTS_URL"), min = 0, max = 5, statement_ms = 120000 },
 *     }
 *
 * and DATABASE_URL, which is "main" and goes before the file's. No message shows
 * any of a connection string.
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <stdio.h>

static const struct {
    const char *name;
    size_t offset;
    double min, max;
} numbers[] = {
    {"min", offsetof(struct pg_spec, min), 0, 10000},
    {"max", offsetof(struct pg_spec, max), 1, 10000},
    {"wait_ms", offsetof(struct pg_spec, wait_ms), 1, 3600000},
    {"statement_ms", offsetof(struct pg_spec, statement_ms), 1, 86400000},
    {"connect_ms", offsetof(struct pg_spec, connect_ms), 10, 600000},
    {"idle_ms", offsetof(struct pg_spec, idle_ms), 100, 86400000},
    {"lifetime_ms", offsetof(struct pg_spec, lifetime_ms), 100, 604800000},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void complain(struct file_job *job, const char *name, const char *what)
{
    problems_add(job->problems, job->name, config_line_of(job, name), "postgres.%s: %s", name, what);
}

static void set_dsn(struct config *c, struct pg_spec *spec, const char *dsn)
{
    struct str copy = arena_copy(&c->arena, str_from(dsn));
    spec->dsn = copy.p ? copy.p : "";
}

static struct pg_spec *add(struct config *c, const char *name)
{
    if (c->database_count == CONFIG_DATABASES_MAX)
        return NULL;
    struct pg_spec *spec = &c->databases[c->database_count++];
    *spec = (struct pg_spec){.name = arena_copy(&c->arena, str_from(name)).p, .dsn = "", .min = -1};
    return spec;
}

static void refuse_key(struct file_job *job, const char *name, const char *key)
{
    char what[256];
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < NUMBERS + 2; i++) {
        const char *known = i < NUMBERS ? numbers[i].name : i == NUMBERS ? "dsn" : "pooler";
        unsigned distance = str_distance(str_from(key), str_from(known));
        if (distance < best) {
            best = distance;
            near = known;
        }
    }
    snprintf(what, sizeof what, "unknown key '%s'%s%s%s", key, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    complain(job, name, what);
}

/* One option, its value on top of the stack. */
static void take_option(lua_State *L, struct file_job *job, struct pg_spec *spec, const char *key)
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
    if (strcmp(key, "dsn") == 0 && lua_type(L, -1) == LUA_TSTRING)
        set_dsn(job->config, spec, lua_tostring(L, -1));
    else if (strcmp(key, "pooler") == 0 && lua_isboolean(L, -1))
        spec->pooler = lua_toboolean(L, -1);
    else if (strcmp(key, "dsn") == 0 || strcmp(key, "pooler") == 0)
        complain(job, spec->name, "'dsn' is a string and 'pooler' true or false");
    else
        refuse_key(job, spec->name, key);
}

static void check(struct file_job *job, const struct pg_spec *spec)
{
    char why[PG_WHY], what[PG_WHY + 64];
    const char *wrong = *spec->dsn ? pg_dsn_wrong(spec->dsn, why) : "it is missing";
    if (wrong) {
        snprintf(what, sizeof what, "the connection string cannot be used: %s", wrong);
        complain(job, spec->name, what);
    }
    if (spec->max && spec->min > spec->max)
        complain(job, spec->name, "min is above max");
}

static void take_database(lua_State *L, struct file_job *job, const char *name)
{
    struct pg_spec *spec = strlen(name) < POOL_NAME ? add(job->config, name) : NULL;
    if (!spec) {
        problems_add(job->problems, job->name, config_line_of(job, "postgres"),
                     "postgres: at most %d databases, with names of at most %d bytes", CONFIG_DATABASES_MAX, POOL_NAME - 1);
        return;
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        set_dsn(job->config, spec, lua_tostring(L, -1));
    } else if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
            take_option(L, job, spec, lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?");
    } else {
        complain(job, name, "a database is \"postgresql://user:password@host/database\" or { dsn = ..., max = ... }");
        return;
    }
    check(job, spec);
}

void config_take_postgres(lua_State *L, struct file_job *job)
{
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            take_database(L, job, lua_tostring(L, -2));
        else
            problems_add(job->problems, job->name, config_line_of(job, "postgres"),
                         "postgres is a table by name, like postgres = { main = \"postgresql://...\" }");
    }
}

void config_database_url(struct config *c, const char *url, struct problems *problems)
{
    char why[PG_WHY];
    struct pg_spec *spec = NULL;
    if (strncmp(url, "postgres://", 11) != 0 && strncmp(url, "postgresql://", 13) != 0)
        return; /* that of a program that uses something else */
    const char *wrong = pg_dsn_wrong(url, why);
    if (wrong) {
        problems_add(problems, "", 0, "DATABASE_URL cannot be used: %s", wrong);
        return;
    }
    for (size_t i = 0; i < c->database_count; i++)
        if (strcmp(c->databases[i].name, "main") == 0)
            spec = &c->databases[i];
    if (!spec)
        spec = add(c, "main");
    if (spec)
        set_dsn(c, spec, url);
}
