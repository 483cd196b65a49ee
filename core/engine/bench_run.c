// SPDX-License-Identifier: MIT
#include "engine/bench_run.h"

#include "base/buf.h"
#include "bench/report.h"
#include "engine/bench_requests.h"
#include "engine/remote.h"
#include "proxy/url.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MOST = 24, DOUBLINGS = 14, BISECTIONS = 5, PORTS_MOST = 4096 };

static const double STEP_S = 3, FAILED_MOST = 0.001, FIRST_RATE = 50;

typedef unsigned long long ull;

static volatile sig_atomic_t stopped;

struct run {
    const struct options *options;
    struct bench_opts opts;
    struct bench_requests requests;
    struct bench_result result;
    struct bench_figures figures[REPORT_REPEATS];
    unsigned count;
    struct bench_blocks blocks, all; /* of one run; of all of them */
    struct bench_step steps[STEPS_MOST];
    struct bench_capacity capacity;
    struct bench_result borne; /* --find-capacity: what the highest rate that was borne came to */
    struct bench_figures borne_figures;
    double slo_ms;
    char target[1100];
};

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static bool wrong(const char *what, const char *value, const char *how)
{
    fprintf(stderr, "perilune: %s '%s': %s\n", what, value ? value : "", how);
    return false;
}

static bool take_number(const char *name, const char *text, double min, double max, double *out)
{
    char *end, how[120];
    if (!text)
        return true;
    double value = strtod(text, &end);
    if (!*text || *end || !(value >= min && value <= max)) {
        snprintf(how, sizeof how, "a number from %g to %g", min, max);
        return wrong(name, text, how);
    }
    *out = value;
    return true;
}

static bool take_count(const char *name, const char *text, double min, double max, unsigned *out)
{
    double value = *out;
    if (!take_number(name, text, min, max, &value))
        return false;
    if (value != (double)(unsigned)value)
        return wrong(name, text, "a whole number");
    *out = (unsigned)value;
    return true;
}

/* "/path" is one of the engine whose state folder is here. */
static bool whole_target(struct run *r)
{
    const char *target = r->options->bench.target, *state = r->options->state ? r->options->state : ".perilune";
    char path[1024];
    struct buf ports = {0};
    if (!target)
        return wrong("bench", "", "takes a URL, like http://127.0.0.1:8000/hello, or a path of the engine that runs here");
    if (target[0] != '/')
        return snprintf(r->target, sizeof r->target, "%s", target) < (int)sizeof r->target || wrong("URL", target, "it is too long");
    snprintf(path, sizeof path, "%s/ports.json", state);
    bool ok = remote_read_file(path, PORTS_MOST, &ports);
    buf_add_char(&ports, 0);
    const char *listen = ok && buf_ok(&ports) ? strstr(buf_str(&ports).p, "\"listen\": \"") : NULL;
    if (listen) {
        listen += strlen("\"listen\": \"");
        ok = snprintf(r->target, sizeof r->target, "http://%.*s%s", (int)strcspn(listen, "\""), listen, target) < (int)sizeof r->target;
    }
    buf_done(&ports);
    return (listen && ok) || wrong("path", target, "no engine runs here (there is no ports.json); name its folder with --state, or write a whole URL");
}

static bool resolve(struct run *r, const struct url *url)
{
    char host[300], port[8], how[200];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    snprintf(host, sizeof host, "%.*s", STR_ARG(url->host));
    snprintf(port, sizeof port, "%u", url->port);
    int err = getaddrinfo(host, port, &hints, &found);
    if (err) {
        snprintf(how, sizeof how, "the name has no address: %s", gai_strerror(err));
        return wrong("host", host, how);
    }
    memcpy(&r->opts.address, found->ai_addr, found->ai_addrlen);
    r->opts.address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool make_requests(struct run *r, const struct url *url)
{
    char why[BENCH_WHY];
    const struct bench_defaults site = {url->authority, url->path.len ? url->path : STR("/")};
    if (!bench_requests_make(&r->requests, r->options, &site, why)) {
        fprintf(stderr, "perilune: %s\n", why);
        return false;
    }
    r->opts.requests = r->requests.list;
    r->opts.request_count = r->requests.count;
    r->opts.expect_body = str_from(r->options->bench.expect_body ? r->options->bench.expect_body : "");
    return true;
}

static bool take_options(struct run *r)
{
    const struct options *o = r->options;
    double iterations = 0, expect = 0, seed = 1;
    struct url url;
    r->opts = (struct bench_opts){.connections = 10, .stop = &stopped, .blocks = &r->blocks};
    r->slo_ms = 100;
    if (o->bench.pairs || o->bench.block)
        return wrong(o->bench.pairs ? "--pairs" : "--block", o->bench.pairs ? o->bench.pairs : o->bench.block, "goes with --compare, which has blocks");
    bool ok = whole_target(r);
    ok = ok && take_count("--connections", o->bench.connections, 1, BENCH_CONNECTIONS, &r->opts.connections)
         && take_number("--rate", o->bench.rate, 0.1, 1e7, &r->opts.rate) && take_number("--iterations", o->bench.iterations, 1, 1e12, &iterations)
         && take_number("--expect-status", o->bench.expect, 100, 599, &expect) && take_number("--slo", o->bench.slo, 0.01, 60000, &r->slo_ms)
         && take_number("--seed", o->bench.seed, 0, 9e15, &seed);
    r->opts.iterations = (uint64_t)iterations;
    r->opts.expect_status = (int)expect;
    r->opts.seed = (uint64_t)seed;
    r->opts.poisson = o->bench.poisson;
    r->opts.duration_s = iterations > 0 ? 0 : 10;
    r->opts.warmup_s = iterations > 0 ? 0 : 1;
    ok = ok && take_number("--duration", o->bench.duration, 0.1, 86400, &r->opts.duration_s)
         && take_number("--warmup", o->bench.warmup, 0, 3600, &r->opts.warmup_s);
    if (ok && r->opts.poisson && r->opts.rate <= 0 && !o->bench.find_capacity)
        return wrong("--poisson", "", "needs a --rate: in a closed loop requests come when the last was answered");
    if (!ok)
        return false;
    const char *trouble = url_parse(str_from(r->target), &url);
    if (trouble)
        return wrong("URL", r->target, trouble);
    if (url.is_tls)
        return wrong("URL", r->target, "https is not measured, it would be the cost of TLS here as much as there; name the plain address");
    return make_requests(r, &url) && resolve(r, &url);
}

static bool run_once(struct run *r, const struct bench_opts *opts, struct bench_figures *f)
{
    bench_blocks_done(&r->blocks);
    if (!bench_blocks_init(&r->blocks)) {
        fprintf(stderr, "perilune: out of memory\n");
        return false;
    }
    if (!bench_run(opts, &r->result)) {
        fprintf(stderr, "perilune: %s cannot be reached: %s\n", r->target, strerror(errno));
        return false;
    }
    *f = bench_judge(opts, &r->result);
    bench_blocks_append(&r->all, &r->blocks);
    return true;
}

/* Why a rate is not borne; empty when it is. */
static void judge_step(const struct run *r, const struct bench_figures *f, char why[JUDGE_REASON])
{
    why[0] = 0;
    if (f->failed_share > FAILED_MOST && r->result.unexpected)
        snprintf(why, JUDGE_REASON, "%.1f %% failed, the first unexpected status was %d", 100 * f->failed_share, r->result.unexpected_status);
    else if (f->failed_share > FAILED_MOST)
        snprintf(why, JUDGE_REASON, "%.1f %% failed: %llu dropped, %llu timeouts, %llu broken off, %llu with another body", 100 * f->failed_share,
                 (ull)r->result.dropped, (ull)r->result.timeouts, (ull)r->result.broken, (ull)r->result.unmatched);
    else if (f->p99_ms > r->slo_ms)
        snprintf(why, JUDGE_REASON, "p99 is above %g ms", r->slo_ms);
    else if (f->cpu_share > bench_cpu_most)
        snprintf(why, JUDGE_REASON, "the generator took %.0f %% of a core", f->cpu_share * 100);
}

/* Whether a rate is borne. What was sent late counts from when it should have been, so lateness alone does not matter. */
static bool step(struct run *r, double rate, bool *reached)
{
    struct bench_opts opts = r->opts;
    struct bench_figures f;
    opts.rate = rate;
    opts.iterations = 0;
    opts.duration_s = r->options->bench.duration ? r->opts.duration_s : STEP_S;
    opts.warmup_s = r->options->bench.warmup ? r->opts.warmup_s : 0.5;
    *reached = run_once(r, &opts, &f);
    if (!*reached)
        return false;
    r->opts.rate = rate;
    r->figures[0] = f;
    struct bench_step *s = &r->steps[r->capacity.count++];
    *s = (struct bench_step){.rate = rate, .per_second = f.per_second, .mean_ms = f.answered ? f.mean_ms : -1, .p99_ms = f.answered ? f.p99_ms : -1};
    judge_step(r, &f, s->why);
    s->telling = f.failed_share <= FAILED_MOST && f.cpu_share <= bench_cpu_most;
    if (s->why[0])
        return false;
    r->borne = r->result;
    r->borne_figures = f;
    return true;
}

/* Doubles the rate until it is too much, then halves what is between. */
static bool find_capacity(struct run *r)
{
    double low = 0, high = 0, rate = r->opts.rate > 0 ? r->opts.rate : FIRST_RATE;
    bool reached = true;
    for (int i = 0; i < DOUBLINGS && !high && !stopped; i++, rate *= 2) {
        if (step(r, rate, &reached))
            low = rate;
        else
            high = rate;
        if (!reached)
            return false;
    }
    for (int i = 0; i < BISECTIONS && low > 0 && high > 0 && !stopped; i++) {
        double middle = (low + high) / 2;
        if (step(r, middle, &reached))
            low = middle;
        else
            high = middle;
        if (!reached)
            return false;
    }
    r->capacity = (struct bench_capacity){.rate = low, .slo_ms = r->slo_ms, .steps = r->steps, .count = r->capacity.count};
    r->count = 1;
    if (low > 0) { /* what is reported is the run that is the result */
        r->result = r->borne;
        r->figures[0] = r->borne_figures;
        r->opts.rate = low;
    } else {
        bench_doubt(&r->figures[0], "the lowest rate was not borne: %s", r->steps[0].why);
    }
    return true;
}

static bool repeat(struct run *r, unsigned repeats)
{
    while (r->count < repeats && !(stopped && r->count)) {
        if (!run_once(r, &r->opts, &r->figures[r->count]))
            return false;
        r->count++;
    }
    return true;
}

/* The steps in which nothing failed and the generator was not the limit; how late the others were says little. */
static bool find_law(const struct run *r, struct usl *law)
{
    struct usl_point points[STEPS_MOST];
    unsigned n = 0;
    for (unsigned i = 0; i < r->capacity.count; i++) {
        const struct bench_step *s = &r->steps[i];
        if (s->mean_ms > 0 && s->per_second > 0 && s->telling)
            points[n++] = (struct usl_point){s->per_second, s->mean_ms / 1e3};
    }
    return usl_fit(points, n, law);
}

static int print(struct run *r)
{
    struct bench_intervals intervals;
    struct usl law;
    bool searched = r->options->bench.find_capacity;
    if (searched && find_law(r, &law))
        r->capacity.law = &law;
    bool known = !searched && bench_blocks_intervals(&r->all, r->opts.seed, &intervals);
    const struct bench_report report = {.target = r->target, .version = PERILUNE_VERSION, .opts = &r->opts, .last = &r->result, .runs = r->figures, .count = r->count,
                                        .intervals = known ? &intervals : NULL, .capacity = searched ? &r->capacity : NULL};
    const char *path = r->options->replay.output, *shape = r->options->shape;
    FILE *out = path ? fopen(path, "w") : stdout;
    if (!out) {
        fprintf(stderr, "perilune: %s cannot be written: %s\n", path, strerror(errno));
        return 1;
    }
    (shape && strcmp(shape, "json") == 0 ? bench_report_json : bench_report_table)(out, &report);
    bool written = !ferror(out) && (out == stdout ? fflush(out) : fclose(out)) == 0;
    return !written ? 1 : bench_report_valid(&report) ? 0 : BENCH_INVALID;
}

int bench_command_run(const struct options *options)
{
    struct run *r = calloc(1, sizeof *r);
    struct sigaction end = {.sa_handler = on_signal};
    unsigned repeats = 1;
    int code = 2;
    if (!r)
        return 1;
    r->options = options;
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    if (!bench_blocks_init(&r->all))
        fprintf(stderr, "perilune: out of memory\n");
    else if (take_options(r) && take_count("--repeats", options->bench.repeats, 1, REPORT_REPEATS, &repeats)) {
        bool done = options->bench.find_capacity ? find_capacity(r) : repeat(r, repeats);
        code = done ? print(r) : 1;
    }
    bench_requests_done(&r->requests);
    bench_blocks_done(&r->blocks);
    bench_blocks_done(&r->all);
    free(r);
    return code;
}
