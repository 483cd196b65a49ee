// SPDX-License-Identifier: MIT
#include "task/task.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

static struct io *io;
static struct tasks *tasks;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held by the test: runs wait */
static unsigned done_count, run_order[64];
static atomic_uint run_count, locals;

struct job {
    struct task task;
    unsigned number;
    bool gated;
};

static void *local_new(void)
{
    atomic_fetch_add(&locals, 1);
    return malloc(1);
}

static void local_free(void *local)
{
    atomic_fetch_sub(&locals, 1);
    free(local);
}

static void run(struct task *task, void *local)
{
    struct job *job = (struct job *)task;
    sigset_t mask;
    assert(local);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGRTMIN + 3));
    if (job->gated) {
        pthread_mutex_lock(&gate);
        pthread_mutex_unlock(&gate);
    }
    run_order[atomic_fetch_add(&run_count, 1)] = job->number;
}

static void done(struct task *task)
{
    (void)task;
    done_count++;
}

static void open_tasks(unsigned threads, unsigned aging_ms)
{
    struct tasks_opts opts = {.threads = threads, .aging_ms = aging_ms, .local_new = local_new,
                              .local_free = local_free};
    io = calloc(1, sizeof *io);
    assert_int_equal(io_init(io), 0);
    opts.io = io;
    done_count = 0;
    atomic_store(&run_count, 0);
    tasks = tasks_new(&opts);
    assert_non_null(tasks);
}

static void close_tasks(void)
{
    tasks_stop(tasks);
    io_done(io);
    assert_int_equal(tasks_pending(tasks), 0);
    assert_int_equal(atomic_load(&locals), 0);
    tasks_free(tasks);
    free(io);
}

static void wait_for(unsigned count)
{
    uint64_t until = clock_now_ns() + 5000000000U;
    while (done_count < count && clock_now_ns() < until)
        uv_run(&io->loop, UV_RUN_ONCE);
    assert_int_equal(done_count, count);
}

static void submit(struct job *job, unsigned number, enum task_priority priority)
{
    *job = (struct job){{.run = run, .done = done, .priority = priority}, number, false};
    assert_true(tasks_submit(tasks, &job->task, 100));
}

/* Keeps the only thread busy until open_gate(). */
static void shut_gate(struct job *job)
{
    pthread_mutex_lock(&gate);
    *job = (struct job){{.run = run, .done = done, .priority = TASK_CRITICAL}, 99, true};
    assert_true(tasks_submit(tasks, &job->task, 100));
    while (tasks_cancel(tasks, &job->task)) /* until a thread has it */
        assert_true(tasks_submit(tasks, &job->task, 100));
}

static void runs_tasks_and_tells_the_loop(void **state)
{
    (void)state;
    struct job jobs[40];
    open_tasks(3, 0);
    for (unsigned i = 0; i < 40; i++)
        submit(&jobs[i], i, i % TASK_PRIORITIES);
    wait_for(40);
    assert_int_equal(atomic_load(&run_count), 40);
    for (unsigned i = 0; i < 40; i++)
        assert_true(jobs[i].task.started_ns >= jobs[i].task.queued_ns && !jobs[i].task.cancelled);
    close_tasks();
}

static void takes_the_urgent_first(void **state)
{
    (void)state;
    struct job first, jobs[4];
    open_tasks(1, 60000);
    shut_gate(&first);
    for (int i = 3; i >= 0; i--)
        submit(&jobs[i], (unsigned)i, (enum task_priority)i);
    pthread_mutex_unlock(&gate);
    wait_for(5);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(run_order[1 + i], i);
    close_tasks();
}

static void who_has_waited_long_comes_before_the_urgent(void **state)
{
    (void)state;
    struct job first, low, high;
    open_tasks(1, 1);
    shut_gate(&first);
    submit(&low, 1, TASK_LOW);
    low.task.queued_ns -= 10000000; /* ten times aging_ms ago */
    submit(&high, 2, TASK_HIGH);
    pthread_mutex_unlock(&gate);
    wait_for(3);
    assert_int_equal(run_order[1], 1);
    assert_int_equal(run_order[2], 2);
    close_tasks();
}

static void refuses_more_than_the_bound(void **state)
{
    (void)state;
    struct job first, second, third;
    open_tasks(1, 0);
    shut_gate(&first);
    submit(&second, 2, TASK_NORMAL);
    third = second;
    assert_false(tasks_submit(tasks, &third.task, 2));
    assert_int_equal(tasks_pending(tasks), 2);
    pthread_mutex_unlock(&gate);
    wait_for(2);
    close_tasks();
}

static void what_has_not_begun_can_be_taken_back(void **state)
{
    (void)state;
    struct job first, jobs[3];
    open_tasks(1, 0);
    shut_gate(&first);
    for (unsigned i = 0; i < 3; i++)
        submit(&jobs[i], i, TASK_NORMAL);
    assert_false(tasks_cancel(tasks, &first.task));
    assert_true(tasks_cancel(tasks, &jobs[2].task));
    assert_false(tasks_cancel(tasks, &jobs[2].task));
    assert_true(tasks_cancel(tasks, &jobs[0].task));
    pthread_mutex_unlock(&gate);
    wait_for(2);
    assert_int_equal(run_order[1], 1);
    close_tasks();
}

static void stopping_gives_every_task_back(void **state)
{
    (void)state;
    struct job first, jobs[3];
    open_tasks(1, 0);
    shut_gate(&first);
    for (unsigned i = 0; i < 3; i++)
        submit(&jobs[i], i, TASK_NORMAL);
    pthread_mutex_unlock(&gate);
    close_tasks();
    assert_int_equal(done_count, 4);
    unsigned cancelled = 0;
    for (unsigned i = 0; i < 3; i++)
        cancelled += jobs[i].task.cancelled;
    assert_int_equal(cancelled + atomic_load(&run_count), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_tasks_and_tells_the_loop),
        cmocka_unit_test(takes_the_urgent_first),
        cmocka_unit_test(who_has_waited_long_comes_before_the_urgent),
        cmocka_unit_test(refuses_more_than_the_bound),
        cmocka_unit_test(what_has_not_begun_can_be_taken_back),
        cmocka_unit_test(stopping_gives_every_task_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
