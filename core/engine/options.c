// SPDX-License-Identifier: MIT
#include "engine/command_line.h"

#include <stdio.h>

static const struct flag *find_flag(struct str name)
{
    for (const struct flag *f = command_flags; f->name; f++)
        if (str_equal(name, str_from(f->name)))
            return f;
    return NULL;
}

static const char *nearest_flag(struct str name)
{
    const char *best = NULL;
    unsigned distance = 4;
    for (const struct flag *f = command_flags; f->name; f++)
        if (str_distance(name, str_from(f->name)) < distance) {
            distance = str_distance(name, str_from(f->name));
            best = f->name;
        }
    return best;
}

static bool take_command(struct options *out, const char *word, struct problems *problems)
{
    const char *near = NULL;
    unsigned distance = strlen(word) < 6 ? 3 : 4;
    for (const struct command_name *c = command_names; c->name; c++) {
        if (strcmp(c->name, word) == 0) {
            out->command = c->command;
            return true;
        }
        unsigned d = str_distance(str_from(word), str_from(c->name));
        if (d < distance) {
            distance = d;
            near = c->name;
        }
    }
    problems_add(problems, "", 0, "unknown command '%s'%s%s%s; see perilune --help", word,
                 near ? ", did you mean '" : "", near ? near : "", near ? "'" : "");
    return false;
}

static void take_help_for(struct options *out, const char *word, struct problems *problems)
{
    if (take_command(out, word, problems))
        out->help_for = word;
    out->command = COMMAND_HELP;
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
    const struct flag *flag = find_flag(name);
    if (!flag) {
        const char *near = nearest_flag(name);
        problems_add(problems, "", 0, "unknown option '%.*s'%s%s%s; see perilune --help", STR_ARG(name),
                     near ? ", did you mean '" : "", near ? near : "", near ? "'" : "");
        return;
    }
    if (!flag->argument) {
        if (eq)
            problems_add(problems, "", 0, "%s takes no value", flag->name);
        *(bool *)((char *)out + flag->offset) = true;
        return;
    }
    const char *value = eq ? eq + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    if (strcmp(flag->name, "--set") == 0)
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
    const char *known = command_words(out->command);
    if (!out->word_count && !is_one_of(word, known))
        problems_add(problems, "", 0, "%s takes one of '%s', not '%s'", command_name(out->command), known, word);
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
            out->help_for = out->command == COMMAND_NONE ? NULL : command_name(out->command);
            out->command = COMMAND_HELP;
            return problems->count == 0;
        }
        if (out->command == COMMAND_BENCH && arg[0] != '-' && !out->bench.target)
            out->bench.target = arg;
        else if (out->command == COMMAND_REPLAY && (arg[0] != '-' || !arg[1]))
            take_file(out, arg, problems);
        else if (command_words(out->command) && arg[0] != '-')
            take_word(out, arg, problems);
        else if (arg[0] == '-')
            take_flag(out, argc, argv, &i, problems);
        else if (out->command == COMMAND_NONE)
            take_command(out, arg, problems);
        else if (out->command == COMMAND_HELP)
            take_help_for(out, arg, problems);
        else
            problems_add(problems, "", 0, "unexpected argument '%s'; see perilune --help", arg);
    }
    if (problems->count == 0 && out->command == COMMAND_CONFIG && !out->word_count)
        out->words[out->word_count++] = "show";
    if (problems->count == 0 && command_words(out->command) && !out->word_count)
        problems_add(problems, "", 0, "%s takes a word behind it, one of '%s'; see perilune help %s", command_name(out->command), command_words(out->command), command_name(out->command));
    if (problems->count == 0 && out->shape && strcmp(out->shape, "json") != 0 && strcmp(out->shape, "table") != 0)
        problems_add(problems, "", 0, "-o is json or table, not '%s'", out->shape);
    if (out->wants_version)
        out->command = COMMAND_VERSION;
    if (problems->count == 0 && out->command == COMMAND_NONE)
        out->command = COMMAND_HELP;
    return problems->count == 0;
}

void options_help(const char *command)
{
    printf("Usage: perilune COMMAND [OPTIONS]\n\n"
           "A Lua-scriptable performance engine: serves, proxies, measures, and reloads its\n"
           "scripts while it runs.\n\nCommands:\n");
    for (const struct command_name *c = command_names; c->name; c++)
        if (!command || strcmp(command, c->name) == 0)
            printf("  %-10s %s\n", c->name, c->help);
    printf("\nOptions:\n");
    for (const struct flag *f = command_flags; f->name; f++) {
        char left[40];
        snprintf(left, sizeof left, f->argument ? "%s %s" : "%s", f->name, f->argument);
        if (!command || command_takes(command, f))
            printf("  %-20s %s\n", left, f->help);
    }
    printf("\nAn option wins over the environment, that over the API, that over the file.\n\n"
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

bool options_want_json(const struct options *options)
{
    return options->shape && strcmp(options->shape, "json") == 0;
}
