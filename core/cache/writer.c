// SPDX-License-Identifier: MIT
#include "cache/writer.h"

#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH_JOBS = 64, BATCH_BYTES = 4 << 20, PURGES_KEPT = 64, STOP_S = 3 };

struct job {
    struct job *next;
    int what; /* -1: put; else enum purge */
    struct buf bytes;
    uint64_t ticket;
    uint32_t lease_slot;
    uint64_t lease;
};

struct writer {
    struct store *store;
    struct cache_shared *shared;
    unsigned process;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *first, **last;
    uint64_t queued_bytes;
    uint64_t tickets;
    struct {
        uint64_t ticket;
        int64_t count;
    } purged[PURGES_KEPT];
    bool stopping;
};

struct str cache_target(struct str key)
{
    const char *end = memchr(key.p, '\n', key.len);
    return end ? (struct str){key.p, (size_t)(end - key.p)} : key;
}

uint32_t cache_slot(struct str target)
{
    return (uint32_t)(record_key(target).low % SHARED_SLOTS);
}

/* Whether something was purged since this answer was asked for. */
static bool is_outdated(struct writer *w, const struct record_view *view)
{
    uint64_t fence = atomic_load(&w->shared->fence_ms);
    uint64_t invalid = atomic_load(&w->shared->invalid_ms[cache_slot(cache_target(view->key))]);
    return view->r.requested_ms <= fence || view->r.requested_ms <= invalid;
}

static bool put(struct writer *w, struct job *j)
{
    struct record_view view;
    if (!record_read(buf_str(&j->bytes), (struct str){NULL, 0}, &view) || is_outdated(w, &view))
        return true;
    return store_put(w->store, buf_str(&j->bytes));
}

static int64_t purge(struct writer *w, struct job *j)
{
    struct str text = buf_str(&j->bytes);
    switch ((enum purge)j->what) {
    case PURGE_KEY:
        return (int64_t)store_purge_key(w->store, text);
    case PURGE_PREFIX:
        return (int64_t)store_purge_prefix(w->store, text);
    case PURGE_TAG:
        return (int64_t)store_purge_tag(w->store, text);
    default:
        return (int64_t)store_purge_all(w->store);
    }
}

static void note_purge(struct writer *w, uint64_t ticket, int64_t count)
{
    pthread_mutex_lock(&w->lock);
    w->purged[ticket % PURGES_KEPT].ticket = ticket;
    w->purged[ticket % PURGES_KEPT].count = count;
    pthread_mutex_unlock(&w->lock);
}

/* One transaction for a list of jobs. False: nothing of it was written. */
static bool try_batch(struct writer *w, struct job *jobs, bool shrink)
{
    int64_t counts[BATCH_JOBS] = {0};
    int n = 0;
    bool ok = store_write_begin(w->store);
    if (!ok)
        return false;
    if (shrink)
        store_shrink(w->store);
    for (struct job *j = jobs; ok && j; j = j->next, n++) {
        if (j->what < 0)
            ok = put(w, j);
        else
            counts[n] = purge(w, j);
    }
    if (!ok) {
        store_write_abort(w->store);
        return false;
    }
    if (!store_write_commit(w->store))
        return false;
    n = 0;
    for (struct job *j = jobs; j; j = j->next, n++)
        if (j->what >= 0)
            note_purge(w, j->ticket, counts[n]);
    return true;
}

/* Pages can run out before bytes do, when they lie badly: room is made once. */
static void run_batch(struct writer *w, struct job *jobs)
{
    bool done = false;
    atomic_store(&w->shared->inside[w->process], 1);
    if (!atomic_load(&w->shared->broken))
        done = try_batch(w, jobs, false) ||
               (try_batch(w, NULL, true) && try_batch(w, jobs, false));
    atomic_store(&w->shared->inside[w->process], 0);
    for (struct job *j = jobs, *next; j; j = next) {
        next = j->next;
        if (!done && j->what >= 0)
            note_purge(w, j->ticket, -1);
        if (j->lease)
            atomic_compare_exchange_strong(&w->shared->leases[j->lease_slot], &j->lease, 0);
        buf_done(&j->bytes);
        free(j);
    }
}

/* Takes a batch off the queue; called locked. */
static struct job *take_batch(struct writer *w)
{
    struct job *jobs = w->first, *last = NULL;
    size_t bytes = 0;
    for (int n = 0; w->first && n < BATCH_JOBS && bytes < BATCH_BYTES; n++) {
        last = w->first;
        bytes += buf_len(&last->bytes);
        w->first = last->next;
    }
    if (last)
        last->next = NULL;
    if (!w->first)
        w->last = &w->first;
    w->queued_bytes -= bytes;
    return jobs;
}

static void *run(void *user)
{
    struct writer *w = user;
    pthread_mutex_lock(&w->lock);
    while (w->first || !w->stopping) {
        if (!w->first) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        struct job *jobs = take_batch(w);
        pthread_mutex_unlock(&w->lock);
        run_batch(w, jobs);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct writer *writer_new(struct store *store, struct cache_shared *shared, unsigned process)
{
    struct writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->store = store;
    w->shared = shared;
    w->process = process;
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    if (thread_start(&w->thread, NULL, run, w))
        return w;
    free(w);
    return NULL;
}

bool writer_free(struct writer *w)
{
    struct timespec until;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_S;
    if (pthread_clockjoin_np(w->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        return false;
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return true;
}

static void push(struct writer *w, struct job *j)
{
    *w->last = j;
    w->last = &j->next;
    w->queued_bytes += buf_len(&j->bytes);
    pthread_cond_signal(&w->wake);
}

bool writer_put(struct writer *w, struct buf *record, uint64_t max_bytes, uint32_t lease_slot,
                uint64_t lease)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return false;
    j->what = -1;
    j->lease_slot = lease_slot;
    j->lease = lease;
    pthread_mutex_lock(&w->lock);
    bool fits = w->queued_bytes + buf_len(record) <= max_bytes;
    if (fits) {
        j->bytes = *record;
        *record = (struct buf){0};
        push(w, j);
    }
    pthread_mutex_unlock(&w->lock);
    if (!fits)
        free(j);
    return fits;
}

uint64_t writer_purge(struct writer *w, enum purge what, struct str text)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return 0;
    buf_add_str(&j->bytes, text);
    j->what = (int)what;
    if (what == PURGE_KEY)
        atomic_store(&w->shared->invalid_ms[cache_slot(text)], clock_unix_ms());
    else
        atomic_store(&w->shared->fence_ms, clock_unix_ms());
    pthread_mutex_lock(&w->lock);
    uint64_t ticket = j->ticket = ++w->tickets;
    push(w, j);
    pthread_mutex_unlock(&w->lock);
    return ticket;
}

bool writer_purged(struct writer *w, uint64_t ticket, int64_t *count)
{
    pthread_mutex_lock(&w->lock);
    bool done = w->purged[ticket % PURGES_KEPT].ticket == ticket;
    *count = w->purged[ticket % PURGES_KEPT].count;
    pthread_mutex_unlock(&w->lock);
    return done;
}
