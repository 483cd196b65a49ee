/* task.h - work on threads of the process, by priority.
 *
 *     loop: tasks_submit > queue by priority > thread: run() > loop: done()
 *                             |                    |
 *                        cancelled, expired: done()    told to stop, then done()
 *
 * One queue for all threads, so that a thread that is not scheduled holds up no
 * task that another could take: with queues of their own the tail of the urgent
 * ones is 18 times longer. Who waits rises: each aging_ms is worth one priority.
 * One task in aged_every is chosen that way, so that nothing starves and yet a
 * backlog of old tasks does not hold up the urgent. A thread is woken only when one
 * sleeps, results come back by one wake-up of the loop for many, and libuv's own
 * pool stays free for names and files.
 *
 * A task is embedded in what it works on. run() touches nothing that the loop
 * touches meanwhile; everything before submit and after done() is the loop's.
 * Settings are followed at each tick: more threads start, surplus ones leave after
 * their task, and with none tasks run on the loop, one a turn.
 *
 * A thread cannot be ended from outside. One that does not come back after its task
 * was told to stop is counted as lost and another takes its place.
 *
 * Owner:   tasks_new() to tasks_free(); each task its submitter, from done() on again.
 * Threads: the loop's, except for run() and the functions of locals.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "io/io.h"

enum { TASK_CLASSES = 8 }; /* most that one pool meets */

enum task_outcome {
    TASK_DONE,
    TASK_FAILED,    /* run() said so */
    TASK_CANCELLED, /* by tasks_cancel() while it ran, or by tasks_stop() */
    TASK_EXPIRED,   /* its deadline passed */
};

struct task;

/* What tasks of one sort have in common. */
struct task_class {
    enum task_kind kind; /* under which they are counted */
    /* On a thread; `local` is what local_new() made for that thread. */
    void (*run)(struct task *task, void *local);
    /* On the loop, once, and last. run() may not have been called when the outcome
     * is cancelled or expired. */
    void (*done)(struct task *task);
    /* On the loop: the deadline passed while it runs; done() comes later. NULL: nothing. */
    void (*expired)(struct task *task);
    /* For the log, when a thread is lost to it. NULL: the name of its kind. */
    const char *(*name)(const struct task *task);
    /* What each thread has of its own; NULL: nothing. Made on the thread, before
     * the first such task; tidied after tasks_tidy(). */
    void *(*local_new)(void);
    void (*local_tidy)(void *local);
    void (*local_free)(void *local);
};

enum task_state { TASK_IDLE, TASK_QUEUED, TASK_RUNNING, TASK_ENDED };

struct task {
    const struct task_class *class;
    enum task_priority priority;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    /* read-only */
    enum task_outcome outcome;
    _Atomic bool stop; /* nobody wants it any more: run() does well to end early */
    uint64_t queued_ns, started_ns, ended_ns;
    uint64_t cpu_ns; /* what run() used of its thread */
    /* run() sets it: counts as failed */
    bool failed;
    /* private */
    enum task_state state; /* under the mutex */
    enum task_outcome given_up;
    struct timer timer;
    struct tasks *pool;
    struct task *next, *prev;
};

struct tasks;

struct tasks_opts {
    struct io *io;
    const struct settings *settings; /* tasks.*, followed; NULL: their defaults */
    unsigned threads;                /* fixed; 0: tasks.threads, and none without tasks.enabled */
    struct task_process *lane;       /* pools of one process may share it, if they share no kind of task */
};

/* NULL: out of memory or descriptors. */
struct tasks *tasks_new(const struct tasks_opts *opts);

/* Queues a task. False when `most` (0: tasks.max) are queued or running already, or no
 * thread can be started: it is the caller's as before. */
bool tasks_submit(struct tasks *t, struct task *task, unsigned most);

/* Takes a task back that no thread has begun: true, and it is the caller's
 * again without done(). False: it runs and is told to stop, done() will come. */
bool tasks_cancel(struct tasks *t, struct task *task);

/* Submitted and not yet done. */
unsigned tasks_pending(const struct tasks *t);

/* Has every thread call local_tidy() soon. */
void tasks_tidy(struct tasks *t);

/* Each tick: follows the settings, looks after lost threads, shows. */
void tasks_tick(struct tasks *t);

/* Tells what runs to stop and waits for it for grace_ms, cancels what does not run;
 * done() is called for all. False: a thread did not come back, so nothing of the pool
 * or its tasks may be freed. To be followed by io_done(), which closes its handle, and
 * tasks_free(). */
bool tasks_stop(struct tasks *t, unsigned grace_ms);
void tasks_free(struct tasks *t);
