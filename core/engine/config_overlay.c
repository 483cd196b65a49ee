/* The overlay: what the API was told to keep, between file and environment.
 *
 *     { "postgres": { "reports": { "max": 15 } }, "redis": { ... }, "settings": { ... } }
 *
 * The tables are those of the configuration file, as JSON, and are read by the
 * same functions. Keys of the file's other tables are not for it.
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include "script/json.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

enum { OVERLAY_DEPTH = 8 };

void config_overlay_path(const char *state, char *out, size_t size)
{
    snprintf(out, size, "%s/overlay.json", state);
}

bool config_secret(const char *text, char *out, size_t size)
{
    if (strncmp(text, "env:", 4) == 0) {
        const char *value = getenv(text + 4);
        snprintf(out, size, "%s", value ? value : "");
        return value != NULL;
    }
    if (strncmp(text, "file:", 5) == 0) {
        FILE *f = fopen(text + 5, "re");
        bool ok = f && fgets(out, (int)size, f);
        if (f)
            fclose(f);
        if (ok)
            out[strcspn(out, "\r\n")] = 0;
        return ok;
    }
    snprintf(out, size, "%s", text);
    return true;
}

bool config_made_by_api(lua_State *L)
{
    if (!lua_istable(L, -1))
        return false;
    lua_getfield(L, -1, "made_by_api");
    bool made = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return made;
}

static bool is_known(const char *key)
{
    return strcmp(key, "postgres") == 0 || strcmp(key, "redis") == 0 || strcmp(key, "settings") == 0;
}

static int read_overlay(lua_State *L)
{
    struct file_job *job = lua_touserdata(L, 1);
    char why[160];
    json_open(L);
    lua_pop(L, 1);
    if (json_decode(L, job->text.p, job->text.len, OVERLAY_DEPTH, why, sizeof why) < 0)
        return luaL_error(L, "%s: %s; it is written by the API, remove it to lose what the API was told", job->name, why);
    if (!lua_istable(L, -1))
        return luaL_error(L, "%s: is no JSON object; it is written by the API, remove it to lose what the API was told", job->name);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && is_known(lua_tostring(L, -2)))
            config_take_entry(L, job);
    return 0;
}

void config_take_overlay(struct file_job *job)
{
    config_run(job, read_overlay);
}
