/* signals.h - the registry of signals: one list per kind of thing that is watched.
 *
 * A signal is a time series with a unit, made of frames. Its scale says in which
 * terms its changes are compared: times and rates by their ratio (SCALE_LOG),
 * shares by their difference (SCALE_LINEAR). `low` is what is added before a
 * logarithm, so that nothing below it counts; `floor` is the least spread that a
 * signal is thought to have, in its scale: what moves less is noise to everybody.
 *
 * Threads: constant.
 */
// SPDX-License-Identifier: MIT
#pragma once

enum signal_scale { SCALE_LOG, SCALE_LINEAR };

/*    id, name, unit, scale, low, floor, doc */
#define ROUTE_SIGNAL_LIST(X)                                                                       \
    X(RPS, "rps", "1/s", SCALE_LOG, 0.1, 0.10, "requests a second")                                \
    X(MEAN_MS, "mean_ms", "ms", SCALE_LOG, 0.05, 0.10, "time to the last byte, mean")              \
    X(P50_MS, "p50_ms", "ms", SCALE_LOG, 0.05, 0.10, "the same, median")                           \
    X(P95_MS, "p95_ms", "ms", SCALE_LOG, 0.05, 0.10, "the same, 95th percentile")                  \
    X(P99_MS, "p99_ms", "ms", SCALE_LOG, 0.05, 0.15, "the same, 99th percentile")                  \
    X(ERROR_RATE, "error_rate", "ratio", SCALE_LINEAR, 0, 0.005, "answers of 500 and above")       \
    X(REFUSED_RATE, "refused_rate", "ratio", SCALE_LINEAR, 0, 0.01, "answers of 400 to 499")       \
    X(ABORTED_RATE, "aborted_rate", "ratio", SCALE_LINEAR, 0, 0.01, "no answer: the client went away") \
    X(BYTES_OUT, "bytes_out", "bytes", SCALE_LOG, 64, 0.10, "bytes of an answer, mean")

#define HOST_SIGNAL_LIST(X)                                                                        \
    X(RPS, "rps", "1/s", SCALE_LOG, 0.1, 0.10, "requests a second, all routes")                    \
    X(MEAN_MS, "mean_ms", "ms", SCALE_LOG, 0.05, 0.10, "time to the last byte, mean")              \
    X(P95_MS, "p95_ms", "ms", SCALE_LOG, 0.05, 0.10, "the same, 95th percentile")                  \
    X(ERROR_RATE, "error_rate", "ratio", SCALE_LINEAR, 0, 0.005, "answers of 500 and above")       \
    X(IN_FLIGHT, "in_flight", "requests", SCALE_LOG, 1, 0.15, "requests begun and not ended")      \
    X(CONNECTIONS, "connections", "connections", SCALE_LOG, 1, 0.15, "open connections of clients") \
    X(CPU_SHARE, "cpu_share", "ratio", SCALE_LINEAR, 0, 0.05, "CPU time of all, of what we may use") \
    X(WORKER_CPU, "worker_cpu", "cores", SCALE_LINEAR, 0, 0.05, "CPU time of the workers")          \
    X(CPU_WAIT, "cpu_wait", "cores", SCALE_LINEAR, 0, 0.05, "threads of the workers that were ready to run and waited for a CPU") \
    X(STEAL, "steal_share", "ratio", SCALE_LINEAR, 0, 0.03, "CPU time that the hypervisor gave to others") \
    X(THROTTLED, "throttled_share", "ratio", SCALE_LINEAR, 0, 0.05, "periods in which the CPU quota ran out") \
    X(MEMORY_SHARE, "memory_share", "ratio", SCALE_LINEAR, 0, 0.02, "working set of its limit")    \
    X(DISK_SHARE, "disk_share", "ratio", SCALE_LINEAR, 0, 0.02, "of the state folder's file system") \
    X(RSS_BYTES, "rss_bytes", "bytes", SCALE_LOG, 1e6, 0.03, "resident memory of the workers")     \
    X(LUA_BYTES, "lua_bytes", "bytes", SCALE_LOG, 1e5, 0.10, "Lua heaps of the workers")           \
    X(LOOP_LAG_MS, "loop_lag_ms", "ms", SCALE_LOG, 1, 0.30, "longest turn of a worker's loop")     \
    X(GC_PAUSE_MS, "gc_pause_ms", "ms", SCALE_LOG, 1, 0.30, "longest timed pause of a garbage collector") \
    X(CACHE_LOOKUPS, "cache_lookups", "1/s", SCALE_LOG, 0.5, 0.10, "requests that asked the cache") \
    X(CACHE_HIT_RATIO, "cache_hit_ratio", "ratio", SCALE_LINEAR, 0, 0.03, "of them, answered from it") \
    X(LIMITED, "limited", "1/s", SCALE_LOG, 0.5, 0.20, "requests refused by a limit of rate or concurrency") \
    X(TASK_WAIT_MS, "task_wait_ms", "ms", SCALE_LOG, 0.1, 0.20, "tasks: from asked for to begun, mean") \
    X(TASK_BUSY, "task_busy_share", "ratio", SCALE_LINEAR, 0, 0.05, "task threads at work, of the busiest worker")

#define POOL_SIGNAL_LIST(X)                                                                        \
    X(CALLS, "calls", "1/s", SCALE_LOG, 0.1, 0.10, "statements or commands a second")              \
    X(WAIT_MS, "wait_ms", "ms", SCALE_LOG, 0.1, 0.20, "waiting for a connection, mean")            \
    X(WAIT_P95_MS, "wait_p95_ms", "ms", SCALE_LOG, 0.1, 0.20, "the same, 95th percentile")         \
    X(USE_MS, "use_ms", "ms", SCALE_LOG, 0.1, 0.10, "from sent to answered, mean")                 \
    X(USE_P95_MS, "use_p95_ms", "ms", SCALE_LOG, 0.1, 0.15, "the same, 95th percentile")           \
    X(BUSY_SHARE, "busy_share", "ratio", SCALE_LINEAR, 0, 0.05, "connections at work, of those it may have") \
    X(ERROR_RATE, "error_rate", "ratio", SCALE_LINEAR, 0, 0.01, "calls that failed")               \
    X(OPENED, "opened", "1/s", SCALE_LOG, 0.2, 0.20, "connections opened a second")

struct signal_info {
    const char *name, *unit;
    enum signal_scale scale;
    double low, floor;
    const char *doc;
};

enum { /* signals of a route, then the mean time of each phase, per request */
#define X(id, name, unit, scale, low, floor, doc) ROUTE_##id,
    ROUTE_SIGNAL_LIST(X)
#undef X
        ROUTE_PHASES
};

enum {
#define X(id, name, unit, scale, low, floor, doc) HOST_##id,
    HOST_SIGNAL_LIST(X)
#undef X
        HOST_SIGNALS
};

enum {
#define X(id, name, unit, scale, low, floor, doc) POOLED_##id,
    POOL_SIGNAL_LIST(X)
#undef X
        POOL_SIGNALS
};
