/* parts.h - inside of core/task: the pool, its queue and its threads. */
// SPDX-License-Identifier: MIT
#pragma once

#include "task/task.h"

#include <pthread.h>

enum { THREADS_MAX = 64 };

struct task_list {
    struct task *first, *last;
};

/* What one thread, or the loop in its place, has of its own for tasks of a class. */
struct task_locals {
    struct {
        const struct task_class *class;
        void *value;
    } list[TASK_CLASSES];
    unsigned count;
    unsigned tidied; /* round */
};

/* CPU time of a thread. Reading that clock is a system call, so what is short is taken to
 * have used the processor all the while. */
struct task_meter {
    uint64_t read_ns;  /* last reading */
    uint64_t since_ns; /* of short tasks since then */
};

enum thread_state { THREAD_FREE, THREAD_ALIVE, THREAD_ENDED };

struct task_thread {
    struct tasks *pool;
    pthread_t id;
    enum thread_state state;
    struct task *current;  /* NULL: it waits */
    uint64_t since_ns;     /* since when it is busy */
    uint64_t now_ns;       /* when its last task ended; 0: it has slept since */
    struct task_meter meter;
    uint64_t told_ns;      /* when the loop saw first that it was told to stop; 0: not. The loop's */
    bool lost;
    bool tell; /* the loop has to be woken, without the mutex: that is a system call */
    struct task_locals locals;
};

struct tasks {
    struct io *io;
    const struct settings *settings;
    struct task_process *lane;
    unsigned fixed_width; /* 0: by the settings */
    unsigned pending;     /* the loop's own count */
    uv_async_t wake;
    struct task_locals loop_locals;
    struct task_meter loop_meter;
    uint64_t shown_ns, shown_busy_ns; /* last look at the busy time */
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t work;
    pthread_cond_t left; /* a thread has ended */
    struct task_list waiting[TASK_PRIORITIES];
    struct task_list ended;
    struct task_thread threads[THREADS_MAX];
    unsigned width, alive, idle;
    unsigned since_aged; /* tasks begun since one was chosen by its age */
    unsigned tidy_round;
    uint64_t busy_ns;    /* of tasks that have ended */
    bool stop;
};

static inline uint64_t task_setting(const struct tasks *t, enum setting_id id)
{
    return t->settings ? setting_integer(t->settings, id) : (uint64_t)setting_infos[id].fallback;
}

/* With the mutex: nobody else writes it, since pools of one process do not share kinds. */
static inline void gauge_add(_Atomic uint32_t *gauge, int n)
{
    atomic_store_explicit(gauge, atomic_load_explicit(gauge, memory_order_relaxed) + (uint32_t)n, memory_order_relaxed);
}

/* ---- queue.c ---- */
void list_append(struct task_list *list, struct task *task);
struct task *list_take_first(struct task_list *list);
void list_take(struct task_list *list, struct task *task);

/* Takes the task whose turn it is; NULL: there is none. With the mutex. */
struct task *queue_take(struct tasks *t, uint64_t now_ns);

/* ---- threads.c ---- */

/* Starts threads as far as the width allows; false: there is none at all. With the mutex. */
bool threads_start(struct tasks *t);

/* Joins those that have left. With the mutex. */
void threads_reap(struct tasks *t);

void meter_start(struct task_meter *meter);

/* Runs a task in the calling thread, whose started_ns is set. */
void task_run(struct task *task, struct task_locals *locals, struct task_meter *meter);
void locals_tidy(struct task_locals *locals, unsigned round);
void locals_free(struct task_locals *locals);
