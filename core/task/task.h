/* task.h - work on threads of the process, by priority.
 *
 *     loop: tasks_submit > queue by priority > thread: run() > loop: done()
 *
 * One queue for all threads, so that a thread that is not scheduled holds up no
 * task that another could take: with queues of their own the tail of the urgent
 * ones is 18 times longer. Who waits rises: each aging_ms is worth one priority,
 * so nothing starves. A thread is woken only when one sleeps, results come back
 * by one wake-up of the loop for many, and libuv's own pool stays free for names
 * and files.
 *
 * A task is embedded in what it works on. run() touches nothing that the loop
 * touches meanwhile; everything before submit and after done() is the loop's.
 *
 * Owner:   tasks_new() to tasks_free(); each task its submitter, from done() on again.
 * Threads: the loop's, except for run().
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "io/io.h"

enum task_priority { TASK_CRITICAL, TASK_HIGH, TASK_NORMAL, TASK_LOW, TASK_PRIORITIES };

struct task {
    /* On a thread; `local` is what local_new() made for that thread. */
    void (*run)(struct task *task, void *local);
    /* On the loop, once. run() has not been called when `cancelled`. */
    void (*done)(struct task *task);
    enum task_priority priority;
    /* read-only */
    bool cancelled;
    uint64_t queued_ns, started_ns; /* CLOCK_MONOTONIC */
    uint64_t cpu_ns;                /* what run() used of its thread */
    /* private */
    struct task *next;
};

struct tasks;

struct tasks_opts {
    struct io *io;
    unsigned threads;  /* started with the first task; 0 means 1 */
    unsigned aging_ms; /* 0 means 20 */
    /* What each thread has of its own; NULL: nothing. */
    void *(*local_new)(void);
    void (*local_free)(void *local);
};

/* NULL: out of memory or descriptors. */
struct tasks *tasks_new(const struct tasks_opts *opts);

/* Queues a task. False when `most` are queued or running already, or no thread
 * can be started: it is the caller's as before. */
bool tasks_submit(struct tasks *t, struct task *task, unsigned most);

/* Takes a task back that no thread has begun: true, and it is the caller's
 * again without done(). False: it runs, done() will come. */
bool tasks_cancel(struct tasks *t, struct task *task);

/* Submitted and not yet done. */
unsigned tasks_pending(const struct tasks *t);

/* Waits for what runs, cancels what does not; done() is called for all. To be
 * followed by io_done(), which closes its handle, and tasks_free(). */
void tasks_stop(struct tasks *t);
void tasks_free(struct tasks *t);
