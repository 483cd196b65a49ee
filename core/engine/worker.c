/* A worker: serves the data plane with the generation in force.
 *
 * Each tick it shows its heartbeat, moves to a new generation when control has
 * activated one, and drains when it is told to leave or the supervisor is gone.
 */
// SPDX-License-Identifier: MIT
#include "engine/engine.h"

#include "base/log.h"
#include "cache/cache.h"
#include "http/access_log.h"
#include "http/compress.h"
#include "http/server.h"
#include "script/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ORPHAN_GRACE_MS = 2000, LAG_WINDOW_MS = 1000, TASKS_GRACE_MS = 1000 };

struct worker {
    struct access_log *access_log; /* NULL: none */
    struct io *io;
    struct engine *engine;
    struct board *board;
    struct board_process *process;
    struct lane *lane;
    struct server *server;
    struct upstreams *upstreams;
    struct tasks *tasks;
    struct compress *compress;
    struct pg *pg;
    struct redis *redis;
    struct cache *cache;
    struct script *script;
    uv_signal_t terminate;
    struct tls_context *tls; /* NULL: no TLS listener */
    uint64_t refused; /* generation that could not be loaded */
    uint64_t last_tick_ns;
    uint64_t lag_ns, lag_since_ms;
    uint64_t drain_until_ms; /* 0: not draining */
    bool stopped;
};

static void on_request(struct exchange *ex)
{
    struct worker *w = server_user(ex->server);
    script_request(w->script, ex);
}

static const struct server_app app = {on_request};

/* ---- generations ---- */

/* The certificates of a generation. False: they cannot be used. */
static bool load_tls(struct worker *w, const struct config *config, struct tls_context **out,
                     struct problems *problems)
{
    char why[TLS_WHY], warning[TLS_WHY];
    struct tls_server_opts opts = {
        .files = config->tls.files, .count = config->tls.count,
        .require_1_3 = config->tls.require_1_3, .tickets = &w->board->tickets,
    };
    *out = NULL;
    if (!config->tls.listen)
        return true;
    if (w->engine->tls_fd < 0) {
        log_line(LOG_WARN, "the configuration has a TLS listener now, which takes a restart");
        return true;
    }
    *out = tls_server_context(&opts, why, warning);
    if (!*out)
        problems_add(problems, config->path, 0, "tls: %s", why);
    else if (*warning)
        log_line(LOG_WARN, "%s", warning);
    return *out != NULL;
}

static struct script *load(struct worker *w, uint64_t number, struct tls_context **tls, struct problems *problems)
{
    char file[4096];
    struct config config = {0};
    generation_file(w->engine, number, file, sizeof file);
    struct bundle *bundle = bundle_load(file, problems);
    struct generation_opts opts = {
        .options = w->engine->options, .board = w->board,   .io = w->io,
        .process = w->process,         .lane = w->lane,     .upstreams = w->upstreams,
        .compress = w->compress,
        .tasks = w->tasks,
        .pg = w->pg,
        .redis = w->redis,
        .cache = w->cache,
        .number = number,
    };
    struct script *script = bundle ? generation_load(&opts, bundle, &config, problems) : NULL;
    if (script && !load_tls(w, &config, tls, problems)) {
        script_retire(script);
        script = NULL;
    }
    config_done(&config);
    bundle_free(bundle);
    return script;
}

static void log_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        log_line(LOG_ERROR, "%s:%d: %s", problems->list[i].file, problems->list[i].line, problems->list[i].text);
}

static void use_tls(struct worker *w, struct tls_context *tls)
{
    if (!tls)
        return;
    if (w->server)
        server_use_tls(w->server, tls);
    tls_context_release(w->tls);
    w->tls = tls;
}

static bool switch_generation(struct worker *w)
{
    uint64_t number = atomic_load_explicit(&w->board->generation.active, memory_order_acquire);
    if (w->script && script_generation(w->script) == number)
        return true;
    if (number == w->refused)
        return false;
    struct problems problems = {0};
    uint64_t load_ms = setting_integer(&w->board->settings, SETTING_SCRIPT_LOAD_MS);
    /* Loading may take its budget; the supervisor must not take it for a hang. */
    atomic_store(&w->process->heartbeat_ns, io_now(w->io) + load_ms * 1000000);
    struct tls_context *tls = NULL;
    struct script *script = load(w, number, &tls, &problems);
    atomic_store(&w->process->heartbeat_ns, io_now(w->io));
    if (script) {
        if (w->script)
            script_retire(w->script);
        w->script = script;
        w->refused = 0;
        use_tls(w, tls);
        atomic_store(&w->process->generation, number);
    } else {
        log_line(LOG_ERROR, "generation %llu cannot be loaded here", (unsigned long long)number);
        log_problems(&problems);
        w->refused = number;
        atomic_store(&w->process->failed_generation, number);
    }
    problems_done(&problems);
    return script != NULL;
}

/* ---- leaving ---- */

static void drain(struct worker *w, uint64_t grace_ms)
{
    if (w->drain_until_ms)
        return;
    w->drain_until_ms = w->io->now_ms + grace_ms + 1;
    atomic_store(&w->process->ready, 0);
    server_drain(w->server);
    engine_close_listeners(w->engine);
}

static void on_terminate(uv_signal_t *signal, int number)
{
    struct worker *w = signal->data;
    (void)number;
    io_now(w->io);
    drain(w, setting_integer(&w->board->settings, SETTING_SERVER_DRAIN_MS));
}

static void note_gc(struct worker *w)
{
    uint64_t pause_ns, cycles = script_gc(w->script, &pause_ns);
    atomic_store_explicit(&w->process->gc_cycles, cycles, memory_order_relaxed);
    atomic_store_explicit(&w->process->gc_pause_ns, pause_ns, memory_order_relaxed);
}

static void note_lag(struct worker *w)
{
    uint64_t late = w->io->now_ns - w->last_tick_ns;
    const uint64_t period_ns = WHEEL_TICK_MS * 1000000ULL;
    uint64_t lag = late > period_ns ? late - period_ns : 0;
    w->last_tick_ns = w->io->now_ns;
    if (lag > w->lag_ns)
        w->lag_ns = lag;
    if (w->io->now_ms < w->lag_since_ms + LAG_WINDOW_MS)
        return;
    atomic_store_explicit(&w->process->loop_lag_ns, w->lag_ns, memory_order_relaxed);
    if (w->script)
        note_gc(w);
    w->lag_since_ms = w->io->now_ms;
    w->lag_ns = 0;
}

static void on_tick(struct io *io)
{
    struct worker *w = io->user;
    atomic_store_explicit(&w->process->heartbeat_ns, io->now_ns, memory_order_relaxed);
    note_lag(w);
    if (w->script)
        atomic_store_explicit(&w->process->lua_bytes, script_heap_bytes(w->script), memory_order_relaxed);
    switch_generation(w);
    tasks_tick(w->tasks);
    upstreams_tick(w->upstreams);
    pg_tick(w->pg);
    redis_tick(w->redis);
    if (getppid() != w->engine->supervisor_pid)
        drain(w, ORPHAN_GRACE_MS);
    if (w->drain_until_ms && (!server_connections(w->server) || io->now_ms >= w->drain_until_ms)) {
        w->stopped = true;
        uv_stop(&io->loop);
    }
}

/* NULL: none is wanted, or it cannot be written, which costs the log and no request. */
static struct access_log *open_access_log(struct worker *w)
{
    const struct config_value *key = w->engine->config.key;
    char why[LINE_SINK_WHY];
    if (!*key[CONFIG_ACCESS_LOG].text)
        return NULL;
    struct access_log *log = access_log_new(key[CONFIG_ACCESS_LOG].text, key[CONFIG_ACCESS_LOG_FORMAT].text,
                                            setting_integer(&w->board->settings, SETTING_ACCESS_LOG_BYTES), why);
    if (!log)
        log_line(LOG_ERROR, "there is no access log: %s", why);
    return log;
}

static int start(struct worker *w)
{
    uint32_t index = (uint32_t)(w->process - board_worker(w->board, 0));
    settings_reader = UINT64_C(1) << index;
    struct tasks_opts tasks = {.io = w->io, .settings = &w->board->settings,
                               .lane = &w->board->tasks.processes[index]};
    w->tasks = tasks_new(&tasks);
    struct compress_opts compress = {
        .io = w->io, .board = w->board, .process = w->process, .lane = w->lane, .tasks = w->tasks};
    w->compress = w->tasks ? compress_new(&compress) : NULL;
    w->upstreams = upstreams_new(w->io, w->board, (int)index,
                                 w->engine->config.key[CONFIG_RESOLVER].text);
    w->pg = pg_new(w->io, w->board, index);
    w->redis = redis_new(w->io, w->board, index);
    struct cache_opts cache = {w->io, w->board, w->lane, w->engine->cache, index};
    if (w->engine->cache)
        w->cache = cache_open(&cache);
    if (!w->compress || !w->upstreams || !w->pg || !w->redis || limits_start() < 0 || !switch_generation(w)) {
        log_line(LOG_ERROR, "cannot start");
        return 1;
    }
    w->access_log = open_access_log(w);
    struct server_opts opts = {
        .access_log = w->access_log,
        .io = w->io,
        .board = w->board,
        .lane = w->lane,
        .app = &app,
        .listen_fd = w->engine->listen_fd,
        .tls_fd = w->engine->tls_fd,
        .tls = w->tls,
        .worker = (int)index,
        .user = w,
    };
    if (server_new(&w->server, &opts) < 0) {
        log_line(LOG_ERROR, "cannot listen");
        return 1;
    }
    uv_signal_init(&w->io->loop, &w->terminate);
    w->terminate.data = w;
    uv_signal_start(&w->terminate, on_terminate, SIGTERM);
    w->io->user = w;
    w->io->on_tick = on_tick;
    w->last_tick_ns = io_now(w->io);
    atomic_store(&w->process->heartbeat_ns, w->io->now_ns);
    atomic_store(&w->process->ready, 1);
    return 0;
}

int worker_run(struct engine *engine, unsigned index)
{
    static char name[24];
    struct worker *w = calloc(1, sizeof *w);
    struct io *io = calloc(1, sizeof *io);
    snprintf(name, sizeof name, "worker %u", index);
    child_begin(engine, name);
    if (!w || !io || io_init(io) < 0)
        return 1; /* NOLINT(clang-analyzer-unix.Malloc): the process ends */
    close(engine->admin_fd);
    w->io = io;
    w->engine = engine;
    w->board = engine->board;
    w->process = board_worker(engine->board, index);
    w->lane = board_lane(engine->board, index);
    clients_clear(&w->board->clients[index]); /* what a killed one held */
    if (start(w) != 0)
        return 1;
    while (!w->stopped)
        uv_run(&io->loop, UV_RUN_DEFAULT);
    atomic_store(&w->process->ready, 0);
    io->on_tick = NULL;
    server_free(w->server);
    access_log_free(w->access_log);
    script_end(w->script);
    bool ended = tasks_stop(w->tasks, TASKS_GRACE_MS);
    tls_context_release(w->tls);
    upstreams_free(w->upstreams);
    ended = pg_stop(w->pg, 0) && ended;
    redis_stop(w->redis);
    if (w->cache)
        cache_close(w->cache);
    limits_stop();
    if (!ended) {
        log_line(LOG_WARN, "a task thread did not end; leaving it behind");
        _exit(0);
    }
    io_done(io);
    compress_free(w->compress);
    tasks_free(w->tasks);
    pg_free(w->pg);
    redis_free(w->redis);
    free(io);
    free(w);
    return 0;
}
