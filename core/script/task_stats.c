// SPDX-License-Identifier: MIT
#include "script/task_stats.h"

#include "script/push.h"

struct totals {
    uint32_t queued, running;
    uint64_t done, failed, cancelled, expired, refused, wait_sum_ns, run_sum_ns, cpu_sum_ns;
    uint32_t wait[SKETCH_COARSE_BUCKETS], run[SKETCH_COARSE_BUCKETS];
};

static void add_lane(struct totals *t, const struct task_lane *lane)
{
    t->queued += atomic_load_explicit(&lane->queued, memory_order_relaxed);
    t->running += atomic_load_explicit(&lane->running, memory_order_relaxed);
    t->done += lane_get(&lane->done);
    t->failed += lane_get(&lane->failed);
    t->cancelled += lane_get(&lane->cancelled);
    t->expired += lane_get(&lane->expired);
    t->refused += lane_get(&lane->refused);
    t->wait_sum_ns += lane_get(&lane->wait_sum_ns);
    t->run_sum_ns += lane_get(&lane->run_sum_ns);
    t->cpu_sum_ns += lane_get(&lane->cpu_sum_ns);
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++) {
        t->wait[i] += atomic_load_explicit(&lane->wait.bucket[i], memory_order_relaxed);
        t->run[i] += atomic_load_explicit(&lane->run.bucket[i], memory_order_relaxed);
    }
}

static void set_times(lua_State *L, const char *name, const uint32_t *counts, uint64_t sum_ns)
{
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}};
    uint64_t n = 0;
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        n += counts[i];
    lua_createtable(L, 0, 6);
    set_number(L, "count", (double)n);
    set_number(L, "mean", n ? (double)sum_ns / 1e6 / (double)n : 0);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        set_number(L, quantiles[i].name,
                   sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, quantiles[i].q) / 1e6);
    lua_setfield(L, -2, name);
}

/* Pushes one kind at one priority; pushes nothing when there was none. */
static bool push_kind(lua_State *L, const struct task_process *processes, unsigned count, enum task_kind kind, enum task_priority priority)
{
    struct totals t = {0};
    for (unsigned i = 0; i < count; i++)
        add_lane(&t, &processes[i].lanes[kind][priority]);
    if (!(t.queued || t.running || t.done || t.failed || t.cancelled || t.expired || t.refused))
        return false;
    lua_createtable(L, 0, 12);
    set_text(L, "kind", task_kind_name(kind));
    set_text(L, "priority", task_priority_name(priority));
    set_number(L, "queued", t.queued);
    set_number(L, "running", t.running);
    set_number(L, "done", (double)t.done);
    set_number(L, "failed", (double)t.failed);
    set_number(L, "cancelled", (double)t.cancelled);
    set_number(L, "expired", (double)t.expired);
    set_number(L, "refused", (double)t.refused);
    set_number(L, "cpu_s", (double)t.cpu_sum_ns / 1e9);
    set_times(L, "wait_time_ms", t.wait, t.wait_sum_ns);
    set_times(L, "run_time_ms", t.run, t.run_sum_ns);
    return true;
}

void task_stats_push(lua_State *L, const struct task_process *p)
{
    uint32_t queued = 0, running = 0;
    for (int k = 0; k < TASK_KINDS; k++)
        for (int i = 0; i < TASK_PRIORITIES; i++) {
            queued += atomic_load_explicit(&p->lanes[k][i].queued, memory_order_relaxed);
            running += atomic_load_explicit(&p->lanes[k][i].running, memory_order_relaxed);
        }
    lua_createtable(L, 0, 8);
    set_number(L, "width", atomic_load(&p->width));
    set_number(L, "threads", atomic_load(&p->threads));
    set_number(L, "lost", atomic_load(&p->lost));
    set_number(L, "max", atomic_load(&p->most));
    set_number(L, "queued", queued);
    set_number(L, "running", running);
    set_number(L, "utilization", atomic_load(&p->busy_share));
}

void task_stats_push_kinds(lua_State *L, const struct task_process *processes, unsigned count)
{
    int n = 0;
    new_list(L);
    for (int k = 0; k < TASK_KINDS; k++)
        for (int i = 0; i < TASK_PRIORITIES; i++)
            if (push_kind(L, processes, count, (enum task_kind)k, (enum task_priority)i))
                lua_rawseti(L, -2, ++n);
}
