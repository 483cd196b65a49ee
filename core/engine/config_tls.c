/* The table `tls` of a configuration:
 *
 *     tls = {
 *       listen = "0.0.0.0:8443",
 *       certificate = "site.pem", key = "site.key",     -- for names that no other has
 *       more = { { certificate = "b.pem", key = "b.key" } },
 *       min_version = "1.3",                            -- "1.2" without it
 *     }
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <stdio.h>
#include <stdlib.h>

/* A path of the file stands beside the file. */
static char *resolve(const struct file_job *job, const char *path)
{
    char joined[4096];
    const char *slash = strrchr(job->name, '/');
    if (path[0] == '/' || !slash)
        return strdup(path);
    snprintf(joined, sizeof joined, "%.*s/%s", (int)(slash - job->name), job->name, path);
    return strdup(joined);
}

static void complain(struct file_job *job, const char *key, const char *what)
{
    problems_add(job->problems, job->name, config_line_of(job, key), "tls: %s", what);
}

/* The string under a key of the table on top; NULL when there is none. */
static const char *text_of(lua_State *L, struct file_job *job, const char *key)
{
    lua_getfield(L, -1, key);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (!text && !lua_isnil(L, -1))
        complain(job, key, "'listen', 'certificate', 'key' and 'min_version' are strings");
    lua_pop(L, 1); /* stays alive in the table */
    return text;
}

static void take_files(lua_State *L, struct file_job *job)
{
    struct config_tls *tls = &job->config->tls;
    const char *certificate = text_of(L, job, "certificate"), *key = text_of(L, job, "key");
    if (!certificate || !key) {
        complain(job, "tls", "a certificate and its key belong together: certificate = \"FILE.pem\", key = \"FILE.key\"");
        return;
    }
    if (tls->count == TLS_CERTIFICATES_MAX) {
        complain(job, "more", "too many certificates");
        return;
    }
    tls->files[tls->count++] = (struct tls_files){resolve(job, certificate), resolve(job, key)};
}

static void take_more(lua_State *L, struct file_job *job)
{
    lua_getfield(L, -1, "more");
    if (!lua_isnil(L, -1) && !lua_istable(L, -1))
        complain(job, "more", "'more' is a list of { certificate = ..., key = ... }");
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        if (lua_istable(L, -1))
            take_files(L, job);
        else
            complain(job, "more", "'more' is a list of { certificate = ..., key = ... }");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void refuse_unknown(lua_State *L, struct file_job *job)
{
    static const char *const known[] = {"listen", "certificate", "key", "more", "min_version"};
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?", *near = NULL;
        unsigned best = 4;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            unsigned distance = str_distance(str_from(name), str_from(known[i]));
            if (distance < best) {
                best = distance;
                near = known[i];
            }
        }
        if (best)
            problems_add(job->problems, job->name, config_line_of(job, name), "tls: unknown key '%s'%s%s%s", name,
                         near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
}

void config_take_tls(lua_State *L, struct file_job *job)
{
    struct config_tls *tls = &job->config->tls;
    char host[64], why[TLS_WHY], warning[TLS_WHY];
    uint16_t port;
    size_t before = job->problems->count;
    refuse_unknown(L, job);
    const char *listen = text_of(L, job, "listen"), *version = text_of(L, job, "min_version");
    if (!listen || !config_address(listen, host, sizeof host, &port))
        complain(job, "tls", "it needs the address to listen on: listen = \"0.0.0.0:8443\"");
    if (version && strcmp(version, "1.2") != 0 && strcmp(version, "1.3") != 0)
        complain(job, "min_version", "min_version is \"1.2\" or \"1.3\"");
    tls->require_1_3 = version && strcmp(version, "1.3") == 0;
    take_files(L, job);
    take_more(L, job);
    if (job->problems->count > before)
        return;
    tls->listen = strdup(listen);
    struct tls_server_opts opts = {.files = tls->files, .count = tls->count};
    struct tls_context *context = tls_server_context(&opts, why, warning);
    if (!context)
        complain(job, "tls", why);
    tls_context_release(context);
}

void config_tls_done(struct config_tls *tls)
{
    for (size_t i = 0; i < tls->count; i++) {
        free((char *)tls->files[i].certificate);
        free((char *)tls->files[i].key);
    }
    free(tls->listen);
}
