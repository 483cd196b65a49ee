/* The list `admin_tokens` of a configuration:
 *
 *     admin_tokens = {
 *       { name = "grafana", role = "read", token = "env:GRAFANA_TOKEN" },     -- or "file:/path", or the token itself
 *       { name = "deploy", role = "operate", token = "file:/run/secrets/deploy" },
 *     }
 *
 * Each is valid, so a new one stands beside the old one while clients move. Only digests are kept.
 */
// SPDX-License-Identifier: MIT
#include "engine/config_parts.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

enum { TOKEN_SHORTEST = 16, TOKEN_BYTES = 512 };

static const char *const roles[TOKEN_ROLES] = {
    [TOKEN_READ] = "read", [TOKEN_OPERATE] = "operate", [TOKEN_ADMIN] = "admin"};

const char *config_role_name(enum token_role role)
{
    return roles[role];
}

static void complain(struct file_job *job, const char *name, const char *what)
{
    problems_add(job->problems, job->name, config_line_of(job, *name ? name : "admin_tokens"), "admin_tokens%s%s: %s",
                 *name ? "." : "", name, what);
}

static const char *text_of(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    lua_pop(L, 1); /* stays alive in the table */
    return text;
}

static bool has_only_known_keys(lua_State *L, struct file_job *job, const char *name)
{
    static const char *const known[] = {"name", "role", "token"};
    bool ok = true;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?", *near = known[0];
        char what[160];
        for (size_t i = 1; i < sizeof known / sizeof *known; i++)
            if (str_distance(str_from(key), str_from(known[i])) < str_distance(str_from(key), str_from(near)))
                near = known[i];
        if (strcmp(key, near) == 0)
            continue;
        snprintf(what, sizeof what, "unknown key '%.60s', did you mean '%s'?", key, near);
        complain(job, name, what);
        ok = false;
    }
    return ok;
}

static int role_of(const char *text)
{
    for (int i = 0; i < TOKEN_ROLES; i++)
        if (strcmp(text, roles[i]) == 0)
            return i;
    return -1;
}

static bool is_taken(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->token_count; i++)
        if (strcmp(c->tokens[i].name, name) == 0)
            return true;
    return false;
}

void config_token_digest(struct str token, unsigned char out[TOKEN_DIGEST])
{
    SHA256((const unsigned char *)token.p, token.len, out);
}

/* One entry, a table on top of the stack. */
static void take_token(lua_State *L, struct file_job *job)
{
    struct config *c = job->config;
    struct config_token *to = &c->tokens[c->token_count];
    const char *name = text_of(L, "name"), *given = text_of(L, "token");
    int role = role_of(text_of(L, "role"));
    char token[TOKEN_BYTES] = "";
    if (!has_only_known_keys(L, job, name))
        return;
    if (!*name || strlen(name) >= sizeof to->name || is_taken(c, name))
        complain(job, name, "'name' is a name of its own, of at most 47 bytes");
    else if (role < 0)
        complain(job, name, "'role' is \"read\", \"operate\" or \"admin\"");
    else if (!config_secret(given, token, sizeof token))
        complain(job, name, "the environment variable or the file of 'token' cannot be read");
    else if (strlen(token) < TOKEN_SHORTEST)
        complain(job, name, "'token' is of 16 bytes at least: \"env:NAME\", \"file:/path\", or the token itself");
    else {
        snprintf(to->name, sizeof to->name, "%s", name);
        to->role = (enum token_role)role;
        config_token_digest(str_from(token), to->digest);
        c->token_count++;
    }
    OPENSSL_cleanse(token, sizeof token);
}

void config_take_tokens(lua_State *L, struct file_job *job)
{
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    if (n == 0)
        complain(job, "", "it is a list: { { name = \"grafana\", role = \"read\", token = \"env:NAME\" } }");
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        if (job->config->token_count == CONFIG_TOKENS_MAX)
            complain(job, "", "there are too many: 16 at most");
        else if (lua_istable(L, -1))
            take_token(L, job);
        else
            complain(job, "", "each is a table: { name = \"grafana\", role = \"read\", token = \"env:NAME\" }");
        lua_pop(L, 1);
    }
}

int config_token_find(const struct config_tokens_view *view, struct str given)
{
    unsigned char digest[TOKEN_DIGEST];
    int found = -1;
    config_token_digest(given, digest);
    for (size_t i = 0; i < view->count; i++) /* all of them: how long it takes tells nothing */
        if (CRYPTO_memcmp(digest, view->list[i].digest, sizeof digest) == 0)
            found = (int)i;
    return found;
}
