// SPDX-License-Identifier: MIT
#include "task/task.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { THREADS_MAX = 64, AGING_MS = 20 };

struct queue {
    struct task *first, *last;
};

struct tasks {
    struct io *io;
    struct tasks_opts opts;
    pthread_t threads[THREADS_MAX];
    unsigned started;
    unsigned pending; /* the loop's own count */
    uv_async_t wake;
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t work;
    struct queue waiting[TASK_PRIORITIES];
    struct queue ended;
    unsigned idle;
    bool stop;
};

static void append(struct queue *q, struct task *task)
{
    task->next = NULL;
    if (q->last)
        q->last->next = task;
    else
        q->first = task;
    q->last = task;
}

static struct task *take_first(struct queue *q)
{
    struct task *task = q->first;
    if (!task)
        return NULL;
    q->first = task->next;
    if (!q->first)
        q->last = NULL;
    return task;
}

static bool take_this(struct queue *q, const struct task *task)
{
    struct task *before = NULL;
    for (struct task *at = q->first; at; before = at, at = at->next) {
        if (at != task)
            continue;
        if (before)
            before->next = at->next;
        else
            q->first = at->next;
        if (q->last == at)
            q->last = before;
        return true;
    }
    return false;
}

/* The task whose turn it is: each list is oldest first, so its head has risen most. */
static struct task *take_next(struct tasks *t, uint64_t now_ns)
{
    struct queue *best = NULL;
    double best_rank = 0;
    for (int i = 0; i < TASK_PRIORITIES; i++) {
        const struct task *head = t->waiting[i].first;
        if (!head)
            continue;
        double waited_ms = now_ns > head->queued_ns ? (double)(now_ns - head->queued_ns) / 1e6 : 0;
        double rank = i - waited_ms / t->opts.aging_ms;
        if (!best || rank < best_rank) {
            best = &t->waiting[i];
            best_rank = rank;
        }
    }
    return best ? take_first(best) : NULL;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void run_task(struct task *task, void *local)
{
    uint64_t began = thread_cpu_ns();
    task->started_ns = clock_now_ns();
    task->run(task, local);
    task->cpu_ns = thread_cpu_ns() - began;
}

static void *thread_main(void *user)
{
    struct tasks *t = user;
    void *local = t->opts.local_new ? t->opts.local_new() : NULL;
    pthread_mutex_lock(&t->mutex);
    while (!t->stop) {
        struct task *task = take_next(t, clock_now_ns());
        if (!task) {
            t->idle++;
            pthread_cond_wait(&t->work, &t->mutex);
            t->idle--;
            continue;
        }
        pthread_mutex_unlock(&t->mutex);
        run_task(task, local);
        pthread_mutex_lock(&t->mutex);
        bool first = !t->ended.first;
        append(&t->ended, task);
        if (first)
            uv_async_send(&t->wake);
    }
    pthread_mutex_unlock(&t->mutex);
    if (local)
        t->opts.local_free(local);
    return NULL;
}

/* Signals are the loop's: the watchdog of scripts and the supervisor mean it. */
static bool start_thread(struct tasks *t)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&t->threads[t->started], NULL, thread_main, t) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    t->started += ok;
    return ok;
}

static void start_threads(struct tasks *t)
{
    while (t->started < t->opts.threads && start_thread(t))
        ;
}

static void on_wake(uv_async_t *wake)
{
    struct tasks *t = wake->data;
    io_now(t->io);
    for (;;) {
        pthread_mutex_lock(&t->mutex);
        struct queue ended = t->ended;
        t->ended = (struct queue){NULL, NULL};
        pthread_mutex_unlock(&t->mutex);
        if (!ended.first)
            return;
        for (struct task *task; (task = take_first(&ended));) {
            t->pending--;
            task->done(task);
        }
    }
}

struct tasks *tasks_new(const struct tasks_opts *opts)
{
    struct tasks *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->io = opts->io;
    t->opts = *opts;
    t->opts.threads = !opts->threads ? 1 : opts->threads < THREADS_MAX ? opts->threads : THREADS_MAX;
    t->opts.aging_ms = opts->aging_ms ? opts->aging_ms : AGING_MS;
    if (uv_async_init(&t->io->loop, &t->wake, on_wake) < 0) {
        free(t);
        return NULL;
    }
    t->wake.data = t;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->work, NULL);
    return t;
}

bool tasks_submit(struct tasks *t, struct task *task, unsigned most)
{
    if (t->stop || t->pending >= most)
        return false;
    start_threads(t);
    if (!t->started)
        return false;
    task->cancelled = false;
    task->cpu_ns = 0;
    task->queued_ns = clock_now_ns();
    t->pending++;
    pthread_mutex_lock(&t->mutex);
    append(&t->waiting[task->priority], task);
    bool wake = t->idle > 0;
    pthread_mutex_unlock(&t->mutex);
    if (wake)
        pthread_cond_signal(&t->work);
    return true;
}

bool tasks_cancel(struct tasks *t, struct task *task)
{
    pthread_mutex_lock(&t->mutex);
    bool taken = take_this(&t->waiting[task->priority], task);
    pthread_mutex_unlock(&t->mutex);
    t->pending -= taken;
    return taken;
}

unsigned tasks_pending(const struct tasks *t)
{
    return t->pending;
}

void tasks_stop(struct tasks *t)
{
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_mutex_unlock(&t->mutex);
    pthread_cond_broadcast(&t->work);
    for (unsigned i = 0; i < t->started; i++)
        pthread_join(t->threads[i], NULL);
    t->started = 0;
    for (int i = 0; i < TASK_PRIORITIES; i++)
        for (struct task *task; (task = take_first(&t->waiting[i]));) {
            task->cancelled = true;
            append(&t->ended, task);
        }
    on_wake(&t->wake);
}

void tasks_free(struct tasks *t)
{
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}
