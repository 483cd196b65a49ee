// SPDX-License-Identifier: MIT
#include "task/parts.h"

#include "base/clock.h"
#include "base/thread.h"

#include <time.h>

/* Deep recursion of a script needs as much as on the loop's thread (script/limits.c);
 * only what is touched takes memory. */
enum { STACK_BYTES = 64 << 20, SHORT_NS = 50000 };

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void *local_of(struct task_locals *locals, const struct task_class *class)
{
    if (!class->local_new)
        return NULL;
    for (unsigned i = 0; i < locals->count; i++)
        if (locals->list[i].class == class)
            return locals->list[i].value;
    void *value = class->local_new();
    if (value && locals->count < TASK_CLASSES) {
        locals->list[locals->count].class = class;
        locals->list[locals->count++].value = value;
        return value;
    }
    if (value)
        class->local_free(value);
    return NULL;
}

void locals_tidy(struct task_locals *locals, unsigned round)
{
    locals->tidied = round;
    for (unsigned i = 0; i < locals->count; i++)
        if (locals->list[i].class->local_tidy)
            locals->list[i].class->local_tidy(locals->list[i].value);
}

void locals_free(struct task_locals *locals)
{
    for (unsigned i = 0; i < locals->count; i++)
        locals->list[i].class->local_free(locals->list[i].value);
    locals->count = 0;
}

void meter_start(struct task_meter *meter)
{
    *meter = (struct task_meter){.read_ns = thread_cpu_ns()};
}

static uint64_t meter_add(struct task_meter *meter, uint64_t took_ns)
{
    if (took_ns < SHORT_NS) {
        meter->since_ns += took_ns;
        return took_ns;
    }
    uint64_t before_ns = meter->read_ns + meter->since_ns;
    meter_start(meter);
    uint64_t used_ns = meter->read_ns > before_ns ? meter->read_ns - before_ns : 0;
    return used_ns < took_ns ? used_ns : took_ns;
}

void task_run(struct task *task, struct task_locals *locals, struct task_meter *meter)
{
    task->class->run(task, local_of(locals, task->class));
    task->ended_ns = clock_now_ns();
    task->cpu_ns = meter_add(meter, task->ended_ns - task->started_ns);
}

static struct task_lane *lane_of(struct tasks *t, const struct task *task)
{
    return &t->lane->lanes[task->class->kind][task->priority];
}

static void end(struct task_thread *thread, struct task *task)
{
    struct tasks *t = thread->pool;
    thread->tell = thread->tell || !t->ended.first;
    task->state = TASK_ENDED;
    list_append(&t->ended, task);
}

static void tell(struct task_thread *thread)
{
    if (thread->tell)
        uv_async_send(&thread->pool->wake);
    thread->tell = false;
}

/* Runs a task that was just taken from the queue. With the mutex, which it gives up meanwhile. */
static void serve(struct task_thread *thread, struct task *task, uint64_t now_ns)
{
    struct tasks *t = thread->pool;
    struct task_lane *lane = lane_of(t, task);
    gauge_add(&lane->queued, -1);
    if (task->deadline_ns && now_ns >= task->deadline_ns) {
        task->given_up = TASK_EXPIRED;
        end(thread, task);
        return;
    }
    task->state = TASK_RUNNING;
    if (now_ns < task->queued_ns) /* it came after the reading that ended the task before */
        now_ns = task->queued_ns;
    task->started_ns = thread->since_ns = now_ns;
    thread->current = task;
    gauge_add(&lane->running, 1);
    pthread_mutex_unlock(&t->mutex);
    tell(thread);
    task_run(task, &thread->locals, &thread->meter);
    thread->now_ns = task->ended_ns;
    pthread_mutex_lock(&t->mutex);
    gauge_add(&lane->running, -1);
    thread->current = NULL;
    t->busy_ns += task->ended_ns - task->started_ns;
    end(thread, task);
}

static bool is_surplus(const struct task_thread *thread)
{
    const struct tasks *t = thread->pool;
    return t->stop || thread->lost || t->alive > t->width;
}

static void *thread_main(void *user)
{
    struct task_thread *thread = user;
    struct tasks *t = thread->pool;
    meter_start(&thread->meter);
    pthread_mutex_lock(&t->mutex);
    while (!is_surplus(thread)) {
        uint64_t now_ns = thread->now_ns ? thread->now_ns : clock_now_ns(); /* one reading ends a task and begins the next */
        struct task *task = queue_take(t, now_ns);
        if (task) {
            serve(thread, task, now_ns);
        } else if (thread->tell) {
            pthread_mutex_unlock(&t->mutex);
            tell(thread);
            pthread_mutex_lock(&t->mutex);
        } else if (thread->locals.tidied != t->tidy_round) {
            unsigned round = t->tidy_round;
            pthread_mutex_unlock(&t->mutex);
            locals_tidy(&thread->locals, round);
            thread->now_ns = 0;
            pthread_mutex_lock(&t->mutex);
        } else {
            thread->now_ns = 0;
            t->idle++;
            pthread_cond_wait(&t->work, &t->mutex);
            t->idle--;
        }
    }
    if (!thread->lost)
        t->alive--;
    pthread_mutex_unlock(&t->mutex);
    tell(thread);
    locals_free(&thread->locals);
    pthread_mutex_lock(&t->mutex);
    thread->state = THREAD_ENDED;
    pthread_cond_broadcast(&t->left);
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

static bool start_thread(struct tasks *t, struct task_thread *thread)
{
    pthread_attr_t attributes;
    *thread = (struct task_thread){.pool = t, .locals.tidied = t->tidy_round};
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool ok = thread_start(&thread->id, &attributes, thread_main, thread);
    pthread_attr_destroy(&attributes);
    thread->state = ok ? THREAD_ALIVE : THREAD_FREE;
    t->alive += ok;
    return ok;
}

bool threads_start(struct tasks *t)
{
    for (int i = 0; i < THREADS_MAX && t->alive < t->width; i++)
        if (t->threads[i].state == THREAD_FREE && !start_thread(t, &t->threads[i]))
            break;
    return t->alive > 0;
}

void threads_reap(struct tasks *t)
{
    for (int i = 0; i < THREADS_MAX; i++)
        if (t->threads[i].state == THREAD_ENDED) {
            pthread_join(t->threads[i].id, NULL); /* it has given the mutex back for good */
            t->threads[i].state = THREAD_FREE;
        }
}
