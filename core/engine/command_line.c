// SPDX-License-Identifier: MIT
#include "engine/command_line.h"

#include <string.h>

#define FLAG(name, argument, field, help) {name, argument, NULL, offsetof(struct options, field), help}
#define CHOICE(name, argument, values, field, help) {name, argument, values, offsetof(struct options, field), help}
#define SWITCH(name, field, help) {name, NULL, NULL, offsetof(struct options, field), help}

const struct flag command_flags[] = {
    FLAG("--config", "FILE", config, "configuration, a Lua file that returns a table (default ./perilune.lua, if there)"),
    FLAG("--listen", "HOST:PORT", listen, "data plane (default 127.0.0.1:8000; port 0 picks a free one)"),
    FLAG("--admin", "HOST:PORT", admin, "control API (default 127.0.0.1:8001)"),
    FLAG("--upstream", "URL", upstream, "where requests go that no route takes"),
    FLAG("--workers", "N", workers, "worker processes (default: the CPUs we may use)"),
    FLAG("--rules", "DIR", rules, "folder of routes and rules (default ./rules beside the configuration)"),
    FLAG("--state", "DIR", state, "folder for ports.json and generations (default ./.perilune)"),
    FLAG("--format", "NAME", replay.format, "replay: the format of the log by its name; 'list' shows them (default: guessed)"),
    FLAG("--log-format", "FORMAT", replay.log_format, "replay: how lines look, an nginx log_format (default: guessed)"),
    CHOICE("--report", "KIND", "terminal html json md", replay.report, "replay: terminal (default), html, json or md"),
    FLAG("--output", "FILE", replay.output, "replay: where the report goes (default: stdout)"),
    FLAG("--fail-on", "LIMIT", replay.fail_on, "replay: exit with 3 when it holds, like 'p99>250ms' or 'GET /users/:id errors>1%'; repeatable"),
    FLAG("--policy", "FILE", policy, "alerts test: a file like those of rules/alerts/ (default: those in force)"),
    FLAG("--from", "SECONDS", from, "alerts test: since when, as -3600 (default) for the last hour"),
    FLAG("--facts", "FILE", facts, "rules test: a snapshot, as GET suggestions/facts gives it (default: the golden fixtures)"),
    CHOICE("--class", "CLASS", "database cache asynchronous architecture compression concurrency resources", rule_class, "rules new: database, cache, asynchronous, architecture, compression, concurrency, resources"),
    CHOICE("--on", "KIND", "route pool upstream statement host", rule_on, "rules new: what it is asked for: route, pool, upstream, statement or host"),
    CHOICE("-o", "KIND", "table json", shape, "top, suggest, config, alerts, rules ls, doctor, bench: table (default) or json"),
    FLAG("--reason", "TEXT", reason, "suggest dismiss, config reset: why"),
    FLAG("--connections", "N", bench.connections, "bench: connections (default 10)"),
    FLAG("--rate", "N", bench.rate, "bench: requests a second that come whether or not the last are answered (default: a closed loop)"),
    FLAG("--duration", "SECONDS", bench.duration, "bench: measured time behind the warm-up (default 10)"),
    FLAG("--iterations", "N", bench.iterations, "bench: so many requests instead of a duration"),
    FLAG("--warmup", "SECONDS", bench.warmup, "bench: not counted (default 1, none with --iterations)"),
    FLAG("--repeats", "N", bench.repeats, "bench: runs; their medians and extremes are printed (default 1)"),
    CHOICE("--method", "METHOD", "GET HEAD POST PUT PATCH DELETE OPTIONS", bench.method, "bench: GET (default), HEAD, POST (default with --body), ..."),
    FLAG("--header", "'NAME: VALUE'", bench.headers, "bench: a header field; repeatable"),
    FLAG("--body", "TEXT|@FILE", bench.body, "bench: the body of each request"),
    FLAG("--script", "FILE", bench.script, "bench: a Lua file that returns function(i) > { method, path, headers, body }, or nil: the requests"),
    FLAG("--expect-status", "N", bench.expect, "bench: what is right (default: below 400)"),
    FLAG("--expect-body", "TEXT", bench.expect_body, "bench: what each body has in it"),
    FLAG("--slo", "MS", bench.slo, "bench --find-capacity: the p99 that must hold (default 100)"),
    FLAG("--compare", "NAME=A,B", bench.compare, "bench: two values of a setting by turns, until there is a verdict; the target is a /PATH of a running engine"),
    FLAG("--pairs", "N", bench.pairs, "bench --compare: pairs of blocks at most, 4 to 20 (default 6)"),
    FLAG("--block", "SECONDS", bench.block, "bench --compare: how long each value is measured at a time, 0.5 to 30 (default 4)"),
    FLAG("--seed", "N", bench.seed, "bench --poisson: the same arrivals for the same number (default 1)"),
    SWITCH("--poisson", bench.poisson, "bench: gaps between requests of a --rate are exponential"),
    SWITCH("--find-capacity", bench.find_capacity, "bench: the highest rate at which p99 keeps --slo and nothing fails"),
    SWITCH("--origin", show_origin, "config show: where each value comes from"),
    FLAG("--bundle", "FILE", bundle, "check: a saved generation instead of the folder"),
    FLAG("--set", "NAME=VALUE", set, "any setting of `perilune config show`; may be repeated"),
    SWITCH("--help", wants_help, "this text, or the help of a command"),
    SWITCH("--version", wants_version, "the version of the program"),
    {0},
};

const struct command_name command_names[] = {
    {"run", COMMAND_RUN, "serve, proxy and measure until SIGTERM; SIGHUP reloads"},
    {"check", COMMAND_CHECK, "load configuration and scripts as a reload would; exit 0, or 2 with every error"},
    {"doctor", COMMAND_DOCTOR, "look at limits, ports, folders, databases and the clock, and say what to do"},
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
    {0},
};

const char *command_words(enum command command)
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

const char *command_name(enum command command)
{
    for (const struct command_name *c = command_names; c->name; c++)
        if (c->command == command)
            return c->name;
    return "";
}

/* What stands before the first colon: "bench --poisson: ..." is for bench, and what has none for all. */
bool command_takes(const char *command, const struct flag *flag)
{
    static const char *const inside = "abcdefghijklmnopqrstuvwxyz -,";
    size_t len = strspn(flag->help, inside);
    if (flag->help[len] != ':')
        return true;
    const char *found = strstr(flag->help, command);
    return found && found < flag->help + len;
}
