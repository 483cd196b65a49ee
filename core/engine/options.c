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
    FLAG("-o", "KIND", shape, "top, suggest, config diff, alerts: table (default) or json"),
    FLAG("--reason", "TEXT", reason, "suggest dismiss, config reset: why"),
    FLAG("--connections", "N", bench.connections, "bench: connections (default 10)"),
    FLAG("--rate", "N", bench.rate, "bench: requests a second that come whether or not the last are answered (default: a closed loop)"),
    FLAG("--duration", "SECONDS", bench.duration, "bench: measured time behind the warm-up (default 10)"),
    FLAG("--iterations", "N", bench.iterations, "bench: so many requests instead of a duration"),
    FLAG("--warmup", "SECONDS", bench.warmup, "bench: not counted (default 1, none with --iterations)"),
    FLAG("--repeats", "N", bench.repeats, "bench: runs; their medians and extremes are printed (default 1)"),
    FLAG("--method", "METHOD", bench.method, "bench: GET (default), HEAD, POST (default with --body), ..."),
    FLAG("--header", "'NAME: VALUE'", bench.headers, "bench: a header field; repeatable"),
    FLAG("--body", "TEXT|@FILE", bench.body, "bench: the body of each request"),
    FLAG("--script", "FILE", bench.script, "bench: a Lua file that returns function(i) > { method, path, headers, body }, or nil: the requests"),
    FLAG("--expect-status", "N", bench.expect, "bench: what is right (default: below 400)"),
    FLAG("--expect-body", "TEXT", bench.expect_body, "bench: what each body has in it"),
    FLAG("--slo", "MS", bench.slo, "bench --find-capacity: the p99 that must hold (default 100)"),
    FLAG("--compare", "NAME=A,B", bench.compare, "bench /PATH: two values of a setting by turns, until there is a verdict; a running engine does it"),
    FLAG("--pairs", "N", bench.pairs, "bench --compare: pairs of blocks at most, 4 to 20 (default 6)"),
    FLAG("--block", "SECONDS", bench.block, "bench --compare: how long each value is measured at a time, 0.5 to 30 (default 4)"),
    FLAG("--seed", "N", bench.seed, "bench --poisson: the same arrivals for the same number (default 1)"),
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
    {"config", COMMAND_CONFIG, "config show [--origin]: every setting; diff | export | reset [NAME]: of a running engine"},
    {"bench", COMMAND_BENCH, "bench URL or /PATH [--rate N [--poisson]] [--find-capacity] [--compare NAME=A,B]: latency from when a request should have been sent, and its validity"},
    {"replay", COMMAND_REPLAY, "replay [FILE.. or -]: what an access log (plain or gz) says about a service"},
    {"top", COMMAND_TOP, "what a running engine does now: routes, issues, trials, pools; q ends, and piped it prints once"},
    {"suggest", COMMAND_SUGGEST, "suggest ls | show ID | apply ID [NAME=VALUE..] | dismiss ID --reason TEXT | rollback ID"},
    {"alerts", COMMAND_ALERTS, "alerts ls | test [--policy FILE]: those that fire; or how often they would have, by a running engine's history"},
    {"rules", COMMAND_RULES, "rules ls | test [NAME..] [--facts FILE] | new NAME [--class C] [--on KIND]: the rules of suggestions"},
    {"completion", COMMAND_COMPLETION, "completion bash | zsh | fish: what makes a shell complete these; eval \"$(perilune completion bash)\""},
    {"man", COMMAND_MAN, "the manual page, for man -l -"},
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

static void take_header(struct options *out, const char *value, struct problems *problems)
{
    const char *colon = strchr(value, ':');
    if (!colon || colon == value || strpbrk(value, "\r\n"))
        problems_add(problems, "", 0, "--header takes 'Name: value', not '%s'", value);
    else if (out->bench.header_count == OPTIONS_HEADERS)
        problems_add(problems, "", 0, "too many --header: at most %d", OPTIONS_HEADERS);
    else
        out->bench.headers[out->bench.header_count++] = value;
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
    else if (value && *value && strcmp(flag->name, "--header") == 0)
        take_header(out, value, problems);
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

/* What can stand behind a command, by spaces. */
static const char *words_of(enum command command)
{
    switch (command) {
    case COMMAND_RULES:
        return "ls list test new";
    case COMMAND_SUGGEST:
        return "ls show apply dismiss rollback";
    case COMMAND_CONFIG:
        return "show diff export reset";
    case COMMAND_ALERTS:
        return "ls test";
    case COMMAND_COMPLETION:
        return "bash zsh fish";
    default:
        return NULL;
    }
}

static const char *name_of(enum command command)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].command == command)
            return commands[i].name;
    return "";
}

static bool is_one_of(const char *word, const char *list)
{
    size_t len = strlen(word);
    for (const char *p = list; *p; p += strcspn(p, " "), p += *p == ' ')
        if (strcspn(p, " ") == len && memcmp(p, word, len) == 0)
            return true;
    return false;
}

static void take_word(struct options *out, const char *word, struct problems *problems)
{
    const char *known = words_of(out->command);
    if (!out->word_count && !is_one_of(word, known))
        problems_add(problems, "", 0, "%s takes one of '%s', not '%s'", name_of(out->command), known, word);
    else if (out->word_count == OPTIONS_WORDS)
        problems_add(problems, "", 0, "too many names behind '%s'", word);
    else
        out->words[out->word_count++] = strcmp(word, "list") == 0 ? "ls" : word;
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
        else if (strcmp(arg, "--poisson") == 0)
            out->bench.poisson = true;
        else if (strcmp(arg, "--find-capacity") == 0)
            out->bench.find_capacity = true;
        else if (out->command == COMMAND_BENCH && arg[0] != '-' && !out->bench.target)
            out->bench.target = arg;
        else if (out->command == COMMAND_REPLAY && (arg[0] != '-' || !arg[1]))
            take_file(out, arg, problems);
        else if (words_of(out->command) && arg[0] != '-')
            take_word(out, arg, problems);
        else if (arg[0] == '-')
            take_flag(out, argc, argv, &i, problems);
        else if (out->command == COMMAND_NONE)
            take_command(out, arg, problems);
        else if (out->command == COMMAND_HELP)
            out->help_for = arg;
        else
            problems_add(problems, "", 0, "unexpected argument '%s'; see perilune --help", arg);
    }
    if (problems->count == 0 && out->command == COMMAND_CONFIG && !out->word_count)
        out->words[out->word_count++] = "show";
    if (problems->count == 0 && words_of(out->command) && !out->word_count)
        problems_add(problems, "", 0, "%s takes a word behind it, one of '%s'; see perilune help %s", name_of(out->command), words_of(out->command), name_of(out->command));
    if (problems->count == 0 && out->shape && strcmp(out->shape, "json") != 0 && strcmp(out->shape, "table") != 0)
        problems_add(problems, "", 0, "-o is json or table, not '%s'", out->shape);
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
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
    printf("\nOptions:\n");
    for (size_t i = 0; i < FLAGS; i++) {
        char left[40];
        snprintf(left, sizeof left, "%s %s", flags[i].name, flags[i].argument);
        printf("  %-20s %s\n", left, flags[i].help);
    }
    printf("  --poisson            bench: gaps between requests of a --rate are exponential\n"
           "  --find-capacity      bench: the highest rate at which p99 keeps --slo and nothing fails\n"
           "  --set NAME=VALUE     any setting of `perilune config show`; may be repeated\n"
           "  --help, --version\n\n"
           "An option wins over the environment, that over the API, that over the file.\n\n"
           "Examples:\n"
           "  perilune run --upstream http://127.0.0.1:3000\n"
           "  perilune run --rules rules --set script.cpu_ms=50 --workers 4\n"
           "  perilune alerts test --policy rules/alerts/mine.lua --from -86400\n"
           "  perilune check && kill -HUP $(jq .pid .perilune/ports.json)\n"
           "  perilune rules test --facts facts.json\n"
           "  perilune bench http://127.0.0.1:8000/hello --rate 1000 --connections 50\n"
           "  perilune bench /hello --compare compression.level=1,6 --header 'Accept-Encoding: gzip'\n\n"
           "Exit codes: 0 done, 1 failed while running or in a test, or no engine answers, 2 wrong usage,\n"
           "configuration or script, or the engine refused, 3 --fail-on holds or a benchmark is not valid, 4 the log has no known format.\n");
}

/* ---- completion ---- */

static void complete_bash(void)
{
    printf("_perilune() {\n"
           "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=\n"
           "  if [ \"$COMP_CWORD\" -gt 1 ]; then case $before in\n    ");
    for (size_t i = 0; i < FLAGS; i++)
        if (strcmp(flags[i].argument, "FILE") == 0 || strcmp(flags[i].argument, "DIR") == 0)
            printf("%s|", flags[i].name);
    printf("--file) COMPREPLY=($(compgen -f -- \"$word\")); return;;\n  esac; fi\n"
           "  case $word in -*) words='");
    for (size_t i = 0; i < FLAGS; i++)
        printf("%s ", flags[i].name);
    printf("--set --help';;\n  *) if [ \"$COMP_CWORD\" = 1 ]; then words='");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("%s ", commands[i].name);
    printf("'; else case $command in\n");
    for (size_t i = 0; i < COMMANDS; i++)
        if (words_of(commands[i].command))
            printf("    %s) words='%s';;\n", commands[i].name, words_of(commands[i].command));
    printf("    replay) COMPREPLY=($(compgen -f -- \"$word\")); return;;\n"
           "    esac; fi;;\n  esac\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -F _perilune perilune\n");
}

static void print_quoted(const char *text)
{
    putchar('\'');
    for (const char *p = text; *p; p++)
        fputs(*p == '\'' ? "\\'" : (char[]){*p, 0}, stdout);
    putchar('\'');
}

static void complete_fish(void)
{
    printf("complete -c perilune -f\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        printf("complete -c perilune -n __fish_use_subcommand -a %s -d ", commands[i].name);
        print_quoted(commands[i].help);
        putchar('\n');
        if (words_of(commands[i].command))
            printf("complete -c perilune -n '__fish_seen_subcommand_from %s' -a '%s'\n", commands[i].name, words_of(commands[i].command));
    }
    for (size_t i = 0; i < FLAGS; i++) {
        bool is_long = flags[i].name[1] == '-';
        printf("complete -c perilune %s %s -r %s -d ", is_long ? "-l" : "-s", flags[i].name + (is_long ? 2 : 1),
               strcmp(flags[i].argument, "FILE") == 0 || strcmp(flags[i].argument, "DIR") == 0 ? "-F" : "");
        print_quoted(flags[i].help);
        putchar('\n');
    }
}

void options_completion(const char *shell)
{
    if (strcmp(shell, "fish") == 0) {
        complete_fish();
        return;
    }
    if (strcmp(shell, "zsh") == 0)
        printf("autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n");
    complete_bash();
}

/* ---- the manual page ---- */

/* Text that troff takes as it is. */
static void roff(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p == '-' || *p == '\\')
            printf(*p == '-' ? "\\-" : "\\e");
        else if ((*p == '.' || *p == '\'') && p == text)
            printf("\\&%c", *p);
        else
            putchar(*p);
}

void options_man(void)
{
    printf(".TH PERILUNE 1 \"\" \"perilune %s\" \"User Commands\"\n.SH NAME\nperilune \\- a Lua\\-scriptable performance engine\n"
           ".SH SYNOPSIS\n.B perilune\n.I COMMAND\n[\n.I OPTIONS\n]\n.SH DESCRIPTION\n"
           "Serves, proxies and measures HTTP; says what is slow and why, what to change and what that would gain; tries it, keeps what is proven, and takes back the rest.\n"
           "Scripts, rules and policies are Lua files, read again while it runs.\n.SH COMMANDS\n", PERILUNE_VERSION);
    for (size_t i = 0; i < COMMANDS; i++) {
        printf(".TP\n.B %s\n", commands[i].name);
        roff(commands[i].help);
        putchar('\n');
    }
    printf(".SH OPTIONS\n");
    for (size_t i = 0; i < FLAGS; i++) {
        printf(".TP\n.B ");
        roff(flags[i].name);
        printf("\n.I %s\n.br\n", flags[i].argument);
        roff(flags[i].help);
        putchar('\n');
    }
    printf(".TP\n.B \\-\\-set\n.I NAME=VALUE\n.br\nany setting of perilune config show; may be repeated\n"
           ".SH EXIT STATUS\n0 done; 1 failed while running or in a test, or no engine answers; 2 wrong usage, configuration or script, or the engine refused; "
           "3 a \\-\\-fail\\-on holds or a benchmark is not valid; 4 the log has no known format.\n"
           ".SH ENVIRONMENT\nPERILUNE_LISTEN, PERILUNE_ADMIN, PERILUNE_ADMIN_TOKEN and the others that perilune config show \\-\\-origin names. "
           "An option wins over the environment, that over the API, that over the file.\n"
           ".SH FILES\n.I perilune.lua\nthe configuration;\n.I rules/\nroutes, rules and policies;\n.I .perilune/\nstate.\n");
}
