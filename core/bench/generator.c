// SPDX-License-Identifier: MIT
#include "bench/generator.h"

#include "base/clock.h"
#include "ml/random.h"

#include <errno.h>
#include <llhttp.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 256 * 1024, WAITING_FIRST = 1024, WAITING_MOST = 1 << 22 };

static const uint64_t LATE_NS = 1000000, RETRY_NS = 50000000, LOOK_NS = 50000000;

enum state { DOWN, CONNECTING, IDLE, WAITING };

struct conn {
    struct generator *g;
    int fd;
    enum state state;
    uint64_t intended_ns, sent_ns;
    uint64_t again_ns; /* DOWN: when to connect */
    size_t request;    /* which of them */
    size_t written;    /* of it */
    uint64_t body;     /* bytes of this answer */
    size_t matched;    /* of expect_body, by the last bytes of the body */
    bool done, stays; /* answered; and another request may follow */
    llhttp_t parser;
};

struct generator {
    const struct bench_opts *o;
    struct bench_result *r;
    int poll;
    struct conn *conns;
    struct conn **idle;
    unsigned idle_count, busy;
    uint64_t *waiting; /* ring of intended times, its size a power of two */
    size_t first, waits, ring;
    uint64_t begin_ns, measure_ns, end_ns, now_ns, next_ns, looked_ns;
    uint64_t starved_ns; /* till then some waited for a connection */
    double next_exact_ns;
    uint64_t planned;  /* arrivals, or requests of a closed loop */
    size_t turn;       /* the request that is next */
    uint64_t *lengths; /* of the first body for each request, plus one */
    size_t *fallback;  /* of expect_body: what of it still matches when the byte behind does not */
    struct random random;
    bool connected;
    int trouble;       /* errno of a connection that could not be made */
    llhttp_settings_t settings;
    char bytes[READ_BYTES];
};

/* ---- what is counted ---- */

static bool counts(const struct generator *g, uint64_t intended_ns)
{
    return intended_ns >= g->measure_ns;
}

static void record_response(struct generator *g, uint64_t intended_ns)
{
    uint64_t response = g->now_ns - intended_ns;
    bool second = g->end_ns != UINT64_MAX && intended_ns - g->measure_ns > (g->end_ns - g->measure_ns) / 2;
    unsigned bucket = sketch_index(response);
    g->r->response[bucket]++;
    g->r->half[second][bucket]++;
    g->r->response_sum_ns += (double)response;
    if (g->o->blocks)
        bench_blocks_at(g->o->blocks, intended_ns - g->measure_ns)->response[bucket]++;
    if (response > g->r->max_response_ns)
        g->r->max_response_ns = response;
}

/* Of one that was sent. */
static void record(struct generator *g, uint64_t intended_ns, uint64_t sent_ns)
{
    uint64_t service = g->now_ns - sent_ns;
    record_response(g, intended_ns);
    g->r->service[sketch_index(service)]++;
    if (service > g->r->max_service_ns)
        g->r->max_service_ns = service;
}

static void count_answer(struct conn *c)
{
    struct generator *g = c->g;
    int status = c->parser.status_code, hundreds = status / 100;
    if (!counts(g, c->intended_ns))
        return;
    record(g, c->intended_ns, c->sent_ns);
    g->r->answered++;
    if (g->o->blocks)
        bench_blocks_at(g->o->blocks, c->intended_ns - g->measure_ns)->answered++;
    g->r->status[hundreds >= 1 && hundreds <= 5 ? hundreds : 0]++;
    if (g->o->expect_status ? status != g->o->expect_status : status >= 400) {
        g->r->unexpected_status = g->r->unexpected_status ? g->r->unexpected_status : status;
        g->r->unexpected++;
    } else if (c->matched < g->o->expect_body.len)
        g->r->unmatched++;
    uint64_t *length = &g->lengths[c->request];
    if (!*length)
        *length = c->body + 1;
    else if (*length != c->body + 1)
        g->r->differing++;
}

/* ---- connections ---- */

static void become_idle(struct conn *c)
{
    c->state = IDLE;
    c->g->idle[c->g->idle_count++] = c;
}

static void forget_idle(struct conn *c)
{
    struct generator *g = c->g;
    for (unsigned i = 0; i < g->idle_count; i++)
        if (g->idle[i] == c) {
            g->idle[i] = g->idle[--g->idle_count];
            return;
        }
}

/* It is opened anew, at once or after a while. A request it had is lost. */
static void drop(struct conn *c, uint64_t *why, uint64_t again_ns)
{
    struct generator *g = c->g;
    if (c->state == WAITING) {
        g->busy--;
        if (counts(g, c->intended_ns)) {
            record(g, c->intended_ns, c->sent_ns);
            if (why)
                (*why)++;
        }
    } else if (c->state == IDLE) {
        forget_idle(c);
    }
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = DOWN;
    c->again_ns = again_ns;
}

static void refuse(struct conn *c, int error)
{
    c->g->trouble = error;
    c->g->r->refused++;
    drop(c, NULL, c->g->now_ns + RETRY_NS);
}

static void connect_to(struct conn *c)
{
    struct generator *g = c->g;
    int on = 1;
    c->fd = socket(g->o->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        refuse(c, errno);
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    c->state = CONNECTING;
    if ((connect(c->fd, (const struct sockaddr *)&g->o->address, g->o->address_len) < 0 && errno != EINPROGRESS)
        || epoll_ctl(g->poll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        refuse(c, errno);
}

static void connected(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) {
        refuse(c, error);
        return;
    }
    c->g->connected = true;
    llhttp_init(&c->parser, HTTP_RESPONSE, &c->g->settings);
    c->parser.data = c;
    become_idle(c);
}

/* ---- one request ---- */

static void write_more(struct conn *c)
{
    struct str request = c->g->o->requests[c->request].bytes;
    while (c->written < request.len) {
        ssize_t n = send(c->fd, request.p + c->written, request.len - c->written, MSG_NOSIGNAL);
        if (n > 0)
            c->written += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            return;
        else {
            drop(c, &c->g->r->broken, c->g->now_ns);
            return;
        }
    }
}

static void ask(struct conn *c, uint64_t intended_ns)
{
    struct generator *g = c->g;
    c->state = WAITING;
    c->intended_ns = intended_ns;
    c->sent_ns = g->now_ns;
    c->request = g->turn;
    g->turn = g->turn + 1 == g->o->request_count ? 0 : g->turn + 1;
    c->written = c->matched = 0;
    c->body = 0;
    c->done = false;
    g->busy++;
    if (counts(g, intended_ns)) {
        g->r->sent++;
        bool late = g->o->rate > 0 && g->now_ns - intended_ns > LATE_NS;
        g->r->late += late;
        g->r->queued += late && intended_ns <= g->starved_ns;
    }
    write_more(c);
}

static int on_head(llhttp_t *p)
{
    struct conn *c = p->data;
    return c->g->o->requests[c->request].head ? 1 : 0;
}

/* Knuth, Morris, Pratt: Fast pattern matching in strings, SIAM J. Computing 6(2), 1977. Once found it stays so. */
static size_t match(const struct generator *g, size_t matched, const char *at, size_t len)
{
    struct str wanted = g->o->expect_body;
    for (size_t i = 0; i < len && matched < wanted.len; i++) {
        while (matched && at[i] != wanted.p[matched])
            matched = g->fallback[matched];
        matched += at[i] == wanted.p[matched];
    }
    return matched;
}

static bool prepare_match(struct generator *g)
{
    struct str wanted = g->o->expect_body;
    if (!wanted.len)
        return true;
    g->fallback = calloc(wanted.len + 1, sizeof *g->fallback);
    for (size_t i = 1; g->fallback && i < wanted.len; i++) {
        size_t k = g->fallback[i];
        while (k && wanted.p[i] != wanted.p[k])
            k = g->fallback[k];
        g->fallback[i + 1] = k + (wanted.p[i] == wanted.p[k]);
    }
    return g->fallback;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
    struct conn *c = p->data;
    c->matched = match(c->g, c->matched, at, len);
    c->body += len;
    return 0;
}

static int on_end(llhttp_t *p)
{
    struct conn *c = p->data;
    c->done = p->status_code >= 200; /* 1xx: the answer is still to come */
    c->body = c->done ? c->body : 0;
    c->stays = llhttp_should_keep_alive(p); /* known here only */
    return 0;
}

static void answered(struct conn *c)
{
    struct generator *g = c->g;
    count_answer(c);
    g->busy--;
    c->state = DOWN;
    if (c->stays) {
        become_idle(c);
        return;
    }
    drop(c, NULL, g->now_ns);
}

static void on_bytes(struct conn *c, const char *bytes, size_t len)
{
    if (c->state != WAITING) {
        drop(c, NULL, c->g->now_ns); /* it was not asked */
        return;
    }
    if (counts(c->g, c->intended_ns))
        c->g->r->bytes += len;
    if (llhttp_execute(&c->parser, bytes, len) != HPE_OK)
        drop(c, &c->g->r->broken, c->g->now_ns);
    else if (c->done)
        answered(c);
}

/* An end that has been seen is not seen again: then all is read. */
static void on_readable(struct conn *c, bool ended)
{
    struct generator *g = c->g;
    for (;;) {
        ssize_t n = recv(c->fd, g->bytes, sizeof g->bytes, 0);
        g->now_ns = clock_now_ns();
        if (n > 0) {
            on_bytes(c, g->bytes, (size_t)n);
            if (c->state == DOWN || (!ended && n < (ssize_t)sizeof g->bytes))
                return;
            continue;
        }
        if (n < 0 && errno == EAGAIN)
            return;
        if (n == 0 && c->state == WAITING && llhttp_finish(&c->parser) == HPE_OK && c->done)
            answered(c); /* its end was that of the connection */
        else
            drop(c, &g->r->broken, g->now_ns);
        return;
    }
}

/* ---- arrivals ---- */

static bool over(const struct generator *g)
{
    return (g->o->iterations && g->planned >= g->o->iterations) || g->now_ns >= g->end_ns || (g->o->stop && *g->o->stop);
}

static bool wait_in_line(struct generator *g, uint64_t intended_ns)
{
    if (g->waits == g->ring) {
        size_t size = g->ring ? g->ring * 2 : WAITING_FIRST;
        uint64_t *more = size <= WAITING_MOST ? malloc(size * sizeof *more) : NULL;
        if (!more)
            return false;
        for (size_t i = 0; i < g->waits; i++)
            more[i] = g->waiting[(g->first + i) & (g->ring - 1)];
        free(g->waiting);
        g->waiting = more;
        g->ring = size;
        g->first = 0;
    }
    g->waiting[(g->first + g->waits++) & (g->ring - 1)] = intended_ns;
    return true;
}

static void arrive(struct generator *g)
{
    while (g->next_ns <= g->now_ns && g->next_ns < g->end_ns && !(g->o->iterations && g->planned >= g->o->iterations)) {
        g->planned++;
        bool counted = counts(g, g->next_ns);
        g->r->scheduled += counted;
        if (!wait_in_line(g, g->next_ns)) {
            g->r->dropped += counted;
            g->r->starved += counted && !g->idle_count;
        }
        g->next_exact_ns += (g->o->poisson ? -log(1 - random_unit(&g->random)) : 1) * 1e9 / g->o->rate;
        g->next_ns = (uint64_t)g->next_exact_ns;
    }
}

static void send_waiting(struct generator *g)
{
    while (g->idle_count && g->waits) {
        uint64_t intended = g->waiting[g->first];
        g->first = (g->first + 1) & (g->ring - 1);
        g->waits--;
        ask(g->idle[--g->idle_count], intended);
    }
    if (g->waits)
        g->starved_ns = g->now_ns;
}

static void send_at_once(struct generator *g)
{
    while (g->idle_count && !over(g)) {
        g->planned++;
        if (counts(g, g->now_ns))
            g->r->scheduled++;
        ask(g->idle[--g->idle_count], g->now_ns);
    }
}

/* ---- the loop ---- */

static void look(struct generator *g)
{
    uint64_t timeout_ns = (uint64_t)((g->o->timeout_s > 0 ? g->o->timeout_s : 10) * 1e9);
    g->looked_ns = g->now_ns;
    for (unsigned i = 0; i < g->o->connections; i++) {
        struct conn *c = &g->conns[i];
        if (c->state == DOWN && c->again_ns <= g->now_ns)
            connect_to(c);
        else if (c->state == WAITING && g->now_ns - c->sent_ns > timeout_ns)
            drop(c, &g->r->timeouts, g->now_ns);
    }
}

static void wait_for_events(struct generator *g)
{
    struct epoll_event events[EVENTS];
    uint64_t until = g->looked_ns + LOOK_NS;
    if (g->o->rate > 0 && g->next_ns < until && !over(g))
        until = g->next_ns;
    uint64_t ns = until > g->now_ns ? until - g->now_ns : 0;
    struct timespec pause = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    int n = epoll_pwait2(g->poll, events, EVENTS, &pause, NULL);
    if (n < 0 && errno == ENOSYS) /* before Linux 5.11 */
        n = epoll_wait(g->poll, events, EVENTS, (int)(ns / 1000000));
    g->now_ns = clock_now_ns();
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->state == CONNECTING && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            connected(c);
        else if (c->state == WAITING && c->written < g->o->requests[c->request].bytes.len && events[i].events & EPOLLOUT)
            write_more(c);
        if ((c->state == WAITING || c->state == IDLE) && events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
            on_readable(c, (events[i].events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0);
        if (c->state == DOWN && c->again_ns <= g->now_ns)
            connect_to(c);
    }
}

static void loop(struct generator *g)
{
    while (!over(g)) {
        wait_for_events(g);
        if (g->o->rate > 0) {
            arrive(g);
            send_waiting(g);
        } else {
            send_at_once(g);
        }
        if (g->now_ns - g->looked_ns >= LOOK_NS)
            look(g);
        if (!g->connected && g->now_ns - g->begin_ns > 1000000000)
            return;
    }
    /* What is under way may end; what waits is sent as long as there is time for it. */
    uint64_t last_ns = g->now_ns + (uint64_t)((g->o->timeout_s > 0 ? g->o->timeout_s : 10) * 1e9);
    while ((g->busy || (g->waits && g->o->iterations)) && g->now_ns < last_ns && !(g->o->stop && *g->o->stop)) {
        wait_for_events(g);
        if (g->o->rate > 0 && g->o->iterations)
            send_waiting(g);
        if (g->now_ns - g->looked_ns >= LOOK_NS)
            look(g);
    }
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* What was never answered counts with the time that it waited. */
static void close_books(struct generator *g, double cpu_before, uint64_t asked_ns)
{
    for (unsigned i = 0; i < g->o->connections; i++)
        drop(&g->conns[i], &g->r->timeouts, UINT64_MAX);
    for (size_t i = 0; i < g->waits; i++) {
        uint64_t intended = g->waiting[(g->first + i) & (g->ring - 1)];
        if (!counts(g, intended))
            continue;
        g->r->dropped++;
        g->r->starved += intended <= g->starved_ns;
        record_response(g, intended); /* it was never served */
    }
    uint64_t stop_ns = asked_ns < g->end_ns ? asked_ns : g->end_ns;
    g->r->seconds = stop_ns > g->measure_ns ? (double)(stop_ns - g->measure_ns) / 1e9 : 0;
    g->r->cpu_s = cpu_s() - cpu_before;
    if (g->o->blocks)
        bench_blocks_end(g->o->blocks, g->r->seconds);
}

static bool prepare(struct generator *g)
{
    g->poll = epoll_create1(EPOLL_CLOEXEC);
    g->conns = calloc(g->o->connections, sizeof *g->conns);
    g->idle = calloc(g->o->connections, sizeof(void *));
    g->lengths = calloc(g->o->request_count, sizeof *g->lengths);
    if (g->poll < 0 || !g->conns || !g->idle || !g->lengths || !prepare_match(g))
        return false;
    llhttp_settings_init(&g->settings);
    g->settings.on_headers_complete = on_head;
    g->settings.on_body = on_body;
    g->settings.on_message_complete = on_end;
    g->random.state = g->o->seed;
    g->now_ns = g->begin_ns = g->looked_ns = clock_now_ns();
    g->measure_ns = g->begin_ns + (uint64_t)(g->o->warmup_s * 1e9);
    g->end_ns = g->o->duration_s > 0 ? g->measure_ns + (uint64_t)(g->o->duration_s * 1e9) : UINT64_MAX;
    g->next_ns = g->begin_ns;
    g->next_exact_ns = (double)g->begin_ns;
    for (unsigned i = 0; i < g->o->connections; i++) {
        g->conns[i] = (struct conn){.g = g, .fd = -1};
        connect_to(&g->conns[i]);
    }
    return true;
}

bool bench_run(const struct bench_opts *opts, struct bench_result *out)
{
    struct generator *g = calloc(1, sizeof *g);
    if (!g)
        return false;
    *out = (struct bench_result){0};
    g->o = opts;
    g->r = out;
    double before = cpu_s();
    bool ok = prepare(g);
    if (ok) {
        loop(g);
        close_books(g, before, g->now_ns);
        ok = g->connected;
    }
    int trouble = g->trouble ? g->trouble : errno;
    if (g->poll >= 0)
        close(g->poll);
    free(g->conns);
    free(g->idle);
    free(g->waiting);
    free(g->lengths);
    free(g->fallback);
    free(g);
    errno = trouble;
    return ok;
}
