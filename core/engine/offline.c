// SPDX-License-Identifier: MIT
#include "engine/collect.h"
#include "engine/offline.h"

#include "base/log.h"
#include "engine/engine.h"
#include "engine/listen.h"
#include "script/limits.h"
#include "sys/cpus.h"
#include "sys/process_info.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Configuration as `run` would read it; problems are collected. */
static bool read_config(const struct options *o, struct config *config, struct problems *problems)
{
    struct bundle *b = config_collect(o, problems);
    struct config_texts texts = b ? bundle_texts(b) : (struct config_texts){0};
    bool ok = b && config_read(config, o, &texts, problems);
    bundle_free(b);
    return ok;
}

static void print_problems(const struct problems *problems, FILE *to)
{
    struct buf text = {0};
    problems_print(problems, &text);
    fprintf(to, "%.*s", (int)buf_len(&text), text.data ? text.data : "");
    buf_done(&text);
}

/* For the process that reads it: file and line on every line, even when they
 * say nothing. */
static void print_for_control(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        printf("%s:%d: %s\n", problems->list[i].file, problems->list[i].line, problems->list[i].text);
}

int check_run(const struct options *o)
{
    struct problems problems = {0}, ignored = {0};
    struct config config = {0};
    struct bundle *b;
    size_t routes = 0, files = 0;
    limits_start();
    if (o->bundle) {
        b = bundle_load(o->bundle, &problems);
    } else {
        read_config(o, &config, &ignored);
        const char *rules = config.key[CONFIG_RULES].text;
        struct bundle_from from = {config_path(o), config.key[CONFIG_STATE].text, rules ? rules : "rules", NULL};
        b = bundle_collect(&from, &problems);
        if (rules && config.key[CONFIG_RULES].origin != ORIGIN_DEFAULT && access(rules, R_OK) < 0)
            problems_add(&problems, rules, 0, "there is no such folder; create it or choose another with --rules");
    }
    bool ok = b && generation_check(o, b, &routes, &problems) && !problems.count;
    files = b ? b->own : 0;
    limits_stop();
    if (o->bundle)
        print_for_control(&problems);
    else
        print_problems(&problems, stdout);
    if (ok && !o->bundle)
        printf("ok: %zu file%s, %zu route%s\n", files, files == 1 ? "" : "s", routes, routes == 1 ? "" : "s");
    bundle_free(b);
    config_done(&config);
    problems_done(&problems);
    problems_done(&ignored);
    return ok ? 0 : 2;
}

/* ---- doctor ---- */

static int row(bool ok, const char *what, const char *value, const char *advice)
{
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

int doctor_run(const struct options *o)
{
    struct problems problems = {0};
    struct config c = {0};
    char text[300];
    uint64_t fds = 0;
    int bad = 0;
    limits_start();
    bool ok = read_config(o, &c, &problems);
    limits_stop();
    bad += row(ok, "configuration", config_path(o) ? config_path(o) : "(none)", "see below");
    print_problems(&problems, stdout);
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
        bad += doctor_memory(&c);
    }
    config_done(&c);
    problems_done(&problems);
    return bad ? 1 : 0;
}

/* ---- config show ---- */

static void print_number(char *out, size_t size, const struct setting_info *info, double value)
{
    if (info->type == SETTING_BOOLEAN)
        snprintf(out, size, "%s", value != 0 ? "true" : "false");
    else
        snprintf(out, size, "%.15g", value);
}

int config_show_run(const struct options *o)
{
    struct problems problems = {0};
    struct config c = {0};
    limits_start();
    bool ok = read_config(o, &c, &problems);
    limits_stop();
    print_problems(&problems, stderr);
    for (int i = 0; ok && i < CONFIG_KEYS; i++) {
        const char *text = i == CONFIG_ADMIN_TOKEN && *c.key[i].text ? "***" : c.key[i].text;
        printf("%-34s %-22s", config_key_name((enum config_key)i), *text ? text : "-");
        printf(o->show_origin ? " %s\n" : "\n", setting_origin_name(c.key[i].origin));
    }
    for (size_t i = 0; ok && i < c.token_count; i++)
        printf("admin_tokens.%-21s %s\n", c.tokens[i].name, config_role_name(c.tokens[i].role));
    for (size_t i = 0; ok && i < c.upstream_count; i++)
        for (size_t j = 0; j < c.upstreams[i].peer_count; j++)
            printf("upstreams.%-24s %.*s:%u\n", c.upstreams[i].name, STR_ARG(c.upstreams[i].peers[j].host),
                   c.upstreams[i].peers[j].port);
    for (size_t i = 0; ok && i < c.database_count; i++) {
        char where[PG_WHY]; /* without the password */
        pg_dsn_show(c.databases[i].dsn, where, sizeof where);
        printf("postgres.%-25s %s\n", c.databases[i].name, where);
    }
    for (size_t i = 0; ok && i < c.redis_count; i++) {
        char where[REDIS_WHY]; /* without the password */
        redis_url_show(c.redises[i].url, where, sizeof where);
        printf("redis.%-28s %s\n", c.redises[i].name, where);
    }
    for (int i = 0; ok && i < SETTING_COUNT; i++) {
        const struct setting_info *info = &setting_infos[i];
        char value[32];
        print_number(value, sizeof value, info, c.setting[i]);
        printf("%-34s %-14s %-7s", info->name, value, info->unit);
        printf(o->show_origin ? " %s\n" : "\n", setting_origin_name((enum setting_origin)c.setting_origin[i]));
    }
    config_done(&c);
    problems_done(&problems);
    return ok ? 0 : 2;
}
