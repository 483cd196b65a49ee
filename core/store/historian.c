// SPDX-License-Identifier: MIT
#include "store/historian.h"

#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/archive.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BATCH_MOST = 8 << 20,
    RETRY_MS = 1000, /* doubles with each failure in a row */
    RETRY_MOST_MS = 60000,
};

enum job { JOB_NONE, JOB_OPEN, JOB_WRITE, JOB_END };

struct historian {
    struct historian_opts opts;
    char *path;
    struct archive *archive; /* the thread's while a job runs */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum job job; /* under the lock; JOB_NONE: over */
    int result;   /* of the last one */
    uint64_t budget_bytes; /* for the job */

    bool asked;            /* a job was given whose result is not known yet */
    struct batch writing;  /* the job's, or to be tried again */
    struct batch next;     /* being filled */
    uint64_t taken_ms;     /* end of the newest window taken */
    uint64_t handed_ms;    /* when the last batch was handed over */
    uint64_t retry_ms;     /* not before */
    uint64_t pause_ms;
    struct historian_state state;
    char why[256];
};

static void *work(void *arg)
{
    struct historian *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (h->job == JOB_NONE)
            pthread_cond_wait(&h->changed, &h->lock);
        enum job job = h->job;
        uint64_t budget = h->budget_bytes;
        pthread_mutex_unlock(&h->lock);
        if (job == JOB_END)
            return NULL;
        int result = job == JOB_OPEN ? archive_open(h->archive) : archive_write(h->archive, &h->writing, budget);
        pthread_mutex_lock(&h->lock);
        h->result = result;
        h->job = JOB_NONE;
        pthread_cond_broadcast(&h->changed);
    }
}

static void release(struct historian *h)
{
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
    archive_free(h->archive);
    batch_done(&h->writing);
    batch_done(&h->next);
    free(h->path);
    free(h);
}

struct historian *historian_new(const struct historian_opts *opts)
{
    struct historian *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->opts = *opts;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    h->path = strdup(opts->path);
    h->archive = archive_new(opts->path, opts->board);
    if (h->path && h->archive && thread_start(&h->thread, NULL, work, h))
        return h;
    release(h);
    return NULL;
}

static void give_job(struct historian *h, enum job job)
{
    pthread_mutex_lock(&h->lock);
    h->budget_bytes = setting_integer(&h->opts.board->settings, SETTING_HISTORY_STORE_BYTES);
    h->job = job;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    h->asked = job != JOB_END;
}

static bool idle(struct historian *h)
{
    pthread_mutex_lock(&h->lock);
    bool idle = h->job == JOB_NONE;
    pthread_mutex_unlock(&h->lock);
    return idle;
}

void historian_wait(struct historian *h)
{
    pthread_mutex_lock(&h->lock);
    while (h->job != JOB_NONE)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

/* ---- results -------------------------------------------------------------- */

static void note_usage(struct historian *h)
{
    struct archive_usage usage;
    archive_usage(h->archive, &usage);
    h->state.file_bytes = usage.file_bytes;
    memcpy(h->state.tier_bytes, usage.tier_bytes, sizeof h->state.tier_bytes);
    h->state.written_ms = usage.newest_ms;
}

static void note_failure(struct historian *h, uint64_t now_ms)
{
    h->pause_ms = h->pause_ms ? 2 * h->pause_ms : RETRY_MS;
    h->pause_ms = h->pause_ms < RETRY_MOST_MS ? h->pause_ms : RETRY_MOST_MS;
    h->retry_ms = now_ms + h->pause_ms;
    h->state.failures++;
    snprintf(h->why, sizeof h->why, "%s", archive_why(h->archive));
    if (!h->state.troubled)
        log_line(LOG_ERROR, "history cannot be written: %s; it is kept in memory and tried again", h->why);
    h->state.troubled = true;
}

static void note_success(struct historian *h, uint64_t now_ms)
{
    if (h->state.troubled)
        log_line(LOG_INFO, "history is written again");
    h->state.troubled = false;
    h->pause_ms = h->retry_ms = 0;
    if (!h->state.open) {
        h->state.open = true;
        /* In the future: a clock was set back since. */
        h->taken_ms = h->state.written_ms < now_ms ? h->state.written_ms : now_ms;
    }
    if (batch_windows(&h->writing))
        h->state.writes++;
    batch_clear(&h->writing);
}

static void take_result(struct historian *h, uint64_t now_ms)
{
    h->asked = false;
    note_usage(h);
    if (h->result < 0)
        note_failure(h, now_ms);
    else
        note_success(h, now_ms);
}

/* ---- the loop's side ------------------------------------------------------ */

/* What the rings gave up before it was taken. */
static void count_lost(struct historian *h, size_t before)
{
    uint64_t began_ms = h->taken_ms > h->opts.board->started_unix_ms ? h->taken_ms : h->opts.board->started_unix_ms;
    uint64_t from_ms = batch_window(&h->next, before)->from_ms;
    if (from_ms > began_ms + 1000)
        h->state.lost_s += (from_ms - began_ms) / 1000;
}

static void take_windows(struct historian *h)
{
    size_t before = batch_windows(&h->next);
    if (!batch_take(&h->next, h->opts.history, h->taken_ms, BATCH_MOST))
        return; /* another time */
    size_t after = batch_windows(&h->next);
    if (after == before)
        return;
    count_lost(h, before);
    h->taken_ms = batch_window(&h->next, after - 1)->to_ms;
}

static void hand_over(struct historian *h, uint64_t now_ms)
{
    struct batch empty = h->writing;
    h->writing = h->next;
    h->next = empty;
    h->handed_ms = now_ms;
    give_job(h, JOB_WRITE);
}

/* At multiples of the interval, so that files are alike; or when much has come. */
static bool is_due(const struct historian *h, uint64_t now_ms)
{
    uint64_t interval_ms = setting_integer(&h->opts.board->settings, SETTING_HISTORY_STORE_INTERVAL_S) * 1000;
    return now_ms / interval_ms != h->handed_ms / interval_ms || batch_bytes(&h->next) >= BATCH_MOST / 2;
}

void historian_tick(struct historian *h, uint64_t now_ms)
{
    if (h->asked && idle(h))
        take_result(h, now_ms);
    if (!setting_integer(&h->opts.board->settings, SETTING_HISTORY_STORE_BYTES))
        return;
    if (!h->handed_ms)
        h->handed_ms = now_ms;
    if (h->state.open)
        take_windows(h);
    if (h->asked || now_ms < h->retry_ms)
        return;
    if (!h->state.open)
        give_job(h, JOB_OPEN);
    else if (batch_windows(&h->writing))
        give_job(h, JOB_WRITE);
    else if (batch_windows(&h->next) && is_due(h, now_ms))
        hand_over(h, now_ms);
}

static void write_rest(struct historian *h, uint64_t now_ms)
{
    historian_wait(h);
    h->retry_ms = 0;
    historian_tick(h, now_ms); /* takes the result; may give a job that is to be done anyway */
    historian_wait(h);
    if (h->asked)
        take_result(h, now_ms);
    if (!h->state.open || h->state.troubled)
        return;
    take_windows(h);
    if (batch_windows(&h->next)) {
        hand_over(h, now_ms);
        historian_wait(h);
        take_result(h, now_ms);
    }
}

void historian_stop(struct historian *h, uint64_t now_ms)
{
    if (!h)
        return;
    if (setting_integer(&h->opts.board->settings, SETTING_HISTORY_STORE_BYTES))
        write_rest(h, now_ms);
    historian_wait(h);
    give_job(h, JOB_END);
    pthread_join(h->thread, NULL);
    release(h);
}

void historian_state(const struct historian *h, struct historian_state *out)
{
    *out = h->state;
    out->why = h->why;
    out->waiting_bytes = batch_bytes(&h->next);
}

const char *historian_path(const struct historian *h)
{
    return h->path;
}
