// SPDX-License-Identifier: MIT
#include "task/parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <time.h>

enum { SHOW_NS = 1000000000 };

static struct task_lane *lane_of(struct tasks *t, const struct task *task)
{
    return &t->lane->lanes[task->class->kind][task->priority];
}

static void count(struct tasks *t, const struct task *task)
{
    struct task_lane *lane = lane_of(t, task);
    lane_counter *const by_outcome[] = {[TASK_DONE] = &lane->done, [TASK_FAILED] = &lane->failed,
                                        [TASK_CANCELLED] = &lane->cancelled, [TASK_EXPIRED] = &lane->expired};
    lane_add(by_outcome[task->outcome], 1);
    if (!task->started_ns)
        return;
    uint64_t wait_ns = task->started_ns - task->queued_ns, run_ns = task->ended_ns - task->started_ns;
    lane_add(&lane->wait_sum_ns, wait_ns);
    lane_add(&lane->run_sum_ns, run_ns);
    lane_add(&lane->cpu_sum_ns, task->cpu_ns);
    sketch_coarse_record(&lane->wait, wait_ns);
    sketch_coarse_record(&lane->run, run_ns);
}

/* No thread has it any more. */
static void finish(struct tasks *t, struct task *task)
{
    task->outcome = task->given_up ? task->given_up : task->failed ? TASK_FAILED : TASK_DONE;
    task->state = TASK_IDLE;
    t->pending--;
    wheel_clear(&task->timer);
    count(t, task);
    task->class->done(task);
}

/* ---- on the loop, when there are no threads ---- */

static void run_here(struct tasks *t)
{
    uint64_t now_ns = clock_now_ns();
    pthread_mutex_lock(&t->mutex);
    struct task *task = t->alive ? NULL : queue_take(t, now_ns);
    bool more = false;
    for (int i = 0; task && i < TASK_PRIORITIES; i++)
        more = more || t->waiting[i].first;
    if (task) {
        gauge_add(&lane_of(t, task)->queued, -1);
        task->state = TASK_RUNNING;
    }
    pthread_mutex_unlock(&t->mutex);
    if (more)
        uv_async_send(&t->wake);
    if (!task)
        return;
    task->started_ns = now_ns;
    meter_start(&t->loop_meter);
    task_run(task, &t->loop_locals, &t->loop_meter);
    finish(t, task);
}

static void deliver(struct tasks *t)
{
    for (;;) {
        pthread_mutex_lock(&t->mutex);
        struct task_list ended = t->ended;
        t->ended = (struct task_list){NULL, NULL};
        pthread_mutex_unlock(&t->mutex);
        if (!ended.first)
            return;
        for (struct task *task; (task = list_take_first(&ended));)
            finish(t, task);
    }
}

static void on_wake(uv_async_t *wake)
{
    struct tasks *t = wake->data;
    io_now(t->io);
    deliver(t);
    if (t->pending)
        run_here(t);
}

/* ---- deadlines ---- */

static bool unqueue(struct tasks *t, struct task *task)
{
    if (task->state != TASK_QUEUED)
        return false;
    list_take(&t->waiting[task->priority], task);
    gauge_add(&lane_of(t, task)->queued, -1);
    return true;
}

static void on_deadline(struct timer *timer)
{
    struct task *task = (struct task *)((char *)timer - offsetof(struct task, timer));
    struct tasks *t = task->pool;
    pthread_mutex_lock(&t->mutex);
    bool queued = unqueue(t, task), running = task->state == TASK_RUNNING;
    if (queued || running)
        task->given_up = TASK_EXPIRED;
    pthread_mutex_unlock(&t->mutex);
    if (queued) {
        finish(t, task);
    } else if (running) {
        atomic_store_explicit(&task->stop, true, memory_order_relaxed);
        if (task->class->expired)
            task->class->expired(task);
    }
}

/* ---- in and out ---- */

bool tasks_submit(struct tasks *t, struct task *task, unsigned most)
{
    if (t->stop || t->pending >= (most ? most : task_setting(t, SETTING_TASKS_MAX))) {
        lane_add(&lane_of(t, task)->refused, 1);
        return false;
    }
    task->outcome = task->given_up = TASK_DONE;
    atomic_store_explicit(&task->stop, false, memory_order_relaxed);
    task->failed = false;
    task->cpu_ns = task->started_ns = task->ended_ns = 0;
    task->queued_ns = clock_now_ns();
    task->pool = t;
    pthread_mutex_lock(&t->mutex);
    bool able = !t->width || t->alive >= t->width || threads_start(t);
    if (able) {
        task->state = TASK_QUEUED;
        list_append(&t->waiting[task->priority], task);
        gauge_add(&lane_of(t, task)->queued, 1);
    }
    bool wake = t->idle > 0, here = !t->alive;
    pthread_mutex_unlock(&t->mutex);
    if (!able)
        return false;
    t->pending++;
    task->timer = (struct timer){.on_fire = on_deadline};
    if (task->deadline_ns)
        wheel_set(&t->io->wheel, &task->timer, task->deadline_ns / 1000000);
    if (wake)
        pthread_cond_signal(&t->work);
    if (here)
        uv_async_send(&t->wake);
    return true;
}

bool tasks_cancel(struct tasks *t, struct task *task)
{
    pthread_mutex_lock(&t->mutex);
    bool taken = unqueue(t, task);
    if (taken)
        task->state = TASK_IDLE;
    else if (!task->given_up && task->state == TASK_RUNNING)
        task->given_up = TASK_CANCELLED;
    pthread_mutex_unlock(&t->mutex);
    wheel_clear(&task->timer);
    if (!taken) {
        atomic_store_explicit(&task->stop, true, memory_order_relaxed);
        return false;
    }
    t->pending--;
    lane_add(&lane_of(t, task)->cancelled, 1);
    return true;
}

unsigned tasks_pending(const struct tasks *t)
{
    return t->pending;
}

void tasks_tidy(struct tasks *t)
{
    pthread_mutex_lock(&t->mutex);
    unsigned round = ++t->tidy_round;
    pthread_mutex_unlock(&t->mutex);
    pthread_cond_broadcast(&t->work);
    locals_tidy(&t->loop_locals, round);
}

/* ---- each tick ---- */

static unsigned width_wanted(const struct tasks *t)
{
    uint64_t width = t->fixed_width ? t->fixed_width : task_setting(t, SETTING_TASKS_THREADS);
    if (!t->fixed_width && !task_setting(t, SETTING_TASKS_ENABLED))
        return 0;
    return width < THREADS_MAX ? (unsigned)width : THREADS_MAX;
}

/* Gives up on a thread that does not leave a task it was told to. */
static void look_after(struct tasks *t, struct task_thread *thread)
{
    struct task *task = thread->current;
    if (!task || !atomic_load_explicit(&task->stop, memory_order_relaxed)) {
        thread->told_ns = 0;
        return;
    }
    if (!thread->told_ns)
        thread->told_ns = t->io->now_ns;
    if (thread->lost || t->io->now_ns < thread->told_ns + task_setting(t, SETTING_TASKS_LOST_MS) * 1000000)
        return;
    const char *name = task->class->name ? task->class->name(task) : task_kind_name(task->class->kind);
    log_line(LOG_ERROR, "a task thread does not come back from %s; another takes its place", name);
    thread->lost = true;
    t->alive--;
}

static void show(struct tasks *t, uint64_t busy_ns, unsigned lost)
{
    struct task_process *lane = t->lane;
    atomic_store_explicit(&lane->width, t->width, memory_order_relaxed);
    atomic_store_explicit(&lane->threads, t->alive, memory_order_relaxed);
    atomic_store_explicit(&lane->lost, lost, memory_order_relaxed);
    atomic_store_explicit(&lane->most, (uint32_t)task_setting(t, SETTING_TASKS_MAX), memory_order_relaxed);
    if (t->io->now_ns < t->shown_ns + SHOW_NS)
        return;
    uint64_t spent_ns = busy_ns > t->shown_busy_ns ? busy_ns - t->shown_busy_ns : 0;
    double room_ns = (double)(t->io->now_ns - t->shown_ns) * (t->width ? t->width : 1);
    double share = t->shown_ns ? (double)spent_ns / room_ns : 0;
    atomic_store_explicit(&lane->busy_share, share < 1 ? share : 1, memory_order_relaxed);
    lane_add(&lane->busy_ns, spent_ns);
    t->shown_ns = t->io->now_ns;
    t->shown_busy_ns = busy_ns;
}

void tasks_tick(struct tasks *t)
{
    unsigned width = width_wanted(t), lost = 0;
    pthread_mutex_lock(&t->mutex);
    threads_reap(t);
    bool narrower = width < t->width;
    t->width = width;
    uint64_t busy_ns = t->busy_ns;
    for (int i = 0; i < THREADS_MAX; i++) {
        struct task_thread *thread = &t->threads[i];
        if (thread->state != THREAD_ALIVE)
            continue;
        look_after(t, thread);
        lost += thread->lost;
        if (thread->current && t->io->now_ns > thread->since_ns)
            busy_ns += t->io->now_ns - thread->since_ns;
    }
    if (t->pending)
        threads_start(t);
    bool here = t->pending && !t->alive;
    show(t, busy_ns, lost);
    pthread_mutex_unlock(&t->mutex);
    if (narrower)
        pthread_cond_broadcast(&t->work);
    if (here)
        uv_async_send(&t->wake);
}

/* ---- life ---- */

struct tasks *tasks_new(const struct tasks_opts *opts)
{
    struct tasks *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->io = opts->io;
    t->settings = opts->settings;
    t->lane = opts->lane;
    t->fixed_width = opts->threads;
    t->width = width_wanted(t);
    if (uv_async_init(&t->io->loop, &t->wake, on_wake) < 0) {
        free(t);
        return NULL;
    }
    t->wake.data = t;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->left, NULL);
    return t;
}

static unsigned still_there(const struct tasks *t)
{
    unsigned n = 0;
    for (int i = 0; i < THREADS_MAX; i++)
        n += t->threads[i].state == THREAD_ALIVE;
    return n;
}

bool tasks_stop(struct tasks *t, unsigned grace_ms)
{
    struct timespec until;
    struct task_list queued = {NULL, NULL};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += grace_ms / 1000;
    until.tv_nsec += (long)(grace_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    for (int i = 0; i < TASK_PRIORITIES; i++)
        for (struct task *task; (task = t->waiting[i].first);) {
            unqueue(t, task);
            task->given_up = TASK_CANCELLED;
            list_append(&queued, task);
        }
    for (int i = 0; i < THREADS_MAX; i++)
        if (t->threads[i].state == THREAD_ALIVE && t->threads[i].current)
            atomic_store_explicit(&t->threads[i].current->stop, true, memory_order_relaxed);
    pthread_cond_broadcast(&t->work);
    int err = 0;
    while (still_there(t) && err == 0)
        err = pthread_cond_timedwait(&t->left, &t->mutex, &until);
    bool all = !still_there(t);
    pthread_mutex_unlock(&t->mutex);
    threads_reap(t);
    for (struct task *task; (task = list_take_first(&queued));)
        finish(t, task);
    deliver(t);
    locals_free(&t->loop_locals);
    return all;
}

void tasks_free(struct tasks *t)
{
    pthread_cond_destroy(&t->left);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}
