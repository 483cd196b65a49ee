/* options.h - what the command line says.
 *
 * Owner:   main(); strings point into argv.
 * Threads: one, at start.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/problems.h"
#include "replay/replay.h"

enum command { COMMAND_NONE, COMMAND_RUN, COMMAND_CHECK, COMMAND_DOCTOR, COMMAND_CONFIG, COMMAND_REPLAY, COMMAND_ALERTS, COMMAND_RULES,
               COMMAND_TOP, COMMAND_SUGGEST, COMMAND_BENCH, COMMAND_COMPLETION, COMMAND_MAN,
               COMMAND_HELP, COMMAND_VERSION };

enum { OPTIONS_SET_MAX = 128, OPTIONS_WORDS = 64, OPTIONS_HEADERS = 32 };

struct options {
    enum command command;
    const char *config;   /* --config */
    const char *listen;   /* --listen */
    const char *admin;    /* --admin */
    const char *upstream; /* --upstream */
    const char *workers;  /* --workers */
    const char *rules;    /* --rules */
    const char *state;    /* --state */
    const char *set[OPTIONS_SET_MAX]; /* --set name=value */
    unsigned set_count;
    const char *bundle;   /* check: a saved generation instead of the folder */
    const char *policy;   /* alerts test: --policy */
    const char *from;     /* alerts test: --from */
    const char *facts;    /* rules test: --facts */
    const char *rule_class, *rule_on;       /* rules new: --class, --on */
    const char *shape;    /* -o: table or json */
    const char *reason;   /* --reason */
    const char *words[OPTIONS_WORDS];       /* what stands behind rules, suggest, config and alerts */
    unsigned word_count;
    bool show_origin;     /* config show --origin */
    bool wants_help, wants_version;
    struct replay_opts replay;
    struct {              /* bench: as written */
        const char *target, *connections, *rate, *duration, *iterations, *warmup, *repeats, *method, *body, *expect, *expect_body, *script, *slo, *seed, *compare, *pairs, *block;
        const char *headers[OPTIONS_HEADERS];
        unsigned header_count;
        bool poisson, find_capacity;
    } bench;
    const char *help_for; /* command whose help is asked for, or NULL */
};

/* False fills *problems with what is wrong and how to fix it. */
bool options_parse(struct options *out, int argc, char **argv, struct problems *problems);

/* Prints what makes a shell complete our command line: "bash", "zsh" or "fish". */
void options_completion(const char *shell);

/* Prints the manual page, perilune(1). */
void options_man(void);

/* Prints the help of a command (NULL: of the program) to stdout. */
void options_help(const char *command);

/* Whether -o asks for JSON. */
bool options_want_json(const struct options *options);
