// SPDX-License-Identifier: MIT
#include "embed/remote.h"

#include "base/clock.h"
#include "base/thread.h"
#include "embed/recorder.h"
#include "stats/parcel.h"
#include "stats/readings.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    SECOND_MS = 1000,
    PAUSE_MOST_MS = 10000, /* between attempts, while there is no engine */
    RESOLVE_AFTER = 5,     /* attempts in vain: the name may mean another address now */
    PARCEL_MOST = 256 << 10,
    ROUTES_MAX = 64,
    ANSWER_MOST = 4096,
};

struct remote {
    struct board *board;
    char host[256], port[8], address[REMOTE_ADDRESS];
    char *token;
    struct addrinfo *where;
    struct stats_route *sent; /* routes_max readings: what parcels have told so far */
    struct stats_route reading;
    uint64_t started, finished, aborted, slow_next; /* likewise */
    struct parcel_head head;
    struct buf parcel, request; /* a parcel that was not answered yet; empty: none */
    uint32_t next_route;        /* of a reading that did not fit into one parcel */
    unsigned failures, forks;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool has_thread, stop, closing;
    bool alive;            /* under the lock, as is why */
    char why[REMOTE_WHY];
};

/* ---- where ---- */

static bool bad_url(char *why, const char *url)
{
    snprintf(why, REMOTE_WHY,
             strncmp(url, "https://", 8) == 0 ? "%.200s: an engine's control API is reached by http:// here; put a proxy that speaks TLS before it on this machine"
                                              : "%.200s: the address of an engine's control API is http://host:port, as in http://10.0.0.5:8001",
             url);
    return false;
}

static bool take_url(struct remote *r, const char *url, char *why)
{
    static const char SCHEME[] = "http://";
    if (strncmp(url, SCHEME, sizeof SCHEME - 1) != 0)
        return bad_url(why, url);
    const char *at = url + sizeof SCHEME - 1, *host = at, *end;
    if (*at == '[') {
        host = at + 1;
        end = strchr(host, ']');
        if (!end)
            return bad_url(why, url);
        at = end + 1;
    } else {
        end = at += strcspn(at, ":/");
    }
    size_t len = (size_t)(end - host);
    if (!len || len >= sizeof r->host)
        return bad_url(why, url);
    memcpy(r->host, host, len);
    snprintf(r->port, sizeof r->port, "80");
    if (*at == ':') {
        size_t digits = strspn(++at, "0123456789");
        if (!digits || digits > 5)
            return bad_url(why, url);
        snprintf(r->port, sizeof r->port, "%.*s", (int)digits, at);
        at += digits;
    }
    if (strcmp(at, "") != 0 && strcmp(at, "/") != 0)
        return bad_url(why, url);
    snprintf(r->address, sizeof r->address, strchr(r->host, ':') ? "[%s]:%s" : "%s:%s", r->host, r->port);
    return true;
}

static bool resolve(struct remote *r, char *why)
{
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int err = getaddrinfo(r->host, r->port, &hints, &found);
    if (err) {
        snprintf(why, REMOTE_WHY, "the name %.200s cannot be resolved: %s", r->host, gai_strerror(err));
        return r->where != NULL;
    }
    if (r->where)
        freeaddrinfo(r->where);
    r->where = found;
    return true;
}

/* ---- one exchange ---- */

static int connect_to(struct remote *r, char *why)
{
    struct timeval limit = {.tv_sec = 1};
    int error = 0;
    for (struct addrinfo *a = r->where; a; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* of connect() as well */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            return fd;
        error = errno;
        close(fd);
    }
    snprintf(why, REMOTE_WHY, "no engine answers at %s: %s", r->address, strerror(error));
    return -1;
}

static bool send_all(int fd, struct str bytes)
{
    while (bytes.len) {
        ssize_t n = send(fd, bytes.p, bytes.len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        bytes.p += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

/* What went wrong, in the engine's own words where it has some. */
static void note_refusal(struct remote *r, int status, const char *answer, char *why)
{
    static const char DETAIL[] = "\"detail\":\"";
    const char *detail = strstr(answer, DETAIL);
    if (status == 0)
        snprintf(why, REMOTE_WHY, "what answers at %s is not an engine of ours", r->address);
    else if (status == 401 || status == 403)
        snprintf(why, REMOTE_WHY, "the engine at %s wants a token with the role operate: perilune.attach(url, { token = \"...\" })", r->address);
    else if (detail)
        snprintf(why, REMOTE_WHY, "the engine at %s: %.*s", r->address, (int)strcspn(detail + sizeof DETAIL - 1, "\""), detail + sizeof DETAIL - 1);
    else
        snprintf(why, REMOTE_WHY, "the engine at %s answered %d", r->address, status);
}

static bool exchange(struct remote *r, char *why)
{
    char answer[ANSWER_MOST];
    size_t len = 0;
    ssize_t n = 0;
    int status = 0, fd = connect_to(r, why);
    if (fd < 0)
        return false;
    buf_clear(&r->request);
    buf_printf(&r->request, "POST /api/v1/performance-optimization/parcels HTTP/1.1\r\nHost: %s\r\n", r->address);
    if (r->token)
        buf_printf(&r->request, "Authorization: Bearer %s\r\n", r->token);
    buf_printf(&r->request, "Content-Type: application/vnd.perilune.parcel\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", buf_len(&r->parcel));
    buf_add_str(&r->request, buf_str(&r->parcel));
    if (buf_ok(&r->request) && send_all(fd, buf_str(&r->request)))
        while (len < sizeof answer - 1 && (n = recv(fd, answer + len, sizeof answer - 1 - len, 0)) > 0)
            len += (size_t)n;
    close(fd);
    answer[len] = 0;
    if (!len) {
        snprintf(why, REMOTE_WHY, "the engine at %s does not answer: %s", r->address, n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? "nothing came within a second" : "it closed the connection");
        return false;
    }
    if (sscanf(answer, "HTTP/1.%*d %d", &status) == 1 && status == 200)
        return true;
    note_refusal(r, status, answer, why);
    return false;
}

/* ---- parcels ---- */

static struct str name_of(const struct remote *r, uint32_t route)
{
    return str_from(r->board->routes[route].name);
}

/* From the oldest that the ring still has on. */
static void add_slow(struct remote *r, struct lane *lane)
{
    uint64_t next = lane_get(&lane->slow_next), from = r->slow_next + LANE_SLOW_MAX > next ? r->slow_next : next - LANE_SLOW_MAX;
    for (; from < next; from++) {
        struct slow_sample slow;
        if (lane_slow_read(&lane->slow[from % LANE_SLOW_MAX], &slow) && slow.route < r->board->routes_max)
            parcel_add_slow(&r->parcel, name_of(r, slow.route), &slow);
    }
    r->slow_next = next;
}

static void add_routes(struct remote *r)
{
    uint32_t routes = atomic_load_explicit(&r->board->route_count, memory_order_acquire);
    for (; r->next_route < routes && buf_len(&r->parcel) < PARCEL_MOST; r->next_route++) {
        struct stats_route *sent = &r->sent[r->next_route];
        if (reading_requests(r->board, LANES_ALL, r->next_route) == sent->requests)
            continue;
        reading_route(r->board, LANES_ALL, r->next_route, &r->reading);
        parcel_add_route(&r->parcel, str_from(r->board->routes[r->next_route].method), name_of(r, r->next_route), sent, &r->reading);
        *sent = r->reading;
    }
    if (r->next_route >= routes)
        r->next_route = 0;
}

/* All that came since the last one, or a part of it. Nothing in it is a sign of life. */
static void fill(struct remote *r)
{
    struct lane *lane = board_lane(r->board, 0);
    uint64_t finished = lane_get(&lane->finished), aborted = lane_get(&lane->aborted), started = lane_get(&lane->started);
    buf_clear(&r->parcel);
    r->head.sequence++;
    r->head.started = started - r->started;
    r->head.finished = finished - r->finished;
    r->head.aborted = aborted - r->aborted;
    r->head.last = r->closing;
    parcel_begin(&r->parcel, &r->head);
    r->started = started;
    r->finished = finished;
    r->aborted = aborted;
    add_routes(r);
    add_slow(r, lane);
}

/* What has been measured so far is somebody else's to tell. */
static void begin_anew(struct remote *r)
{
    struct lane *lane = board_lane(r->board, 0);
    uint32_t routes = atomic_load_explicit(&r->board->route_count, memory_order_acquire);
    for (uint32_t i = 0; i < routes; i++)
        reading_route(r->board, LANES_ALL, i, &r->sent[i]);
    r->started = lane_get(&lane->started);
    r->finished = lane_get(&lane->finished);
    r->aborted = lane_get(&lane->aborted);
    r->slow_next = lane_get(&lane->slow_next);
    r->next_route = 0;
    r->head.sequence = 0;
    if (getrandom(r->head.sender, sizeof r->head.sender, 0) < 0)
        memcpy(r->head.sender, &(uint64_t[2]){clock_now_ns(), (uint64_t)getpid()}, sizeof r->head.sender);
}

/* ---- the thread ---- */

static bool send_parcel(struct remote *r)
{
    char why[REMOTE_WHY] = "";
    if (!buf_len(&r->parcel))
        fill(r);
    bool known = r->where && r->failures % RESOLVE_AFTER != RESOLVE_AFTER - 1;
    bool taken = (known || resolve(r, why)) && exchange(r, why);
    r->failures = taken ? 0 : r->failures + 1;
    if (taken)
        buf_clear(&r->parcel);
    pthread_mutex_lock(&r->lock);
    r->alive = taken;
    memcpy(r->why, why, sizeof why);
    pthread_mutex_unlock(&r->lock);
    return taken;
}

/* False: it is to end. */
static bool sleep_for(struct remote *r, unsigned ms)
{
    struct timespec until = thread_deadline(ms);
    pthread_mutex_lock(&r->lock);
    while (!r->stop && pthread_cond_timedwait(&r->wake, &r->lock, &until) == 0)
        ;
    bool stop = r->stop;
    pthread_mutex_unlock(&r->lock);
    return !stop;
}

static void *run(void *user)
{
    struct remote *r = user;
    unsigned pause_ms = SECOND_MS;
    while (sleep_for(r, pause_ms)) {
        bool taken;
        do
            taken = send_parcel(r);
        while (taken && r->next_route);
        pause_ms = taken ? SECOND_MS : pause_ms < PAUSE_MOST_MS ? pause_ms * 2 : PAUSE_MOST_MS;
    }
    if (buf_len(&r->parcel)) /* one that is owed */
        send_parcel(r);
    bool taken = r->failures == 0; /* where nobody answers, nobody is waited for */
    do
        taken = taken && send_parcel(r);
    while (taken && r->next_route);
    r->closing = true; /* the application measures nothing any more */
    if (taken)
        send_parcel(r);
    return NULL;
}

static void start_thread(struct remote *r)
{
    pthread_mutex_init(&r->lock, NULL);
    thread_cond_init(&r->wake);
    r->has_thread = thread_start(&r->thread, NULL, run, r);
}

void remote_after_fork(void *remote)
{
    struct remote *r = remote;
    if (r->forks == recorder_forks())
        return;
    r->forks = recorder_forks();
    r->parcel = r->request = (struct buf){0}; /* the parent's thread may have been in the middle of them */
    r->failures = 0;
    begin_anew(r);
    start_thread(r);
}

/* ---- life ---- */

static void release(struct remote *r)
{
    buf_done(&r->parcel);
    buf_done(&r->request);
    board_free(r->board);
    if (r->where)
        freeaddrinfo(r->where);
    free(r->sent);
    free(r->token);
    free(r);
}

struct remote *remote_open(const char *url, const char *token, unsigned routes_max, bool lazy, char why[REMOTE_WHY])
{
    struct board_opts opts = {.workers = 1, .peers_max = 1, .routes_max = routes_max ? routes_max : ROUTES_MAX, .is_private = true};
    struct remote *r = calloc(1, sizeof *r);
    snprintf(why, REMOTE_WHY, "out of memory");
    if (!r)
        return NULL;
    r->forks = recorder_forks();
    r->board = board_new(&opts);
    r->sent = calloc(opts.routes_max, sizeof *r->sent);
    r->token = token ? strdup(token) : NULL;
    if (!r->board || !r->sent || (token && !r->token) || !take_url(r, url, why) || (!lazy && !resolve(r, why))) {
        release(r);
        return NULL;
    }
    begin_anew(r);
    if (!lazy) {
        fill(r);
        if (!exchange(r, why)) {
            release(r);
            return NULL;
        }
        buf_clear(&r->parcel);
    }
    r->alive = !lazy;
    snprintf(r->why, sizeof r->why, "the engine at %s has not answered yet", r->address);
    start_thread(r);
    return r;
}

void remote_close(struct remote *r)
{
    if (!r)
        return;
    remote_after_fork(r);
    if (r->has_thread) {
        pthread_mutex_lock(&r->lock);
        r->stop = true;
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    release(r);
}

struct board *remote_board(struct remote *r)
{
    return r->board;
}

const char *remote_address(const struct remote *r)
{
    return r->address;
}

bool remote_state(struct remote *r, char why[REMOTE_WHY])
{
    remote_after_fork(r);
    pthread_mutex_lock(&r->lock);
    bool alive = r->alive;
    memcpy(why, r->why, REMOTE_WHY);
    pthread_mutex_unlock(&r->lock);
    return alive;
}
