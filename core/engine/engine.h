/* engine.h - the processes and what they inherit from the supervisor.
 *
 *     main > supervisor --fork--> control, worker 0 .. N-1
 *
 * The supervisor prepares all of `struct engine`, then forks; children read it
 * and talk through the board only.
 *
 * Owner:   main(); every process has its copy.
 * Threads: one per process.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "cache/shared.h"
#include "engine/bundle.h"
#include "engine/config.h"
#include "engine/options.h"
#include "stats/history.h"

#include <sys/types.h>

struct engine {
    const struct options *options;
    char **argv;             /* for the check of a candidate */
    int argc;
    const char *config_path; /* NULL: none */
    struct config config;    /* as at start */
    struct board *board;
    struct history *history;
    struct cache_shared *cache; /* NULL: none */
    int listen_fd;
    int tls_fd;              /* -1: none */
    int admin_fd;
    char listen_address[80]; /* with the port chosen */
    char tls_address[80];
    char admin_address[80];
    char state[3000];        /* absolute */
    pid_t supervisor_pid;
};

/* Serves until told to stop; the exit code. */
int supervisor_run(struct engine *engine);

/* Main functions of the children; they return the exit code. */
int worker_run(struct engine *engine, unsigned index);
int control_run(struct engine *engine);

/* Common to both: names the process, undoes what the supervisor set up, asks to
 * be told when it dies. */
void child_begin(struct engine *engine, const char *name);

/* Closes the sockets of the data plane. */
void engine_close_listeners(struct engine *engine);

/* File of a saved generation. */
void generation_file(const struct engine *engine, uint64_t number, char *out, size_t size);

/* ---- generation.c: configuration and scripts together ---- */

struct generation_opts {
    const struct options *options;
    struct board *board;
    struct io *io;
    struct board_process *process;
    struct lane *lane;
    struct upstreams *upstreams; /* NULL: load only */
    struct compress *compress;   /* NULL: answers are not compressed */
    struct tasks *tasks;         /* NULL: no task can be run */
    struct pg *pg;               /* NULL: load only */
    struct redis *redis;         /* the same */
    struct cache *cache;         /* the same */
    uint64_t number;
    bool control;                /* the control API's routes instead of the data plane's */
    script_bind *bind;
    void *bind_user;
};

/* Loads one side of a generation. NULL: see *problems. When `config` is not NULL
 * it receives the configuration, to be ended by the caller. */
struct script *generation_load(const struct generation_opts *opts, const struct bundle *bundle,
                               struct config *config, struct problems *problems);

/* Loads both sides on a private board and throws them away: `perilune check`. */
bool generation_check(const struct options *options, const struct bundle *bundle, size_t *routes,
                      struct problems *problems);
