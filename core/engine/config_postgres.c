/* The table `postgres` of a configuration:
 *
 *     postgres = {
 *       main = "postgresql://app:secret@db.internal/shop",
 *       reports = { dsn = env("REPORTS_URL"), min = 0, max = 5, statement_ms = 120000 },
 *       audit = { host = "db.internal", user = "audit", password = "file:/run/secrets/audit", dbname = "audit" },
 *     }
 *
 * and DATABASE_URL, which is "main" and goes before the file's. What the API was
 * told to keep has the same form, changes single options of a database of the
 * file, and need not name a server: it is that of "main" then, or of the first
 * database, or libpq's own default. No message shows any of a connection string.
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <stdio.h>

static const struct pool_number numbers[] = {
    {"min", offsetof(struct pg_spec, min), 0, 10000},
    {"max", offsetof(struct pg_spec, max), 1, 10000},
    {"wait_ms", offsetof(struct pg_spec, wait_ms), 1, 3600000},
    {"statement_ms", offsetof(struct pg_spec, statement_ms), 1, 86400000},
    {"connect_ms", offsetof(struct pg_spec, connect_ms), 10, 600000},
    {"idle_ms", offsetof(struct pg_spec, idle_ms), 100, 86400000},
    {"lifetime_ms", offsetof(struct pg_spec, lifetime_ms), 100, 604800000},
};

/* Words of a connection string that may stand for themselves. */
static const char *const words[] = {"host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "application_name", NULL};

static const struct pool_table table = {
    .section = "postgres",
    .numbers = numbers,
    .number_count = sizeof numbers / sizeof *numbers,
    .words = words,
    .others = (const char *const[]){"dsn", "pooler", NULL},
};

static void complain(struct file_job *job, const char *name, const char *what)
{
    config_pool_complain(job, &table, name, what);
}

static void set_dsn(struct config *c, struct pg_spec *spec, const char *dsn)
{
    struct str copy = arena_copy(&c->arena, str_from(dsn));
    spec->dsn = copy.p ? copy.p : "";
}

static struct pg_spec *find(struct config *c, const char *name)
{
    for (size_t i = 0; i < c->database_count; i++)
        if (strcmp(c->databases[i].name, name) == 0)
            return &c->databases[i];
    return NULL;
}

static struct pg_spec *add(struct config *c, const char *name)
{
    if (c->database_count == CONFIG_DATABASES_MAX)
        return NULL;
    struct pg_spec *spec = &c->databases[c->database_count++];
    *spec = (struct pg_spec){.name = arena_copy(&c->arena, str_from(name)).p, .dsn = "", .min = -1};
    return spec;
}

/* Appends keyword='value' to the words of a connection string. */
static void add_word(struct file_job *job, const char *name, const char *keyword, const char *text, struct buf *dsn)
{
    char value[PG_WHY];
    if (!config_secret(text, value, sizeof value)) {
        complain(job, name, "the password's variable or file is not there");
        return;
    }
    buf_printf(dsn, "%s='", keyword);
    for (const char *p = value; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_add_char(dsn, '\\');
        buf_add_char(dsn, *p);
    }
    buf_add_str(dsn, STR("' "));
}

/* Gathers the single words, host = ..., of the table on top of the stack. */
static void take_words(lua_State *L, struct file_job *job, struct pg_spec *spec)
{
    struct buf dsn = {0};
    for (const char *const *word = words; *word; word++) {
        lua_getfield(L, -1, *word);
        if (lua_isstring(L, -1))
            add_word(job, spec->name, *word, lua_tostring(L, -1), &dsn);
        else if (!lua_isnil(L, -1))
            complain(job, spec->name, "host, port, dbname, user, password, sslmode, sslrootcert and application_name are strings");
        lua_pop(L, 1);
    }
    lua_getfield(L, -1, "dsn");
    if (buf_len(&dsn) && !lua_isnil(L, -1)) {
        complain(job, spec->name, "give 'dsn' or single words like 'host', not both");
    } else if (buf_len(&dsn)) {
        buf_add_char(&dsn, 0);
        set_dsn(job->config, spec, dsn.data);
    }
    lua_pop(L, 1);
    buf_done(&dsn);
}

/* One option, its value on top of the stack. */
static void take_option(lua_State *L, struct file_job *job, struct pg_spec *spec, const char *key)
{
    if (config_pool_option(L, job, &table, spec->name, key, spec))
        return; /* words: see take_words() */
    if (strcmp(key, "dsn") == 0 && lua_type(L, -1) == LUA_TSTRING)
        set_dsn(job->config, spec, lua_tostring(L, -1));
    else if (strcmp(key, "pooler") == 0 && lua_isboolean(L, -1))
        spec->pooler = lua_toboolean(L, -1);
    else if (strcmp(key, "dsn") == 0 || strcmp(key, "pooler") == 0)
        complain(job, spec->name, "'dsn' is a string and 'pooler' true or false");
    else
        config_pool_refuse(job, &table, spec->name, key);
}

static void check(struct file_job *job, const struct pg_spec *spec)
{
    char why[PG_WHY], what[PG_WHY + 64];
    bool may_lack = job->origin == ORIGIN_API;
    const char *wrong = *spec->dsn ? pg_dsn_wrong(spec->dsn, why) : may_lack ? NULL : "it is missing";
    if (wrong) {
        snprintf(what, sizeof what, "the connection string cannot be used: %s", wrong);
        complain(job, spec->name, what);
    }
    if (spec->max && spec->min > spec->max)
        complain(job, spec->name, "min is above max");
}

static void take_database(lua_State *L, struct file_job *job, const char *name)
{
    struct pg_spec *spec = find(job->config, name);
    if (!spec && strlen(name) < POOL_NAME && (spec = add(job->config, name)))
        spec->changes_only = job->origin == ORIGIN_API && !config_made_by_api(L);
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
        take_words(L, job, spec);
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

/* What changed a database that is not there any more says nothing. */
static void drop_leftovers(struct config *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->database_count; i++)
        if (!c->databases[i].changes_only || *c->databases[i].dsn)
            c->databases[kept++] = c->databases[i];
    c->database_count = kept;
}

void config_finish_postgres(struct config *c)
{
    drop_leftovers(c);
    const struct pg_spec *like = find(c, "main");
    for (size_t i = 0; !(like && *like->dsn) && i < c->database_count; i++)
        if (*c->databases[i].dsn)
            like = &c->databases[i];
    for (size_t i = 0; like && i < c->database_count; i++)
        if (!*c->databases[i].dsn)
            c->databases[i].dsn = like->dsn;
}

void config_database_url(struct config *c, const char *url, struct problems *problems)
{
    char why[PG_WHY];
    struct pg_spec *spec = find(c, "main");
    if (strncmp(url, "postgres://", 11) != 0 && strncmp(url, "postgresql://", 13) != 0)
        return; /* that of a program that uses something else */
    const char *wrong = pg_dsn_wrong(url, why);
    if (wrong) {
        problems_add(problems, "", 0, "DATABASE_URL cannot be used: %s", wrong);
        return;
    }
    if (!spec)
        spec = add(c, "main");
    if (spec)
        set_dsn(c, spec, url);
}
