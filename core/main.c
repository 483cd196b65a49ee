/* main.c - from the command line to one of the commands.
 *
 * Where to read on: engine/supervisor.c (processes), engine/worker.c (the data
 * plane), http/conn.c (requests), script/fiber.c (handlers), engine/reload.c
 * (generations), board/board.h (what they share).
 */
// SPDX-License-Identifier: MIT
#include "engine/bench_run.h"
#include "engine/client.h"
#include "engine/engine.h"
#include "engine/offline.h"
#include "engine/rules_run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int run(const struct options *options, int argc, char **argv)
{
    static struct engine engine;
    engine.options = options;
    engine.argc = argc;
    engine.argv = argv;
    engine.config_path = config_path(options);
    return supervisor_run(&engine);
}

static int command(const struct options *options, int argc, char **argv)
{
    switch (options->command) {
    case COMMAND_RUN:
        return run(options, argc, argv);
    case COMMAND_CHECK:
        return check_run(options);
    case COMMAND_DOCTOR:
        return doctor_run(options);
    case COMMAND_CONFIG:
        return strcmp(options->words[0], "show") == 0 ? config_show_run(options) : client_run(options);
    case COMMAND_REPLAY:
        return replay_run(&options->replay);
    case COMMAND_ALERTS:
    case COMMAND_SUGGEST:
    case COMMAND_TOP:
        return client_run(options);
    case COMMAND_BENCH:
        return options->bench.compare ? client_run(options) : bench_command_run(options);
    case COMMAND_RULES:
        return rules_run(options);
    case COMMAND_COMPLETION:
        options_completion(options->words[0]);
        return 0;
    case COMMAND_MAN:
        options_man();
        return 0;
    case COMMAND_VERSION:
        printf("perilune %s\n", PERILUNE_VERSION);
        return 0;
    default:
        options_help(options->help_for);
        return 0;
    }
}

int main(int argc, char **argv)
{
    struct options options;
    struct problems problems = {0};
    if (!options_parse(&options, argc, argv, &problems)) {
        for (size_t i = 0; i < problems.count; i++)
            fprintf(stderr, "perilune: %s\n", problems.list[i].text);
        problems_done(&problems);
        return 2;
    }
    int code = command(&options, argc, argv);
    if (options.command == COMMAND_RUN || (fflush(stdout) == 0 && !ferror(stdout)))
        return code;
    fprintf(stderr, "perilune: stdout cannot be written: %s\n", strerror(errno));
    return code ? code : 1;
}
