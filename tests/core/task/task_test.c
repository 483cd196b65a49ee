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
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static struct io *io;
static struct tasks *tasks;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held by the test: runs wait */
static pthread_t loop_thread;
static struct settings settings;
static struct task_process lane;
static unsigned done_count, expired_count, run_order[64];
static atomic_uint run_count, locals, tidied;

struct job {
    struct task task;
    unsigned number;
    bool gated, stubborn; /* stubborn: runs until it is told to stop */
};

static void *local_new(void)
{
    atomic_fetch_add(&locals, 1);
    return malloc(1);
}

static void local_tidy(void *local)
{
    (void)local;
    atomic_fetch_add(&tidied, 1);
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
    assert(pthread_equal(pthread_self(), loop_thread) || (sigismember(&mask, SIGTERM) && sigismember(&mask, SIGRTMIN + 3)));
    while (job->stubborn && !atomic_load(&task->stop))
        sched_yield();
    if (job->gated) {
        pthread_mutex_lock(&gate);
        pthread_mutex_unlock(&gate);
    }
    run_order[atomic_fetch_add(&run_count, 1) % 64] = job->number;
}

static void done(struct task *task)
{
    (void)task;
    done_count++;
}

static void expired(struct task *task)
{
    (void)task;
    expired_count++;
}

static const struct task_class job_class = {
    .kind = TASK_KERNEL, .run = run, .done = done, .expired = expired,
    .local_new = local_new, .local_tidy = local_tidy, .local_free = local_free};

static void set(enum setting_id id, double value)
{
    atomic_store(&settings.value[FOR_ALL][id], value);
}

static void open_tasks(unsigned threads, unsigned aging_ms)
{
    struct tasks_opts opts = {.settings = &settings, .lane = &lane};
    settings_init(&settings);
    memset(&lane, 0, sizeof lane);
    set(SETTING_TASKS_THREADS, threads);
    if (aging_ms)
        set(SETTING_TASKS_AGING_MS, aging_ms);
    set(SETTING_TASKS_MAX, 100);
    io = calloc(1, sizeof *io);
    assert_int_equal(io_init(io), 0);
    opts.io = io;
    done_count = expired_count = 0;
    loop_thread = pthread_self();
    atomic_store(&run_count, 0);
    atomic_store(&tidied, 0);
    tasks = tasks_new(&opts);
    assert_non_null(tasks);
}

static void close_tasks(void)
{
    assert_true(tasks_stop(tasks, 5000));
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
    *job = (struct job){{.class = &job_class, .priority = priority}, number, false, false};
    assert_true(tasks_submit(tasks, &job->task, 0));
}

/* Keeps the only thread busy until open_gate(). */
static void shut_gate(struct job *job)
{
    pthread_mutex_lock(&gate);
    *job = (struct job){{.class = &job_class, .priority = TASK_CRITICAL}, 99, true, false};
    assert_true(tasks_submit(tasks, &job->task, 0));
    while (tasks_cancel(tasks, &job->task)) /* until a thread has it */
        assert_true(tasks_submit(tasks, &job->task, 0));
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
        assert_true(jobs[i].task.started_ns >= jobs[i].task.queued_ns && jobs[i].task.outcome == TASK_DONE);
    close_tasks();
}

/* A thread begins the next task with the reading of the clock that ended the one before. */
static void what_comes_while_a_task_ends_has_not_begun_before_it_came(void **state)
{
    (void)state;
    enum { AT_ONCE = 8, COUNT = 40000 };
    static struct job jobs[AT_ONCE];
    unsigned early = 0;
    open_tasks(1, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        struct job *job = &jobs[i % AT_ONCE];
        if (i >= AT_ONCE) {
            while (done_count + AT_ONCE <= i)
                uv_run(&io->loop, UV_RUN_NOWAIT);
            early += job->task.started_ns < job->task.queued_ns;
        }
        submit(job, i, TASK_NORMAL);
    }
    wait_for(COUNT);
    assert_int_equal(early, 0);
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
    set(SETTING_TASKS_AGED_EVERY, 1);
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
    set(SETTING_TASKS_MAX, 2);
    submit(&second, 2, TASK_NORMAL);
    third = second;
    assert_false(tasks_submit(tasks, &third.task, 0));
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
        cancelled += jobs[i].task.outcome == TASK_CANCELLED;
    assert_int_equal(cancelled + atomic_load(&run_count), 4);
}

static void a_backlog_that_has_risen_gets_its_share_only(void **state)
{
    (void)state;
    struct job first, low[4], high[8];
    open_tasks(1, 1);
    shut_gate(&first);
    for (unsigned i = 0; i < 4; i++) {
        submit(&low[i], 100 + i, TASK_LOW);
        low[i].task.queued_ns -= 10000000;
    }
    for (unsigned i = 0; i < 8; i++)
        submit(&high[i], i, TASK_HIGH);
    pthread_mutex_unlock(&gate);
    wait_for(13);
    unsigned lows = 0;
    for (unsigned i = 1; i <= 8; i++)
        lows += run_order[i] >= 100;
    assert_int_equal(lows, 2); /* one in tasks.aged_every = 4 */
    close_tasks();
}

static void what_has_not_begun_by_its_deadline_does_not_begin(void **state)
{
    (void)state;
    struct job first, late;
    open_tasks(1, 0);
    shut_gate(&first);
    late = (struct job){{.class = &job_class, .priority = TASK_NORMAL, .deadline_ns = clock_now_ns() + 1000000}, 7, false, false};
    assert_true(tasks_submit(tasks, &late.task, 0));
    wait_for(1); /* while the thread is busy */
    assert_int_equal(late.task.outcome, TASK_EXPIRED);
    assert_int_equal(lane_get(&lane.lanes[TASK_KERNEL][TASK_NORMAL].expired), 1);
    pthread_mutex_unlock(&gate);
    wait_for(2);
    assert_int_equal(atomic_load(&run_count), 1);
    close_tasks();
}

static void what_runs_past_its_deadline_is_told_to_stop(void **state)
{
    (void)state;
    struct job job;
    open_tasks(1, 0);
    job = (struct job){{.class = &job_class, .priority = TASK_HIGH, .deadline_ns = clock_now_ns() + 1000000}, 7, false, true};
    assert_true(tasks_submit(tasks, &job.task, 0));
    wait_for(1);
    assert_int_equal(job.task.outcome, TASK_EXPIRED);
    assert_int_equal(expired_count + (job.task.started_ns == 0), 1);
    close_tasks();
}

static void what_runs_is_told_to_stop_when_it_is_cancelled(void **state)
{
    (void)state;
    struct job job;
    open_tasks(1, 0);
    job = (struct job){{.class = &job_class, .priority = TASK_HIGH}, 7, false, true};
    assert_true(tasks_submit(tasks, &job.task, 0));
    while (tasks_cancel(tasks, &job.task))
        assert_true(tasks_submit(tasks, &job.task, 0));
    wait_for(1);
    assert_int_equal(job.task.outcome, TASK_CANCELLED);
    assert_true(lane_get(&lane.lanes[TASK_KERNEL][TASK_HIGH].cancelled) >= 1);
    close_tasks();
}

static void the_width_follows_its_setting(void **state)
{
    (void)state;
    struct job gated[3], last;
    open_tasks(1, 0);
    shut_gate(&gated[0]);
    set(SETTING_TASKS_THREADS, 3);
    for (unsigned i = 1; i < 3; i++) {
        gated[i] = (struct job){{.class = &job_class, .priority = TASK_NORMAL}, i, true, false};
        assert_true(tasks_submit(tasks, &gated[i].task, 0));
    }
    tasks_tick(tasks);
    while (tasks_cancel(tasks, &gated[1].task)) /* until another thread has it */
        assert_true(tasks_submit(tasks, &gated[1].task, 0));
    assert_int_equal(atomic_load(&lane.threads), 3);
    pthread_mutex_unlock(&gate);
    wait_for(3);
    set(SETTING_TASKS_ENABLED, 0); /* no threads: on the loop */
    uint64_t until = clock_now_ns() + 5000000000U;
    do
        tasks_tick(tasks);
    while (atomic_load(&lane.threads) && clock_now_ns() < until);
    assert_int_equal(atomic_load(&lane.threads), 0);
    submit(&last, 9, TASK_LOW);
    wait_for(4);
    assert_int_equal(run_order[3], 9);
    set(SETTING_TASKS_ENABLED, 1);
    tasks_tick(tasks);
    submit(&last, 10, TASK_LOW);
    wait_for(5);
    close_tasks();
}

static void a_thread_that_does_not_come_back_is_replaced(void **state)
{
    (void)state;
    struct job stuck, next;
    open_tasks(1, 0);
    set(SETTING_TASKS_LOST_MS, 0);
    shut_gate(&stuck);
    submit(&next, 5, TASK_NORMAL);
    assert_false(tasks_cancel(tasks, &stuck.task));
    io_now(io);
    tasks_tick(tasks); /* sees it */
    io_now(io);
    tasks_tick(tasks); /* gives up on it */
    wait_for(1);
    assert_int_equal(run_order[0], 5);
    assert_int_equal(atomic_load(&lane.lost), 1);
    pthread_mutex_unlock(&gate);
    wait_for(2);
    close_tasks();
}

static void counts_by_kind_and_priority(void **state)
{
    (void)state;
    struct job jobs[3];
    open_tasks(2, 0);
    for (unsigned i = 0; i < 3; i++)
        submit(&jobs[i], i, i ? TASK_LOW : TASK_CRITICAL);
    wait_for(3);
    const struct task_lane *low = &lane.lanes[TASK_KERNEL][TASK_LOW];
    assert_int_equal(lane_get(&low->done), 2);
    assert_int_equal(lane_get(&lane.lanes[TASK_KERNEL][TASK_CRITICAL].done), 1);
    assert_int_equal(atomic_load(&low->queued) + atomic_load(&low->running), 0);
    uint32_t waits = 0;
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        waits += atomic_load(&low->wait.bucket[i]);
    assert_int_equal(waits, 2);
    close_tasks();
}

static void every_thread_tidies_what_is_its_own(void **state)
{
    (void)state;
    struct job job;
    open_tasks(1, 0);
    submit(&job, 1, TASK_NORMAL);
    wait_for(1);
    tasks_tidy(tasks);
    uint64_t until = clock_now_ns() + 5000000000U;
    while (!atomic_load(&tidied) && clock_now_ns() < until)
        sched_yield();
    assert_int_equal(atomic_load(&tidied), 1);
    close_tasks();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_tasks_and_tells_the_loop),
        cmocka_unit_test(what_comes_while_a_task_ends_has_not_begun_before_it_came),
        cmocka_unit_test(takes_the_urgent_first),
        cmocka_unit_test(who_has_waited_long_comes_before_the_urgent),
        cmocka_unit_test(refuses_more_than_the_bound),
        cmocka_unit_test(what_has_not_begun_can_be_taken_back),
        cmocka_unit_test(stopping_gives_every_task_back),
        cmocka_unit_test(a_backlog_that_has_risen_gets_its_share_only),
        cmocka_unit_test(what_has_not_begun_by_its_deadline_does_not_begin),
        cmocka_unit_test(what_runs_past_its_deadline_is_told_to_stop),
        cmocka_unit_test(what_runs_is_told_to_stop_when_it_is_cancelled),
        cmocka_unit_test(the_width_follows_its_setting),
        cmocka_unit_test(a_thread_that_does_not_come_back_is_replaced),
        cmocka_unit_test(counts_by_kind_and_priority),
        cmocka_unit_test(every_thread_tidies_what_is_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
