// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/reload.h"

#include "base/err.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOOK_MS = 100, CHECK_MS = 20000, SECONDS = 64, ARGUMENTS_MAX = 256, SIGMAS = 3 };

/* Errors and requests so far, once a second. */
struct second {
    uint64_t at_ms, requests, errors;
};

struct reload {
    struct engine *engine;
    struct board *board;
    struct io *io;
    uint64_t looked_ms;
    uint64_t signature;      /* of the files as last seen */
    uint64_t changed_ms;     /* when they last changed; 0: nothing to do */
    uint64_t attempted_hash; /* content of the last attempt */
    uint32_t signals_seen;
    const char *wanted;      /* cause of an attempt that is due, or NULL */
    uint64_t next_ticket;    /* of the attempt that is due or comes next */
    /* the attempt under way */
    bool checking;
    uv_process_t process;
    uv_pipe_t pipe;
    struct buf output;
    int handles;             /* of process and pipe, still open */
    uint64_t check_until_ms;
    int64_t exit_status;
    struct config config;    /* of the generation in force */
    struct reload_record current;
    struct reload_record records[RELOAD_RECORDS]; /* ring */
    uint64_t record_count;
    /* the watch after a swap */
    struct second seconds[SECONDS];
    uint64_t second_ms, second_count;
    uint64_t guard_generation, previous_generation;
    uint64_t guard_until_ms;
    struct second at_swap, before_swap;
};

static uint64_t setting(const struct reload *r, enum setting_id id)
{
    return setting_integer(&r->board->settings, id);
}

static struct bundle_from files_of(const struct reload *r)
{
    const struct engine *e = r->engine;
    return (struct bundle_from){e->config_path, e->state, e->config.key[CONFIG_RULES].text, &r->config.tls};
}

static uint64_t look(const struct reload *r)
{
    struct bundle_from from = files_of(r);
    return bundle_signature(&from);
}

/* Reads the configuration of a generation; its settings go to the board if `apply`. */
static void take_config(struct reload *r, uint64_t generation, bool apply)
{
    char file[4096];
    struct problems ignored = {0};
    struct config config;
    generation_file(r->engine, generation, file, sizeof file);
    struct bundle *b = bundle_load(file, &ignored);
    struct config_texts texts = b ? bundle_texts(b) : (struct config_texts){0};
    if (config_read(&config, r->engine->options, &texts, &ignored) && apply)
        config_apply(&config, r->board, true);
    config_done(&r->config);
    r->config = config;
    bundle_free(b);
    problems_done(&ignored);
}

struct reload *reload_new(struct engine *engine, struct io *io)
{
    struct reload *r = calloc(1, sizeof *r);
    struct problems ignored = {0};
    char file[4096];
    if (!r)
        return NULL;
    r->engine = engine;
    r->board = engine->board;
    r->io = io;
    r->next_ticket = 1;
    r->signals_seen = atomic_load(&r->board->reload_wanted);
    /* What serves now is what a change is measured against; after a restart of
     * control an edit made meanwhile is found by its content. */
    generation_file(engine, atomic_load(&r->board->generation.active), file, sizeof file);
    struct bundle *b = bundle_load(file, &ignored);
    if (b)
        r->attempted_hash = b->hash;
    bundle_free(b);
    problems_done(&ignored);
    take_config(r, atomic_load(&r->board->generation.active), false);
    r->signature = 0;
    return r;
}

void reload_free(struct reload *r)
{
    for (int i = 0; i < RELOAD_RECORDS; i++)
        problems_done(&r->records[i].problems);
    problems_done(&r->current.problems);
    buf_done(&r->output);
    config_done(&r->config);
    free(r);
}

/* ---- records ---- */

static void record(struct reload *r, struct reload_record *done, const char *result)
{
    struct reload_record *slot = &r->records[r->record_count++ % RELOAD_RECORDS];
    problems_done(&slot->problems);
    done->result = result;
    *slot = *done;
    *done = (struct reload_record){0};
}

const struct reload_record *reload_record_at(const struct reload *r, unsigned index)
{
    if (index >= r->record_count || index >= RELOAD_RECORDS)
        return NULL;
    return &r->records[(r->record_count - 1 - index) % RELOAD_RECORDS];
}

const struct reload_record *reload_result(const struct reload *r, uint64_t ticket)
{
    const struct reload_record *record;
    for (unsigned i = 0; (record = reload_record_at(r, i)); i++)
        if (record->ticket == ticket)
            return record;
    return NULL;
}

uint64_t reload_ask(struct reload *r, const char *cause)
{
    if (!r->wanted)
        r->wanted = cause;
    return r->next_ticket;
}

/* ---- activation ---- */

static struct second totals(const struct reload *r)
{
    struct second sum = {.at_ms = r->io->now_ms};
    uint32_t routes = atomic_load(&r->board->route_count);
    for (uint32_t w = 0; w < r->board->workers; w++) {
        struct lane *lane = board_lane(r->board, w);
        for (uint32_t i = 0; i < routes && i < r->board->routes_max; i++) {
            sum.requests += lane_get(&lane->routes[i].requests);
            sum.errors += lane_get(&lane->routes[i].status[5]);
        }
    }
    return sum;
}

static void activate(struct reload *r, uint64_t generation)
{
    struct board_generation *g = &r->board->generation;
    uint64_t oldest = r->second_count > SECONDS ? r->second_count - SECONDS : 0;
    r->previous_generation = atomic_load(&g->active);
    r->guard_generation = generation;
    r->guard_until_ms = r->io->now_ms + setting(r, SETTING_RELOAD_GUARD_MS);
    r->at_swap = totals(r);
    r->before_swap = r->second_count ? r->seconds[oldest % SECONDS] : r->at_swap;
    take_config(r, generation, true);
    atomic_store(&g->activated_ns, r->io->now_ns);
    atomic_store_explicit(&g->active, generation, memory_order_release);
}

bool reload_is_kept(const struct reload *r, uint64_t generation)
{
    char file[4096];
    generation_file(r->engine, generation, file, sizeof file);
    return generation && access(file, R_OK) == 0;
}

int reload_restore(struct reload *r, uint64_t generation, const char *result, const char *cause)
{
    struct reload_record done = {.generation = generation, .at_unix_ms = r->io->unix_ms, .cause = cause};
    if (!reload_is_kept(r, generation))
        return ERR_INVAL;
    log_line(LOG_WARN, "generation %llu is in force again (%s)", (unsigned long long)generation, cause);
    activate(r, generation);
    r->guard_generation = 0;
    record(r, &done, result);
    return 0;
}

static void forget_old(struct reload *r, uint64_t newest)
{
    char file[4096];
    uint64_t active = atomic_load(&r->board->generation.active);
    for (uint64_t n = newest > RELOAD_KEEP ? newest - RELOAD_KEEP : 0; n > 0 && n + 64 > newest; n--) {
        if (n == active || n == r->previous_generation)
            continue;
        generation_file(r->engine, n, file, sizeof file);
        unlink(file);
    }
}

/* ---- an attempt ---- */

static void refuse(struct reload *r)
{
    struct problems *p = &r->current.problems;
    char file[4096];
    log_line(LOG_ERROR, "reload refused: %zu problem%s; generation %llu keeps serving", p->count,
             p->count == 1 ? "" : "s", (unsigned long long)atomic_load(&r->board->generation.active));
    for (size_t i = 0; i < p->count; i++) {
        struct buf text = {0};
        problem_print(&p->list[i], &text);
        log_line(LOG_ERROR, "reload refused: %.*s", (int)buf_len(&text), text.data ? text.data : "");
        buf_done(&text);
    }
    if (r->current.generation) {
        generation_file(r->engine, r->current.generation, file, sizeof file);
        unlink(file);
    }
    atomic_fetch_add(&r->board->generation.reloads_refused, 1);
    record(r, &r->current, "refused");
}

static void finish_check(struct reload *r)
{
    r->checking = false;
    struct str text = buf_str(&r->output);
    char line[4096];
    while (r->exit_status != 0 && text.len) {
        const char *end = memchr(text.p, '\n', text.len);
        size_t len = end ? (size_t)(end - text.p) : text.len;
        snprintf(line, sizeof line, "%.*s", (int)len, text.p);
        if (len)
            problems_add_message(&r->current.problems, "", line);
        text.p += end ? len + 1 : len;
        text.len -= end ? len + 1 : len;
    }
    buf_clear(&r->output);
    if (r->exit_status != 0) {
        if (!r->current.problems.count)
            problems_add(&r->current.problems, "", 0,
                         "the check of the new scripts did not end by itself within %d s, or crashed", CHECK_MS / 1000);
        refuse(r);
        return;
    }
    uint64_t number = r->current.generation;
    log_line(LOG_INFO, "generation %llu is active (%s)", (unsigned long long)number, r->current.cause);
    activate(r, number);
    atomic_fetch_add(&r->board->generation.reloads_ok, 1);
    forget_old(r, number);
    record(r, &r->current, "active");
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct reload *r = handle->data;
    if (--r->handles == 0)
        finish_check(r);
}

static void on_exit_check(uv_process_t *process, int64_t status, int signal)
{
    struct reload *r = process->data;
    r->exit_status = signal ? -1 : status;
    uv_close((uv_handle_t *)process, on_handle_closed);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct reload *r = handle->data;
    char *room = buf_room(&r->output, 4096);
    (void)size;
    *out = uv_buf_init(room, room ? 4096 : 0);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct reload *r = stream->data;
    (void)buf;
    if (n > 0)
        buf_wrote(&r->output, (size_t)n);
    if (n < 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_handle_closed);
}

/* The program we are: by name, which also works under valgrind; by the link when
 * the file has been replaced since ("... (deleted)" is no file). */
static const char *own_program(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    if (n > 0) {
        path[n] = 0;
        if (access(path, X_OK) == 0)
            return path;
    }
    return "/proc/self/exe";
}

/* Runs `perilune check --bundle FILE` with our own options. */
static int spawn_check(struct reload *r, const char *file)
{
    char program[4096];
    char *args[ARGUMENTS_MAX + 4] = {(char *)"perilune", (char *)"check", (char *)"--bundle", (char *)file};
    int n = 4;
    for (int i = 2; i < r->engine->argc && n < ARGUMENTS_MAX; i++)
        args[n++] = r->engine->argv[i];
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r->pipe},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t options = {
        .file = own_program(program, sizeof program), .args = args, .exit_cb = on_exit_check, .stdio = stdio, .stdio_count = 3};
    uv_pipe_init(&r->io->loop, &r->pipe, 0);
    r->pipe.data = r->process.data = r;
    r->handles = 2;
    int err = uv_spawn(&r->io->loop, &r->process, &options);
    r->checking = true;
    r->check_until_ms = r->io->now_ms + CHECK_MS;
    if (err < 0) {
        problems_add(&r->current.problems, "", 0, "cannot start the check: %s", uv_strerror(err));
        r->exit_status = -1;
        uv_close((uv_handle_t *)&r->process, on_handle_closed);
        uv_close((uv_handle_t *)&r->pipe, on_handle_closed);
        return ERR_IO;
    }
    uv_read_start((uv_stream_t *)&r->pipe, on_alloc, on_output);
    return 0;
}

static void attempt(struct reload *r)
{
    char file[4096];
    r->current = (struct reload_record){.ticket = r->next_ticket++, .at_unix_ms = r->io->unix_ms, .cause = r->wanted};
    r->wanted = NULL;
    r->changed_ms = 0;
    r->signature = look(r);
    struct bundle_from from = files_of(r);
    struct bundle *b = bundle_collect(&from, &r->current.problems);
    if (!b) {
        refuse(r);
        return;
    }
    bool by_file = strcmp(r->current.cause, "file") == 0;
    if (b->hash == r->attempted_hash && by_file) {
        r->next_ticket--;
        r->current = (struct reload_record){0};
        bundle_free(b);
        return;
    }
    r->attempted_hash = b->hash;
    r->current.generation = atomic_fetch_add(&r->board->generation.newest, 1) + 1;
    generation_file(r->engine, r->current.generation, file, sizeof file);
    int err = bundle_save(b, file);
    bundle_free(b);
    if (err < 0) {
        problems_add(&r->current.problems, file, 0, "cannot be written; is the disk full?");
        refuse(r);
        return;
    }
    spawn_check(r, file);
}

/* ---- each tick ---- */

static void look_for_changes(struct reload *r)
{
    if (r->io->now_ms < r->looked_ms + LOOK_MS)
        return;
    r->looked_ms = r->io->now_ms;
    uint32_t signals = atomic_load(&r->board->reload_wanted);
    if (signals != r->signals_seen) {
        r->signals_seen = signals;
        r->wanted = "signal";
    }
    if (setting_number(&r->board->settings, SETTING_RELOAD_WATCH) == 0)
        return;
    uint64_t signature = look(r);
    if (signature != r->signature) {
        r->signature = signature;
        r->changed_ms = r->io->now_ms;
    }
    if (r->changed_ms && r->io->now_ms >= r->changed_ms + setting(r, SETTING_RELOAD_DEBOUNCE_MS) && !r->wanted) {
        r->changed_ms = 0;
        r->wanted = "file";
    }
}

static double share(struct second from, struct second to)
{
    uint64_t requests = to.requests - from.requests;
    return requests ? (double)(to.errors - from.errors) / (double)requests : 0;
}

/* Errors beyond those that would have come at the pace of before the swap, and beyond chance. A burst of good
 * answers before it makes the share of errors rise behind it, and their pace not. */
static double excess(const struct reload *r, struct second now)
{
    double before_ms = (double)(r->at_swap.at_ms - r->before_swap.at_ms), errors = (double)(now.errors - r->at_swap.errors);
    double before = (double)(r->at_swap.errors - r->before_swap.errors);
    double expected = before_ms > 0 ? before / before_ms * (double)(now.at_ms - r->at_swap.at_ms) : 0;
    return errors - expected - SIGMAS * sqrt(expected);
}

static void roll_back(struct reload *r, const char *cause)
{
    uint64_t bad = r->guard_generation, previous = r->previous_generation;
    r->guard_generation = 0;
    log_line(LOG_ERROR, "generation %llu is rolled back: %s", (unsigned long long)bad,
             strcmp(cause, "errors") == 0 ? "its error rate is higher than before the swap" : "a worker cannot load it");
    if (reload_restore(r, previous, "rolled_back", cause) == 0)
        atomic_fetch_add(&r->board->generation.rollbacks, 1);
}

/* Looks whether the newest generation makes things worse. */
static void guard(struct reload *r)
{
    struct second now = totals(r);
    if (r->io->now_ms >= r->second_ms + 1000) {
        r->second_ms = r->io->now_ms;
        r->seconds[r->second_count++ % SECONDS] = now;
    }
    if (!r->guard_generation || !r->previous_generation || r->io->now_ms >= r->guard_until_ms)
        return;
    for (uint32_t w = 0; w < r->board->workers; w++)
        if (atomic_load(&board_worker(r->board, w)->failed_generation) == r->guard_generation) {
            roll_back(r, "worker");
            return;
        }
    double worse = share(r->at_swap, now) - share(r->before_swap, r->at_swap);
    if (excess(r, now) >= (double)setting(r, SETTING_RELOAD_GUARD_ERRORS) &&
        worse > setting_number(&r->board->settings, SETTING_RELOAD_GUARD_SHARE))
        roll_back(r, "errors");
}

void reload_tick(struct reload *r)
{
    guard(r);
    if (r->checking) {
        if (r->io->now_ms >= r->check_until_ms && !uv_is_closing((uv_handle_t *)&r->process))
            uv_process_kill(&r->process, 9);
        return;
    }
    look_for_changes(r);
    if (r->wanted)
        attempt(r);
}
