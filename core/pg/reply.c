/* What the server says, and whose it is: see conn.c. Whatever does not belong where it
 * comes ends the connection.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "base/log.h"
#include "pg/wire.h"

#include <stdlib.h>

/* ---- the end of a transaction ---- */

void pg_conn_take_off(struct pg_conn *c, struct pg_job *job)
{
    jobs_remove(&c->jobs, job);
    c->expected_ms -= job->expected_ms;
    if (c->open == job)
        c->open = NULL;
    job->conn = NULL;
    if (job->prepared && job->parses && !job->prepared->ready)
        prepared_drop(c, job->prepared);
    prepared_put(job->prepared);
    job->prepared = NULL;
}

/* The statement is no longer what was prepared: it is prepared anew. */
static void unprepare(struct pg_conn *c, const struct pg_job *job, bool close)
{
    char name[PREPARED_NAME];
    if (!job->prepared || job->prepared->dropped)
        return;
    if (close) {
        pg_conn_end_batch(c);
        prepared_name(job->statement->id, name);
        wire_close(&c->out, name);
    }
    prepared_drop(c, job->prepared);
}

static void job_failed(struct pg_conn *c, struct pg_job *job, struct pg_error *error)
{
    bool missing = strcmp(error->sqlstate, "26000") == 0;
    bool stale = strcmp(error->sqlstate, "0A000") == 0 && job->prepared && !job->parses;
    bool hit = strcmp(error->sqlstate, "57014") == 0 && !job->timed_out && (job->innocent || c->cancelling);
    if (missing || stale)
        unprepare(c, job, stale);
    pg_conn_take_off(c, job);
    if ((missing || stale || hit) && pg_job_may_repeat(job)) {
        pool_again(job);
        return;
    }
    if (job->timed_out && strcmp(error->sqlstate, "57014") == 0)
        pg_error_set(error, "57014", "the statement ran for more than %llu ms and was cancelled",
                     (unsigned long long)pool_statement_ms(c->pool, job));
    job->error = *error;
    *error = (struct pg_error){0};
    pool_finish(job);
}

static void job_done(struct pg_conn *c, struct pg_job *job)
{
    pg_statement_took(job->statement, c->pool->all->io->now_ns - c->head_ns);
    pg_conn_take_off(c, job);
    if (job->too_large)
        pg_error_set(&job->error, "54000",
                     "the result is larger than pool.db.result_bytes (%llu); take it row by row with db:each",
                     (unsigned long long)pg_setting(c->pool, SETTING_POOL_DB_RESULT_BYTES));
    pool_finish(job);
}

struct pg_job *pg_conn_last_of_head(const struct pg_conn *c)
{
    struct pg_job *job = c->jobs.first;
    while (job && !job->sync_after)
        job = job->next;
    return job;
}

/* All of a failed shared transaction again, each alone. */
static void repeat_all(struct pg_conn *c, struct pg_job *last)
{
    for (struct pg_job *job = last, *before; job; job = before) {
        before = job->prev;
        pg_conn_take_off(c, job);
        job->alone = true;
        pool_again(job);
    }
}

static const char *end_transaction(struct pg_conn *c)
{
    struct pg_job *last = pg_conn_last_of_head(c);
    if (!last)
        return "ReadyForQuery without a statement";
    bool failed = c->error.sqlstate[0];
    for (const struct pg_job *job = c->jobs.first; !failed; job = job->next) {
        if (!job->complete)
            return "ReadyForQuery before the statement was complete";
        if (job == last)
            break;
    }
    if (failed && last != c->jobs.first) {
        repeat_all(c, last);
    } else if (failed) {
        job_failed(c, last, &c->error);
    } else {
        for (bool more = true; more;) {
            struct pg_job *job = c->jobs.first;
            more = job != last;
            job_done(c, job);
        }
    }
    pg_error_clear(&c->error);
    c->current = c->jobs.first;
    pg_conn_new_head(c);
    return !c->lease && !c->ending && c->status != 'I' ? "a statement left a transaction open" : NULL;
}

/* ---- replies ---- */

static const char *take_columns(struct pg_job *job, struct pg_columns *columns)
{
    if (job->prepared && job->parses) {
        pg_columns_put(job->prepared->columns);
        job->prepared->columns = columns;
    } else if (job->mode != PG_DESCRIBE) {
        pg_columns_put(job->columns);
        job->columns = columns;
    } else {
        pg_columns_put(columns);
    }
    return NULL;
}

static const char *take_row(struct pg_conn *c, struct pg_job *job, struct str body)
{
    struct str values;
    if (!job->columns || !wire_row(body, job->columns->count, &values))
        return "a malformed row";
    if (!job->done || job->too_large)
        return NULL;
    size_t most = (size_t)pg_setting(c->pool, SETTING_POOL_DB_RESULT_BYTES);
    if (buf_len(&job->rows) + values.len > most && (job->mode != PG_STREAM || values.len > most)) {
        job->too_large = true;
        buf_done(&job->rows);
        return NULL;
    }
    buf_add_str(&job->rows, values);
    job->row_count++;
    if (!buf_ok(&job->rows)) {
        job->too_large = true;
        buf_done(&job->rows);
    }
    c->paused = job->mode == PG_STREAM && buf_len(&job->rows) >= PG_STREAM_BYTES;
    return NULL;
}

static const char *take_types(struct pg_statement *st, struct str body)
{
    uint32_t *oids;
    unsigned count;
    if (!wire_types(body, &oids, &count))
        return "a malformed description";
    free(st->param_oids);
    st->param_oids = oids;
    st->param_count = count;
    st->typed = true;
    return NULL;
}

static void complete(struct pg_conn *c, struct pg_job *job)
{
    job->complete = true;
    c->current = job->sync_after ? NULL : job->next;
}

static const char *described(struct pg_conn *c, struct pg_job *job, struct pg_columns *columns)
{
    take_columns(job, columns);
    if (job->mode == PG_DESCRIBE)
        complete(c, job);
    return NULL;
}

static const char *for_job(struct pg_conn *c, struct pg_job *job, char type, struct str body)
{
    struct pg_columns *columns;
    switch (type) {
    case '1':
        if (job->prepared)
            job->prepared->ready = true;
        return NULL;
    case '2':
        if (job->prepared && job->prepared->columns) {
            job->columns = job->prepared->columns;
            job->columns->refs++;
        }
        return NULL;
    case 't':
        return take_types(job->statement, body);
    case 'T':
        columns = wire_columns(body);
        return columns ? described(c, job, columns) : "a malformed description";
    case 'n':
        return described(c, job, NULL);
    case 'D':
        return take_row(c, job, body);
    case 'C':
        job->affected = wire_tag(body);
        complete(c, job);
        return NULL;
    case 'I':
        complete(c, job);
        return NULL;
    default:
        return "a message that does not belong here (COPY is not offered)";
    }
}

static const char *on_ready(struct pg_conn *c, struct str body)
{
    c->status = body.len == 1 ? *body.p : 0;
    if (c->status != 'I' && c->status != 'T' && c->status != 'E')
        return "an unknown transaction status";
    if (!c->checking)
        return end_transaction(c);
    if (c->error.sqlstate[0] || c->status != 'I')
        return "a check failed";
    c->checking = false;
    c->current = c->jobs.first;
    pg_conn_new_head(c);
    return NULL;
}

/* One message. NULL, or what is wrong with it. */
static const char *take_message(struct pg_conn *c, char type, struct str body)
{
    struct pg_error notice = {0};
    switch (type) {
    case 'N': /* notices, parameters, notifications: nothing of ours */
    case 'S':
    case 'A':
    case '3':
        return NULL;
    case 'E':
        wire_error(body, &notice, &c->fatal);
        pg_error_clear(&c->error);
        c->error = notice;
        c->current = NULL;
        return NULL;
    case 'Z':
        return on_ready(c, body);
    default:
        if (c->checking)
            return NULL; /* of our own ROLLBACK */
        return c->current ? for_job(c, c->current, type, body) : "a reply that nobody asked for";
    }
}

/* Begins to skip a message that is too large to be held. */
static const char *skip_large(struct pg_conn *c, struct str in)
{
    if (in.p[0] != 'D' || !c->current)
        return "a message that is too large";
    c->current->too_large = true;
    buf_done(&c->current->rows);
    c->skip = (uint64_t)wire_u32(in.p + 1) + 1;
    return NULL;
}

static size_t take_skipped(struct pg_conn *c, struct str in)
{
    size_t n = c->skip < in.len ? (size_t)c->skip : in.len;
    c->skip -= n;
    return n;
}

/* Takes all whole messages; returns how many bytes those are. */
size_t pg_conn_take_messages(struct pg_conn *c, struct str in)
{
    const size_t most = (size_t)pg_setting(c->pool, SETTING_POOL_DB_RESULT_BYTES) + PG_STREAM_BYTES;
    size_t at = 0;
    const char *wrong = NULL;
    while (!wrong && !c->paused && c->state == CONN_READY) {
        struct str rest = {in.p + at, in.len - at};
        if (c->skip) {
            at += take_skipped(c, rest);
            if (c->skip)
                break;
            continue;
        }
        int64_t len = wire_length(rest);
        if (len == 0 && rest.len >= WIRE_HEAD && wire_u32(rest.p + 1) > most) {
            wrong = skip_large(c, rest);
            continue;
        }
        if (len <= 0) {
            wrong = len < 0 ? "a message of an impossible length" : NULL;
            break;
        }
        wrong = take_message(c, rest.p[0], (struct str){rest.p + WIRE_HEAD, (size_t)len - WIRE_HEAD});
        at += (size_t)len;
    }
    if (wrong && c->state == CONN_READY) {
        log_line(LOG_ERROR, "database %s: the connection is closed: %s", c->pool->spec.name, wrong);
        pg_conn_close(c, "08P01", wrong);
    }
    return at;
}
