// SPDX-License-Identifier: MIT
#include "engine/offline.h"

#include "base/json_text.h"
#include "engine/engine.h"
#include "engine/listen.h"
#include "script/limits.h"
#include "sys/cpus.h"
#include "sys/process_info.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static bool in_json;

static int row(bool ok, const char *what, const char *value, const char *advice)
{
    static unsigned rows;
    if (in_json) {
        printf(rows++ ? ",\n {\"ok\": %s, \"what\": " : "[{\"ok\": %s, \"what\": ", ok ? "true" : "false");
        json_text(stdout, what);
        printf(", \"value\": ");
        json_text(stdout, value);
        printf(", \"advice\": ");
        json_text(stdout, ok ? NULL : advice);
        printf("}");
        return ok ? 0 : 1;
    }
    printf("%-4s %-22s %s%s%s\n", ok ? "ok" : "BAD", what, value, ok || !advice ? "" : " - ", ok || !advice ? "" : advice);
    return ok ? 0 : 1;
}

static int doctor_port(const char *what, const char *address)
{
    char chosen[80], why[256];
    int fd = listen_on(address, chosen, sizeof chosen, why, sizeof why);
    if (fd >= 0)
        close(fd);
    return row(fd >= 0, what, address, fd >= 0 ? NULL : why);
}

static int doctor_memory(const struct config *c)
{
    char text[256];
    struct board_opts opts = {.workers = c->workers, .routes_max = (uint32_t)c->setting[SETTING_STATS_ROUTES_MAX]};
    struct board *board = board_new(&opts);
    struct history *history = board ? history_new(board, (size_t)c->setting[SETTING_STATS_HISTORY_BYTES]) : NULL;
    struct history_memory m = {0};
    if (history)
        history_memory(history, &m);
    snprintf(text, sizeof text,
             "%zu KiB a route (%zu lanes + %zu readings), at most %u routes: %zu MiB; windows %zu MiB",
             (m.lanes_per_route + m.readings_per_route) >> 10, m.lanes_per_route >> 10, m.readings_per_route >> 10,
             m.routes_max, ((m.lanes_per_route + m.readings_per_route) * m.routes_max) >> 20, m.ring_bytes >> 20);
    int bad = row(history != NULL, "memory of measuring", text, "lower stats.routes_max or stats.history_bytes");
    history_free(history);
    board_free(board);
    return bad;
}

/* Makes a file if there is none, and takes it away again; 0 or errno. What is no regular file is only asked for. */
static int try_file(const char *path)
{
    struct stat st;
    bool is_new = stat(path, &st) < 0;
    if (!is_new && !S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? EISDIR : access(path, W_OK) < 0 ? errno : 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    close(fd);
    if (is_new)
        unlink(path);
    return 0;
}

/* Makes the folders to `path` that are missing, as `run` does; `made` has a byte for each end of one. */
static void make_folders(const char *path, char made[PATH_MAX])
{
    char part[PATH_MAX];
    for (size_t i = 1; i <= strlen(path); i++)
        if (path[i] == '/' || !path[i]) {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            made[i] = mkdir(part, 0755) == 0;
        }
}

static void remove_folders(const char *path, const char made[PATH_MAX])
{
    char part[PATH_MAX];
    for (size_t i = strlen(path); i > 0; i--)
        if (made[i]) {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            rmdir(part);
        }
}

static int doctor_state(const char *folder)
{
    char made[PATH_MAX] = {0}, file[PATH_MAX + 16], why[256];
    int err = ENAMETOOLONG;
    if (strlen(folder) < PATH_MAX) {
        make_folders(folder, made);
        snprintf(file, sizeof file, "%s/doctor-%d", folder, (int)getpid());
        err = try_file(file);
        snprintf(file, sizeof file, "%s/lock", folder);
        if (!err && access(file, F_OK) == 0)
            err = try_file(file);
        remove_folders(folder, made);
    }
    snprintf(why, sizeof why, "%s; let its user write there, or choose another with --state", strerror(err));
    return row(!err, "state", folder, why);
}

static int doctor_access_log(const char *path)
{
    char why[256];
    int err = *path && strcmp(path, "-") != 0 ? try_file(path) : 0;
    snprintf(why, sizeof why, "%s; make its folder, let its user write there, or name another in access_log", strerror(err));
    return row(!err, "access log", *path ? path : "(none)", why);
}

/* `wrong`: why nobody answers, or NULL. */
static int store(const char *kind, const char *name, const char *where, const char *wrong)
{
    char what[64], advice[PG_WHY + REDIS_WHY];
    snprintf(what, sizeof what, "%s %s", kind, name);
    snprintf(advice, sizeof advice, "%s; start it, or correct its address", wrong ? wrong : "");
    return row(!wrong, what, where, advice);
}

/* The pools of the configuration: whether somebody answers. */
static int doctor_stores(const struct config *c)
{
    char database[PG_WHY], why_database[PG_WHY], redis[REDIS_WHY], why_redis[REDIS_WHY];
    int bad = 0;
    for (size_t i = 0; i < c->database_count; i++) {
        pg_dsn_show(c->databases[i].dsn, database, sizeof database);
        bad += store("postgres", c->databases[i].name, database, pg_ping(c->databases[i].dsn, why_database));
    }
    for (size_t i = 0; i < c->redis_count; i++) {
        redis_url_show(c->redises[i].url, redis, sizeof redis);
        bad += store("redis", c->redises[i].name, redis, redis_ping(c->redises[i].url, why_redis));
    }
    return bad;
}

/* Of the kernel, adjtimex(2). A clock that nobody disciplines may still be right; one from before this program is not. */
static int doctor_clock(void)
{
    static const time_t program = 1767225600; /* 2026-01-01 */
    struct timex state = {0};
    char text[128], when[32];
    time_t now = time(NULL);
    struct tm utc;
    bool kept = adjtimex(&state) != TIME_ERROR && !(state.status & STA_UNSYNC);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    snprintf(text, sizeof text, "%s, %s", when, kept ? "synchronised" : "not known to be synchronised (chrony or systemd-timesyncd would)");
    return row(now > program, "clock", text, "it is older than this program; set it, or certificates and histories are wrong");
}

int doctor_run(const struct options *o)
{
    struct problems problems = {0};
    struct config c = {0};
    char text[300];
    uint64_t fds = 0;
    int bad = 0;
    in_json = options_want_json(o);
    limits_start();
    bool ok = offline_config(o, &c, &problems);
    limits_stop();
    bad += row(ok, "configuration", config_path(o) ? config_path(o) : "(none)", "see below");
    offline_print(&problems, in_json ? stderr : stdout);
    if (ok) {
        snprintf(text, sizeof text, "%u usable, %u workers", cpus_effective(), c.workers);
        bad += row(c.workers <= 2 * cpus_effective(), "CPUs", text, "more workers than CPUs only add switching");
        process_fd_limit(&fds);
        snprintf(text, sizeof text, "%llu", (unsigned long long)fds);
        bad += row(fds >= 4096, "open files", text, "raise it: ulimit -n 65536, or LimitNOFILE= in the unit");
        bad += doctor_port("listen", c.key[CONFIG_LISTEN].text);
        bad += doctor_port("admin", c.key[CONFIG_ADMIN].text);
        const char *rules = c.key[CONFIG_RULES].text;
        bad += row(access(rules, R_OK) == 0 || c.key[CONFIG_RULES].origin == ORIGIN_DEFAULT, "rules", rules,
                   "there is no such folder");
        bad += doctor_state(c.key[CONFIG_STATE].text);
        bad += doctor_access_log(c.key[CONFIG_ACCESS_LOG].text);
        bad += doctor_memory(&c) + doctor_clock() + doctor_stores(&c);
    }
    if (in_json)
        printf("]\n");
    config_done(&c);
    problems_done(&problems);
    return bad ? 1 : 0;
}
