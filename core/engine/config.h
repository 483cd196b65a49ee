/* config.h - the configuration in force: flag > environment > API > file > default.
 *
 * The file is Lua text that returns a table, run in a bare state under limits;
 * unknown keys are refused by name. The result is plain C.
 *
 * Owner:   whoever called config_read(); ends with config_done().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "io/tls.h"
#include "engine/options.h"
#include "script/script.h"

enum { CONFIG_UPSTREAMS_MAX = 256, CONFIG_DATABASES_MAX = POOLS_MAX, CONFIG_TOKENS_MAX = 16, TOKEN_DIGEST = 32, CONFIG_OWN_MAX = 512 };

/* The plain keys; `doc` is shown by `config show`. name, default, env, doc */
#define CONFIG_KEY_LIST(X)                                                                         \
    X(LISTEN, listen, "127.0.0.1:8000", "PERILUNE_LISTEN", "address of the data plane")             \
    X(ADMIN, admin, "127.0.0.1:8001", "PERILUNE_ADMIN", "address of the control API")               \
    X(UPSTREAM, upstream, "", "PERILUNE_UPSTREAM", "URL or name of an upstream for what no route takes") \
    X(WORKERS, workers, "0", "PERILUNE_WORKERS", "worker processes; 0: the CPUs we may use")        \
    X(RULES, rules, "rules", "PERILUNE_RULES", "folder of routes and rules")                        \
    X(STATE, state, ".perilune", "PERILUNE_STATE", "folder for ports.json and generations")         \
    X(RESOLVER, resolver, "", "PERILUNE_RESOLVER", "DNS servers, HOST[:PORT], by commas; empty: the system's; read at start") \
    X(ACCESS_LOG, access_log, "", "PERILUNE_ACCESS_LOG", "file of a line for each request, '-' for stdout; empty: none; read at start") \
    X(ACCESS_LOG_FORMAT, access_log_format, "combined", "PERILUNE_ACCESS_LOG_FORMAT", "combined, json, or a text with variables as nginx's log_format has them") \
    X(ATTACH, attach, "", "PERILUNE_ATTACH", "socket where applications attach; empty: perilune.sock in the state folder") \
    X(ADMIN_TOKEN, admin_token, "", "PERILUNE_ADMIN_TOKEN", "bearer token of the control API, with every right")

enum config_key {
#define X(id, name, fallback, env, doc) CONFIG_##id,
    CONFIG_KEY_LIST(X)
#undef X
        CONFIG_KEYS
};

struct config_value {
    char *text;
    enum setting_origin origin;
};

/* The TLS listener. */
struct config_tls {
    char *listen; /* NULL: none */
    struct tls_files files[TLS_CERTIFICATES_MAX];
    size_t count;
    bool require_1_3;
};

/* What a token of the control API may do; each role may what those before it may. */
enum token_role { TOKEN_READ, TOKEN_OPERATE, TOKEN_ADMIN, TOKEN_ROLES };

struct config_token {
    char name[48];
    enum token_role role;
    unsigned char digest[TOKEN_DIGEST]; /* SHA-256 */
};

/* Tokens, and how many. */
struct config_tokens_view {
    const struct config_token *list;
    size_t count;
};

/* A setting of one upstream; of two for the same, the later one counts. */
struct config_own {
    const char *name, *upstream; /* "upstream.api.retries", "api" */
    enum own_setting which;
    double value;
    enum setting_origin origin;
    int line; /* of the file; 0: not there */
};

struct config {
    struct config_value key[CONFIG_KEYS];
    char *path; /* of the file, NULL: none */
    struct arena arena; /* of the upstreams */
    struct upstream_spec upstreams[CONFIG_UPSTREAMS_MAX];
    size_t upstream_count;
    const char *default_upstream; /* name of one of them, or NULL */
    struct pg_spec databases[CONFIG_DATABASES_MAX];
    size_t database_count;
    struct redis_spec redises[CONFIG_DATABASES_MAX];
    size_t redis_count;
    struct config_tls tls;
    struct config_token tokens[CONFIG_TOKENS_MAX];
    size_t token_count;
    double setting[SETTING_COUNT];
    unsigned char setting_origin[SETTING_COUNT];
    struct config_own own[CONFIG_OWN_MAX];
    size_t own_count;
    unsigned workers; /* resolved: at least 1 */
};

/* Name and documentation of a key. */
const char *config_key_name(enum config_key key);

/* Path of the configuration file to use: the option's, ./perilune.lua if it
 * exists, or NULL. */
const char *config_path(const struct options *options);

/* The texts that layers are read from; p NULL: there is none. The overlay is what
 * the API was told to keep: JSON of the same tables, see config_overlay.c. */
struct config_texts {
    struct str file, overlay;
    const char *file_name, *overlay_name; /* in messages; may be NULL without the text */
};

/* Path of the overlay below a state folder. */
void config_overlay_path(const char *state, char *out, size_t size);

/* Reads all layers. False when *problems got something. */
bool config_read(struct config *out, const struct options *options, const struct config_texts *texts,
                 struct problems *problems);
void config_done(struct config *config);
void config_tls_done(struct config_tls *tls);

/* Writes the settings to the board; `only_live` keeps the others as they are and
 * logs that they need a restart. */
void config_apply(const struct config *config, struct board *board, bool only_live);

/* Whether config->own[i] is the last one given for the same, of an upstream that is there. */
bool config_own_counts(const struct config *config, size_t i);

/* "read", "operate", "admin". */
const char *config_role_name(enum token_role role);

void config_token_digest(struct str token, unsigned char out[TOKEN_DIGEST]);

/* Index of the token that was given, -1 when it is none. Takes as long for one as for another. */
int config_token_find(const struct config_tokens_view *view, struct str given);

/* Reads "host:port" into its parts. False: not an address. */
bool config_address(const char *text, char *host, size_t host_size, uint16_t *port);
