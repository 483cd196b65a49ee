// SPDX-License-Identifier: MIT
#include "embed/own.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/thread.h"
#include "embed/brain.h"
#include "embed/recorder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TICK_MS = 250,
    SECOND_MS = 1000,
    HISTORY_BYTES = 1 << 20,
    ROUTES_MAX = 64,
};

struct own {
    struct own_opts opts;
    char *rules, *state;
    struct board *board;
    struct history *history;
    struct resources resources;
    struct watch *watch;
    struct keep *keep;
    struct brain *brain;
    uint64_t signature, generation;
    uint64_t tick_ms, second_ms;
    struct buf problems, scratch;
    unsigned forks;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool has_thread, stop;
};

/* ---- the rules ---- */

static bool load(struct own *o)
{
    struct problems problems = {0};
    struct brain_opts opts = {.board = o->board, .history = o->history, .resources = &o->resources, .watch = o->watch,
                              .keep = o->keep, .rules = o->rules, .state = o->state, .number = o->generation + 1};
    o->signature = brain_signature(o->rules);
    struct brain *brain = brain_new(&opts, &problems);
    buf_clear(&o->problems);
    problems_print(&problems, &o->problems);
    buf_add_char(&o->problems, 0);
    problems_done(&problems);
    if (!brain)
        return false;
    brain_free(o->brain);
    o->brain = brain;
    o->generation++;
    atomic_store(&o->board->generation.active, o->generation);
    return true;
}

/* ---- ticks ---- */

static void note_process(struct own *o)
{
    struct board_process *p = board_worker(o->board, 0);
    atomic_store(&p->pid, (int32_t)getpid());
    atomic_store(&p->heartbeat_ns, clock_now_ns());
    atomic_store(&p->ready, 1);
    atomic_store(&p->generation, o->generation);
}

static void tick(struct own *o)
{
    if (!o->brain)
        return;
    uint64_t now_ms = clock_now_ns() / 1000000;
    if (now_ms < o->tick_ms + TICK_MS)
        return;
    o->tick_ms = now_ms;
    if (now_ms >= o->second_ms + SECOND_MS) {
        o->second_ms = now_ms;
        note_process(o);
        resources_sample(&o->resources, clock_now_ns());
        const double *value = o->resources.value;
        history_note_machine(o->history, (float)value[RESOURCE_CPU_SHARE], (float)value[RESOURCE_MEMORY_SHARE],
                             (float)value[RESOURCE_DISK_SHARE], (float)value[RESOURCE_LOAD_1]);
        if (o->rules && brain_signature(o->rules) != o->signature)
            load(o);
    }
    history_tick(o->history, clock_unix_ms());
    watch_tick(o->watch, clock_unix_ms());
    buf_clear(&o->scratch);
    if (brain_call(o->brain, "tick", (struct str){0}, &o->scratch) < 0) {
        buf_clear(&o->problems);
        buf_add_str(&o->problems, buf_str(&o->scratch));
        buf_add_char(&o->problems, 0);
    }
}

static void *run(void *user)
{
    struct own *o = user;
    pthread_mutex_lock(&o->lock);
    while (!o->stop) {
        tick(o);
        struct timespec until = thread_deadline(TICK_MS);
        pthread_cond_timedwait(&o->wake, &o->lock, &until);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

static void start_thread(struct own *o)
{
    pthread_mutex_init(&o->lock, NULL);
    thread_cond_init(&o->wake);
    if (o->opts.thread)
        o->has_thread = thread_start(&o->thread, NULL, run, o);
}

/* What a child of a fork has is a copy; what the parent's thread was in the middle of is made anew. */
static void after_fork(struct own *o)
{
    bool had_thread = o->has_thread;
    o->forks = recorder_forks();
    o->has_thread = false;
    if (had_thread) {
        o->brain = NULL; /* the copy may be in the middle of a call: it is left alone */
        o->history = history_new(o->board, o->opts.history_bytes);
        o->watch = o->history ? watch_new(o->board, o->history, &o->resources) : NULL;
        o->keep = keep_new();
        o->problems = o->scratch = (struct buf){0};
        if (!o->watch || !o->keep || !load(o))
            o->brain = NULL; /* no memory: spans are still recorded, and calls say so */
    }
    start_thread(o);
}

static void enter(struct own *o)
{
    if (o->forks != recorder_forks())
        after_fork(o);
    pthread_mutex_lock(&o->lock);
}

void own_tick(struct own *o)
{
    enter(o);
    if (!o->has_thread)
        tick(o);
    pthread_mutex_unlock(&o->lock);
}

int own_call(struct own *o, const char *function, struct str arguments, struct buf *out)
{
    enter(o);
    int status = ERR_SCRIPT;
    if (o->brain)
        status = brain_call(o->brain, function, arguments, out);
    else
        buf_add_str(out, STR("there was no memory for the engine after a fork"));
    pthread_mutex_unlock(&o->lock);
    return status;
}

void own_state(struct own *o, struct own_state *out)
{
    enter(o);
    *out = (struct own_state){o->generation, o->problems.data ? o->problems.data : "", o->brain ? brain_bytes(o->brain) : 0, o->has_thread};
    pthread_mutex_unlock(&o->lock);
}

/* ---- life ---- */

static bool folder_is_there(const char *path, const char *what, bool make, struct buf *why)
{
    struct stat st;
    if (!path || (make && mkdir(path, 0700) == 0))
        return true;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    buf_printf(why, "%s '%s': %s", what, path, strerror(errno == EEXIST ? ENOTDIR : errno));
    return false;
}

struct own *own_new(const struct own_opts *opts, struct buf *why)
{
    if (!folder_is_there(opts->rules, "rules", false, why) || !folder_is_there(opts->state, "state", true, why))
        return NULL;
    struct own *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->opts = *opts;
    o->opts.history_bytes = opts->history_bytes ? opts->history_bytes : HISTORY_BYTES;
    o->forks = recorder_forks();
    o->rules = opts->rules ? strdup(opts->rules) : NULL;
    o->state = opts->state ? strdup(opts->state) : NULL;
    struct board_opts board = {.workers = 1, .peers_max = 1, .routes_max = opts->routes_max ? opts->routes_max : ROUTES_MAX, .is_private = true};
    o->board = board_new(&board);
    o->history = o->board ? history_new(o->board, o->opts.history_bytes) : NULL;
    resources_init(&o->resources, "", o->state);
    o->watch = o->history ? watch_new(o->board, o->history, &o->resources) : NULL;
    o->keep = keep_new();
    if (!o->watch || !o->keep || !load(o)) {
        if (o->problems.data)
            buf_add(why, o->problems.data, strlen(o->problems.data));
        else
            buf_printf(why, "out of memory");
        own_free(o);
        return NULL;
    }
    note_process(o);
    start_thread(o);
    return o;
}

void own_free(struct own *o)
{
    if (!o)
        return;
    if (o->has_thread && o->forks == recorder_forks()) {
        pthread_mutex_lock(&o->lock);
        o->stop = true;
        pthread_cond_signal(&o->wake);
        pthread_mutex_unlock(&o->lock);
        pthread_join(o->thread, NULL);
    }
    if (o->forks == recorder_forks() || !o->has_thread)
        brain_free(o->brain);
    watch_free(o->watch);
    history_free(o->history);
    board_free(o->board);
    keep_free(o->keep);
    buf_done(&o->problems);
    buf_done(&o->scratch);
    free(o->rules);
    free(o->state);
    free(o);
}

struct board *own_board(struct own *o)
{
    return o->board;
}
