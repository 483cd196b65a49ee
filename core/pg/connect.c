/* Opening connections and asking for cancellation: both wait, so both happen on
 * threads of their own. Names, the TLS handshake and SCRAM's key derivation take
 * milliseconds that the loop does not have.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "base/clock.h"
#include "pg/wire.h"

#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LOOK_MS = 50,       /* how often a thread looks whether it shall stop */
    CANCELS_MOST = 64,  /* further ones close the connection instead */
    TASKS_MOST = 4096,
};

/* What a connection string may say. The rest would change what we speak
 * (replication, encryption by GSSAPI) or reads files that name other servers. */
static const char *const allowed[] = {
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "application_name",
    "fallback_application_name", "options", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl",
    "sslcrldir", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding",
    "target_session_attrs", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
    "tcp_user_timeout", "requirepeer", "connect_timeout", NULL,
};

static bool is_allowed(const char *keyword)
{
    for (const char *const *at = allowed; *at; at++)
        if (strcmp(*at, keyword) == 0)
            return true;
    return false;
}

const char *pg_dsn_wrong(const char *dsn, char why[PG_WHY])
{
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(dsn, &message);
    const char *wrong = NULL;
    if (!options) {
        /* libpq's own message quotes pieces of the text, which may be the password. */
        snprintf(why, PG_WHY, "it cannot be read; write postgresql://user:password@host:port/database or "
                              "\"host=... port=... dbname=... user=... password=...\"%s",
                 message && strstr(message, "invalid connection option") ? " (one of its keywords is not known)" : "");
        wrong = why;
    }
    for (const PQconninfoOption *o = options; o && o->keyword && !wrong; o++)
        if (o->val && !is_allowed(o->keyword)) {
            snprintf(why, PG_WHY, "keyword '%s' cannot be used here", o->keyword);
            wrong = why;
        }
    PQconninfoFree(options);
    PQfreemem(message);
    return wrong;
}

void pg_dsn_show(const char *dsn, char *out, size_t size)
{
    const char *host = "", *port = "5432", *user = "", *database = "";
    PQconninfoOption *options = PQconninfoParse(dsn, NULL);
    for (const PQconninfoOption *o = options; o && o->keyword; o++) {
        if (!o->val)
            continue;
        if (strcmp(o->keyword, "host") == 0 || (strcmp(o->keyword, "hostaddr") == 0 && !*host))
            host = o->val;
        else if (strcmp(o->keyword, "port") == 0)
            port = o->val;
        else if (strcmp(o->keyword, "user") == 0)
            user = o->val;
        else if (strcmp(o->keyword, "dbname") == 0)
            database = o->val;
    }
    snprintf(out, size, "%s%s%s:%s/%s", user, *user ? "@" : "", *host ? host : "(local)", port, database);
    PQconninfoFree(options);
}

/* ---- connecting ---- */

struct opening {
    struct task task;
    struct pg_conn *conn; /* the loop's; not read on the thread */
    const _Atomic bool *stopping;
    char *dsn;
    uint64_t connect_ms;
    bool ask_max;
    uint32_t server_max;
    PGconn *pq;
    struct pg_error error;
};

/* libpq says "FATAL:  28P01: text": the state is not at hand in any other way. */
static void read_failure(const PGconn *pq, struct pg_error *out)
{
    const char *text = PQerrorMessage(pq), *message = text;
    char state[PG_SQLSTATE] = "08001";
    for (const char *p = text; (p = strstr(p, ":  ")); p += 3) {
        int n = 0;
        while (n < PG_SQLSTATE - 1 && (isupper((unsigned char)p[3 + n]) || isdigit((unsigned char)p[3 + n])))
            n++;
        if (n == PG_SQLSTATE - 1 && strncmp(p + 3 + n, ": ", 2) == 0) {
            memcpy(state, p + 3, PG_SQLSTATE - 1);
            message = p + 3 + n + 2;
        }
    }
    size_t len = strcspn(message, "\n");
    pg_error_set(out, state, "%.*s", (int)len, message);
}

const char *pg_ping(const char *dsn, char why[PG_WHY])
{
    char timeout[8];
    snprintf(timeout, sizeof timeout, "%d", PG_PING_S);
    const char *const names[] = {"dbname", "connect_timeout", NULL}, *const values[] = {dsn, timeout, NULL};
    PGconn *pq = PQconnectdbParams(names, values, 1);
    bool ok = pq && PQstatus(pq) == CONNECTION_OK;
    if (!ok) {
        struct pg_error error = {0};
        if (pq)
            read_failure(pq, &error);
        snprintf(why, PG_WHY, "%s", pq ? error.message : "out of memory");
    }
    PQfinish(pq);
    return ok ? NULL : why;
}

static bool wait_socket(const PGconn *pq, PostgresPollingStatusType what, uint64_t until_ms, const _Atomic bool *stopping)
{
    for (;;) {
        uint64_t now = clock_now_ns() / 1000000;
        struct pollfd pfd = {.fd = PQsocket(pq), .events = what == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        if (now >= until_ms || atomic_load(stopping))
            return false;
        uint64_t left = until_ms - now;
        int n = poll(&pfd, 1, left < LOOK_MS ? (int)left : LOOK_MS);
        if (n != 0)
            return true;
    }
}

/* How many connections the server gives to such as us; 0: it did not say in time. */
static uint32_t ask_server_max(PGconn *pq, uint64_t until_ms, const _Atomic bool *stopping)
{
    uint64_t max = 0;
    bool broken = !PQsendQuery(pq, "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int");
    while (!broken && PQisBusy(pq))
        broken = !wait_socket(pq, PGRES_POLLING_READING, until_ms, stopping) || !PQconsumeInput(pq);
    for (PGresult *r; !broken && (r = PQgetResult(pq)); PQclear(r))
        if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1)
            str_to_u64(str_from(PQgetvalue(r, 0, 0)), &max);
    return max < UINT32_MAX ? (uint32_t)max : 0;
}

static void run_opening(struct task *task, void *local)
{
    struct opening *o = (struct opening *)task;
    const char *const keys[] = {"dbname", "fallback_application_name", "client_encoding", "gssencmode", NULL};
    const char *const values[] = {o->dsn, "perilune", "UTF8", "disable", NULL};
    uint64_t until_ms = clock_now_ns() / 1000000 + o->connect_ms;
    (void)local;
    o->pq = PQconnectStartParams(keys, values, 1);
    if (!o->pq) {
        pg_error_set(&o->error, "53200", "out of memory");
        return;
    }
    PQsetErrorVerbosity(o->pq, PQERRORS_VERBOSE);
    PostgresPollingStatusType what = PQstatus(o->pq) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (what != PGRES_POLLING_OK && what != PGRES_POLLING_FAILED) {
        if (!wait_socket(o->pq, what, until_ms, o->stopping)) {
            pg_error_set(&o->error, "08001", "no connection within %llu ms", (unsigned long long)o->connect_ms);
            return;
        }
        what = PQconnectPoll(o->pq);
    }
    if (what == PGRES_POLLING_FAILED)
        read_failure(o->pq, &o->error);
    else if (o->ask_max && !(o->server_max = ask_server_max(o->pq, until_ms, o->stopping)) && PQtransactionStatus(o->pq) != PQTRANS_IDLE)
        pg_error_set(&o->error, "08001", "no answer within %llu ms", (unsigned long long)o->connect_ms);
}

static void opening_done(struct task *task)
{
    struct opening *o = (struct opening *)task;
    struct pg_conn *c = o->conn;
    if (task->outcome == TASK_CANCELLED)
        pg_error_set(&o->error, "57P01", "shutting down");
    if (o->error.sqlstate[0]) {
        PQfinish(o->pq);
        pool_refused(c, &o->error);
    } else {
        if (o->server_max)
            atomic_store_explicit(&c->pool->shared->server_max, o->server_max, memory_order_relaxed);
        pool_opened(c, o->pq);
    }
    pg_error_clear(&o->error);
    free(o->dsn);
    free(o);
}

static const struct task_class opening_class = {.kind = TASK_CONNECT, .run = run_opening, .done = opening_done};

bool connect_start(struct pg_conn *c)
{
    const struct pg_pool *pool = c->pool;
    struct opening *o = calloc(1, sizeof *o);
    if (!o)
        return false;
    o->task = (struct task){.class = &opening_class, .priority = TASK_NORMAL};
    o->conn = c;
    o->stopping = &pool->all->stopping;
    o->ask_max = !pool->spec.pooler && !atomic_load_explicit(&pool->shared->server_max, memory_order_relaxed);
    o->dsn = strdup(pool->spec.dsn);
    o->connect_ms = pool->spec.connect_ms ? (uint64_t)pool->spec.connect_ms
                                          : (uint64_t)pg_setting(pool, SETTING_POOL_DB_CONNECT_MS);
    if (!o->dsn || !tasks_submit(pool->all->tasks, &o->task, TASKS_MOST)) {
        free(o->dsn);
        free(o);
        return false;
    }
    return true;
}

/* ---- cancelling ---- */

struct cancelling {
    struct task task;
    struct pg_conn *conn; /* alive: it does not go while `cancelling` */
    PGcancel *cancel;
};

static void run_cancel(struct task *task, void *local)
{
    char why[256];
    (void)local;
    PQcancel(((struct cancelling *)task)->cancel, why, sizeof why);
}

/* The server closes the socket of a cancel request after it has sent the signal,
 * so what is sent to it from here on is not hit. */
static void cancel_done(struct task *task)
{
    struct cancelling *k = (struct cancelling *)task;
    struct pg_conn *c = k->conn;
    PQfreeCancel(k->cancel);
    free(k);
    c->cancelling = false;
    if (c->state == CONN_CLOSED) {
        pg_conn_close(c, "", "");
        return;
    }
    for (struct pg_job *job = c->jobs.first; job; job = job->next)
        job->innocent = true; /* the signal may come after the one that was meant */
    if (c->ending)
        pg_conn_end_lease(c);
    pg_conn_wake(c);
    pool_dispatch(c->pool);
    pool_deliver(c->pool->all);
}

static const struct task_class cancel_class = {.kind = TASK_CONNECT, .run = run_cancel, .done = cancel_done};

bool cancel_start(struct pg_conn *c)
{
    struct cancelling *k = calloc(1, sizeof *k);
    if (!k)
        return false;
    k->task = (struct task){.class = &cancel_class, .priority = TASK_HIGH};
    k->conn = c;
    k->cancel = PQgetCancel(c->pq);
    if (!k->cancel || !tasks_submit(c->pool->all->tasks, &k->task, CANCELS_MOST)) {
        PQfreeCancel(k->cancel);
        free(k);
        return false;
    }
    c->cancelling = true;
    return true;
}
