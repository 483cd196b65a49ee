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
};

/* The line on which a word of the file stands first, 0 when nowhere: the table
 * that Lua returns has forgotten where its keys came from. */
int config_line_of(const struct file_job *job, const char *word);

/* Reads the table `tls`, on top of the stack. */
void config_take_tls(lua_State *L, struct file_job *job);
/* Takes the table `postgres`, on top of the stack. */
void config_take_postgres(lua_State *L, struct file_job *job);

/* DATABASE_URL is the database "main". */
void config_database_url(struct config *c, const char *url, struct problems *problems);

/* Takes the key `redis`, its value on top of the stack. */
void config_take_redis(lua_State *L, struct file_job *job);

/* REDIS_URL is the server "redis". */
void config_redis_url(struct config *c, const char *url, struct problems *problems);

/* Ids of pools are unique: no Redis is named as a database is. */
void config_check_redis(const struct config *c, const char *file, struct problems *problems);

/* ---- config_upstreams.c ---- */

/* Takes the upstream `name` from the value on top of the stack. */
void config_take_upstream(lua_State *L, struct file_job *job, const char *name);

/* Adds an upstream of one peer. */
void config_add_upstream(struct config *c, const char *name, const char *url, const char *file, int line,
                         struct problems *problems);

/* Whether all of them fit on the board. */
void config_check_upstreams(const struct config *c, const char *file, struct problems *problems);
