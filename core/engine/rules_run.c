/* Rules are loaded as a reload would load them for control, with one route file in the place of the control API:
 * it runs perilune.suggestions.bench, which does the rest.
 */
// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/rules_run.h"

#include "base/buf.h"
#include "engine/engine.h"
#include "script/bind_trials.h"
#include "script/limits.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FACTS_MOST = 64 << 20, LOAD_MS = 60000, MEMORY = 1 << 30 };

static const char runner[] = "require('perilune.suggestions.bench').run()\nreturn require('perilune').app()\n";

struct bench {
    const struct options *options;
    struct board *board;
    struct buf facts;
    int failed;
};

/* Line 0: it is about the command, not about a file. */
static void tell(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct problem *one = &problems->list[i];
        if (one->line)
            fprintf(stderr, "%s:%d: %s\n", one->file, one->line, one->text);
        else
            fprintf(stderr, "%s: %s\n", one->file, one->text);
    }
}

static int lua_say(lua_State *L)
{
    fputs(luaL_checkstring(L, 1), stdout);
    return 0;
}

static int lua_failed(lua_State *L)
{
    struct bench *b = lua_touserdata(L, lua_upvalueindex(1));
    b->failed = (int)luaL_checkinteger(L, 1);
    return 0;
}

static void set_settings(lua_State *L, struct board *board)
{
    lua_newtable(L);
    for (int i = 0; i < SETTING_COUNT; i++) {
        double value = setting_number(&board->settings, (enum setting_id)i);
        if (setting_infos[i].type == SETTING_BOOLEAN)
            lua_pushboolean(L, value != 0);
        else
            lua_pushnumber(L, value);
        lua_setfield(L, -2, setting_infos[i].name);
    }
    lua_setfield(L, -2, "settings");
}

static void bind_bench(lua_State *L, void *user)
{
    struct bench *b = user;
    bind_trials_open(L, b->board, NULL);
    lua_newtable(L);
    lua_pushcfunction(L, lua_say);
    lua_setfield(L, -2, "say");
    lua_pushlightuserdata(L, b);
    lua_pushcclosure(L, lua_failed, 1);
    lua_setfield(L, -2, "failed");
    set_settings(L, b->board);
    lua_pushstring(L, b->options->words[0]);
    lua_setfield(L, -2, "what");
    lua_pushboolean(L, options_want_json(b->options));
    lua_setfield(L, -2, "json");
    if (b->options->facts) {
        struct str text = buf_str(&b->facts);
        lua_pushlstring(L, text.len ? text.p : "", text.len);
        lua_setfield(L, -2, "facts");
    }
    lua_newtable(L);
    for (unsigned i = 1; i < b->options->word_count; i++) {
        lua_pushstring(L, b->options->words[i]);
        lua_rawseti(L, -2, (int)i);
    }
    lua_setfield(L, -2, "names");
    lua_setfield(L, -2, "bench");
}

static bool read_facts(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    size_t n = 1;
    while (f && n && buf_len(out) <= FACTS_MOST) {
        char *room = buf_room(out, 65536);
        n = room ? fread(room, 1, 65536, f) : 0;
        if (n)
            buf_wrote(out, n);
    }
    bool ok = f && !ferror(f) && buf_len(out) <= FACTS_MOST;
    if (!ok)
        fprintf(stderr, "perilune: %s cannot be read: %s\n", path, f ? "it has more than 64 MiB" : strerror(errno));
    if (f)
        fclose(f);
    return ok;
}

/* All files but routes, and the one that runs them. NULL: out of memory. */
static struct source *without_routes(const struct bundle *from, size_t *count)
{
    struct source *list = calloc(from->count + 1, sizeof *list);
    *count = 0;
    if (!list)
        return NULL;
    for (size_t i = 0; i < from->count; i++)
        if (strncmp(from->files[i].path, "routes/", 7) != 0)
            list[(*count)++] = from->files[i];
    list[(*count)++] = (struct source){"routes/admin/bench.lua", "perilune rules", {runner, sizeof runner - 1}, true};
    return list;
}

static void load(struct bench *b, const struct bundle *bundle, struct problems *problems)
{
    size_t count;
    struct source *sources = without_routes(bundle, &count);
    struct board_opts board_opts = {.workers = 1};
    b->board = sources ? board_new(&board_opts) : NULL;
    if (b->board) {
        settings_set(&b->board->settings, SETTING_SCRIPT_LOAD_MS, LOAD_MS, ORIGIN_DEFAULT);
        settings_set(&b->board->settings, SETTING_SCRIPT_MEMORY_BYTES, MEMORY, ORIGIN_DEFAULT);
        struct script_opts opts = {
            .board = b->board,
            .process = board_worker(b->board, 0),
            .lane = board_lane(b->board, 0),
            .sources = sources,
            .source_count = count,
            .routes_under = "routes/admin/",
            .bind = bind_bench,
            .bind_user = b,
        };
        struct script *script = script_new(&opts, problems);
        if (script)
            script_retire(script);
        board_free(b->board);
    } else {
        problems_add(problems, "", 0, "out of memory");
    }
    free(sources);
}

static int run_bench(const struct options *o, const char *rules)
{
    struct problems problems = {0};
    struct bench bench = {.options = o};
    if (o->facts && !read_facts(o->facts, &bench.facts)) {
        buf_done(&bench.facts);
        return 2;
    }
    struct bundle_from from = {NULL, NULL, rules, NULL};
    limits_start();
    struct bundle *b = bundle_collect(&from, &problems);
    if (b)
        load(&bench, b, &problems);
    limits_stop();
    fflush(stdout);
    tell(&problems);
    int code = !b || problems.count ? 2 : bench.failed ? 1 : 0;
    bundle_free(b);
    buf_done(&bench.facts);
    problems_done(&problems);
    return code;
}

/* ---- new ---- */

static const char template[] =
    "-- When it applies, and where its numbers come from. Test it with: perilune rules test %s --facts FILE\n"
    "return {\n"
    "  id = \"%s\", -- the name of this file\n"
    "  title = function(s) return \"what to do about \" .. s.name end,\n"
    "  class = \"%s\", -- database, cache, asynchronous, architecture, compression, concurrency or resources\n"
    "  on = \"%s\", -- asked for each route, pool, upstream, statement or the host\n"
    "  issue = false, -- or reason codes it answers, as { \"db.pool_wait\" }\n"
    "  needs = {}, -- signals of s.now without which it is not asked\n"
    "  -- A ratio, an absolute floor and enough samples: all three.\n"
    "  when = function(s)\n"
    "    return (s.requests or 0) >= 100 and (s.now.p95_ms or 0) >= 1000 and (s.now.p95_ms or 0) >= 20 * (s.now.p50_ms or 0)\n"
    "  end,\n"
    "  impact = function() return nil end, -- or { metric, now, predicted, lo, hi, formula, inputs }, from what was measured\n"
    "  -- set = function(s, f) return { [\"tasks.threads\"] = f:setting \"tasks.threads\" + 1 } end, -- tried by experiment\n"
    "  advise = function(s) return \"what a person should do about \" .. s.name end,\n"
    "  effort = \"low\", -- very_low, low, medium or high\n"
    "  risk = 1, -- 0 to 4\n"
    "  explain = function(s) return (\"p95 is %%s, the median %%s\"):format(s.now.p95_ms, s.now.p50_ms) end,\n"
    "}\n";

static bool is_name(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        if (!islower((unsigned char)name[i]) && !(i && (isdigit((unsigned char)name[i]) || name[i] == '_')))
            return false;
    return len > 0 && len <= 60;
}

static bool is_one_of(const char *what, const char *word, const char *const *list)
{
    for (const char *const *one = list; *one; one++)
        if (strcmp(*one, word) == 0)
            return true;
    fprintf(stderr, "perilune: %s is one of", what);
    for (const char *const *one = list; *one; one++)
        fprintf(stderr, " %s", *one);
    fprintf(stderr, ", not '%s'\n", word);
    return false;
}

static int run_new(const struct options *o, const char *rules)
{
    static const char *const classes[] = {"database", "cache", "asynchronous", "architecture", "compression", "concurrency", "resources", NULL};
    static const char *const kinds[] = {"route", "pool", "upstream", "statement", "host", NULL};
    const char *class = o->rule_class ? o->rule_class : "resources", *on = o->rule_on ? o->rule_on : "route";
    char path[4096];
    if (o->word_count != 2 || !is_name(o->words[1])) {
        fprintf(stderr, "perilune: rules new takes a name of small letters, digits and _: perilune rules new my_rule\n");
        return 2;
    }
    if (!is_one_of("--class", class, classes) || !is_one_of("--on", on, kinds))
        return 2;
    snprintf(path, sizeof path, "%s/suggestions", rules);
    mkdir(rules, 0755);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/suggestions/%s.lua", rules, o->words[1]);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool ok = f && fprintf(f, template, o->words[1], o->words[1], class, on) > 0;
    if (f ? fclose(f) != 0 : true)
        ok = false;
    if (!ok) {
        fprintf(stderr, "perilune: %s cannot be written: %s\n", path, strerror(errno));
        return 2;
    }
    printf("%s\n", path);
    return 0;
}

int rules_run(const struct options *o)
{
    struct problems problems = {0};
    struct config config = {0};
    const char *rules = NULL;
    int code = 2;
    limits_start();
    struct bundle *b = config_collect(o, &problems);
    struct config_texts texts = b ? bundle_texts(b) : (struct config_texts){0};
    bool ok = b && config_read(&config, o, &texts, &problems);
    limits_stop();
    tell(&problems);
    if (ok) {
        rules = config.key[CONFIG_RULES].text;
        code = strcmp(o->words[0], "new") == 0 ? run_new(o, rules) : run_bench(o, rules);
    }
    bundle_free(b);
    config_done(&config);
    problems_done(&problems);
    return code;
}
