// SPDX-License-Identifier: MIT
#include "replay/replay.h"

#include "replay/limit.h"
#include "replay/progress.h"
#include "replay/report.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

enum {
    LINE_MOST = 64 << 10,
    BLOCK = 1 << 20,
    BAD_SHOWN = 3,
    GUESS_LINES = 20, /* the first of them that a format fits decides */
};

struct replay {
    struct format format;
    char why[160];
    uint64_t lines, bad, status[6];
    char *first; /* the first line, until a format fits one */
    size_t first_len;
    struct entry entry;
    struct routes routes;
    struct timeline series;
    struct findings findings;
    struct progress progress;
    char block[BLOCK];
};

/* ---- lines ---- */

/* The line, printable and cut around the offset, and a caret below it. */
static void show_line(struct str line, size_t bad)
{
    size_t from = bad > 60 ? bad - 60 : 0, to = line.len - from > 100 ? from + 100 : line.len;
    fprintf(stderr, "  ");
    for (size_t i = from; i < to; i++)
        fputc(line.p[i] >= 32 && line.p[i] < 127 ? line.p[i] : '?', stderr);
    fprintf(stderr, "\n  %*s^\n", (int)(bad - from), "");
}

/* Whether a known format fits the line; it is kept then. */
static bool guess_format(struct replay *r, struct str line)
{
    struct format f;
    size_t bad;
    for (unsigned i = 0; format_known(i, &f); i++) {
        if (!format_read(&f, line, &r->entry, &bad) || !format_suits(&f, &r->entry))
            continue;
        r->format = f;
        snprintf(r->why, sizeof r->why, "line %llu reads as %s", (unsigned long long)r->lines, f.shape);
        return true;
    }
    return false;
}

/* Says what the first line is not: the formats that came furthest in it, and where they stopped. */
static void explain_unknown(struct replay *r)
{
    struct str line = {r->first, r->first_len};
    struct format f;
    size_t bad, furthest = 0;
    for (unsigned i = 0; format_known(i, &f); i++)
        if (!format_read(&f, line, &r->entry, &bad) && bad > furthest)
            furthest = bad;
    fprintf(stderr, "perilune: no known format fits the first lines; nearest:");
    for (unsigned i = 0; format_known(i, &f); i++)
        if (format_read(&f, line, &r->entry, &bad) || bad == furthest)
            fprintf(stderr, " %s", f.name);
    fprintf(stderr, "; the first line is not read from the caret on:\n");
    show_line(line, furthest);
    fprintf(stderr, "  say how lines look with --log-format '$remote_addr - ... \"$request\" $status', as nginx writes it, "
                    "or name one with --format (--format list shows all)\n");
}

/* No format yet: false when that was the last try. */
static bool try_line(struct replay *r, struct str line)
{
    if (guess_format(r, line))
        return true;
    r->bad++;
    if (!r->first) {
        r->first = malloc(line.len);
        r->first_len = r->first ? line.len : 0;
        if (r->first)
            memcpy(r->first, line.p, line.len);
    }
    return r->lines < GUESS_LINES;
}

static void count_entry(struct replay *r)
{
    const struct entry *e = &r->entry;
    r->status[e->status / 100]++;
    timeline_add(&r->series, e->at_s, e->status >= 500, e->seconds);
    routes_add(&r->routes, e);
}

/* False when no format is known for the log. */
static bool take_line(struct replay *r, const char *file, struct str line)
{
    size_t bad = 0;
    if (line.len && line.p[line.len - 1] == '\r')
        line.len--;
    if (!line.len)
        return true;
    r->lines++;
    if (!r->format.name && (!try_line(r, line) || !r->format.name))
        return r->lines < GUESS_LINES;
    if (format_read(&r->format, line, &r->entry, &bad)) {
        count_entry(r);
    } else if (++r->bad <= BAD_SHOWN) {
        progress_clear(&r->progress);
        fprintf(stderr, "perilune: %s: line %llu of the input does not fit:\n", file, (unsigned long long)r->lines);
        show_line(line, bad);
    }
    return true;
}

static void skip_line(struct replay *r, const char *file)
{
    r->lines++;
    if (++r->bad <= BAD_SHOWN)
        fprintf(stderr, "perilune: %s: line %llu of the input is longer than %d bytes\n", file, (unsigned long long)r->lines, LINE_MOST);
}

/* ---- files ---- */

/* A line that is longer than LINE_MOST is one bad line. gzread() passes plain files through. */
static int read_all(struct replay *r, const char *name, gzFile in)
{
    size_t have = 0;
    bool skipping = false;
    int n;
    while ((n = gzread(in, r->block + have, (unsigned)(BLOCK - have))) > 0) {
        char *p = r->block, *end = r->block + have + n, *newline;
        while ((newline = memchr(p, '\n', (size_t)(end - p)))) {
            size_t len = (size_t)(newline - p);
            if (!skipping && len > LINE_MOST)
                skip_line(r, name);
            else if (!skipping && !take_line(r, name, (struct str){p, len}))
                return REPLAY_UNKNOWN;
            skipping = false;
            p = newline + 1;
        }
        have = (size_t)(end - p);
        memmove(r->block, p, have);
        if (have > LINE_MOST || skipping) {
            if (!skipping)
                skip_line(r, name);
            skipping = true;
            have = 0;
        }
        progress_show(&r->progress, gzoffset(in), r->lines);
    }
    if (n < 0) {
        int code;
        fprintf(stderr, "perilune: %s: cannot read on: %s; what was read until there is reported\n", name, gzerror(in, &code));
    }
    if (have && !skipping && !take_line(r, name, (struct str){r->block, have}))
        return REPLAY_UNKNOWN;
    return n < 0 ? 1 : 0;
}

static int read_file(struct replay *r, const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    gzFile in = is_stdin ? gzdopen(dup(0), "rb") : gzopen(path, "rb");
    if (!in) {
        fprintf(stderr, "perilune: %s: %s\n", path, strerror(errno));
        return 1;
    }
    gzbuffer(in, 256 << 10);
    int code = read_all(r, is_stdin ? "stdin" : path, in);
    progress_file_done(&r->progress, gzoffset(in));
    if (gzclose(in) == Z_BUF_ERROR && code == 0) {
        fprintf(stderr, "perilune: %s: the gz file is cut short; what was read until there is reported\n", path);
        code = 1;
    }
    return code;
}

static int read_files(struct replay *r, const glob_t *files)
{
    int code = 0;
    for (size_t i = 0; i < files->gl_pathc; i++)
        progress_expect(&r->progress, files->gl_pathv[i]);
    for (size_t i = 0; !code && i < files->gl_pathc; i++)
        code = read_file(r, files->gl_pathv[i]);
    progress_clear(&r->progress);
    if (!code && r->first && !r->format.name)
        code = REPLAY_UNKNOWN;
    if (code == REPLAY_UNKNOWN)
        explain_unknown(r);
    return code;
}

/* A name that matches nothing stays: opening it then says what is wrong. */
static bool find_files(const struct replay_opts *o, glob_t *out)
{
    for (unsigned i = 0; i < o->file_count; i++) {
        bool exists = access(o->files[i], F_OK) == 0; /* a file may be called "a[1].log" */
        int flags = (i ? GLOB_APPEND : 0) | GLOB_NOCHECK;
        char quoted[4096];
        size_t n = 0;
        for (const char *p = o->files[i]; *p && n + 2 < sizeof quoted; p++) {
            if (exists && strchr("*?[\\", *p))
                quoted[n++] = '\\';
            quoted[n++] = *p;
        }
        quoted[n] = 0;
        if (glob(quoted, flags, NULL, out) != 0)
            return false;
    }
    return o->file_count || glob("-", GLOB_NOCHECK, NULL, out) == 0;
}

/* ---- the command ---- */

static int list_formats(void)
{
    struct format f;
    for (unsigned i = 0; format_known(i, &f); i++)
        printf("%-24s %s\n", f.name, f.shape);
    return 0;
}

static int choose_format(struct replay *r, const struct replay_opts *o)
{
    const char *why;
    if (o->log_format) {
        if (format_compile(&r->format, "as given", o->log_format, &why)) {
            snprintf(r->why, sizeof r->why, "--log-format says so");
            return 0;
        }
        fprintf(stderr, "perilune: --log-format cannot be used: %s\n", why);
        return 2;
    }
    struct format f;
    for (unsigned i = 0; o->format && format_known(i, &f); i++)
        if (strcmp(f.name, o->format) == 0) {
            r->format = f;
            snprintf(r->why, sizeof r->why, "--format says so");
            return 0;
        }
    if (o->format)
        fprintf(stderr, "perilune: --format '%s' is not known; --format list shows all\n", o->format);
    return o->format ? 2 : 0;
}

static report_fn *choose_report(const char *kind)
{
    static const struct {
        const char *name;
        report_fn *put;
    } kinds[] = {{"terminal", report_terminal}, {"html", report_html}, {"json", report_json}, {"md", report_md}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind ? kind : "terminal", kinds[i].name) == 0)
            return kinds[i].put;
    fprintf(stderr, "perilune: --report '%s' is not terminal, html, json or md\n", kind);
    return NULL;
}

static bool read_limits(const struct replay_opts *o, struct limit *limits)
{
    for (unsigned i = 0; i < o->limit_count; i++)
        if (!limit_read(o->fail_on[i], &limits[i])) {
            fprintf(stderr, "perilune: --fail-on '%s' is not like p99>250ms, errors>1%% or 'GET /users/:id p95>1s'\n", o->fail_on[i]);
            return false;
        }
    return true;
}

static int write_report(struct replay *r, const struct replay_opts *o, report_fn *put)
{
    struct report report = {.format = &r->format, .why = r->why, .lines = r->lines, .bad = r->bad, .series = &r->series,
                            .routes = &r->routes, .findings = &r->findings};
    memcpy(report.status, r->status, sizeof r->status);
    routes_settle(&r->routes);
    if (findings_make(&r->findings, &r->series, &r->routes) != 0) {
        fprintf(stderr, "perilune: out of memory\n");
        return 1;
    }
    FILE *out = o->output ? fopen(o->output, "we") : stdout;
    if (out)
        put(out, &report);
    bool failed = !out || fflush(out) != 0 || ferror(out);
    if (failed)
        fprintf(stderr, "perilune: cannot write %s: %s\n", o->output ? o->output : "the report", strerror(errno));
    if (out && out != stdout)
        fclose(out);
    return failed;
}

static int replay(struct replay *r, const struct replay_opts *o, report_fn *put, const struct limit *limits)
{
    glob_t files = {0};
    int code = choose_format(r, o);
    if (code)
        return code;
    if (!find_files(o, &files)) {
        fprintf(stderr, "perilune: out of memory\n");
        return 1;
    }
    progress_start(&r->progress);
    code = read_files(r, &files);
    globfree(&files);
    if (code > 1 || (code && !r->lines)) /* nothing was read: there is nothing to report */
        return code;
    code |= write_report(r, o, put);
    bool passed = false;
    for (unsigned i = 0; !code && i < o->limit_count; i++)
        passed |= limit_passed(&limits[i], o->fail_on[i], &r->routes);
    return passed ? REPLAY_FAILED : code;
}

int replay_run(const struct replay_opts *o)
{
    struct limit limits[REPLAY_LIMITS];
    if (o->format && strcmp(o->format, "list") == 0)
        return list_formats();
    report_fn *put = choose_report(o->report);
    if (!put || !read_limits(o, limits))
        return 2;
    struct replay *r = calloc(1, sizeof *r);
    if (!r) {
        fprintf(stderr, "perilune: out of memory\n");
        return 1;
    }
    int code = replay(r, o, put, limits);
    free(r->first);
    free(r);
    return code;
}
