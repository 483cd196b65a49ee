/* The supervisor: owns the sockets and the board, starts the processes,
 * replaces those that die or hang, and ends them.
 *
 * It runs no loop library and no script, so there is little in it that could
 * fail. It never handles a request.
 *
 *     start > poll { signal, heartbeat } > drain > end
 */
// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/engine.h"
#include "engine/listen.h"
#include "engine/notify.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "script/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STABLE_MS = 2000,       /* a process that lived this long starts without back-off */
    BACKOFF_MAX_MS = 5000,
    READY_MS = 15000,       /* to be ready after a start */
    POLL_MS = 20,
    EXTRA_GRACE_MS = 1500,  /* beyond the drain time, before SIGKILL */
};

struct child {
    struct board_process *process;
    int index; /* -1: control */
    pid_t pid; /* 0: not running */
    uint64_t started_ms;
    uint64_t start_at_ms; /* not before */
    uint64_t backoff_ms;
    bool hung;
    bool was_ready;
};

struct supervisor {
    struct engine *engine;
    struct board *board;
    struct child children[BOARD_PROCESSES];
    unsigned count; /* control and workers */
    int signals;    /* signalfd */
    int lock;
    bool announced;
    bool draining;
    bool failed;
    uint64_t now_ms;
    uint64_t drain_until_ms;
    uint64_t signs_ms;    /* last sign of life to systemd */
    uint64_t reload_base; /* reloads that had ended when the one under way was asked for */
    bool reloading;
};

static uint64_t setting(const struct supervisor *s, enum setting_id id)
{
    return setting_integer(&s->board->settings, id);
}

/* ---- processes ---- */

static void start_child(struct supervisor *s, struct child *c)
{
    struct board_process *p = c->process;
    atomic_store(&p->ready, 0);
    atomic_store(&p->running, 0);
    atomic_store(&p->heartbeat_ns, clock_now_ns());
    atomic_store(&p->started_ns, clock_now_ns());
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(s->signals);
        exit(c->index < 0 ? control_run(s->engine) : worker_run(s->engine, (unsigned)c->index));
    }
    c->started_ms = s->now_ms;
    c->hung = c->was_ready = false;
    if (pid < 0) {
        log_line(LOG_ERROR, "cannot fork: %s", strerror(errno));
        c->start_at_ms = s->now_ms + 1000;
        return;
    }
    c->pid = pid;
    atomic_store(&p->pid, pid);
}

static const char *child_name(const struct child *c, char out[32])
{
    if (c->index < 0)
        return "control";
    snprintf(out, 32, "worker %d", c->index);
    return out;
}

/* Counts what a dead worker had in flight: it is nobody's any more. */
static void close_books(struct supervisor *s, struct child *c)
{
    struct lane *lane = board_lane(s->board, (uint32_t)c->index);
    uint64_t done = lane_get(&lane->finished) + lane_get(&lane->aborted);
    uint64_t started = lane_get(&lane->started);
    if (started > done)
        lane_add(&lane->aborted, started - done);
    atomic_store(&lane->connections_open, 0);
    limiters_forget_worker(&s->board->limiters, (uint32_t)c->index);
    peers_clear_worker(board_peers(s->board), (uint32_t)c->index);
    pools_forget_worker(&s->board->pools, (uint32_t)c->index);
    task_lanes_forget(&s->board->tasks.processes[c->index]);
}

/* The same of control, which has connections at most. */
static void close_control_books(struct supervisor *s)
{
    pools_forget_worker(&s->board->pools, POOL_CONTROL);
    task_lanes_forget(&s->board->tasks.processes[TASK_CONTROL]);
    if (trials_clear(s->board))
        log_line(LOG_WARN, "control ended in the middle of a trial: the stable settings are in force");
}

/* Remembers a route whose script took a worker down. */
static void blame(struct supervisor *s, uint32_t route, uint64_t generation)
{
    struct board_quarantine *free_slot = NULL;
    for (int i = 0; i < BOARD_QUARANTINE; i++) {
        struct board_quarantine *q = &s->board->quarantine[i];
        if (atomic_load(&q->route) == route + 1 && atomic_load(&q->generation) == generation) {
            if (atomic_fetch_add(&q->kills, 1) + 1 == 2)
                log_line(LOG_ERROR, "route %s %s is quarantined: it took down two workers; it answers 503 "
                                    "until its script changes",
                         s->board->routes[route].method, s->board->routes[route].name);
            return;
        }
        if (!free_slot && (!atomic_load(&q->route) || atomic_load(&q->generation) != generation))
            free_slot = q;
    }
    if (!free_slot)
        return;
    atomic_store(&free_slot->kills, 1);
    atomic_store(&free_slot->generation, generation);
    atomic_store(&free_slot->route, route + 1);
}

static void log_death(struct supervisor *s, struct child *c, int status)
{
    char name[32];
    const char *who = child_name(c, name);
    uint32_t route = atomic_load(&c->process->script);
    bool in_script = c->index >= 0 && atomic_load(&c->process->running) && route < s->board->routes_max;
    if (s->draining && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (in_script) {
        log_line(LOG_ERROR, "%s (pid %d) %s while the script of route %s %s ran; replacing it", who, c->pid,
                 c->hung ? "hung and was killed" : "died", s->board->routes[route].method,
                 s->board->routes[route].name);
        blame(s, route, atomic_load(&c->process->generation));
    } else if (WIFSIGNALED(status)) {
        log_line(LOG_ERROR, "%s (pid %d) %s by signal %d; replacing it", who, c->pid,
                 c->hung ? "hung and was ended" : "was ended", WTERMSIG(status));
    } else {
        log_line(LOG_WARN, "%s (pid %d) ended with code %d; replacing it", who, c->pid, WEXITSTATUS(status));
    }
}

static void on_death(struct supervisor *s, struct child *c, int status)
{
    log_death(s, c, status);
    if (c->index >= 0)
        close_books(s, c);
    else
        close_control_books(s);
    if (s->engine->cache)
        cache_shared_died(s->engine->cache, (unsigned)(c->process - s->board->processes),
                          WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    atomic_store(&c->process->pid, 0);
    atomic_store(&c->process->ready, 0);
    atomic_store(&c->process->running, 0);
    c->pid = 0;
    if (s->draining)
        return;
    atomic_fetch_add(&c->process->restarts, 1);
    if (s->now_ms >= c->started_ms + STABLE_MS)
        c->backoff_ms = 0;
    c->start_at_ms = s->now_ms + c->backoff_ms;
    c->backoff_ms = c->backoff_ms ? c->backoff_ms * 2 : 50;
    if (c->backoff_ms > BACKOFF_MAX_MS)
        c->backoff_ms = BACKOFF_MAX_MS;
    if (!s->announced) {
        log_line(LOG_ERROR, "a process ended before everything was ready; giving up");
        s->failed = true;
    }
}

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (unsigned i = 0; i < s->count; i++)
            if (s->children[i].pid == pid)
                on_death(s, &s->children[i], status);
}

static void check_heartbeat(struct supervisor *s, struct child *c)
{
    uint64_t now_ns = clock_now_ns(), beat = atomic_load(&c->process->heartbeat_ns);
    uint64_t allowed_ms = setting(s, SETTING_WORKER_HANG_MS);
    c->was_ready = c->was_ready || atomic_load(&c->process->ready);
    if (!c->was_ready)
        allowed_ms += READY_MS;
    if (c->hung || now_ns < beat + allowed_ms * 1000000)
        return;
    c->hung = true;
    kill(c->pid, SIGKILL);
}

/* ---- telling that we are there ---- */

static bool all_ready(const struct supervisor *s)
{
    for (unsigned i = 0; i < s->count; i++)
        if (!atomic_load(&s->children[i].process->ready))
            return false;
    return true;
}

static void write_ports(const struct supervisor *s)
{
    char path[PATH_MAX], temporary[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/ports.json", s->engine->state);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *f = fopen(temporary, "w");
    if (!f)
        return;
    fprintf(f, "{\"listen\": \"%s\", \"admin\": \"%s\", ", s->engine->listen_address, s->engine->admin_address);
    if (s->engine->tls_fd >= 0)
        fprintf(f, "\"tls\": \"%s\", ", s->engine->tls_address);
    fprintf(f, "\"pid\": %d}\n", (int)getpid());
    fclose(f);
    if (rename(temporary, path) < 0)
        log_line(LOG_WARN, "cannot write %s: %s", path, strerror(errno));
}

static void announce(struct supervisor *s)
{
    const struct engine *e = s->engine;
    const struct config *c = &e->config;
    s->announced = true;
    write_ports(s);
    printf("perilune %s serves http://%s%s%s\n"
           "  control API      http://%s/api/v1/performance-optimization/stats\n"
           "  configuration    %s\n"
           "  rules            %s (edits are live within a second)\n"
           "  upstream         %s\n"
           "  workers          %u\n"
           "  state            %s\n\n"
           "Next:\n"
           "  curl -i http://%s/\n"
           "  curl -s http://%s/api/v1/performance-optimization/stats\n"
           "  edit a file below %s/routes and ask again: no restart needed\n",
           PERILUNE_VERSION, e->listen_address, e->tls_fd >= 0 ? " and https://" : "", e->tls_address, e->admin_address, e->config_path ? e->config_path : "(none)",
           c->key[CONFIG_RULES].text, *c->key[CONFIG_UPSTREAM].text ? c->key[CONFIG_UPSTREAM].text : "(none)",
           s->board->workers, e->state, e->listen_address, e->admin_address, c->key[CONFIG_RULES].text);
    fflush(stdout);
    notify_send("READY=1\nSTATUS=serves http://%s, control API http://%s", e->listen_address, e->admin_address);
}

/* ---- systemd ---- */

static uint64_t reloads_ended(const struct supervisor *s)
{
    return atomic_load(&s->board->generation.reloads_ok) + atomic_load(&s->board->generation.reloads_refused);
}

static void begin_reload(struct supervisor *s)
{
    atomic_fetch_add(&s->board->reload_wanted, 1);
    s->reloading = true;
    s->reload_base = reloads_ended(s);
    notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / 1000));
}

/* A sign of life says that all of us live: children that hang are killed before it is missed. */
static void give_signs(struct supervisor *s)
{
    if (s->reloading && reloads_ended(s) != s->reload_base) {
        s->reloading = false;
        notify_send("READY=1\nSTATUS=generation %llu", (unsigned long long)atomic_load(&s->board->generation.active));
    }
    if (notify_watchdog_ms() && s->now_ms >= s->signs_ms + notify_watchdog_ms()) {
        s->signs_ms = s->now_ms;
        notify_send("WATCHDOG=1");
    }
}

/* ---- ending ---- */

static void signal_workers(struct supervisor *s, int sig)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->children[i].pid && s->children[i].index >= 0)
            kill(s->children[i].pid, sig);
}

static void drain(struct supervisor *s)
{
    if (s->draining) { /* asked twice: at once */
        s->drain_until_ms = s->now_ms;
        return;
    }
    log_line(LOG_INFO, "draining");
    notify_send("STOPPING=1\nSTATUS=draining");
    s->draining = true;
    s->drain_until_ms = s->now_ms + setting(s, SETTING_SERVER_DRAIN_MS) + EXTRA_GRACE_MS;
    atomic_store(&s->board->draining, 1);
    engine_close_listeners(s->engine);
    signal_workers(s, SIGTERM);
}

/* Whether nothing runs any more; ends control after the workers. */
static bool is_over(struct supervisor *s)
{
    struct child *control = &s->children[0];
    bool workers = false;
    if (!s->draining)
        return false;
    for (unsigned i = 1; i < s->count; i++)
        workers = workers || s->children[i].pid;
    if (s->now_ms >= s->drain_until_ms) {
        signal_workers(s, SIGKILL);
        if (control->pid && !workers)
            kill(control->pid, SIGKILL);
    } else if (!workers && control->pid && !control->hung) {
        kill(control->pid, SIGTERM);
        control->hung = true; /* told once */
        s->drain_until_ms = s->now_ms + EXTRA_GRACE_MS;
    }
    return !workers && !control->pid;
}

static void on_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP)
            begin_reload(s);
        else if (info.ssi_signo != SIGCHLD)
            drain(s);
    }
}

static void supervise(struct supervisor *s)
{
    struct pollfd poll_signals = {.fd = s->signals, .events = POLLIN};
    uint64_t started_ms = s->now_ms;
    while (!is_over(s)) {
        poll(&poll_signals, 1, POLL_MS);
        s->now_ms = clock_now_ns() / 1000000;
        atomic_store(&s->board->processes[ROLE_SUPERVISOR].heartbeat_ns, clock_now_ns());
        on_signals(s);
        give_signs(s);
        reap(s);
        if (trials_expire(s->board, clock_now_ns()))
            log_line(LOG_WARN, "control has not renewed its trials: the stable settings are in force");
        for (unsigned i = 0; i < s->count; i++) {
            struct child *c = &s->children[i];
            if (c->pid)
                !s->draining ? check_heartbeat(s, c) : (void)0;
            else if (!s->draining && s->now_ms >= c->start_at_ms)
                start_child(s, c);
        }
        if (!s->announced && !s->draining && all_ready(s))
            announce(s);
        if (!s->announced && !s->draining && s->now_ms > started_ms + 2ULL * READY_MS)
            s->failed = true;
        if (s->failed && !s->draining)
            drain(s);
    }
}

/* ---- starting ---- */

static int prepare_state(struct supervisor *s, const char *folder)
{
    char path[PATH_MAX];
    struct engine *e = s->engine;
    for (const char *p = folder; *p; p++) { /* mkdir -p */
        if (*p == '/' && p > folder) {
            snprintf(path, sizeof path, "%.*s", (int)(p - folder), folder);
            mkdir(path, 0755);
        }
    }
    mkdir(folder, 0755);
    if (!realpath(folder, path) || strlen(path) >= sizeof e->state) {
        fprintf(stderr, "perilune: the state folder %s cannot be used: %s\n", folder, strerror(errno));
        return ERR_IO;
    }
    strcpy(e->state, path);
    snprintf(path, sizeof path, "%s/lock", e->state);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0 || flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
        fprintf(stderr, "perilune: the state folder %s %s; choose another with --state\n", e->state,
                s->lock < 0 ? "cannot be written" : "is used by another perilune that is running");
        return ERR_BUSY;
    }
    snprintf(path, sizeof path, "%s/ports.json", e->state);
    unlink(path);
    snprintf(path, sizeof path, "%s/generations", e->state);
    mkdir(path, 0700);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (strstr(entry->d_name, ".bundle"))
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    return 0;
}

static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int open_sockets(struct engine *e)
{
    char why[256];
    e->listen_fd = listen_on(e->config.key[CONFIG_LISTEN].text, e->listen_address, sizeof e->listen_address, why, sizeof why);
    e->admin_fd = e->listen_fd < 0 ? -1 : listen_on(e->config.key[CONFIG_ADMIN].text, e->admin_address,
                                                    sizeof e->admin_address, why, sizeof why);
    e->tls_fd = -1;
    if (e->admin_fd >= 0 && e->config.tls.listen)
        e->tls_fd = listen_on(e->config.tls.listen, e->tls_address, sizeof e->tls_address, why, sizeof why);
    if (e->admin_fd >= 0 && (e->tls_fd >= 0 || !e->config.tls.listen))
        return 0;
    fprintf(stderr, "perilune: %s\n", why);
    return ERR_IO;
}

static int make_board(struct supervisor *s)
{
    struct engine *e = s->engine;
    const double *value = e->config.setting;
    struct board_opts opts = {.workers = e->config.workers,
                              .routes_max = (uint32_t)value[SETTING_STATS_ROUTES_MAX],
                              .guests = (uint32_t)value[SETTING_ATTACH_GUESTS],
                              .peers_max = (uint32_t)value[SETTING_UPSTREAM_PEERS_MAX]};
    e->board = s->board = board_new(&opts);
    e->history = s->board ? history_new(s->board, (size_t)value[SETTING_STATS_HISTORY_BYTES]) : NULL;
    if (!e->history) {
        fprintf(stderr, "perilune: out of memory for the shared segment\n");
        return ERR_NOMEM;
    }
    config_apply(&e->config, s->board, false);
    char folder[PATH_MAX + 8];
    snprintf(folder, sizeof folder, "%s/cache", e->state);
    e->cache = cache_shared_new(folder, (uint64_t)value[SETTING_CACHE_BYTES], opts.workers, s->board->routes_max);
    if (!tls_tickets_init(&s->board->tickets, s->board->started_unix_ms)) {
        fprintf(stderr, "perilune: no randomness for the keys of TLS tickets\n");
        return ERR_IO;
    }
    atomic_store(&s->board->generation.active, 1);
    atomic_store(&s->board->generation.newest, 1);
    struct board_process *me = &s->board->processes[ROLE_SUPERVISOR];
    atomic_store(&me->pid, getpid());
    atomic_store(&me->started_ns, clock_now_ns());
    for (unsigned i = 0; i <= e->config.workers; i++) {
        struct child *c = &s->children[s->count++];
        c->index = (int)i - 1;
        c->process = i == 0 ? &s->board->processes[ROLE_CONTROL] : board_worker(s->board, i - 1);
    }
    return 0;
}

static void block_signals(struct supervisor *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
}

static int report(const struct problems *problems)
{
    struct buf text = {0};
    problems_print(problems, &text);
    fprintf(stderr, "%.*s", (int)buf_len(&text), text.data ? text.data : "");
    buf_done(&text);
    return 2;
}

/* Reads, checks and saves generation 1. Returns the exit code, 0 to go on. */
static int first_generation(struct supervisor *s)
{
    struct engine *e = s->engine;
    struct problems problems = {0};
    char file[PATH_MAX];
    int code = 0;
    size_t routes;
    struct problems ignored = {0};
    limits_start();
    struct bundle *config_only = config_collect(e->options, &problems);
    struct config_texts texts = config_only ? bundle_texts(config_only) : (struct config_texts){0};
    bool config_ok = config_only && config_read(&e->config, e->options, &texts, &ignored);
    struct bundle_from from = {e->config_path, e->config.key[CONFIG_STATE].text, e->config.key[CONFIG_RULES].text, &e->config.tls};
    struct bundle *b = config_only ? bundle_collect(&from, &problems) : NULL;
    bool ok = b && generation_check(e->options, b, &routes, &problems) && config_ok;
    limits_stop();
    if (!ok)
        code = report(&problems);
    else if (prepare_state(s, e->config.key[CONFIG_STATE].text) < 0)
        code = 1;
    if (!code) {
        generation_file(e, 1, file, sizeof file);
        if (bundle_save(b, file) < 0) {
            fprintf(stderr, "perilune: cannot write %s: %s\n", file, strerror(errno));
            code = 1;
        }
    }
    bundle_free(config_only);
    bundle_free(b);
    problems_done(&problems);
    problems_done(&ignored);
    return code;
}

int supervisor_run(struct engine *e)
{
    struct supervisor s = {.engine = e, .lock = -1};
    char path[PATH_MAX];
    log_name("supervisor");
    notify_open();
    raise_limits();
    int code = first_generation(&s);
    if (code || open_sockets(e) < 0 || make_board(&s) < 0)
        return code ? code : 1;
    e->supervisor_pid = getpid();
    block_signals(&s);
    s.now_ms = clock_now_ns() / 1000000;
    for (unsigned i = 0; i < s.count; i++)
        start_child(&s, &s.children[i]);
    supervise(&s);
    snprintf(path, sizeof path, "%s/ports.json", e->state);
    unlink(path);
    log_line(LOG_INFO, "ended");
    close(e->admin_fd);
    close(s.lock);
    close(s.signals);
    if (e->cache)
        cache_shared_free(e->cache);
    history_free(e->history);
    board_free(e->board);
    config_done(&e->config);
    return s.failed ? 1 : 0;
}
