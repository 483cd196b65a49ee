// SPDX-License-Identifier: MIT
#include "engine/options.h"

#include <stdio.h>

struct flag {
    const char *name;
    const char *argument; /* what follows, for the help; NULL: nothing */
    size_t offset;        /* of a const char * in struct options */
    const char *help;
};

#define FLAG(name, argument, field, help) {name, argument, offsetof(struct options, field), help}

static const struct flag flags[] = {
    FLAG("--config", "FILE", config, "configuration, a Lua file that returns a table (default ./perilune.lua, if there)"),
    FLAG("--listen", "HOST:PORT", listen, "data plane (default 127.0.0.1:8000; port 0 picks a free one)"),
    FLAG("--admin", "HOST:PORT", admin, "control API (default 127.0.0.1:8001)"),
    FLAG("--upstream", "URL", upstream, "where requests go that no route takes"),
    FLAG("--workers", "N", workers, "worker processes (default: the CPUs we may use)"),
    FLAG("--rules", "DIR", rules, "folder of routes and rules (default ./rules beside the configuration)"),
    FLAG("--state", "DIR", state, "folder for ports.json and generations (default ./.perilune)"),
    FLAG("--format", "NAME", replay.format, "replay: the format of the log by its name; 'list' shows them (default: guessed)"),
    FLAG("--log-format", "FORMAT", replay.log_format, "replay: how lines look, an nginx log_format (default: guessed)"),
    FLAG("--report", "KIND", replay.report, "replay: terminal (default), html, json or md"),
    FLAG("--output", "FILE", replay.output, "replay: where the report goes (default: stdout)"),
    FLAG("--fail-on", "LIMIT", replay.fail_on, "replay: exit with 3 when it holds, like 'p99>250ms' or 'GET /users/:id errors>1%'; repeatable"),
    FLAG("--policy", "FILE", policy, "alerts test: a file like those of rules/alerts/ (default: those in force)"),
    FLAG("--from", "SECONDS", from, "alerts test: since when, as -3600 (default) for the last hour"),
    FLAG("--facts", "FILE", facts, "rules test: a snapshot, as GET suggestions/facts gives it (default: the golden fixtures)"),
    FLAG("--class", "CLASS", rule_class, "rules new: database, cache, asynchronous, architecture, compression, concurrency, resources"),
    FLAG("--on", "KIND", rule_on, "rules new: what it is asked for: route, pool, upstream, statement or host"),
    FLAG("--bundle", "FILE", bundle, "check a saved generation instead of the folder"),
};

static const struct {
    const char *name;
    enum command command;
    const char *help;
} commands[] = {
    {"run", COMMAND_RUN, "serve, proxy and measure until SIGTERM; SIGHUP reloads"},
    {"check", COMMAND_CHECK, "load configuration and scripts as a reload would; exit 0, or 2 with every error"},
    {"doctor", COMMAND_DOCTOR, "look at limits, ports and folders, and say what to do"},
    {"config", COMMAND_CONFIG, "config show [--origin]: every setting in force"},
    {"replay", COMMAND_REPLAY, "replay [FILE.. or -]: what an access log (plain or gz) says about a service"},
    {"alerts", COMMAND_ALERTS, "alerts test [--policy FILE]: how often alerts would have fired, by a running engine's history"},
    {"rules", COMMAND_RULES, "rules list | test [NAME..] [--facts FILE] | new NAME [--class C] [--on KIND]: the rules of suggestions"},
    {"help", COMMAND_HELP, "this text, or the help of a command"},
};

enum { COMMANDS = sizeof commands / sizeof *commands, FLAGS = sizeof flags / sizeof *flags };

static const struct flag *find_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < FLAGS; i++)
        if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0)
            return &flags[i];
    return NULL;
}

static const char *nearest_flag(struct str name)
{
    const char *best = str_equal(name, STR("--sett")) ? "--set" : NULL;
    unsigned distance = 4;
    for (size_t i = 0; i < FLAGS; i++)
        if (str_distance(name, str_from(flags[i].name)) < distance) {
            distance = str_distance(name, str_from(flags[i].name));
            best = flags[i].name;
        }
    return best;
}

static bool take_command(struct options *out, const char *word, struct problems *problems)
{
    const char *near = NULL;
    unsigned distance = 4;
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, word) == 0) {
            out->command = commands[i].command;
            return true;
        }
        unsigned d = str_distance(str_from(word), str_from(commands[i].name));
        if (d < distance) {
            distance = d;
            near = commands[i].name;
        }
    }
    problems_add(problems, "", 0, "unknown command '%s'%s%s%s; see perilune --help", word,
                 near ? ", did you mean '" : "", near ? near : "", near ? "'" : "");
    return false;
}

static void take_set(struct options *out, const char *value, struct problems *problems)
{
    if (!value || !strchr(value, '='))
        problems_add(problems, "", 0, "--set takes name=value, like --set script.cpu_ms=50");
    else if (out->set_count == OPTIONS_SET_MAX)
        problems_add(problems, "", 0, "too many --set: at most %d", OPTIONS_SET_MAX);
    else
        out->set[out->set_count++] = value;
}

static void take_limit(struct options *out, const char *value, struct problems *problems)
{
    if (out->replay.limit_count == REPLAY_LIMITS)
        problems_add(problems, "", 0, "too many --fail-on: at most %d", REPLAY_LIMITS);
    else
        out->replay.fail_on[out->replay.limit_count++] = value;
}

/* Takes the flag at argv[*i] and its value. */
static void take_flag(struct options *out, int argc, char **argv, int *i, struct problems *problems)
{
    const char *arg = argv[*i], *eq = strchr(arg, '=');
    struct str name = {arg, eq ? (size_t)(eq - arg) : strlen(arg)};
    bool is_set = str_equal(name, STR("--set"));
    const struct flag *flag = find_flag(name.p, name.len);
    if (!flag && !is_set) {
        const char *near = nearest_flag(name);
        problems_add(problems, "", 0, "unknown option '%.*s'%s%s%s; see perilune --help", STR_ARG(name),
                     near ? ", did you mean '" : "", near ? near : "", near ? "'" : "");
        return;
    }
    const char *value = eq ? eq + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    if (is_set)
        take_set(out, value, problems);
    else if (value && *value && strcmp(flag->name, "--fail-on") == 0)
        take_limit(out, value, problems);
    else if (!value || !*value)
        problems_add(problems, "", 0, "%s needs a value: %s %s", flag->name, flag->name, flag->argument);
    else
        *(const char **)((char *)out + flag->offset) = value;
}

static void take_file(struct options *out, const char *path, struct problems *problems)
{
    if (out->replay.file_count == REPLAY_FILES)
        problems_add(problems, "", 0, "too many files: at most %d", REPLAY_FILES);
    else
        out->replay.files[out->replay.file_count++] = path;
}

static void take_word(struct options *out, const char *word, struct problems *problems)
{
    bool known = out->word_count || strcmp(word, "list") == 0 || strcmp(word, "test") == 0 || strcmp(word, "new") == 0;
    if (!known || out->word_count == OPTIONS_WORDS)
        problems_add(problems, "", 0, known ? "too many names behind '%s'" : "rules takes list, test or new, not '%s'", word);
    else
        out->words[out->word_count++] = word;
}

bool options_parse(struct options *out, int argc, char **argv, struct problems *problems)
{
    *out = (struct options){0};
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            out->help_for = i > 1 ? argv[1] : NULL;
            out->command = COMMAND_HELP;
            return true;
        }
        if (strcmp(arg, "--version") == 0)
            out->command = COMMAND_VERSION;
        else if (strcmp(arg, "--origin") == 0)
            out->show_origin = true;
        else if (out->command == COMMAND_REPLAY && (arg[0] != '-' || !arg[1]))
            take_file(out, arg, problems);
        else if (out->command == COMMAND_RULES && arg[0] != '-')
            take_word(out, arg, problems);
        else if (arg[0] == '-')
            take_flag(out, argc, argv, &i, problems);
        else if (out->command == COMMAND_NONE)
            take_command(out, arg, problems);
        else if (out->command == COMMAND_HELP)
            out->help_for = arg;
        else if (out->command == COMMAND_ALERTS && strcmp(arg, "test") == 0)
            out->alerts_test = true;
        else if (!(out->command == COMMAND_CONFIG && strcmp(arg, "show") == 0))
            problems_add(problems, "", 0, "unexpected argument '%s'; see perilune --help", arg);
    }
    if (problems->count == 0 && out->command == COMMAND_ALERTS && !out->alerts_test)
        problems_add(problems, "", 0, "alerts takes a word behind it: perilune alerts test [--policy FILE] [--from -3600]");
    if (problems->count == 0 && out->command == COMMAND_RULES && !out->word_count)
        problems_add(problems, "", 0, "rules takes a word behind it: perilune rules list, test or new");
    if (problems->count == 0 && out->command == COMMAND_NONE)
        out->command = COMMAND_HELP;
    return problems->count == 0;
}

void options_help(const char *command)
{
    printf("Usage: perilune COMMAND [OPTIONS]\n\n"
           "A Lua-scriptable performance engine: serves, proxies, measures, and reloads its\n"
           "scripts while it runs.\n\nCommands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        if (!command || strcmp(command, commands[i].name) == 0)
            printf("  %-8s %s\n", commands[i].name, commands[i].help);
    printf("\nOptions:\n");
    for (size_t i = 0; i < FLAGS; i++) {
        char left[40];
        snprintf(left, sizeof left, "%s %s", flags[i].name, flags[i].argument);
        printf("  %-20s %s\n", left, flags[i].help);
    }
    printf("  --set NAME=VALUE     any setting of `perilune config show`; may be repeated\n"
           "  --help, --version\n\n"
           "An option wins over the environment, that over the API, that over the file.\n\n"
           "Examples:\n"
           "  perilune run --upstream http://127.0.0.1:3000\n"
           "  perilune run --rules rules --set script.cpu_ms=50 --workers 4\n"
           "  perilune alerts test --policy rules/alerts/mine.lua --from -86400\n"
           "  perilune check && kill -HUP $(jq .pid .perilune/ports.json)\n"
           "  perilune rules test --facts facts.json\n\n"
           "Exit codes: 0 done, 1 failed while running or in a test, 2 wrong usage, configuration or script,\n"
           "3 --fail-on holds, 4 the log has no known format.\n");
}
