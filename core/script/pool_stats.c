// SPDX-License-Identifier: MIT
#include "script/pool_stats.h"

#include "script/push.h"

struct totals {
    uint32_t held, idle, waiting;
    uint64_t opened, refused, lost, statements, rows, errors, timeouts, cancels, repeats, rejected, wait_sum_ns, use_sum_ns;
    uint32_t wait[SKETCH_COARSE_BUCKETS], use[SKETCH_COARSE_BUCKETS];
};

static void add_lane(struct totals *t, struct pool_lane *lane)
{
    t->held += atomic_load(&lane->held);
    t->idle += atomic_load(&lane->idle);
    t->waiting += atomic_load(&lane->waiting);
    t->opened += lane_get(&lane->opened);
    t->refused += lane_get(&lane->refused);
    t->lost += lane_get(&lane->lost);
    t->statements += lane_get(&lane->statements);
    t->rows += lane_get(&lane->rows);
    t->errors += lane_get(&lane->errors);
    t->timeouts += lane_get(&lane->timeouts);
    t->cancels += lane_get(&lane->cancels);
    t->repeats += lane_get(&lane->repeats);
    t->rejected += lane_get(&lane->rejected);
    t->wait_sum_ns += lane_get(&lane->wait_sum_ns);
    t->use_sum_ns += lane_get(&lane->use_sum_ns);
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++) {
        t->wait[i] += atomic_load_explicit(&lane->wait.bucket[i], memory_order_relaxed);
        t->use[i] += atomic_load_explicit(&lane->use.bucket[i], memory_order_relaxed);
    }
}

void pool_stats_set_times(lua_State *L, const char *name, const uint32_t *counts, uint64_t sum_ns)
{
    uint64_t n = 0;
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        n += counts[i];
    lua_createtable(L, 0, 5);
    set_number(L, "count", (double)n);
    set_number(L, "mean", n ? (double)sum_ns / 1e6 / (double)n : 0);
    set_number(L, "p50", sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.5) / 1e6);
    set_number(L, "p95", sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.95) / 1e6);
    set_number(L, "p99", sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.99) / 1e6);
    lua_setfield(L, -2, name);
}

void pool_stats_push(lua_State *L, struct board_pool *p)
{
    static const char *const healths[] = {"unknown", "up", "unreachable"};
    struct totals t = {0};
    char reason[POOL_REASON];
    for (int i = 0; i < POOL_WORKERS; i++)
        add_lane(&t, &p->lanes[i]);
    pool_reason(p, reason);
    lua_createtable(L, 0, 24);
    set_text(L, "id", p->name);
    bool redis = atomic_load_explicit(&p->kind, memory_order_relaxed) == POOL_REDIS;
    set_text(L, "pool_type", redis ? "redis" : "database");
    set_text(L, "system", redis ? "redis" : "postgresql");
    set_text(L, "health", healths[atomic_load(&p->health)]);
    set_text(L, "reason", reason);
    set_text(L, "server", p->where);
    set_number(L, "wait_timeout_ms", (double)atomic_load(&p->wait_ms));
    set_number(L, "statement_timeout_ms", (double)atomic_load(&p->statement_ms));
    set_number(L, "connect_timeout_ms", (double)atomic_load(&p->connect_ms));
    set_number(L, "idle_timeout_ms", (double)atomic_load(&p->idle_ms));
    set_number(L, "max_lifetime_ms", (double)atomic_load(&p->lifetime_ms));
    set_number(L, "server_max", atomic_load_explicit(&p->server_max, memory_order_relaxed));
    lua_pushboolean(L, atomic_load(&p->deleted) != 0);
    lua_setfield(L, -2, "draining");
    set_number(L, "max", pool_max(p));
    set_number(L, "min", pool_min(p));
    set_number(L, "count", t.held);
    set_number(L, "idle", t.idle < t.held ? t.idle : t.held);
    set_number(L, "used", t.held > t.idle ? t.held - t.idle : 0);
    set_number(L, "pending_requests", t.waiting);
    set_number(L, "opened", (double)t.opened);
    set_number(L, "refused", (double)t.refused);
    set_number(L, "lost", (double)t.lost);
    set_number(L, "statements", (double)t.statements);
    set_number(L, "rows", (double)t.rows);
    set_number(L, "errors", (double)t.errors);
    set_number(L, "timeouts", (double)t.timeouts);
    set_number(L, "cancels", (double)t.cancels);
    set_number(L, "repeats", (double)t.repeats);
    set_number(L, "rejected", (double)t.rejected);
    pool_stats_set_times(L, "wait_time_ms", t.wait, t.wait_sum_ns);
    pool_stats_set_times(L, "use_time_ms", t.use, t.use_sum_ns);
}
