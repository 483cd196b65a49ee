// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include "base/log.h"
#include "http/access_log.h"
#include "script/limits.h"
#include "sys/cpus.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILE_CPU_MS = 1000, FILE_HEAP_BYTES = 64 << 20 };

static const struct {
    const char *name, *fallback, *env, *doc;
} keys[CONFIG_KEYS] = {
#define X(id, name, fallback, env, doc) {#name, fallback, env, doc},
    CONFIG_KEY_LIST(X)
#undef X
};

const char *config_key_name(enum config_key key)
{
    return keys[key].name;
}

const char *config_path(const struct options *options)
{
    if (options->config)
        return options->config;
    return access("perilune.lua", R_OK) == 0 ? "perilune.lua" : NULL;
}

static void set_key(struct config *c, enum config_key key, const char *text, enum setting_origin origin)
{
    free(c->key[key].text);
    c->key[key].text = strdup(text ? text : "");
    c->key[key].origin = origin;
}

static void set_setting(struct config *c, int id, double value, enum setting_origin origin)
{
    c->setting[id] = value;
    c->setting_origin[id] = (unsigned char)origin;
}

static void choose_default_upstream(struct config *c, const char *file, struct problems *problems)
{
    const char *text = c->key[CONFIG_UPSTREAM].text;
    if (!*text)
        return;
    if (strstr(text, "://")) {
        size_t before = c->upstream_count;
        config_add_upstream(c, "default", text, file, 0, problems);
        if (c->upstream_count > before)
            c->default_upstream = c->upstreams[before].name;
        return;
    }
    for (size_t i = 0; i < c->upstream_count; i++)
        if (strcmp(c->upstreams[i].name, text) == 0) {
            c->default_upstream = c->upstreams[i].name;
            return;
        }
    problems_add(problems, file, 0, "upstream is '%s', which is neither a URL (http://...) nor a name in upstreams", text);
}

/* ---- the file ---- */

int config_line_of(const struct file_job *job, const char *word)
{
    const char *end = job->text.p + job->text.len;
    const char *found = memmem(job->text.p, job->text.len, word, strlen(word));
    int line = 1;
    if (!found || !*word)
        return 0;
    for (const char *p = job->text.p; p < found && p < end; p++)
        line += *p == '\n';
    return line;
}

static int lua_env(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

static int lua_unknown(lua_State *L)
{
    return luaL_error(L, "unknown name '%s': a configuration may use env(\"NAME\"), string, table, math, "
                         "tostring, tonumber, pairs, ipairs, type", lua_tostring(L, 2));
}

static void make_environment(lua_State *L)
{
    static const char *const names[] = {"tostring", "tonumber", "pairs", "ipairs", "type", "error",
                                        "assert",   "string",   "table", "math"};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lua_getglobal(L, names[i]);
        lua_setfield(L, -2, names[i]);
    }
    lua_pushcfunction(L, lua_env);
    lua_setfield(L, -2, "env");
    lua_newtable(L);
    lua_pushcfunction(L, lua_unknown);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

static void nearest_key(const char *word, char *out, size_t size)
{
    unsigned best = 4;
    static const char *const more[] = {"upstreams", "settings", "tls", "postgres", "redis", "admin_tokens"};
    out[0] = 0;
    for (size_t i = 0; i < CONFIG_KEYS + sizeof more / sizeof *more; i++) {
        const char *name = i < CONFIG_KEYS ? keys[i].name : more[i - CONFIG_KEYS];
        unsigned distance = str_distance(str_from(word), str_from(name));
        if (distance < best) {
            best = distance;
            snprintf(out, size, ", did you mean '%s'?", name);
        }
    }
}

/* One entry of `settings`, value on top of the stack. */
static void take_setting(lua_State *L, struct file_job *job, const char *name)
{
    char why[256];
    double value = 0;
    struct config_setting setting;
    const char *near = setting_nearest(str_from(name));
    if (!config_find_setting(str_from(name), &setting)) {
        problems_add(job->problems, job->name, config_line_of(job, name), "unknown setting '%s'%s%s%s", name,
                     near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
        return;
    }
    bool ok;
    int id = setting.id;
    if (lua_type(L, -1) == LUA_TSTRING) {
        ok = setting_parse(id, str_from(lua_tostring(L, -1)), &value, why, sizeof why);
    } else {
        bool is_boolean = lua_isboolean(L, -1);
        value = is_boolean ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
        ok = is_boolean == (setting_infos[id].type == SETTING_BOOLEAN) && (is_boolean || lua_isnumber(L, -1));
        if (!ok)
            snprintf(why, sizeof why, "it is a %s here, it must be a %s", luaL_typename(L, -1),
                     setting_infos[id].type == SETTING_BOOLEAN ? "boolean" : "number");
        ok = ok && setting_check(id, value, why, sizeof why);
    }
    if (!ok)
        problems_add(job->problems, job->name, config_line_of(job, name), "setting %s%s%s", setting.is_own ? name : "", setting.is_own ? ": " : "", why);
    else if (setting.is_own)
        config_give_own(job->config, str_from(name), &setting, value, job->origin, config_line_of(job, name), job->problems);
    else
        set_setting(job->config, id, value, job->origin);
}

static void take_table(lua_State *L, struct file_job *job, const char *key)
{
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            problems_add(job->problems, job->name, config_line_of(job, key), "%s is a table by name, like %s = { name = value }", key, key);
            continue;
        }
        const char *name = lua_tostring(L, -2);
        if (strcmp(key, "settings") == 0) {
            take_setting(L, job, name);
            continue;
        }
        config_take_upstream(L, job, name);
    }
}

void config_take_entry(lua_State *L, struct file_job *job)
{
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    char near[64];
    for (int i = 0; i < CONFIG_KEYS; i++)
        if (strcmp(key, keys[i].name) == 0) {
            if (lua_isnumber(L, -1) || lua_isstring(L, -1)) {
                lua_pushvalue(L, -1);
                set_key(job->config, (enum config_key)i, lua_tostring(L, -1), job->origin);
                lua_pop(L, 1);
            } else {
                problems_add(job->problems, job->name, config_line_of(job, key), "key '%s' is a %s, it must be a string (%s)", key,
                             luaL_typename(L, -1), keys[i].doc);
            }
            return;
        }
    if (strcmp(key, "redis") == 0) {
        config_take_redis(L, job);
        return;
    }
    if (strcmp(key, "admin_tokens") == 0) {
        config_take_tokens(L, job);
        return;
    }
    if (strcmp(key, "upstreams") == 0 || strcmp(key, "settings") == 0 || strcmp(key, "tls") == 0 || strcmp(key, "postgres") == 0) {
        if (lua_istable(L, -1) && strcmp(key, "tls") == 0)
            config_take_tls(L, job);
        else if (lua_istable(L, -1) && strcmp(key, "postgres") == 0)
            config_take_postgres(L, job);
        else if (lua_istable(L, -1))
            take_table(L, job, key);
        else
            problems_add(job->problems, job->name, config_line_of(job, key), "key '%s' is a %s, it must be a table", key, luaL_typename(L, -1));
        return;
    }
    nearest_key(key, near, sizeof near);
    problems_add(job->problems, job->name, config_line_of(job, key), "unknown key '%s'%s", key, near);
}

static int run_file(lua_State *L)
{
    struct file_job *job = lua_touserdata(L, 1);
    char chunk_name[4096];
    luaL_openlibs(L);
    /* Now, because opening `jit` turns it on: a compiled loop cannot be interrupted. */
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    snprintf(chunk_name, sizeof chunk_name, "@%s", job->name);
    if (luaL_loadbufferx(L, job->text.p, job->text.len, chunk_name, "t") != 0)
        return lua_error(L);
    make_environment(L);
    lua_setfenv(L, -2);
    lua_call(L, 0, 1);
    if (!lua_istable(L, -1))
        return luaL_error(L, "%s:%d: a configuration returns a table: return { listen = \"127.0.0.1:8000\" }",
                          job->name, config_line_of(job, "return"));
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        config_take_entry(L, job);
    return 0;
}

void config_run(struct file_job *job, lua_CFunction body)
{
    struct heap heap;
    lua_State *L = luaL_newstate();
    if (!L) {
        problems_add(job->problems, job->name, 0, "out of memory");
        return;
    }
    heap_open(&heap, L, FILE_HEAP_BYTES, 2 * (size_t)FILE_HEAP_BYTES);
    limits_enter(&heap, FILE_CPU_MS);
    if (lua_cpcall(L, body, job) != 0)
        problems_add_message(job->problems, job->name, lua_isstring(L, -1) ? lua_tostring(L, -1) : "the error raised is not a string");
    limits_leave();
    heap_close(&heap);
    lua_close(L);
}

/* ---- layers ---- */

static void parse_setting(struct config *c, struct str name, const struct config_setting *setting, struct str text, enum setting_origin origin,
                          const char *where, struct problems *problems)
{
    char why[256];
    double value;
    if (!setting_parse(setting->id, text, &value, why, sizeof why))
        problems_add(problems, "", 0, "%s: %s", where, why);
    else if (setting->is_own)
        config_give_own(c, name, setting, value, origin, 0, problems);
    else
        set_setting(c, setting->id, value, origin);
}

static void read_environment(struct config *c, struct problems *problems)
{
    if (getenv("DATABASE_URL"))
        config_database_url(c, getenv("DATABASE_URL"), problems);
    if (getenv("REDIS_URL"))
        config_redis_url(c, getenv("REDIS_URL"), problems);
    for (int i = 0; i < CONFIG_KEYS; i++)
        if (getenv(keys[i].env))
            set_key(c, (enum config_key)i, getenv(keys[i].env), ORIGIN_ENV);
    for (int i = 0; i < SETTING_COUNT; i++) {
        const char *name = setting_infos[i].env, *text = name ? getenv(name) : NULL;
        if (text)
            parse_setting(c, str_from(name), &(struct config_setting){.id = i}, str_from(text), ORIGIN_ENV, name, problems);
    }
}

static void read_flags(struct config *c, const struct options *o, struct problems *problems)
{
    const char *given[CONFIG_KEYS] = {[CONFIG_LISTEN] = o->listen,     [CONFIG_ADMIN] = o->admin,
                                      [CONFIG_UPSTREAM] = o->upstream, [CONFIG_WORKERS] = o->workers,
                                      [CONFIG_RULES] = o->rules,       [CONFIG_STATE] = o->state};
    for (int i = 0; i < CONFIG_KEYS; i++)
        if (given[i])
            set_key(c, (enum config_key)i, given[i], ORIGIN_FLAG);
    for (unsigned i = 0; i < o->set_count; i++) {
        const char *eq = strchr(o->set[i], '=');
        struct str name = {o->set[i], (size_t)(eq - o->set[i])};
        struct config_setting setting;
        const char *near = setting_nearest(name);
        if (config_find_setting(name, &setting))
            parse_setting(c, name, &setting, str_from(eq + 1), ORIGIN_FLAG, o->set[i], problems);
        else
            problems_add(problems, "", 0, "--set: unknown setting '%.*s'%s%s%s", STR_ARG(name),
                         near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

bool config_address(const char *text, char *host, size_t host_size, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    uint64_t number;
    if (!colon || !str_to_u64(str_from(colon + 1), &number) || number > 65535)
        return false;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= host_size)
        return false;
    memcpy(host, text, len);
    host[len] = 0;
    if (len == 0)
        snprintf(host, host_size, "0.0.0.0");
    else if (strcmp(host, "localhost") == 0)
        snprintf(host, host_size, "127.0.0.1");
    *port = (uint16_t)number;
    return true;
}

/* Paths of the file stand beside the file. */
static void resolve_rules(struct config *c)
{
    struct config_value *rules = &c->key[CONFIG_RULES];
    const char *slash = c->path ? strrchr(c->path, '/') : NULL;
    if (!slash || rules->origin > ORIGIN_FILE || rules->text[0] == '/')
        return;
    char joined[4096];
    snprintf(joined, sizeof joined, "%.*s/%s", (int)(slash - c->path), c->path, rules->text);
    set_key(c, CONFIG_RULES, joined, rules->origin);
}

/* Where a key's value was written: the file, a variable or a flag. */
static const char *written_in(const struct config *c, int key, const char *file, char flag[32])
{
    if (c->key[key].origin == ORIGIN_ENV)
        return keys[key].env;
    if (c->key[key].origin != ORIGIN_FLAG)
        return file;
    snprintf(flag, 32, "--%s", keys[key].name);
    return flag;
}

static void check_keys(struct config *c, const char *file, struct problems *problems)
{
    char host[64], flag[32];
    uint16_t port;
    uint64_t workers;
    for (int i = CONFIG_LISTEN; i <= CONFIG_ADMIN; i++)
        if (!config_address(c->key[i].text, host, sizeof host, &port))
            problems_add(problems, written_in(c, i, file, flag), 0, "%s is \"%s\", it must be HOST:PORT like %s", keys[i].name,
                         c->key[i].text, keys[i].fallback);
        else if (i == CONFIG_ADMIN && !is_loopback(host) && !*c->key[CONFIG_ADMIN_TOKEN].text && c->token_count == 0)
            problems_add(problems, written_in(c, i, file, flag), 0,
                         "admin listens on %s, which others can reach, so it needs a token: set admin_token, admin_tokens or "
                         "PERILUNE_ADMIN_TOKEN, or listen on 127.0.0.1", c->key[i].text);
    char why[LINE_SINK_WHY] = "";
    if (!access_log_check(c->key[CONFIG_ACCESS_LOG_FORMAT].text, why))
        problems_add(problems, written_in(c, CONFIG_ACCESS_LOG_FORMAT, file, flag), 0, "access_log_format: %s", why);
    if (!str_to_u64(str_from(c->key[CONFIG_WORKERS].text), &workers) || workers > BOARD_WORKERS_MAX)
        problems_add(problems, written_in(c, CONFIG_WORKERS, file, flag), 0, "workers is \"%s\", it must be a number from 1 to %d (0: as many as CPUs)",
                     c->key[CONFIG_WORKERS].text, BOARD_WORKERS_MAX);
    else
        c->workers = workers ? (unsigned)workers : cpus_effective();
    if (c->workers > BOARD_WORKERS_MAX)
        c->workers = BOARD_WORKERS_MAX;
}

bool config_read(struct config *out, const struct options *options, const struct config_texts *texts,
                 struct problems *problems)
{
    size_t before = problems->count;
    const char *name = texts->file.p ? texts->file_name : "";
    memset(out, 0, sizeof *out);
    arena_init(&out->arena);
    out->path = texts->file.p ? strdup(name) : NULL;
    for (int i = 0; i < CONFIG_KEYS; i++)
        set_key(out, (enum config_key)i, keys[i].fallback, ORIGIN_DEFAULT);
    for (int i = 0; i < SETTING_COUNT; i++)
        set_setting(out, i, setting_infos[i].fallback, ORIGIN_DEFAULT);
    struct file_job file = {out, texts->file, name, problems, ORIGIN_FILE};
    struct file_job overlay = {out, texts->overlay, texts->overlay_name, problems, ORIGIN_API};
    if (texts->file.p)
        config_run(&file, run_file);
    if (texts->overlay.p)
        config_take_overlay(&overlay);
    read_environment(out, problems);
    read_flags(out, options, problems);
    choose_default_upstream(out, name, problems);
    check_keys(out, name, problems);
    config_check_upstreams(out, name, problems);
    config_check_own(out, name, problems);
    config_finish_postgres(out);
    config_finish_redis(out);
    config_check_redis(out, name, problems);
    resolve_rules(out);
    return problems->count == before;
}

void config_done(struct config *c)
{
    for (int i = 0; i < CONFIG_KEYS; i++)
        free(c->key[i].text);
    arena_done(&c->arena);
    config_tls_done(&c->tls);
    free(c->path);
    memset(c, 0, sizeof *c);
}

void config_apply(const struct config *config, struct board *board, bool only_live)
{
    struct settings *settings = &board->settings;
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (only_live && !setting_infos[i].live) {
            if (config->setting[i] != setting_number(settings, (enum setting_id)i))
                log_line(LOG_WARN, "setting %s has changed, which takes a restart", setting_infos[i].name);
            continue;
        }
        settings_set(settings, i, config->setting[i], config->setting_origin[i]);
    }
    config_apply_own(config, &board->own);
}
