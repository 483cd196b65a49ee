/* tasks.c - the task pool beside libuv's own, in one process, interleaved.
 *
 *     tasks THREADS ROUNDS
 *
 * Throughput: a fixed number of tasks of 10 us, 256 of them under way at a time, from
 * submit to done() on the loop. Urgency: with 200 tasks of 100 us queued, how long until
 * another one starts: ours is critical among low ones, libuv has no priorities. A task is
 * arithmetic, calibrated once, so that both burn the same.
 *
 * Prints "ours throughput", "libuv throughput" (tasks/s, a line a round), "ours start" and
 * "libuv start" (us, a line a try).
 */
// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "task/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNDER_WAY = 256, TASKS = 40000, QUEUED = 200, TRIES = 40 };

static struct io io;
static struct tasks *tasks;
static uint64_t spins_10us;
static unsigned left, under_way;

static void spin(uint64_t n)
{
    volatile uint64_t x = n;
    for (uint64_t i = 0; i < n; i++)
        x = x * 6364136223846793005U + 1442695040888963407U;
}

/* The fastest of several, so that a pause of the machine does not count. */
static void calibrate(void)
{
    const uint64_t n = 1000000;
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 20; i++) {
        uint64_t began = clock_now_ns();
        spin(n);
        uint64_t took = clock_now_ns() - began;
        best = took < best ? took : best;
    }
    spins_10us = n * 10000 / best;
}

static void run_until_done(void)
{
    while (under_way)
        uv_run(&io.loop, UV_RUN_ONCE);
}

/* ---- ours ---- */

struct job {
    struct task task;
    uint64_t spins, asked_ns, begun_ns;
    bool again;
};

static void job_run(struct task *task, void *local)
{
    struct job *job = (struct job *)task;
    (void)local;
    job->begun_ns = clock_now_ns();
    spin(job->spins);
}

static void job_done(struct task *task);

static const struct task_class job_class = {.kind = TASK_KERNEL, .run = job_run, .done = job_done};

static void job_submit(struct job *job)
{
    job->asked_ns = clock_now_ns();
    if (!tasks_submit(tasks, &job->task, 100000))
        abort();
    under_way++;
}

static void job_done(struct task *task)
{
    struct job *job = (struct job *)task;
    under_way--;
    if (!job->again || !left)
        return;
    left--;
    job_submit(job);
}

static double ours_throughput(void)
{
    static struct job jobs[UNDER_WAY];
    uint64_t began = clock_now_ns();
    left = TASKS - UNDER_WAY;
    for (int i = 0; i < UNDER_WAY; i++) {
        jobs[i] = (struct job){.task = {.class = &job_class, .priority = TASK_NORMAL}, .spins = spins_10us, .again = true};
        job_submit(&jobs[i]);
    }
    run_until_done();
    return TASKS / ((double)(clock_now_ns() - began) / 1e9);
}

static double ours_start(void)
{
    static struct job low[QUEUED], urgent;
    for (int i = 0; i < QUEUED; i++) {
        low[i] = (struct job){.task = {.class = &job_class, .priority = TASK_LOW}, .spins = spins_10us * 10};
        job_submit(&low[i]);
    }
    urgent = (struct job){.task = {.class = &job_class, .priority = TASK_CRITICAL}, .spins = spins_10us};
    job_submit(&urgent);
    run_until_done();
    return (double)(urgent.begun_ns - urgent.asked_ns) / 1e3;
}

/* ---- libuv ---- */

struct work {
    uv_work_t work;
    uint64_t spins, asked_ns, begun_ns;
    bool again;
};

static void work_run(uv_work_t *work)
{
    struct work *w = (struct work *)work;
    w->begun_ns = clock_now_ns();
    spin(w->spins);
}

static void work_done(uv_work_t *work, int status);

static void work_submit(struct work *w)
{
    w->asked_ns = clock_now_ns();
    if (uv_queue_work(&io.loop, &w->work, work_run, work_done) < 0)
        abort();
    under_way++;
}

static void work_done(uv_work_t *work, int status)
{
    struct work *w = (struct work *)work;
    (void)status;
    under_way--;
    if (!w->again || !left)
        return;
    left--;
    work_submit(w);
}

static double libuv_throughput(void)
{
    static struct work works[UNDER_WAY];
    uint64_t began = clock_now_ns();
    left = TASKS - UNDER_WAY;
    for (int i = 0; i < UNDER_WAY; i++) {
        works[i] = (struct work){.spins = spins_10us, .again = true};
        work_submit(&works[i]);
    }
    run_until_done();
    return TASKS / ((double)(clock_now_ns() - began) / 1e9);
}

static double libuv_start(void)
{
    static struct work low[QUEUED], urgent;
    for (int i = 0; i < QUEUED; i++) {
        low[i] = (struct work){.spins = spins_10us * 10};
        work_submit(&low[i]);
    }
    urgent = (struct work){.spins = spins_10us};
    work_submit(&urgent);
    run_until_done();
    return (double)(urgent.begun_ns - urgent.asked_ns) / 1e3;
}

int main(int argc, char **argv)
{
    static struct task_process lane;
    unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    char text[16];
    snprintf(text, sizeof text, "%u", threads);
    setenv("UV_THREADPOOL_SIZE", text, 1);
    if (io_init(&io) < 0)
        return 1;
    struct tasks_opts opts = {.io = &io, .threads = threads, .lane = &lane};
    tasks = tasks_new(&opts);
    calibrate();
    ours_throughput(); /* threads are started */
    libuv_throughput();
    for (int round = 0; round < rounds; round++) {
        double ours = ours_throughput(), libuv = libuv_throughput();
        printf("libuv throughput %.0f\nours throughput %.0f\n", libuv, ours);
        libuv = libuv_throughput(); /* the other way round */
        ours = ours_throughput();
        printf("libuv throughput %.0f\nours throughput %.0f\n", libuv, ours);
        for (int i = 0; i < TRIES; i++)
            printf("ours start %.2f\nlibuv start %.2f\n", ours_start(), libuv_start());
    }
    tasks_stop(tasks, 5000);
    io_done(&io);
    tasks_free(tasks);
    return 0;
}
