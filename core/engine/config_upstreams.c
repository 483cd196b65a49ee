/* Upstreams in a configuration:
 *
 *     upstreams = {
 *       one = "http://10.0.0.1:8080",
 *       two = { "http://10.0.0.1:8080", "http://10.0.0.2:8080" },
 *       all = { peers = { { url = "http://10.0.0.1:8080", weight = 3 }, ... }, balance = "hash", ... },
 *     }
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { WEIGHT_MAX = 1000, MS_MAX = 86400000 };

#define HEDGE_DEFAULT 0.95

/* One upstream being read. */
struct reading {
    struct file_job *job;
    struct config *config;
    const char *name;
    const char *file;
    int line;
    struct problems *problems;
    struct upstream_spec spec;
    struct peer_spec peers[UPSTREAM_PEERS_LIMIT];
    bool has_tls;
    bool ok;
};

__attribute__((format(printf, 2, 3))) static void complain(struct reading *r, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    problems_add(r->problems, r->file, r->line, "upstream '%s'%s", r->name, text);
    r->ok = false;
}

static const char *keep(struct reading *r, struct str text)
{
    struct str copy = arena_copy(&r->config->arena, text);
    if (!copy.p)
        complain(r, ": out of memory");
    return copy.p;
}

/* ---- peers ---- */

static void add_peer(struct reading *r, const char *text, unsigned weight)
{
    struct url url;
    const char *copy = keep(r, str_from(text));
    const char *wrong = copy ? url_parse(str_from(copy), &url) : NULL;
    if (!copy)
        return;
    if (wrong) {
        complain(r, " has the peer \"%s\": %s", text, wrong);
        return;
    }
    while (url.path.len && url.path.p[url.path.len - 1] == '/')
        url.path.len--;
    if (r->spec.peer_count == UPSTREAM_PEERS_LIMIT) {
        complain(r, " has too many peers: at most %d", UPSTREAM_PEERS_LIMIT);
        return;
    }
    if (r->spec.peer_count && !str_equal(url.path, r->spec.base_path)) {
        complain(r, ": its peers have different paths; give all of them the same, or none");
        return;
    }
    r->spec.base_path = url.path;
    r->peers[r->spec.peer_count++] = (struct peer_spec){url.host, url.port, url.is_tls, weight};
}

static void take_peer_table(lua_State *L, struct reading *r)
{
    const char *url = NULL;
    double weight = 1;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        if (strcmp(key, "url") == 0 && lua_type(L, -1) == LUA_TSTRING)
            url = lua_tostring(L, -1); /* stays alive in the table */
        else if (strcmp(key, "weight") == 0 && lua_type(L, -1) == LUA_TNUMBER)
            weight = lua_tonumber(L, -1);
        else
            complain(r, ": a peer has the key '%s' with a %s; it takes url (a string) and weight (a number)", key,
                     luaL_typename(L, -1));
    }
    if (!(weight >= 1 && weight <= WEIGHT_MAX) || weight != floor(weight))
        complain(r, ": a weight is a whole number from 1 to %d", WEIGHT_MAX);
    else if (!url)
        complain(r, ": a peer needs its url, like { url = \"http://127.0.0.1:3000\", weight = 2 }");
    else
        add_peer(r, url, (unsigned)weight);
}

static void take_peers(lua_State *L, struct reading *r)
{
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    if (!n)
        complain(r, " has no peers: give a list like { \"http://127.0.0.1:3000\", \"http://127.0.0.1:3001\" }");
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        if (lua_type(L, -1) == LUA_TSTRING)
            add_peer(r, lua_tostring(L, -1), 1);
        else if (lua_istable(L, -1))
            take_peer_table(L, r);
        else
            complain(r, ": peer %d is a %s, it must be a URL or { url = \"http://...\", weight = 2 }", i,
                     luaL_typename(L, -1));
        lua_pop(L, 1);
    }
}

/* ---- values ---- */

static bool take_number(lua_State *L, struct reading *r, const char *key, double min, double max, double *out)
{
    double value = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(value >= min && value <= max) || value != floor(value)) {
        complain(r, ": %s is a whole number from %.0f to %.0f", key, min, max);
        return false;
    }
    *out = value;
    return true;
}

static void take_balance(lua_State *L, struct reading *r)
{
    static const char *const names[] = {"two_choices", "round_robin", "hash"};
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            r->spec.balance = (enum balance)i;
            return;
        }
    complain(r, ": balance is \"two_choices\", \"round_robin\" or \"hash\"");
}

static void take_hash(lua_State *L, struct reading *r)
{
    struct str text = str_from(lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");
    struct str name = {NULL, 0};
    if (str_equal(text, STR("path"))) {
        r->spec.hash = HASH_PATH;
    } else if (str_equal(text, STR("address"))) {
        r->spec.hash = HASH_ADDRESS;
    } else if (str_starts(text, STR("header:")) && text.len > 7) {
        r->spec.hash = HASH_HEADER;
        name = (struct str){text.p + 7, text.len - 7};
    } else if (str_starts(text, STR("cookie:")) && text.len > 7) {
        r->spec.hash = HASH_COOKIE;
        name = (struct str){text.p + 7, text.len - 7};
    }
    if (r->spec.hash == HASH_NONE || (name.p && !head_is_token(name)))
        complain(r, ": hash is \"header:NAME\", \"cookie:NAME\", \"path\" or \"address\"");
    else if (name.p)
        r->spec.hash_name = keep(r, name);
}

static void take_hedge(lua_State *L, struct reading *r)
{
    double q = lua_tonumber(L, -1);
    if (lua_isboolean(L, -1))
        r->spec.hedge = lua_toboolean(L, -1) ? HEDGE_DEFAULT : 0;
    else if (lua_type(L, -1) == LUA_TNUMBER && q >= 0.5 && q < 1)
        r->spec.hedge = q;
    else
        complain(r, ": hedge is true, false or a quantile from 0.5 to below 1, like 0.95");
}

static void take_retry_on(lua_State *L, struct reading *r)
{
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        double status = lua_tonumber(L, -1);
        lua_pop(L, 1);
        r->spec.retry_502 = r->spec.retry_502 || status == 502;
        r->spec.retry_503 = r->spec.retry_503 || status == 503;
        r->spec.retry_504 = r->spec.retry_504 || status == 504;
        if (status != 502 && status != 503 && status != 504)
            n = 0;
    }
    if (!n)
        complain(r, ": retry_on is a list of 502, 503 and 504");
}

static void take_retries(lua_State *L, struct reading *r)
{
    double n;
    if (take_number(L, r, "retries", 0, UPSTREAM_RETRIES_LIMIT, &n))
        r->spec.retries = (int)n;
}

static void take_try_timeout(lua_State *L, struct reading *r)
{
    double ms;
    if (take_number(L, r, "try_timeout_ms", 0, MS_MAX, &ms))
        r->spec.try_timeout_ms = (int64_t)ms;
}

static void take_slow_start(lua_State *L, struct reading *r)
{
    double ms;
    if (take_number(L, r, "slow_start_ms", 0, MS_MAX, &ms))
        r->spec.slow_start_ms = (int64_t)ms;
}

static void take_buffer_request(lua_State *L, struct reading *r)
{
    if (!lua_isboolean(L, -1))
        complain(r, ": buffer_request is true or false");
    r->spec.buffer_request = lua_toboolean(L, -1);
}

/* ---- tables by key ---- */

struct key {
    const char *name;
    void (*take)(lua_State *L, struct reading *r);
};

static void take_keys(lua_State *L, struct reading *r, const char *what, const struct key *keys)
{
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const char *given = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        const char *near = NULL;
        const struct key *k = keys;
        unsigned best = 4;
        for (; k->name && strcmp(k->name, given) != 0; k++) {
            unsigned distance = str_distance(str_from(k->name), str_from(given));
            near = distance < best ? k->name : near;
            best = distance < best ? distance : best;
        }
        if (k->name)
            k->take(L, r);
        else
            complain(r, ": unknown key '%s'%s%s%s%s", given, what, near ? ", did you mean '" : "",
                     near ? near : "", near ? "'?" : "");
    }
}

static void take_health_path(lua_State *L, struct reading *r)
{
    const char *path = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    bool ok = path[0] == '/';
    for (const char *p = path; *p; p++)
        ok = ok && (unsigned char)*p > ' ' && (unsigned char)*p < 0x7f && *p != '#';
    if (ok)
        r->spec.health_path = keep(r, str_from(path));
    else
        complain(r, ": the path of health begins with '/' and holds no blanks, '#' or non-ASCII characters");
}

static void take_health_interval(lua_State *L, struct reading *r)
{
    double ms;
    if (take_number(L, r, "interval_ms of health", 50, MS_MAX, &ms))
        r->spec.health_interval_ms = (uint64_t)ms;
}

static void take_health_timeout(lua_State *L, struct reading *r)
{
    double ms;
    if (take_number(L, r, "timeout_ms of health", 10, MS_MAX, &ms))
        r->spec.health_timeout_ms = (uint64_t)ms;
}

static void take_health_status(lua_State *L, struct reading *r)
{
    double status;
    if (take_number(L, r, "status of health", 200, 599, &status))
        r->spec.health_status = (int)status;
}

static void take_health(lua_State *L, struct reading *r)
{
    static const struct key keys[] = {{"path", take_health_path},
                                      {"interval_ms", take_health_interval},
                                      {"timeout_ms", take_health_timeout},
                                      {"status", take_health_status},
                                      {0}};
    if (!lua_istable(L, -1)) {
        complain(r, ": health is a table like { path = \"/health\", interval_ms = 2000 }");
        return;
    }
    take_keys(L, r, " of health", keys);
    if (r->ok && !r->spec.health_path)
        complain(r, ": health needs its path, like { path = \"/health\" }");
}

/* ---- TLS ---- */

static void take_tls_ca(lua_State *L, struct reading *r)
{
    char path[4096], why[TLS_WHY];
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    const char *slash = strrchr(r->file, '/');
    bool beside = text[0] != '/' && slash; /* paths of the file stand beside the file */
    snprintf(path, sizeof path, "%.*s%s", beside ? (int)(slash + 1 - r->file) : 0, r->file, text);
    struct tls_client_opts opts = {.ca_file = path};
    struct tls_context *context = *text ? tls_client_context(&opts, why) : NULL;
    if (context)
        r->spec.tls_ca = keep(r, str_from(path));
    else
        complain(r, ": ca of tls: %s", *text ? why : "the path of a PEM file");
    tls_context_release(context);
}

static void take_tls_name(lua_State *L, struct reading *r)
{
    struct str name = str_from(lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");
    if (name.len > 0 && name.len < 256)
        r->spec.tls_name = keep(r, name);
    else
        complain(r, ": name of tls is the host name that the certificates of the peers carry");
}

static void take_tls_verify(lua_State *L, struct reading *r)
{
    if (!lua_isboolean(L, -1))
        complain(r, ": verify of tls is true or false");
    r->spec.tls_no_verify = !lua_toboolean(L, -1);
}

static void take_tls(lua_State *L, struct reading *r)
{
    static const struct key keys[] = {
        {"ca", take_tls_ca}, {"name", take_tls_name}, {"verify", take_tls_verify}, {0}};
    r->has_tls = true;
    if (lua_istable(L, -1))
        take_keys(L, r, " of tls", keys);
    else
        complain(r, ": tls is a table like { ca = \"ca.pem\" }");
}

static void take_long_form(lua_State *L, struct reading *r)
{
    static const struct key keys[] = {{"peers", take_peers},
                                      {"balance", take_balance},
                                      {"hash", take_hash},
                                      {"health", take_health},
                                      {"retries", take_retries},
                                      {"retry_on", take_retry_on},
                                      {"try_timeout_ms", take_try_timeout},
                                      {"hedge", take_hedge},
                                      {"slow_start_ms", take_slow_start},
                                      {"buffer_request", take_buffer_request},
                                      {"tls", take_tls},
                                      {0}};
    take_keys(L, r, "", keys);
    if (r->ok && !r->spec.peer_count)
        complain(r, " has no peers: peers = { \"http://127.0.0.1:3000\" }");
    bool any_tls = false;
    for (size_t i = 0; i < r->spec.peer_count; i++)
        any_tls = any_tls || r->peers[i].is_tls;
    if (r->ok && r->has_tls && !any_tls)
        complain(r, ": tls does nothing without a peer whose url begins with https://");
    if (r->ok && r->spec.balance == BALANCE_HASH && r->spec.hash == HASH_NONE)
        complain(r, ": balance = \"hash\" needs hash = \"header:NAME\", \"cookie:NAME\", \"path\" or \"address\"");
    if (r->ok && r->spec.balance != BALANCE_HASH && r->spec.hash != HASH_NONE)
        complain(r, ": hash does nothing without balance = \"hash\"");
}

static bool has_names(lua_State *L)
{
    bool found = false;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        found = found || lua_type(L, -2) == LUA_TSTRING;
    return found;
}

/* ---- upstreams ---- */

static void begin(struct reading *r)
{
    r->spec = (struct upstream_spec){.name = r->name, .base_path = STR(""), .retries = -1,
                                     .try_timeout_ms = -1, .slow_start_ms = -1};
    r->ok = true;
    if (strlen(r->name) >= PEER_UPSTREAM_NAME)
        complain(r, ": its name is longer than %d characters", PEER_UPSTREAM_NAME - 1);
}

static void finish(struct reading *r)
{
    struct config *c = r->config;
    size_t bytes = r->spec.peer_count * sizeof *r->peers;
    if (!r->ok)
        return;
    if (c->upstream_count == CONFIG_UPSTREAMS_MAX) {
        complain(r, ": at most %d upstreams", CONFIG_UPSTREAMS_MAX);
        return;
    }
    struct peer_spec *peers = arena_alloc(&c->arena, bytes);
    r->spec.name = keep(r, str_from(r->name));
    if (!peers || !r->ok)
        return;
    memcpy(peers, r->peers, bytes);
    r->spec.peers = peers;
    c->upstreams[c->upstream_count++] = r->spec;
}

void config_add_upstream(struct config *c, const char *name, const char *url, const char *file, int line,
                         struct problems *problems)
{
    struct reading r = {.config = c, .name = name, .file = file, .line = line, .problems = problems};
    begin(&r);
    add_peer(&r, url, 1);
    finish(&r);
}

void config_take_upstream(lua_State *L, struct file_job *job, const char *name)
{
    struct reading r = {.job = job,
                        .config = job->config,
                        .name = name,
                        .file = job->name,
                        .line = config_line_of(job, name),
                        .problems = job->problems};
    begin(&r);
    if (lua_type(L, -1) == LUA_TSTRING)
        add_peer(&r, lua_tostring(L, -1), 1);
    else if (!lua_istable(L, -1))
        complain(&r, " is a %s, it must be a URL like \"http://127.0.0.1:3000\", a list of them, or a table with peers",
                 luaL_typename(L, -1));
    else if (has_names(L))
        take_long_form(L, &r);
    else
        take_peers(L, &r);
    finish(&r);
}

void config_check_upstreams(const struct config *c, const char *file, struct problems *problems)
{
    size_t peers = 0, most = (size_t)c->setting[SETTING_UPSTREAM_PEERS_MAX];
    for (size_t i = 0; i < c->upstream_count; i++)
        peers += c->upstreams[i].peer_count;
    if (peers > most)
        problems_add(problems, file, 0,
                     "the upstreams have %zu peers together and upstream.peers_max is %zu; raise it in settings, "
                     "and restart", peers, most);
}
