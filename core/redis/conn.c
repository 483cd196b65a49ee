/* One connection: jobs go out in order, replies come back in order.
 *
 *     jobs:  [ A ][ (given up) ][ B C ][ D ]
 *              ^ replies belong to the first, one for each of its commands
 *
 * A job that nobody waits for any more keeps its place until its replies have
 * come. A reply that nobody has asked for, or that is no reply, means that we no
 * longer know whose is whose: the connection is closed and nobody gets it.
 */
// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READS = 16 /* of a turn, so that one connection does not hold up the loop */, REPEATS = 3 };

void redis_jobs_add(struct job_list *list, struct redis_job *job)
{
    job->next = NULL;
    job->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = job;
    list->last = job;
    list->count++;
}

void redis_jobs_add_first(struct job_list *list, struct redis_job *job)
{
    job->prev = NULL;
    job->next = list->first;
    *(list->first ? &list->first->prev : &list->last) = job;
    list->first = job;
    list->count++;
}

void redis_jobs_remove(struct job_list *list, struct redis_job *job)
{
    *(job->prev ? &job->prev->next : &list->first) = job->next;
    *(job->next ? &job->next->prev : &list->last) = job->prev;
    job->next = job->prev = NULL;
    list->count--;
}

void redis_jobs_replace(struct job_list *list, struct redis_job *old, struct redis_job *job)
{
    job->next = old->next;
    job->prev = old->prev;
    *(job->prev ? &job->prev->next : &list->first) = job;
    *(job->next ? &job->next->prev : &list->last) = job;
    old->next = old->prev = NULL;
}

void redis_conn_wake(struct redis_conn *c)
{
    struct redis *all = c->pool->all;
    if (c->dirty || c->state < CONN_GREETING || c->state == CONN_CLOSED)
        return;
    c->dirty = true;
    c->next_dirty = all->dirty;
    all->dirty = c;
}

/* ---- the head ---- */

static uint64_t stall_ms(const struct redis_conn *c)
{
    return (uint64_t)redis_setting(c->pool, SETTING_POOL_REDIS_STALL_MS);
}

/* When the server is taken for dead if the head is not answered. */
static uint64_t stalled_at(const struct redis_conn *c)
{
    const struct redis_job *head = c->jobs.first;
    uint64_t at = c->head_ms + stall_ms(c);
    if (!head || (head->done && head->timeout_ms == REDIS_FOREVER))
        return UINT64_MAX;
    return head->done && head->deadline_ms > at ? head->deadline_ms + WHEEL_TICK_MS : at;
}

static void new_head(struct redis_conn *c)
{
    const struct redis_job *head = c->jobs.first;
    struct io *io = c->pool->all->io;
    c->head_ms = io->now_ms;
    buf_clear(&c->reply.flat);
    c->reply.flat.failed = false;
    c->reply_at = 0;
    c->reply.too_large = false;
    c->reply.drop = head && !head->done;
    c->reply.limit = (size_t)redis_setting(c->pool, SETTING_POOL_REDIS_RESULT_BYTES);
    if (!head)
        c->idle_ms = io->now_ms;
    else if (c->state == CONN_READY)
        wheel_set(&io->wheel, &c->timer, c->head_ms + stall_ms(c));
}

static uint64_t connect_ms(const struct redis_pool *pool)
{
    return pool->spec.connect_ms ? (uint64_t)pool->spec.connect_ms : (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_CONNECT_MS);
}

static void on_timer(struct timer *t)
{
    struct redis_conn *c = (struct redis_conn *)((char *)t - offsetof(struct redis_conn, timer));
    struct redis *all = c->pool->all;
    char why[REDIS_WHY];
    uint64_t now = all->io->now_ms, at = stalled_at(c);
    if (c->state < CONN_READY && c->error) {
        redis_conn_close(c, "connect", strerror(c->error));
    } else if (c->state < CONN_READY) {
        snprintf(why, sizeof why, "no connection within %llu ms", (unsigned long long)connect_ms(c->pool));
        redis_conn_close(c, "connect", why);
    } else if (now >= at) {
        snprintf(why, sizeof why, "the server has not answered for %llu ms", (unsigned long long)(now - c->head_ms));
        redis_conn_close(c, "lost", why);
    } else if (c->jobs.first) {
        wheel_set(&all->io->wheel, &c->timer, at < now + stall_ms(c) ? at : now + stall_ms(c));
    }
    redis_pool_deliver(all);
}

/* ---- sending ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

static void poll_for(struct redis_conn *c, int events)
{
    if (events == c->events)
        return;
    c->events = events;
    uv_poll_start(c->poll, events, on_poll);
}

void redis_conn_place(struct redis_conn *c, struct redis_job *job)
{
    bool first = !c->jobs.first;
    job->conn = c;
    job->state = JOB_SENT;
    job->offset = c->sent + buf_len(&c->out);
    job->sent_ns = c->pool->all->io->now_ns;
    job->answered = 0;
    buf_add(&c->out, job->bytes, job->len);
    redis_jobs_add(&c->jobs, job);
    if (first)
        new_head(c);
    redis_conn_wake(c);
}

void redis_conn_flush(struct redis_conn *c)
{
    if (c->state < CONN_GREETING || c->state == CONN_CLOSED)
        return;
    if (!buf_ok(&c->out)) {
        redis_conn_close(c, "no_memory", "out of memory");
        return;
    }
    while (buf_len(&c->out)) {
        ssize_t n = send(c->fd, c->out.data + c->out.start, buf_len(&c->out), MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            buf_clear(&c->out); /* what the server said before it left is still to be read */
        if (n <= 0)
            break;
        c->sent += (uint64_t)n;
        buf_consume(&c->out, (size_t)n);
    }
    if (!buf_len(&c->out))
        buf_clear(&c->out);
    poll_for(c, UV_READABLE | (buf_len(&c->out) ? UV_WRITABLE : 0));
}

/* ---- reading ---- */

static bool is_over(const struct redis_conn *c)
{
    return c->state == CONN_CLOSED;
}

/* The first reply that is there, when it is an error: why a server hangs up. */
static bool said(const struct redis_conn *c, char code[REDIS_CODE], char why[REDIS_WHY])
{
    struct str rest = buf_str(&c->reply.flat), message;
    struct redis_item item;
    if (!rest.len || !redis_item_next(&rest, &item) || item.type != '-')
        return false;
    redis_split_error(item.text, code, &message);
    snprintf(why, REDIS_WHY, "%.*s", STR_ARG(message));
    return true;
}

static void server_left(struct redis_conn *c, const char *how)
{
    char code[REDIS_CODE] = "lost", why[REDIS_WHY];
    snprintf(why, sizeof why, "%s", how);
    if (c->state == CONN_GREETING || !c->jobs.first)
        said(c, code, why);
    redis_conn_close(c, code, why);
}

/* A demoted master answers so until the address means another one: the next
 * connection asks for it anew. */
static void heed_error(struct redis_conn *c, struct str error)
{
    uint64_t age = c->pool->all->io->now_ms - c->opened_ms;
    if (str_starts(error, STR("READONLY ")) && age > (uint64_t)redis_setting(c->pool, SETTING_POOL_REDIS_BACKOFF_MAX_MS))
        c->draining = true;
}

static void finish_head(struct redis_conn *c, struct redis_job *job)
{
    redis_jobs_remove(&c->jobs, job);
    job->conn = NULL;
    job->replies = buf_str(&c->reply.flat);
    if (c->reply.too_large)
        redis_error_set(&job->error, "too_large", "the reply is larger than pool.redis.result_bytes (%zu)", c->reply.limit);
    else if (!buf_ok(&c->reply.flat))
        redis_error_set(&job->error, "no_memory", "out of memory");
    redis_pool_answer(job);
    if (!is_over(c))
        new_head(c);
}

static void on_reply(struct redis_conn *c)
{
    struct redis_job *job = c->jobs.first;
    struct str rest = buf_str(&c->reply.flat);
    struct redis_item item = {0};
    c->heard_ms = c->pool->all->io->now_ms;
    if (c->hub && !job) {
        redis_hub_heard(c);
        if (!is_over(c))
            new_head(c);
        return;
    }
    if (!job) {
        server_left(c, "the server sent a reply that nobody had asked for");
        return;
    }
    rest = rest.len > c->reply_at ? (struct str){rest.p + c->reply_at, rest.len - c->reply_at} : (struct str){NULL, 0};
    bool failed = redis_item_next(&rest, &item) && item.type == '-';
    c->reply_at = buf_len(&c->reply.flat);
    if (failed)
        heed_error(c, item.text);
    redis_pool_count(job, job->answered, failed);
    if (++job->answered == job->commands)
        finish_head(c, job);
}

static void take_replies(struct redis_conn *c)
{
    char why[REDIS_WHY];
    while (!is_over(c) && !c->skip) {
        enum reply_result result = reply_take(c->reader, &c->reply, &c->skip);
        if (result == REPLY_WHOLE) {
            on_reply(c);
        } else if (result == REPLY_BROKEN) {
            snprintf(why, sizeof why, "what it answers is not Redis' protocol: %s",
                     c->reader->err ? c->reader->errstr : "a line of more than 64 KiB");
            redis_conn_close(c, "protocol", why);
        } else {
            return;
        }
    }
}

static void take_bytes(struct redis_conn *c, struct str bytes)
{
    if (c->skip) {
        size_t n = bytes.len < c->skip ? bytes.len : (size_t)c->skip;
        c->skip -= n;
        bytes = (struct str){bytes.p + n, bytes.len - n};
        c->heard_ms = c->head_ms = c->pool->all->io->now_ms; /* it is at work */
        if (c->skip)
            return;
    }
    if (bytes.len && redisReaderFeed(c->reader, bytes.p, bytes.len) != REDIS_OK) {
        redis_conn_close(c, "no_memory", "out of memory");
        return;
    }
    take_replies(c);
}

static void read_all(struct redis_conn *c)
{
    struct io *io = c->pool->all->io;
    for (int i = 0; i < READS && !is_over(c); i++) {
        ssize_t n = recv(c->fd, io->read_buffer, sizeof io->read_buffer, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (n <= 0) {
            char how[128];
            int error = errno;
            snprintf(how, sizeof how, n ? "%s" : "the server closed the connection", n ? strerror(error) : "");
            server_left(c, how);
            return;
        }
        take_bytes(c, (struct str){io->read_buffer, (size_t)n});
        if ((size_t)n < sizeof io->read_buffer)
            return;
    }
}

/* ---- opening ---- */

static void on_greeted(struct redis_job *job)
{
    struct redis_conn *c = job->user;
    const struct redis_pool *pool = c->pool;
    struct str rest = job->replies, message;
    struct redis_item item;
    char code[REDIS_CODE], why[REDIS_WHY];
    if (job->error.code[0]) {
        redis_conn_close(c, job->error.code, job->error.message ? job->error.message : "?");
        return;
    }
    unsigned must = (pool->address.password != NULL) + (pool->address.database != 0);
    for (unsigned i = 0; i < job->commands && redis_item_next(&rest, &item); i++) {
        if (item.type != '-')
            continue;
        redis_split_error(item.text, code, &message);
        bool is_name = i == must, is_allowed = strcmp(code, "NOPERM") == 0;
        if ((is_name && strcmp(code, "NOAUTH") != 0) || (i > must && is_allowed))
            continue; /* some proxies do not know CLIENT, some users may not PING: both can be done without */
        snprintf(why, sizeof why, "%.*s", STR_ARG(message));
        redis_conn_close(c, code, why);
        return;
    }
    c->state = CONN_READY;
    c->opened_ms = c->idle_ms = c->heard_ms = pool->all->io->now_ms;
    wheel_clear(&c->timer);
    redis_pool_opened(c);
}

static void add_words(struct buf *b, const char *const *words, unsigned count)
{
    redis_add_head(b, count);
    for (unsigned i = 0; i < count; i++)
        redis_add_argument(b, str_from(words[i]));
}

static void greet(struct redis_conn *c)
{
    const struct redis_address *a = &c->pool->address;
    struct buf bytes = {0};
    uint32_t shapes[4] = {0};
    unsigned commands = 2;
    char database[16];
    c->state = CONN_GREETING;
    if (a->password && a->user)
        add_words(&bytes, (const char *const[]){"AUTH", a->user, a->password}, 3);
    else if (a->password)
        add_words(&bytes, (const char *const[]){"AUTH", a->password}, 2);
    commands += a->password != NULL;
    snprintf(database, sizeof database, "%u", a->database);
    if (a->database)
        add_words(&bytes, (const char *const[]){"SELECT", database}, 2);
    commands += a->database != 0;
    add_words(&bytes, (const char *const[]){"CLIENT", "SETNAME", "perilune"}, 3);
    add_words(&bytes, (const char *const[]){"PING"}, 1);
    struct redis_job *job = buf_ok(&bytes) ? redis_job_new(c->pool, buf_str(&bytes), shapes, commands) : NULL;
    if (bytes.data)
        explicit_bzero(bytes.data, bytes.size);
    buf_done(&bytes);
    if (!job) {
        redis_conn_close(c, "no_memory", "out of memory");
        return;
    }
    job->own = true;
    job->done = on_greeted;
    job->user = c;
    redis_conn_place(c, job);
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle->data); /* the connection, when this was its last */
    free(handle);
}

static void close_socket(struct redis_conn *c, bool last)
{
    if (!c->poll)
        return;
    c->poll->data = last ? c : NULL;
    uv_close((uv_handle_t *)c->poll, on_poll_closed);
    c->poll = NULL;
    c->events = 0;
    close(c->fd);
    c->fd = -1;
}

static bool begin_connect(struct redis_conn *c, const struct sockaddr *to, socklen_t size)
{
    int on = 1;
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        c->error = errno;
        return false;
    }
    if (to->sa_family != AF_UNIX) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    c->poll = connect(c->fd, to, size) == 0 || errno == EINPROGRESS ? calloc(1, sizeof *c->poll) : NULL;
    if (c->poll && uv_poll_init(&c->pool->all->io->loop, c->poll, c->fd) == 0) {
        c->poll->data = c;
        poll_for(c, UV_WRITABLE);
        return true;
    }
    c->error = c->poll ? ENOMEM : errno;
    free(c->poll);
    c->poll = NULL;
    close(c->fd);
    c->fd = -1;
    return false;
}

static void connect_next(struct redis_conn *c)
{
    c->state = CONN_CONNECTING;
    for (; c->address; c->address = c->address->ai_next)
        if (begin_connect(c, c->address->ai_addr, c->address->ai_addrlen))
            return;
    redis_conn_close(c, "connect", strerror(c->error));
}

static void on_connected(struct redis_conn *c)
{
    socklen_t size = sizeof c->error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &c->error, &size) < 0)
        c->error = errno;
    if (c->error == 0) {
        greet(c);
        return;
    }
    close_socket(c, false);
    if (c->address)
        c->address = c->address->ai_next;
    connect_next(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct redis_conn *c = poll->data;
    struct redis *all = c->pool->all;
    struct redis_pool *pool = c->pool;
    io_now(all->io);
    if (c->state == CONN_CONNECTING) {
        on_connected(c);
    } else {
        if (status < 0)
            c->events = 0; /* libuv stops polling at an error, but what came before it is still to be read */
        if (status < 0 || (events & UV_READABLE))
            read_all(c);
        if (!is_over(c) && (events & UV_WRITABLE))
            redis_conn_wake(c);
        if (!is_over(c))
            poll_for(c, UV_READABLE | (buf_len(&c->out) ? UV_WRITABLE : 0));
    }
    redis_pool_dispatch(pool);
    redis_pool_deliver(all);
}

static void on_lookup(uv_getaddrinfo_t *lookup, int status, struct addrinfo *found)
{
    struct redis_conn *c = lookup->data;
    struct redis *all = c->pool->all;
    char why[REDIS_WHY];
    c->looking = false;
    c->addresses = c->address = found;
    if (is_over(c)) {
        uv_freeaddrinfo(found);
        free(c);
        return;
    }
    io_now(all->io);
    if (status < 0) {
        snprintf(why, sizeof why, "the host %s is not found: %s", c->pool->address.host, uv_strerror(status));
        redis_conn_close(c, "connect", why);
    } else {
        connect_next(c);
    }
    redis_pool_deliver(all);
}

static bool begin(struct redis_conn *c)
{
    const struct redis_address *a = &c->pool->address;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    char port[8];
    if (!a->host) {
        snprintf(local.sun_path, sizeof local.sun_path, "%s", a->path);
        c->state = CONN_CONNECTING;
        return begin_connect(c, (const struct sockaddr *)&local, sizeof local);
    }
    snprintf(port, sizeof port, "%u", a->port);
    c->lookup.data = c;
    c->error = -uv_getaddrinfo(&c->pool->all->io->loop, &c->lookup, on_lookup, a->host, port, &hints);
    c->looking = c->error == 0;
    return c->looking;
}

bool redis_conn_open(struct redis_pool *pool)
{
    struct redis_conn *c = calloc(1, sizeof *c);
    if (!c)
        return false;
    c->reader = reply_reader_new(&c->reply);
    if (!c->reader) {
        free(c);
        return false;
    }
    c->pool = pool;
    c->fd = -1;
    c->timer.on_fire = on_timer;
    c->next = pool->conns;
    if (c->next)
        c->next->prev = c;
    pool->conns = c;
    pool->conn_count++;
    pool->opening++;
    /* What fails at once is told by the timer: our caller is in the middle of its queues. */
    wheel_set(&pool->all->io->wheel, &c->timer, redis_now_ms(pool) + (begin(c) ? connect_ms(pool) : 0));
    return true;
}

/* ---- a check of our own ---- */

static void on_checked(struct redis_job *job)
{
    (void)job; /* that it answers is all we want */
}

void redis_conn_check(struct redis_conn *c)
{
    struct buf bytes = {0};
    uint32_t shape = 0;
    add_words(&bytes, (const char *const[]){"PING"}, 1);
    struct redis_job *job = buf_ok(&bytes) ? redis_job_new(c->pool, buf_str(&bytes), &shape, 1) : NULL;
    buf_done(&bytes);
    if (!job)
        return;
    job->own = true;
    job->done = on_checked;
    redis_conn_place(c, job);
}

/* ---- its end ---- */

static void lose_job(struct redis_conn *c, struct redis_job *job, const char *code, const char *why)
{
    bool unsent = job->offset >= c->sent;
    redis_jobs_remove(&c->jobs, job);
    job->conn = NULL;
    if (job->own || !job->done) {
        redis_job_free(job);
        return;
    }
    if (unsent && !job->lease && job->repeats < REPEATS) {
        redis_pool_again(job);
        return;
    }
    redis_error_set(&job->error, code, unsent ? "the connection to Redis was lost before the command was sent: %s"
                                              : "the connection to Redis was lost, and whether the command took effect is not known: %s",
                    why);
    redis_pool_finish(job);
}

static void leave_pool(struct redis_conn *c)
{
    struct redis_pool *pool = c->pool;
    *(c->prev ? &c->prev->next : &pool->conns) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pool->conn_count--;
    pool->denied = false;
    pool_release(pool->shared, pool->all->worker);
    for (struct redis_conn **at = &pool->all->dirty; c->dirty && *at; at = &(*at)->next_dirty)
        if (*at == c) {
            *at = c->next_dirty;
            break;
        }
}

static void release_memory(struct redis_conn *c)
{
    redisReaderFree(c->reader);
    buf_done(&c->out);
    buf_done(&c->reply.flat);
    if (c->addresses)
        uv_freeaddrinfo(c->addresses);
    c->addresses = c->address = NULL;
    if (c->poll) {
        close_socket(c, true); /* frees it when the loop has let go of it */
    } else if (c->looking) {
        uv_cancel((uv_req_t *)&c->lookup); /* on_lookup() comes in any case */
    } else {
        free(c);
    }
}

void redis_conn_close(struct redis_conn *c, const char *code, const char *why)
{
    struct redis_pool *pool = c->pool;
    struct redis_error error = {0};
    bool was_ready = c->state == CONN_READY;
    if (c->state == CONN_CLOSED)
        return;
    redis_error_set(&error, code, "%s", why); /* `why` may be of what goes */
    why = error.message ? error.message : "?";
    c->state = CONN_CLOSED;
    leave_pool(c);
    wheel_clear(&c->timer);
    if (was_ready && *code)
        lane_add(&pool->lane->lost, 1);
    for (struct redis_job *job = c->jobs.last, *before; job; job = before) {
        before = job->prev;
        lose_job(c, job, *code ? error.code : "lost", why);
    }
    if (c->lease) {
        c->lease->lost = true;
        c->lease->conn = NULL;
        c->lease = NULL;
    }
    if (c->hub)
        redis_hub_lost(c->hub, error.code, why);
    release_memory(c);
    if (!was_ready) {
        pool->opening--;
        if (*code)
            redis_pool_refused(pool, &error);
    }
    redis_error_clear(&error);
}
