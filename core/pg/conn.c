/* One connection: jobs go out in order, replies come back in order.
 *
 *     jobs:  [ A ][ B ][ C D E ][ F ]
 *              ^        shared Sync
 *              current: the one that replies belong to
 *
 * Each pair of brackets is a transaction and ends with a Sync, which the server
 * answers with ReadyForQuery. Only then is a job done: CommandComplete comes
 * before the commit. After an error the server skips to the Sync. Whatever
 * arrives out of this order means that we no longer know whose reply is whose, so
 * the connection is closed and nobody gets it.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "pg/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    CANCEL_GRACE_MS = 2000,   /* from asking the server to stop to hanging up */
    READS = 16,               /* of a turn, so that one connection does not hold up the loop */
};

void jobs_add(struct job_list *list, struct pg_job *job)
{
    job->next = NULL;
    job->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = job;
    list->last = job;
    list->count++;
}

void jobs_add_first(struct job_list *list, struct pg_job *job)
{
    job->prev = NULL;
    job->next = list->first;
    *(list->first ? &list->first->prev : &list->last) = job;
    list->first = job;
    list->count++;
}

void jobs_remove(struct job_list *list, struct pg_job *job)
{
    *(job->prev ? &job->prev->next : &list->first) = job->next;
    *(job->next ? &job->next->prev : &list->last) = job->prev;
    job->next = job->prev = NULL;
    list->count--;
}

static void poll_for(struct pg_conn *c, int events);

void pg_conn_wake(struct pg_conn *c)
{
    struct pg *all = c->pool->all;
    if (c->dirty || c->state != CONN_READY)
        return;
    c->dirty = true;
    c->next_dirty = all->dirty;
    all->dirty = c;
}

/* ---- the head and its time ---- */

void pg_conn_time(struct pg_conn *c)
{
    const struct pg_job *head = c->jobs.first;
    struct wheel *wheel = &c->pool->all->io->wheel;
    uint64_t since_ms = c->head_ns / 1000000;
    if (c->cancelled)
        return; /* the timer is that of the cancellation */
    if (c->checking)
        wheel_set(wheel, &c->timer, since_ms + (uint64_t)pg_setting(c->pool, SETTING_POOL_DB_CONNECT_MS));
    else if (!head)
        wheel_clear(&c->timer);
    else if (!head->done)
        wheel_set(wheel, &c->timer, since_ms + (uint64_t)pg_setting(c->pool, SETTING_POOL_DB_SLOW_MS) + 1);
    else
        wheel_set(wheel, &c->timer, since_ms + pool_statement_ms(c->pool, head) + 1);
}

void pg_conn_new_head(struct pg_conn *c)
{
    struct io *io = c->pool->all->io;
    c->head_ns = io->now_ns;
    c->cancelled = false;
    if (!c->jobs.first && !c->checking)
        c->idle_ms = io->now_ms;
    pg_conn_time(c);
}

static void on_timer(struct timer *t)
{
    struct pg_conn *c = (struct pg_conn *)((char *)t - offsetof(struct pg_conn, timer));
    struct pg_job *head = c->jobs.first;
    uint64_t ms = (c->pool->all->io->now_ns - c->head_ns) / 1000000;
    if (c->cancelled || c->checking) {
        pg_conn_close(c, "08006", c->checking ? "the server does not answer a check" : "the server does not stop a statement");
    } else if (head && !head->done) {
        pg_conn_cancel(c);
    } else if (head && ms >= pool_statement_ms(c->pool, head)) {
        head->timed_out = true;
        lane_add(&c->pool->lane->timeouts, 1);
        pg_conn_cancel(c);
    } else if (head) {
        pg_conn_time(c);
    }
    pool_deliver(c->pool->all);
}

void pg_conn_cancel(struct pg_conn *c)
{
    if (c->cancelled)
        return;
    if (c->cancelling) { /* for the one before */
        wheel_set(&c->pool->all->io->wheel, &c->timer, c->pool->all->io->now_ms + WHEEL_TICK_MS);
        return;
    }
    lane_add(&c->pool->lane->cancels, 1);
    if (!cancel_start(c)) {
        pg_conn_close(c, "57014", "the statement could not be cancelled in time");
        return;
    }
    c->cancelled = true;
    wheel_set(&c->pool->all->io->wheel, &c->timer, c->pool->all->io->now_ms + CANCEL_GRACE_MS);
}

/* ---- sending ---- */

void pg_conn_end_batch(struct pg_conn *c)
{
    if (!c->open)
        return;
    c->open->sync_after = true;
    c->open = NULL;
    wire_sync(&c->out);
}

static void write_named(struct pg_conn *c, struct pg_job *job)
{
    char name[PREPARED_NAME];
    struct pg_statement *st = job->statement;
    struct prepared *p = prepared_find(c, st->id);
    prepared_name(st->id, name);
    job->parses = !p;
    if (!p)
        p = prepared_add(c, st->id);
    if (!p) {
        c->out.failed = true;
        return;
    }
    p->refs++;
    job->prepared = p;
    if (job->parses)
        wire_parse(&c->out, name, st->sql);
    if (job->parses || job->mode == PG_DESCRIBE)
        wire_describe_statement(&c->out, name);
    if (job->mode != PG_DESCRIBE) {
        wire_bind(&c->out, name, buf_str(&job->params));
        wire_execute(&c->out);
    }
}

static void write_unnamed(struct pg_conn *c, const struct pg_job *job)
{
    wire_parse(&c->out, "", job->statement->sql);
    if (job->mode == PG_DESCRIBE) {
        wire_describe_statement(&c->out, "");
        return;
    }
    wire_bind(&c->out, "", buf_str(&job->params));
    wire_describe_portal(&c->out);
    wire_execute(&c->out);
}

void pg_conn_place(struct pg_conn *c, struct pg_job *job)
{
    bool shares = job->mode == PG_READ && !job->alone && !job->lease;
    if (!shares)
        pg_conn_end_batch(c);
    job->conn = c;
    job->state = JOB_SENT;
    job->offset = c->sent + buf_len(&c->out);
    job->sent_ns = c->pool->all->io->now_ns;
    job->sync_after = job->complete = job->too_large = job->innocent = false;
    if (c->pool->spec.pooler)
        write_unnamed(c, job);
    else
        write_named(c, job);
    bool first = !c->jobs.first;
    jobs_add(&c->jobs, job);
    job->expected_ms = pool_expected_ms(job);
    c->expected_ms = (first ? 0 : c->expected_ms) + job->expected_ms;
    if (first) {
        c->current = job;
        pg_conn_new_head(c);
    }
    c->open = job;
    if (!shares)
        pg_conn_end_batch(c);
    pg_conn_wake(c);
}

static ssize_t write_some(struct pg_conn *c)
{
    size_t len = buf_len(&c->out);
    const char *p = c->out.data + c->out.start;
    if (c->ssl) {
        int n = SSL_write(c->ssl, p, len > INT32_MAX ? INT32_MAX : (int)len);
        if (n > 0)
            return n;
        int why = SSL_get_error(c->ssl, n);
        return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? 0 : -1;
    }
    ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

void pg_conn_flush(struct pg_conn *c)
{
    if (c->state != CONN_READY || c->cancelling)
        return;
    pg_conn_end_batch(c);
    if (!buf_ok(&c->out)) {
        pg_conn_close(c, "53200", "out of memory");
        return;
    }
    while (buf_len(&c->out)) {
        ssize_t n = write_some(c);
        if (n < 0) {
            /* What the server said before it left is still to be read. */
            buf_clear(&c->out);
            break;
        }
        if (n == 0)
            break;
        c->sent += (uint64_t)n;
        buf_consume(&c->out, (size_t)n);
    }
    poll_for(c, (c->paused ? 0 : UV_READABLE) | (buf_len(&c->out) ? UV_WRITABLE : 0));
}

/* ---- reading ---- */

static ssize_t read_some(struct pg_conn *c, char *to, size_t size)
{
    if (c->ssl) {
        int n = SSL_read(c->ssl, to, (int)size);
        if (n > 0)
            return n;
        int why = SSL_get_error(c->ssl, n);
        return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? -1 : 0;
    }
    ssize_t n = recv(c->fd, to, size, 0);
    return n >= 0 ? n : errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? -1 : 0;
}

static void take_bytes(struct pg_conn *c, struct str bytes)
{
    if (buf_len(&c->in)) {
        buf_add_str(&c->in, bytes);
        bytes = buf_str(&c->in);
    }
    size_t taken = pg_conn_take_messages(c, bytes);
    if (c->state != CONN_READY)
        return;
    if (buf_len(&c->in)) {
        buf_consume(&c->in, taken);
        if (!buf_len(&c->in))
            buf_clear(&c->in);
    } else {
        buf_add(&c->in, bytes.p + taken, bytes.len - taken);
    }
    if (!buf_ok(&c->in))
        pg_conn_close(c, "53200", "out of memory");
}

static void server_left(struct pg_conn *c)
{
    char state[PG_SQLSTATE], why[PG_WHY];
    memcpy(state, c->fatal ? c->error.sqlstate : "08006", PG_SQLSTATE);
    snprintf(why, sizeof why, "%s", c->fatal && c->error.message ? c->error.message : "the server closed the connection");
    pg_conn_close(c, state, why);
}

static void read_all(struct pg_conn *c)
{
    struct io *io = c->pool->all->io;
    for (int i = 0; i < READS && c->state == CONN_READY && !c->paused; i++) {
        ssize_t n = read_some(c, io->read_buffer, sizeof io->read_buffer);
        if (n < 0)
            return;
        if (n == 0) {
            server_left(c);
            return;
        }
        take_bytes(c, (struct str){io->read_buffer, (size_t)n});
        if ((size_t)n < sizeof io->read_buffer && !c->ssl)
            return;
    }
}

/* Hands rows to the stream that waits for them. */
static void feed_stream(struct pg_conn *c)
{
    struct pg_job *job = c->state == CONN_READY ? c->jobs.first : NULL;
    if (!job || job->mode != PG_STREAM || !job->wanting || !job->more || !buf_len(&job->rows))
        return;
    job->wanting = false;
    job->more(job);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct pg_conn *c = poll->data;
    struct pg *all = c->pool->all;
    struct pg_pool *pool = c->pool;
    io_now(all->io);
    if (status < 0)
        c->events = 0; /* libuv stops polling at an error, but what came before it is still to be read */
    if (status < 0 || (events & UV_READABLE))
        read_all(c);
    if (c->state == CONN_READY && (events & UV_WRITABLE))
        pg_conn_wake(c);
    if (c->state == CONN_READY)
        poll_for(c, (c->paused ? 0 : UV_READABLE) | (buf_len(&c->out) ? UV_WRITABLE : 0));
    if (c->state == CONN_READY && c->ending)
        pg_conn_end_lease(c);
    feed_stream(c);
    pool_dispatch(pool);
    pool_deliver(all);
}

static void poll_for(struct pg_conn *c, int events)
{
    if (events == c->events)
        return;
    c->events = events;
    if (events)
        uv_poll_start(&c->poll, events, on_poll);
    else
        uv_poll_stop(&c->poll);
}

/* At the end of a turn. */
void pg_conn_resume(struct pg_conn *c)
{
    feed_stream(c);
    const struct pg_job *job = c->jobs.first;
    if (c->state != CONN_READY || !c->paused || (job && job->done && buf_len(&job->rows) >= PG_STREAM_BYTES))
        return;
    c->paused = false;
    take_bytes(c, (struct str){"", 0});
    if (c->state == CONN_READY && !c->paused && c->ssl)
        read_all(c); /* OpenSSL may hold bytes that no poll tells of */
    if (c->state == CONN_READY)
        poll_for(c, (c->paused ? 0 : UV_READABLE) | (buf_len(&c->out) ? UV_WRITABLE : 0));
    if (c->state == CONN_READY && c->ending)
        pg_conn_end_lease(c);
    feed_stream(c);
}

void pg_job_more(struct pg_job *job)
{
    job->wanting = true;
    if (job->conn)
        pg_conn_wake(job->conn);
}

/* ---- exchanges of our own ---- */

static void begin_own(struct pg_conn *c)
{
    wire_sync(&c->out);
    c->checking = true;
    c->current = NULL;
    pg_conn_new_head(c);
    pg_conn_wake(c);
}

void pg_conn_check(struct pg_conn *c)
{
    begin_own(c);
}

void pg_conn_end_lease(struct pg_conn *c)
{
    c->ending = true;
    if (c->jobs.first || c->checking || c->cancelling)
        return;
    if (c->status == 'I') {
        c->ending = false;
        c->idle_ms = c->pool->all->io->now_ms;
        return;
    }
    wire_parse(&c->out, "", STR("ROLLBACK"));
    wire_bind(&c->out, "", (struct str){"\0\0\0\0", 4});
    wire_execute(&c->out);
    begin_own(c);
}

/* ---- life ---- */

struct pg_conn *pg_conn_new(struct pg_pool *pool)
{
    struct pg_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->pool = pool;
    c->fd = -1;
    c->timer.on_fire = on_timer;
    return c;
}

/* Between 90 and 110 % of the lifetime, so that those opened together do not end together. */
static double share_of_life(const struct pg_conn *c)
{
    const struct pg *all = c->pool->all;
    uint64_t seed = all->io->now_ns ^ (uintptr_t)c;
    uint64_t hash = board_hash(all->board, (struct str){(const char *)&seed, sizeof seed}, all->worker);
    return 0.9 + 0.2 * (double)(hash % 1024) / 1024;
}

bool pg_conn_begin(struct pg_conn *c, PGconn *pq)
{
    struct io *io = c->pool->all->io;
    const char *style = PQparameterStatus(pq, "DateStyle");
    int fd = PQsocket(pq);
    PQsetnonblocking(pq, 1);
    if (uv_poll_init(&io->loop, &c->poll, fd) < 0)
        return false;
    c->pq = pq;
    c->fd = fd;
    c->ssl = PQsslStruct(pq, "OpenSSL");
    if (c->ssl) /* the rest of a buffer may be elsewhere when it is tried again */
        SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    c->poll.data = c;
    c->state = CONN_READY;
    c->status = 'I';
    c->opened_ms = c->idle_ms = io->now_ms;
    c->life = share_of_life(c);
    poll_for(c, UV_READABLE);
    if (!style || strncmp(style, "ISO", 3) != 0) { /* what we read times by */
        wire_parse(&c->out, "", STR("SET datestyle = 'ISO'"));
        wire_bind(&c->out, "", (struct str){"\0\0\0\0", 4});
        wire_execute(&c->out);
        begin_own(c);
    }
    return true;
}

static void on_closed(uv_handle_t *handle)
{
    struct pg_conn *c = handle->data;
    PQfinish(c->pq);
    free(c);
}

static void lose_job(struct pg_conn *c, struct pg_job *job, bool at_head, const char *sqlstate, const char *why)
{
    bool unsent = job->offset >= c->sent;
    bool not_begun = unsent || (c->fatal && !at_head);
    pg_conn_take_off(c, job);
    if (pg_job_may_repeat(job) && (not_begun || job->mode == PG_READ || job->mode == PG_DESCRIBE)) {
        pool_again(job);
        return;
    }
    if (job->timed_out)
        pg_error_set(&job->error, "57014", "the statement ran for more than %llu ms and was cancelled",
                     (unsigned long long)pool_statement_ms(c->pool, job));
    else if (job->lease || not_begun)
        pg_error_set(&job->error, sqlstate, "the connection to the database was lost: %s", why);
    else
        pg_error_set(&job->error, strncmp(sqlstate, "08", 2) == 0 ? "08007" : sqlstate,
                     "the connection to the database was lost, and whether the statement took effect is not known: %s", why);
    pool_finish(job);
}

static void lose_jobs(struct pg_conn *c, const char *sqlstate, const char *why)
{
    const struct pg_job *head = pg_conn_last_of_head(c);
    bool at_head = !head;
    for (struct pg_job *job = c->jobs.last, *before; job; job = before) {
        before = job->prev;
        at_head = at_head || job == head;
        lose_job(c, job, at_head, sqlstate, why);
    }
}

static void leave_pool(struct pg_conn *c)
{
    struct pg_pool *pool = c->pool;
    *(c->prev ? &c->prev->next : &pool->conns) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pool->conn_count--;
    pool->denied = false;
    pool_release(pool->shared, pool->all->worker);
    for (struct pg_conn **at = &pool->all->dirty; c->dirty && *at; at = &(*at)->next_dirty)
        if (*at == c) {
            *at = c->next_dirty;
            break;
        }
}

void pg_conn_unopened(struct pg_conn *c)
{
    leave_pool(c);
    free(c);
}

void pg_conn_close(struct pg_conn *c, const char *sqlstate, const char *why)
{
    char state[PG_SQLSTATE], reason[PG_WHY]; /* they may be of what goes */
    if (c->state != CONN_CLOSED) {
        snprintf(state, sizeof state, "%s", sqlstate);
        snprintf(reason, sizeof reason, "%s", why);
        c->state = CONN_CLOSED;
        leave_pool(c);
        wheel_clear(&c->timer);
        if (*state)
            lane_add(&c->pool->lane->lost, 1);
        lose_jobs(c, state, reason);
        if (c->lease) {
            c->lease->lost = true;
            c->lease->conn = NULL;
        }
        c->lease = NULL;
        prepared_clear(c);
        pg_error_clear(&c->error);
        buf_done(&c->out);
        uv_poll_stop(&c->poll);
    }
    if (c->cancelling || c->gone)
        return; /* the cancel request looks at it when it is done */
    c->gone = true;
    buf_done(&c->in);
    uv_close((uv_handle_t *)&c->poll, on_closed);
}
