// SPDX-License-Identifier: MIT
#include "proxy/health.h"

#include "base/log.h"
#include "proxy/call.h"
#include "proxy/parts.h"
#include "proxy/view.h"

#include <stdlib.h>

enum { ANSWER_BYTES = 65536 }; /* read of a check's answer */

static uint64_t or_setting(const struct upstream *u, uint64_t own, enum setting_id id)
{
    return own ? own : upstreams_setting(u->all, id);
}

/* ---- active ---- */

static void set_health(struct peer *p, enum peer_health health)
{
    uint32_t before = atomic_exchange(&p->shared->health, health);
    if (before == health)
        return;
    if (health == HEALTH_DOWN) {
        log_line(LOG_WARN, "upstream %s: peer %s fails its health check", p->upstream, p->address);
    } else if (before == HEALTH_DOWN) {
        atomic_store(&p->shared->since_ms, p->all->io->now_ms);
        log_line(LOG_INFO, "upstream %s: peer %s passes its health check again", p->upstream, p->address);
    }
}

static void note(struct peer *p, bool good)
{
    struct watch *w = &p->watch;
    w->good = good ? w->good + 1 : 0;
    w->bad = good ? 0 : w->bad + 1;
    bool unknown = atomic_load(&p->shared->health) == HEALTH_UNKNOWN;
    if (w->bad >= upstreams_setting(p->all, SETTING_UPSTREAM_HEALTH_FALL))
        set_health(p, HEALTH_DOWN);
    else if (good && (unknown || w->good >= upstreams_setting(p->all, SETTING_UPSTREAM_HEALTH_RISE)))
        set_health(p, HEALTH_UP);
}

static void on_head(struct call *call, const struct head *head)
{
    struct peer *p = call_user(call);
    int want = upstream_spec(call_upstream(call))->health_status;
    p->watch.left = ANSWER_BYTES;
    note(p, want ? head->status == want : head->status >= 200 && head->status < 400);
    p->watch.noted = true;
}

static void give_up(struct peer *p)
{
    struct call *call = p->watch.call;
    p->watch.call = NULL;
    if (!p->watch.noted)
        note(p, false);
    call_cancel(call);
}

static void on_data(struct call *call, struct str bytes)
{
    struct peer *p = call_user(call);
    if (bytes.len >= p->watch.left)
        give_up(p);
    else
        p->watch.left -= bytes.len;
}

static void on_end(struct call *call)
{
    struct peer *p = call_user(call);
    p->watch.call = NULL;
}

static void on_error(struct call *call, int err, const char *what)
{
    struct peer *p = call_user(call);
    (void)err;
    p->watch.call = NULL;
    if (p->watch.noted)
        return;
    if (!p->watch.bad)
        log_line(LOG_WARN, "upstream %s: health check of peer %s: %s", p->upstream, p->address, what);
    note(p, false);
}

static const struct call_events check_events = {
    .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_error};

static void check(struct upstream *u, struct peer *p)
{
    static const struct http_header agent = {STR("User-Agent"), STR("perilune-health")};
    struct watch *w = &p->watch;
    uint64_t now_ms = u->all->io->now_ms;
    uint64_t timeout_ms = or_setting(u, u->spec.health_timeout_ms, SETTING_UPSTREAM_HEALTH_TIMEOUT_MS);
    if (w->call && now_ms >= w->began_ms + timeout_ms)
        give_up(p);
    if (w->call || now_ms < w->next_ms)
        return;
    struct call_opts opts = {.all = u->all,
                             .upstream = u,
                             .method = STR("GET"),
                             .target = str_from(u->spec.health_path),
                             .host = str_from(p->address),
                             .headers = &agent,
                             .header_count = 1,
                             .timeout_ms = timeout_ms,
                             .peer = p,
                             .events = &check_events,
                             .user = p};
    w->began_ms = now_ms;
    w->next_ms = now_ms + or_setting(u, u->spec.health_interval_ms, SETTING_UPSTREAM_HEALTH_MS);
    w->noted = false;
    w->call = call_new(&opts);
}

static void check_all(struct upstream *u)
{
    for (unsigned i = 0; i < u->count; i++) {
        struct peer *p = u->members[i].peer;
        if (u->spec.health_path)
            check(u, p);
        else if (atomic_load_explicit(&p->shared->health, memory_order_relaxed) != HEALTH_UNKNOWN)
            atomic_store(&p->shared->health, HEALTH_UNKNOWN); /* its check was configured away */
    }
}

/* ---- passive ---- */

struct figures {
    double answers, failures, latency_ms;
};

static double requests(const struct figures *f)
{
    return f->answers + f->failures;
}

/* What a peer did since the last look. */
static struct figures take_figures(struct upstream *u, unsigned i)
{
    struct peer_view view;
    struct watch *w = &u->members[i].peer->watch;
    struct figures f = {0};
    upstream_view(u, i, &view);
    if (w->primed && view.answers >= w->answers && view.failures >= w->failures) {
        f.answers = (double)(view.answers - w->answers);
        f.failures = (double)(view.failures - w->failures);
        f.latency_ms = f.answers > 0 ? (view.latency_sum_s - w->latency_sum_s) * 1e3 / f.answers : 0;
    }
    w->primed = true;
    w->answers = view.answers;
    w->failures = view.failures;
    w->latency_sum_s = view.latency_sum_s;
    return f;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Share of failures and median of the mean latencies of all peers but one. */
static bool others(const struct figures *all, unsigned count, unsigned but, double enough, double *errors,
                   double *latency_ms)
{
    double list[UPSTREAM_PEERS_LIMIT], failures = 0, total = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++) {
        if (i == but || requests(&all[i]) < enough)
            continue;
        failures += all[i].failures;
        total += requests(&all[i]);
        list[n++] = all[i].latency_ms;
    }
    if (!n)
        return false;
    qsort(list, n, sizeof *list, ascending);
    *errors = failures / total;
    *latency_ms = n % 2 ? list[n / 2] : (list[n / 2 - 1] + list[n / 2]) / 2;
    return true;
}

static void compare(struct upstream *u)
{
    const struct settings *s = &u->all->board->settings;
    struct figures all[UPSTREAM_PEERS_LIMIT];
    double enough = setting_number(s, SETTING_UPSTREAM_OUTLIER_REQUESTS);
    for (unsigned i = 0; i < u->count; i++)
        all[i] = take_figures(u, i);
    for (unsigned i = 0; i < u->count; i++) {
        double errors, latency_ms;
        if (requests(&all[i]) < enough || !others(all, u->count, i, enough, &errors, &latency_ms))
            continue;
        if (all[i].failures / requests(&all[i]) > errors + upstream_number(u, OWN_OUTLIER_ERRORS))
            peer_eject(u->members[i].peer, u, CAUSE_ERRORS);
        else if (all[i].latency_ms > latency_ms * upstream_number(u, OWN_OUTLIER_FACTOR) &&
                 all[i].latency_ms > setting_number(s, SETTING_UPSTREAM_OUTLIER_FLOOR_MS))
            peer_eject(u->members[i].peer, u, CAUSE_LATENCY);
    }
}

void health_watch(struct upstream *u)
{
    uint64_t now_ms = u->all->io->now_ms;
    check_all(u);
    if (u->count < 2 || now_ms < u->compared_ms + upstreams_setting(u->all, SETTING_UPSTREAM_OUTLIER_MS))
        return;
    u->compared_ms = now_ms;
    compare(u);
}

void health_stop(struct upstreams *all)
{
    for (struct peer *p = all->peers, *next; p; p = next) {
        struct call *call = p->watch.call;
        next = p->next;
        p->watch.call = NULL;
        if (call)
            call_cancel(call);
    }
}
