/* config_parts.h - inside of the configuration: what readers of its parts share. */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/config.h"

#include <lua.h>

struct file_job {
    struct config *config;
    struct str text;
    const char *name;
    struct problems *problems;
    enum setting_origin origin; /* ORIGIN_FILE, or ORIGIN_API: the overlay */
};

/* One entry of the outermost table: key and value on top of the stack. */
void config_take_entry(lua_State *L, struct file_job *job);

/* Runs `body` with the job in a bare state under limits; what it raises is a problem. */
void config_run(struct file_job *job, lua_CFunction body);

/* A secret as it is given, or from where it stands: "env:NAME", "file:/path" (its
 * first line). False: it is not there. */
bool config_secret(const char *text, char *out, size_t size);

/* Whether the table on top of the stack is all that there is of a pool: the API made it. */
bool config_made_by_api(lua_State *L);

/* Reads the overlay. */
void config_take_overlay(struct file_job *job);

/* The line on which a word of the file stands first, 0 when nowhere: the table
 * that Lua returns has forgotten where its keys came from. */
int config_line_of(const struct file_job *job, const char *word);

/* Reads the table `tls`, on top of the stack. */
void config_take_tls(lua_State *L, struct file_job *job);

/* Takes the list `admin_tokens`, its value on top of the stack. */
void config_take_tokens(lua_State *L, struct file_job *job);

/* Takes the table `postgres`, on top of the stack. */
void config_take_postgres(lua_State *L, struct file_job *job);

/* A database of the overlay that names no server has that of "main", or of the first one. */
void config_finish_postgres(struct config *c);
void config_finish_redis(struct config *c);

/* DATABASE_URL is the database "main". */
void config_database_url(struct config *c, const char *url, struct problems *problems);

/* Takes the key `redis`, its value on top of the stack. */
void config_take_redis(lua_State *L, struct file_job *job);

/* REDIS_URL is the server "redis". */
void config_redis_url(struct config *c, const char *url, struct problems *problems);

/* Ids of pools are unique: no Redis is named as a database is. */
void config_check_redis(const struct config *c, const char *file, struct problems *problems);

/* ---- config_pools.c: what the tables `postgres` and `redis` share ---- */

struct pool_number {
    const char *name;
    size_t offset; /* of an int64_t in the specification */
    double min, max;
};

struct pool_table {
    const char *section; /* "postgres" */
    const struct pool_number *numbers;
    size_t number_count;
    const char *const *words; /* parts of an address that may stand for themselves; NULL at the end */
    const char *const *others; /* further options; NULL at the end */
};

void config_pool_complain(struct file_job *job, const struct pool_table *t, const char *name, const char *what);

/* Takes the option `key` of the pool `name`, its value on top of the stack, if it is a
 * number or one that is read elsewhere. */
bool config_pool_option(lua_State *L, struct file_job *job, const struct pool_table *t, const char *name, const char *key, void *spec);

/* The key is none. */
void config_pool_refuse(struct file_job *job, const struct pool_table *t, const char *name, const char *key);

/* ---- config_own.c: settings of one upstream ---- */

/* What a name in a layer of settings stands for. */
struct config_setting {
    int id;
    bool is_own; /* of one upstream: */
    struct str upstream;
    enum own_setting which;
};

/* False: there is no such setting. */
bool config_find_setting(struct str name, struct config_setting *out);

/* Keeps a value that has been checked. */
void config_give_own(struct config *c, struct str name, const struct config_setting *setting, double value, enum setting_origin origin,
                     int line, struct problems *problems);

/* Whether the upstreams are there. What the API was told of one that is gone waits for its return. */
void config_check_own(const struct config *c, const char *file, struct problems *problems);

void config_apply_own(const struct config *c, struct own_settings *all);

/* ---- config_upstreams.c ---- */

/* Takes the upstream `name` from the value on top of the stack. */
void config_take_upstream(lua_State *L, struct file_job *job, const char *name);

/* Adds an upstream of one peer. */
void config_add_upstream(struct config *c, const char *name, const char *url, const char *file, int line,
                         struct problems *problems);

/* Whether all of them fit on the board. */
void config_check_upstreams(const struct config *c, const char *file, struct problems *problems);
