/* settings.h - the registry of everything that can be set: one list.
 *
 * A setting has a name, type, unit, bounds, default and one line of
 * documentation, and is either live (read each time it is needed) or read at
 * start. Values live on the board, so a worker reads one with a single
 * relaxed load; all are kept as doubles, exact for integers up to 2^53.
 *
 * A trial (board/trials.h) may hold another value in force for a while; the
 * stable one is kept beside it and comes back when the trial lets go. Whoever
 * changes the stable value ends the trial of it: an operator's edit wins.
 *
 * Values stand in two rows: the workers of a canary (a bit each) read the
 * second, everybody else the first. They differ only where a trial is for
 * those workers alone.
 *
 * Threads: any reader; one writer (supervisor before the fork, then control;
 *          supervisor again when control has died).
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

#include <stdatomic.h>

enum setting_type { SETTING_BOOLEAN, SETTING_INTEGER, SETTING_NUMBER };

enum setting_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_API, ORIGIN_ENV, ORIGIN_FLAG };

/*    id, name, type, unit, default, min, max, live, environment variable or NULL, doc */
#define SETTING_LIST(X)                                                                            \
    X(SERVER_HEAD_BYTES, "server.head_bytes", INTEGER, "bytes", 32768, 1024, 65536, true, NULL,     \
      "largest request head; above it 431")                                                        \
    X(SERVER_TARGET_BYTES, "server.target_bytes", INTEGER, "bytes", 8192, 64, 65536, true, NULL,    \
      "longest request target; above it 414")                                                      \
    X(SERVER_FIELDS, "server.fields", INTEGER, "fields", 100, 8, 100, true, NULL,                   \
      "most header fields of a request; above it 431")                                             \
    X(SERVER_BODY_BYTES, "server.body_bytes", INTEGER, "bytes", 1073741824.0, 0, 1099511627776.0,   \
      true, NULL, "largest request body; above it 413")                                            \
    X(SERVER_HEAD_TIMEOUT_MS, "server.head_timeout_ms", INTEGER, "ms", 10000, 50, 3600000, true,    \
      NULL, "from the first byte of a head to its last; above it 408")                             \
    X(SERVER_BODY_TIMEOUT_MS, "server.body_timeout_ms", INTEGER, "ms", 30000, 50, 3600000, true,    \
      NULL, "longest pause while a request body arrives; above it 408")                            \
    X(SERVER_BODY_MIN_RATE, "server.body_min_rate", INTEGER, "bytes/s", 500, 0, 1000000000, true,   \
      NULL, "slowest request body after its first body_timeout_ms; 0 allows any")                  \
    X(SERVER_IDLE_TIMEOUT_MS, "server.idle_timeout_ms", INTEGER, "ms", 60000, 50, 3600000, true,    \
      NULL, "an idle kept-alive connection is closed after this")                                  \
    X(SERVER_WRITE_TIMEOUT_MS, "server.write_timeout_ms", INTEGER, "ms", 30000, 50, 3600000, true,  \
      NULL, "a client that takes no byte of its answer for this long is cut off")                  \
    X(SERVER_WRITE_MIN_RATE, "server.write_min_rate", INTEGER, "bytes/s", 500, 0, 1000000000, true, \
      NULL, "slowest client after its first write_timeout_ms; 0 allows any")                       \
    X(SERVER_CONNECTIONS, "server.connections", INTEGER, "connections", 20000, 1, 1000000, true,    \
      NULL, "open client connections per worker; at the cap the oldest idle one is closed")        \
    X(SERVER_CLIENT_CONNECTIONS, "server.client_connections", INTEGER, "connections", 0, 0, 1000000,  \
      true, NULL, "open connections per client address (IPv6: /64), all workers; above it 429; 0 any")  \
    X(SERVER_REQUESTS_PER_CONNECTION, "server.requests_per_connection", INTEGER, "requests", 0, 0,  \
      1000000000, true, NULL, "a connection is closed after this many requests; 0 never")          \
    X(SERVER_LINGER_MS, "server.linger_ms", INTEGER, "ms", 1000, 0, 60000, true, NULL,              \
      "after a refusal, how long to read what is still coming so that the answer arrives")         \
    X(SERVER_HALF_CLOSE_MS, "server.half_close_ms", INTEGER, "ms", 2000, 0, 3600000, true, NULL,     \
      "a client that closed its sending side still gets an answer begun within this time")         \
    X(SERVER_DRAIN_MS, "server.drain_ms", INTEGER, "ms", 30000, 0, 3600000, true, NULL,             \
      "grace for requests in flight at shutdown")                                                  \
    X(SERVER_TIMING, "server.timing", INTEGER, "", 0, 0, 2, true, NULL,                             \
      "who is told where the time went (Server-Timing): 0 nobody, 1 clients of loopback and private networks, 2 all")  \
    X(SERVER_TRUST_FORWARDED, "server.trust_forwarded", BOOLEAN, "", 0, 0, 1, true, NULL,           \
      "append to X-Forwarded-* of the client instead of replacing them")                           \
    X(SERVER_NODELAY, "server.nodelay", BOOLEAN, "", 1, 0, 1, true, NULL,                           \
      "send small packets at once (TCP_NODELAY)")                                                  \
    X(TLS_TICKET_S, "tls.ticket_s", INTEGER, "s", 28800, 60, 604800, true, NULL,                     \
      "keys of TLS session tickets are replaced after this; the last two still open")              \
    X(UPSTREAM_CONNECT_TIMEOUT_MS, "upstream.connect_timeout_ms", INTEGER, "ms", 3000, 10, 600000,  \
      true, NULL, "name resolution and TCP connect to an upstream; above it 504")                  \
    X(UPSTREAM_FIRST_BYTE_TIMEOUT_MS, "upstream.first_byte_timeout_ms", INTEGER, "ms", 60000, 10,   \
      3600000, true, NULL, "from the request sent to the first byte of its answer; above it 504")  \
    X(UPSTREAM_IDLE_TIMEOUT_MS, "upstream.idle_timeout_ms", INTEGER, "ms", 60000, 10, 3600000,      \
      true, NULL, "longest pause inside an upstream's answer")                                     \
    X(UPSTREAM_KEEPALIVE_MS, "upstream.keepalive_ms", INTEGER, "ms", 30000, 0, 3600000, true, NULL, \
      "an idle upstream connection is closed after this; 0 keeps none")                            \
    X(UPSTREAM_KEEPALIVE_MAX, "upstream.keepalive_max", INTEGER, "connections", 256, 0, 65536,      \
      true, NULL, "idle connections kept per peer and worker")                                 \
    X(UPSTREAM_BUFFER_BYTES, "upstream.buffer_bytes", INTEGER, "bytes", 262144, 4096, 16777216,     \
      true, NULL, "bytes held for a slow reader, each way, before the sender is paused")           \
    X(UPSTREAM_BUFFER_REQUEST_BYTES, "upstream.buffer_request_bytes", INTEGER, "bytes", 1048576, 0,  \
      1073741824, true, NULL, "a request body that is buffered is streamed from here on")          \
    X(UPSTREAM_WEBSOCKET, "upstream.websocket", BOOLEAN, "", 1, 0, 1, true, NULL,                   \
      "let WebSocket handshakes through to upstreams; off: they are answered 403")                 \
    X(UPSTREAM_TUNNEL_IDLE_MS, "upstream.tunnel_idle_ms", INTEGER, "ms", 300000, 50, 86400000,      \
      true, NULL, "a tunnel in which neither side says anything for this long is closed")          \
    X(UPSTREAM_TRACE, "upstream.trace", BOOLEAN, "", 1, 0, 1, true, NULL,                           \
      "pass traceparent on with a parent id of our own, or begin a trace")                         \
    X(UPSTREAM_DNS_MIN_MS, "upstream.dns_min_ms", INTEGER, "ms", 1000, 0, 86400000, true, NULL,     \
      "a name is not resolved again before this, whatever its TTL, nor after a failure")           \
    X(UPSTREAM_DNS_MAX_MS, "upstream.dns_max_ms", INTEGER, "ms", 300000, 0, 86400000, true, NULL,   \
      "a name is resolved again after this, whatever its TTL")                                     \
    X(UPSTREAM_DNS_TIMEOUT_MS, "upstream.dns_timeout_ms", INTEGER, "ms", 1000, 10, 60000, false,    \
      NULL, "one question to a DNS server; each is asked twice")                                   \
    X(UPSTREAM_PEERS_MAX, "upstream.peers_max", INTEGER, "peers", 256, 1, 4096, false, NULL,        \
      "peers of all upstreams together, addresses that names resolve to included")                 \
    X(UPSTREAM_RETRIES, "upstream.retries", INTEGER, "retries", 2, 0, 8, true, NULL,                \
      "further peers that an idempotent request is tried at")                                      \
    X(UPSTREAM_TRY_TIMEOUT_MS, "upstream.try_timeout_ms", INTEGER, "ms", 0, 0, 3600000, true, NULL, \
      "one try up to its response head, when another peer is left; 0: no limit of its own")        \
    X(UPSTREAM_BUDGET_SHARE, "upstream.budget_share", NUMBER, "", 0.2, 0, 1, true, NULL,            \
      "retries and hedges together, as a share of the requests of the last ten seconds")           \
    X(UPSTREAM_BUDGET_FLOOR, "upstream.budget_floor", INTEGER, "attempts", 10, 0, 100000, true,     \
      NULL, "retries and hedges that are always allowed per ten seconds, upstream and worker")     \
    X(UPSTREAM_HEDGE_SHARE, "upstream.hedge_share", NUMBER, "", 0.05, 0, 1, true, NULL,             \
      "hedges alone, as a share of the requests of the last ten seconds")                          \
    X(UPSTREAM_HEDGE_MIN_MS, "upstream.hedge_min_ms", INTEGER, "ms", 1, 1, 3600000, true, NULL,     \
      "earliest hedge after the start of a request")                                               \
    X(UPSTREAM_FAILURES, "upstream.failures", INTEGER, "failures", 5, 1, 1000000, true, NULL,       \
      "failures in a row that eject a peer")                                                       \
    X(UPSTREAM_EJECT_MS, "upstream.eject_ms", INTEGER, "ms", 5000, 10, 3600000, true, NULL,         \
      "first ejection of a peer; it doubles each time until the peer has been well for long")      \
    X(UPSTREAM_EJECT_MAX_MS, "upstream.eject_max_ms", INTEGER, "ms", 300000, 10, 86400000, true,    \
      NULL, "longest ejection")                                                                    \
    X(UPSTREAM_EJECT_SHARE, "upstream.eject_share", NUMBER, "", 0.334, 0, 1, true, NULL,            \
      "peers that answer badly may be ejected up to this share; one always may, one always stays")        \
    X(UPSTREAM_PROBE_MS, "upstream.probe_ms", INTEGER, "ms", 10000, 10, 3600000, true, NULL,        \
      "a request that probes an ejected peer has this long before another may")                    \
    X(UPSTREAM_OUTLIER_MS, "upstream.outlier_ms", INTEGER, "ms", 10000, 50, 3600000, true, NULL,    \
      "how often peers are compared with each other")                                              \
    X(UPSTREAM_OUTLIER_REQUESTS, "upstream.outlier_requests", INTEGER, "requests", 50, 1, 1000000,  \
      true, NULL, "requests of a peer in that time before it is compared")                         \
    X(UPSTREAM_OUTLIER_ERRORS, "upstream.outlier_errors", NUMBER, "", 0.2, 0.001, 1, true, NULL,    \
      "a share of failures this much above that of the other peers ejects a peer")                 \
    X(UPSTREAM_OUTLIER_FACTOR, "upstream.outlier_factor", NUMBER, "", 5, 1.1, 1000, true, NULL,     \
      "a mean latency this many times the median of the other peers ejects a peer")                \
    X(UPSTREAM_OUTLIER_FLOOR_MS, "upstream.outlier_floor_ms", INTEGER, "ms", 20, 0, 3600000, true,  \
      NULL, "a mean latency below this never ejects a peer")                                       \
    X(UPSTREAM_HEALTH_MS, "upstream.health_ms", INTEGER, "ms", 5000, 50, 3600000, true, NULL,       \
      "how often a peer with a health path is checked")                                            \
    X(UPSTREAM_HEALTH_TIMEOUT_MS, "upstream.health_timeout_ms", INTEGER, "ms", 2000, 10, 600000,    \
      true, NULL, "longest health check")                                                          \
    X(UPSTREAM_HEALTH_FALL, "upstream.health_fall", INTEGER, "checks", 2, 1, 1000, true, NULL,      \
      "failed checks in a row that take a peer out")                                               \
    X(UPSTREAM_HEALTH_RISE, "upstream.health_rise", INTEGER, "checks", 2, 1, 1000, true, NULL,      \
      "good checks in a row that bring it back")                                                   \
    X(UPSTREAM_SLOW_START_MS, "upstream.slow_start_ms", INTEGER, "ms", 5000, 0, 3600000, true,      \
      NULL, "the weight of a peer that returns grows from a tenth over this time")                 \
    X(UPSTREAM_HASH_BOUND, "upstream.hash_bound", NUMBER, "", 1.25, 1, 100, true, NULL,             \
      "with balance = \"hash\": most load of a peer, as a multiple of the mean")                   \
    X(SCRIPT_CPU_MS, "script.cpu_ms", INTEGER, "ms", 200, 10, 60000, true, NULL,                    \
      "CPU time a handler may use without yielding before it is interrupted")                      \
    X(SCRIPT_LOAD_MS, "script.load_ms", INTEGER, "ms", 1000, 10, 60000, true, NULL,                 \
      "CPU time the scripts of a generation may use to load")                                      \
    X(SCRIPT_MEMORY_BYTES, "script.memory_bytes", INTEGER, "bytes", 134217728, 4194304,             \
      2147483648.0, true, NULL, "Lua heap of a worker; above it the running script is interrupted") \
    X(SCRIPT_MEMORY_FACTOR, "script.memory_factor", NUMBER, "", 2, 1.1, 16, true, NULL,             \
      "allocation is refused above memory_bytes times this")                                       \
    X(SCRIPT_PATTERN_STEPS, "script.pattern_steps", INTEGER, "steps", 1000000, 1000, 1000000000,    \
      true, NULL, "work one pattern call may do beyond 8 steps a byte")                                  \
    X(SCRIPT_BODY_BYTES, "script.body_bytes", INTEGER, "bytes", 8388608, 0, 1073741824, true, NULL, \
      "largest request or response body a script may hold as a string")                            \
    X(CACHE_BYTES, "cache.bytes", INTEGER, "bytes", 268435456, 0, 1099511627776.0, false, NULL,    \
      "room for stored answers, on disk and mapped by all workers; 0: no cache")                   \
    X(CACHE_QUEUE_BYTES, "cache.queue_bytes", INTEGER, "bytes", 16777216, 65536, 4294967296.0,     \
      true, NULL, "answers of a worker that wait to be stored; above it they are not")             \
    X(CACHE_UNCACHEABLE_MS, "cache.uncacheable_ms", INTEGER, "ms", 1000, 0, 3600000, true, NULL,   \
      "after an answer that was not for others, how long nobody waits for the next one")           \
    X(WORKER_HANG_MS, "worker.hang_ms", INTEGER, "ms", 1000, 100, 600000, true, NULL,               \
      "a process whose heartbeat stops for this long is killed and replaced")                      \
    X(RELOAD_WATCH, "reload.watch", BOOLEAN, "", 1, 0, 1, true, NULL,                               \
      "reload when a file of the rules or the configuration changes")                              \
    X(RELOAD_DEBOUNCE_MS, "reload.debounce_ms", INTEGER, "ms", 100, 0, 10000, true, NULL,           \
      "files must be still for this long before they are loaded")                                  \
    X(RELOAD_GUARD_MS, "reload.guard_ms", INTEGER, "ms", 30000, 0, 3600000, true, NULL,             \
      "after a swap, how long a worse error rate rolls it back; 0 never")                          \
    X(RELOAD_GUARD_ERRORS, "reload.guard_errors", INTEGER, "errors", 20, 1, 1000000, true, NULL,    \
      "server errors after a swap, beyond the pace of before, until it can be rolled back")                                   \
    X(RELOAD_GUARD_SHARE, "reload.guard_share", NUMBER, "", 0.1, 0.001, 1, true, NULL,              \
      "rise of the error rate after a swap that rolls it back")                                    \
    X(STATS_SLOW_MS, "stats.slow_ms", NUMBER, "ms", 100, 0, 3600000, true, NULL,                    \
      "requests slower than this are kept as examples")                                            \
    X(ACCESS_LOG_BYTES, "access_log.buffer_bytes", INTEGER, "bytes", 1048576, 4096, 1073741824, false, NULL, \
      "of each worker, for lines that are not yet written; what does not fit is lost and counted")  \
    X(ATTACH_GUESTS, "attach.guests", INTEGER, "processes", 16, 0, 32, false, NULL,                 \
      "processes of applications that can attach at a time; 0: there is no socket for them")       \
    X(ATTACH_ANYONE, "attach.anyone", BOOLEAN, "", 0, 0, 1, false, NULL,                             \
      "every user of this machine may attach, which is to trust them with the engine; else only ours")  \
    X(STATS_ROUTES_MAX, "stats.routes_max", INTEGER, "routes", 256, 8, 1024, false, NULL,           \
      "routes measured apart; the rest share (other)")                                             \
    X(STATS_HISTORY_BYTES, "stats.history_bytes", INTEGER, "bytes", 67108864, 1048576,              \
      4294967296.0, false, NULL, "memory of the windows of 1 s, 10 s and 1 min together")          \
    X(HISTORY_STORE_BYTES, "history.store_bytes", INTEGER, "bytes", 268435456, 0, 1099511627776.0,  \
      true, NULL, "history on disk (history.db below the state folder), the oldest goes first; 0 writes none")  \
    X(HISTORY_STORE_INTERVAL_S, "history.store_interval_s", INTEGER, "s", 60, 1, 3600, true, NULL,   \
      "history is written this often: what a crash of the whole engine costs of it at most")       \
    X(RESOURCE_INTERVAL_S, "resource.interval_s", INTEGER, "s", 30, 1, 3600, true,                  \
      "RESOURCE_MONITORING_INTERVAL", "how often the machine is recorded in the history")          \
    X(RESOURCE_HEALTH_INTERVAL_S, "resource.health_interval_s", INTEGER, "s", 60, 1, 86400, true,   \
      "RESOURCE_HEALTH_CHECK_INTERVAL", "how often an idle pooled connection is checked")  \
    X(COMPRESSION_ENABLED, "compression.enabled", BOOLEAN, "", 1, 0, 1, true,                      \
      "PERFORMANCE_COMPRESSION_ENABLED", "compress answers, as rules/policies/compression.lua says")\
    X(COMPRESSION_LEVEL, "compression.level", INTEGER, "", 6, 0, 12, true,                         \
      "PERFORMANCE_COMPRESSION_LEVEL", "densest level that any policy may use")\
    X(COMPRESSION_MIN_BYTES, "compression.min_bytes", INTEGER, "bytes", 1024, 0, 1073741824, true, \
      "PERFORMANCE_MIN_COMPRESSION_SIZE", "smaller bodies stay as they are, unless the policy says other")\
    X(COMPRESSION_GATHER_BYTES, "compression.gather_bytes", INTEGER, "bytes", 131072, 0, 4194304, true,\
      NULL, "a streamed answer up to this is gathered and compressed whole")                       \
    X(COMPRESSION_FLUSH_MS, "compression.flush_ms", INTEGER, "ms", 5, 0, 10000, true, NULL,        \
      "a stream that pauses for this long is flushed through to the client; event streams at once")\
    X(COMPRESSION_INLINE_US, "compression.inline_us", INTEGER, "us", 100, 0, 1000000, true, NULL,  \
      "what compresses within this runs on the loop, the rest on task threads")                    \
    X(COMPRESSION_STREAM_BYTES, "compression.stream_bytes", INTEGER, "bytes", 134217728, 0,        \
      17179869184.0, true, NULL, "memory of a worker for streams under compression; above it they go as they are")\
    X(COMPRESSION_DECODE_RATIO, "compression.decode_ratio", INTEGER, "", 100, 1, 100000, true, NULL, \
      "a request body that decodes to more than this times its size is refused, where a policy has them decoded")\
    X(TASKS_ENABLED, "tasks.enabled", BOOLEAN, "", 1, 0, 1, true,                                  \
      "PERFORMANCE_ASYNC_POOL_ENABLED", "run long work on task threads; off: on the loop, one task a turn") \
    X(TASKS_MAX, "tasks.max", INTEGER, "tasks", 50, 1, 100000, true,                               \
      "PERFORMANCE_MAX_CONCURRENT_TASKS", "tasks of a worker queued or running; above it tasks:run gives \"busy\"")\
    X(TASKS_THREADS, "tasks.threads", INTEGER, "threads", 2, 1, 64, true, NULL,                    \
      "task threads of a worker, started when first needed")                                       \
    X(TASKS_AGING_MS, "tasks.aging_ms", INTEGER, "ms", 20, 1, 60000, true, NULL,                   \
      "a task that has waited this long counts as one priority higher")                            \
    X(TASKS_AGED_EVERY, "tasks.aged_every", INTEGER, "tasks", 4, 1, 1000, true, NULL,              \
      "one task in so many may be one that rose by waiting; the others go by their own priority")  \
    X(TASKS_DEADLINE_MS, "tasks.deadline_ms", INTEGER, "ms", 30000, 1, 86400000, true, NULL,       \
      "a task that names no deadline_ms is given up after this")                                   \
    X(TASKS_CPU_MS, "tasks.cpu_ms", INTEGER, "ms", 2000, 10, 600000, true, NULL,                   \
      "CPU time a Lua task may use before it is interrupted")                                      \
    X(TASKS_COPY_BYTES, "tasks.copy_bytes", INTEGER, "bytes", 16777216, 1024, 1073741824, true,    \
      NULL, "largest data copied to a task, and back from it")                                     \
    X(TASKS_CANCEL_GONE, "tasks.cancel_gone", BOOLEAN, "", 1, 0, 1, true, NULL,                    \
      "a handler that waits for a task when its client goes away is ended, and the task cancelled") \
    X(TASKS_LOST_MS, "tasks.lost_ms", INTEGER, "ms", 5000, 100, 600000, true, NULL,                \
      "a thread that has not left its task this long after being told to is replaced")             \
    X(POOL_DB_MIN, "pool.db.min", INTEGER, "connections", 5, 0, 10000, true, "DB_POOL_MIN_SIZE",     \
      "PostgreSQL connections kept open by all workers together")                                  \
    X(POOL_DB_MAX, "pool.db.max", INTEGER, "connections", 20, 1, 10000, true, "DB_POOL_MAX_SIZE",    \
      "most PostgreSQL connections of all workers together")                                       \
    X(POOL_DB_WAIT_MS, "pool.db.wait_ms", INTEGER, "ms", 5000, 1, 3600000, true, NULL,              \
      "longest a request waits for a connection or its turn on one")                               \
    X(POOL_DB_STATEMENT_MS, "pool.db.statement_ms", INTEGER, "ms", 30000, 1, 86400000, true, NULL,  \
      "longest a statement may run; then it is cancelled")                                         \
    X(POOL_DB_CONNECT_MS, "pool.db.connect_ms", INTEGER, "ms", 5000, 10, 600000, true, NULL,        \
      "longest from looking up the server's name to being logged in")                              \
    X(POOL_DB_IDLE_MS, "pool.db.idle_ms", INTEGER, "ms", 600000, 100, 86400000, true, NULL,         \
      "a connection above min that has nothing to do for this long is closed")                     \
    X(POOL_DB_LIFETIME_MS, "pool.db.lifetime_ms", INTEGER, "ms", 3600000, 100, 604800000, true,     \
      NULL, "a connection is replaced at this age, give or take a tenth")                          \
    X(POOL_DB_BACKOFF_MS, "pool.db.backoff_ms", INTEGER, "ms", 50, 1, 600000, true, NULL,           \
      "pause after a failure to connect; it doubles up to backoff_max_ms")                         \
    X(POOL_DB_BACKOFF_MAX_MS, "pool.db.backoff_max_ms", INTEGER, "ms", 1000, 1, 600000, true, NULL, \
      "longest pause between attempts to connect")                                                 \
    X(POOL_SIZING_WINDOW_S, "pool.sizing.window_s", NUMBER, "s", 10, 0.5, 3600, true, NULL,          \
      "time over which a pool's load is taken for rules/policies/pools.lua")                       \
    X(POOL_DB_GRACE_MS, "pool.db.grace_ms", INTEGER, "ms", 2000, 0, 3600000, true, NULL,            \
      "requests wait for a server that is away for less than this; then they fail at once")        \
    X(POOL_DB_QUEUE, "pool.db.queue", INTEGER, "requests", 10000, 1, 10000000, true, NULL,          \
      "most requests of a worker that wait for a connection")                                      \
    X(POOL_DB_PIPELINE, "pool.db.pipeline", INTEGER, "statements", 64, 1, 1024, true, NULL,         \
      "statements under way on one connection; 1: each waits for the one before")                  \
    X(POOL_DB_SPREAD_MS, "pool.db.spread_ms", NUMBER, "ms", 1, 0, 60000, true, NULL,                \
      "another connection is used once what is under way on one takes the server this long")       \
    X(POOL_DB_SLOW_MS, "pool.db.slow_ms", NUMBER, "ms", 10, 0, 3600000, true, NULL,                 \
      "statements that take this long get a connection for themselves")                            \
    X(POOL_DB_RESULT_BYTES, "pool.db.result_bytes", INTEGER, "bytes", 33554432, 1024,               \
      1073741824, true, NULL, "largest result held as a whole, and largest row of a streamed one") \
    X(POOL_DB_TEXTS, "pool.db.texts", INTEGER, "statements", 1024, 16, 1000000, true, NULL,         \
      "SQL texts that a worker remembers")                                                         \
    X(POOL_DB_PREPARED, "pool.db.prepared", INTEGER, "statements", 256, 1, 100000, true, NULL,      \
      "statements kept prepared on a connection")                                                  \
    X(POOL_DB_CANCEL_GONE, "pool.db.cancel_gone", BOOLEAN, "", 1, 0, 1, true, NULL,                 \
      "a statement whose client has gone is cancelled")                                            \
    X(POOL_REDIS_MAX, "pool.redis.max", INTEGER, "connections", 20, 1, 10000, true,                 \
      "REDIS_POOL_MAX_CONNECTIONS", "most Redis connections of all workers together")              \
    X(POOL_REDIS_MIN, "pool.redis.min", INTEGER, "connections", 0, 0, 10000, true, NULL,            \
      "Redis connections kept open by all workers together")                                       \
    X(POOL_REDIS_SHARED, "pool.redis.shared", INTEGER, "connections", 1, 1, 64, true, NULL,         \
      "connections of a worker that requests share")                                               \
    X(POOL_REDIS_PIPELINE, "pool.redis.pipeline", INTEGER, "commands", 1024, 1, 100000, true, NULL, \
      "commands and pipelines under way on one connection; further ones wait")                     \
    X(POOL_REDIS_OUTPUT_BYTES, "pool.redis.output_bytes", INTEGER, "bytes", 1048576, 1024,          \
      1073741824, true, NULL, "unsent bytes of a connection above which further commands wait")    \
    X(POOL_REDIS_QUEUE, "pool.redis.queue", INTEGER, "requests", 10000, 1, 10000000, true, NULL,    \
      "most requests of a worker that wait for a connection")                                      \
    X(POOL_REDIS_COMMAND_MS, "pool.redis.command_ms", INTEGER, "ms", 1000, 1, 86400000, true, NULL, \
      "longest a command takes, from asked to answered; a late reply is dropped")                  \
    X(POOL_REDIS_WAIT_MS, "pool.redis.wait_ms", INTEGER, "ms", 5000, 1, 3600000, true, NULL,        \
      "longest a request waits for a connection of its own, or for a subscription")                \
    X(POOL_REDIS_STALL_MS, "pool.redis.stall_ms", INTEGER, "ms", 3000, 50, 3600000, true, NULL,     \
      "a connection on which nothing was answered for this long is replaced")                      \
    X(POOL_REDIS_CONNECT_MS, "pool.redis.connect_ms", INTEGER, "ms", 3000, 10, 600000, true, NULL,  \
      "longest from looking up the server's name to its answer to PING")                           \
    X(POOL_REDIS_IDLE_MS, "pool.redis.idle_ms", INTEGER, "ms", 600000, 100, 86400000, true, NULL,   \
      "a connection above min that has nothing to do for this long is closed")                     \
    X(POOL_REDIS_LIFETIME_MS, "pool.redis.lifetime_ms", INTEGER, "ms", 3600000, 100, 604800000,     \
      true, NULL, "a connection is replaced at this age, give or take a tenth")                    \
    X(POOL_REDIS_BACKOFF_MS, "pool.redis.backoff_ms", INTEGER, "ms", 50, 1, 600000, true, NULL,     \
      "pause after a failure to connect, less up to half; it doubles up to backoff_max_ms")        \
    X(POOL_REDIS_BACKOFF_MAX_MS, "pool.redis.backoff_max_ms", INTEGER, "ms", 1000, 1, 600000, true, \
      NULL, "longest pause between attempts to connect")                                           \
    X(POOL_REDIS_GRACE_MS, "pool.redis.grace_ms", INTEGER, "ms", 2000, 0, 3600000, true, NULL,      \
      "requests wait for a server that is away for less than this; then they fail at once")        \
    X(POOL_REDIS_RESULT_BYTES, "pool.redis.result_bytes", INTEGER, "bytes", 33554432, 1024,         \
      1073741824, true, NULL, "largest reply, and largest message of a subscription")              \
    X(POOL_REDIS_BACKLOG_BYTES, "pool.redis.backlog_bytes", INTEGER, "bytes", 1048576, 1024,        \
      1073741824, true, NULL, "messages held for a subscriber that is slow; above it they are dropped") \
    X(POOL_REDIS_RETRIES, "pool.redis.retries", INTEGER, "retries", 3, 0, 1000, true, NULL,         \
      "a transaction whose watched keys changed is done again this often")                         \
    X(POOL_REDIS_CANCEL_GONE, "pool.redis.cancel_gone", BOOLEAN, "", 1, 0, 1, true, NULL,           \
      "a command whose client has gone is given up")                                               \
    X(ANALYSIS_WINDOW, "analysis.window", INTEGER, "samples", 100, 10, 4096, false,                \
      "PERFORMANCE_ANALYSIS_WINDOW", "unremarkable samples of a signal that are its baseline")     \
    X(ANALYSIS_THRESHOLD, "analysis.anomaly_threshold", NUMBER, "", 0.1, 0, 1, true,                \
      "ML_ANOMALY_THRESHOLD", "a sample is remarkable when its rank among the usual ones is in this share of an end") \
    X(ANALYSIS_MIN_SAMPLES, "analysis.min_samples", INTEGER, "samples", 100, 1, 1000000, true,      \
      "ML_TRAINING_MIN_SAMPLES", "samples to learn from before anything is called unusual")        \
    X(ANALYSIS_SAMPLE_REQUESTS, "analysis.sample_requests", INTEGER, "requests", 20, 1, 1000000, true, NULL, \
      "a sample of a route ends with the second that completes so many")                           \
    X(ANALYSIS_SAMPLE_S, "analysis.sample_s", INTEGER, "s", 10, 1, 3600, true, NULL,                \
      "or after so long")                                                                          \
    X(ANALYSIS_ADOPT_S, "analysis.adopt_s", INTEGER, "s", 1800, 10, 864000, true, NULL,             \
      "what has been unusual for so long is learnt as usual")                         \
    X(STREAM_CLIENTS, "stream.clients", INTEGER, "clients", 32, 1, 1000, true, NULL,                \
      "clients that may listen to the control API's events at once; above it 503")                 \
    X(STREAM_EVENTS, "stream.events", INTEGER, "events", 300, 10, 10000, false, NULL,               \
      "events kept for clients that are slow or come again; older ones are dropped")               \
    X(ALERTS_INTERVAL_S, "alerts.interval_s", NUMBER, "s", 5, 0.5, 3600, true, NULL,                \
      "alert policies are looked at this often")                                                   \
    X(ALERTS_WINDOW_S, "alerts.window_s", INTEGER, "s", 60, 1, 3600, true, NULL,                    \
      "what a policy says of a route is about its requests of the last so many seconds")           \
    X(ALERTS_GRACE_S, "alerts.grace_s", INTEGER, "s", 120, 0, 86400, true, NULL,                    \
      "after a restart, alerts without data stay as they were for so long")                        \
    X(ALERTS_SERIES_MAX, "alerts.series_max", INTEGER, "alerts", 10000, 10, 1000000, true, NULL,    \
      "alerts that are pending, firing or remembered at once; further ones are not begun")         \
    X(ALERTS_FLAP_CHECK_S, "alerts.flap_check_s", INTEGER, "s", 30, 1, 3600, true, NULL,            \
      "an alert's changes are looked at this often; 21 looks tell whether it flaps")               \
    X(ALERTS_FLAP_ENTER, "alerts.flap_enter", NUMBER, "", 0.2, 0.01, 1, true, NULL,                 \
      "weighted share of changes from which an alert flaps")                                       \
    X(ALERTS_FLAP_LEAVE, "alerts.flap_leave", NUMBER, "", 0.1, 0, 1, true, NULL,                    \
      "and below which it flaps no more")                                                          \
    X(ALERTS_TIMEOUT_MS, "alerts.timeout_ms", INTEGER, "ms", 10000, 50, 600000, true, NULL,         \
      "a receiver that has not answered a notification after this gets it again later")            \
    X(ALERTS_RETRY_MS, "alerts.retry_ms", INTEGER, "ms", 1000, 10, 3600000, true, NULL,             \
      "pause before the second attempt; it doubles each time, and is drawn from its upper half")   \
    X(ALERTS_RETRY_MOST_MS, "alerts.retry_most_ms", INTEGER, "ms", 300000, 10, 86400000, true, NULL, \
      "longest pause between attempts")                                                            \
    X(ALERTS_OUTBOX, "alerts.outbox", INTEGER, "notifications", 1000, 1, 100000, true, NULL,        \
      "notifications that wait for one receiver; above it the oldest is given up")                 \
    X(ALERTS_OUTBOX_S, "alerts.outbox_s", INTEGER, "s", 259200, 1, 31536000, true, NULL,            \
      "a notification that could not be delivered for so long is given up")                        \
    X(ALERTS_RESEND_S, "alerts.resend_s", INTEGER, "s", 60, 1, 3600, true, NULL,                    \
      "an Alertmanager is told of what fires this often, and to forget it after four times that")  \
    X(TRIALS_LEASE_S, "trials.lease_s", INTEGER, "s", 30, 2, 3600, true, NULL,                      \
      "what is on trial is let go when control has not renewed it for so long")                    \
    X(TRIALS_COOLDOWN_S, "trials.cooldown_s", INTEGER, "s", 600, 0, 604800, true, NULL,             \
      "a setting rests for so long after a trial before the engine begins another of it")         \
    X(TRIALS_QUIET_S, "trials.quiet_s", INTEGER, "s", 900, 0, 86400, true, NULL,                    \
      "after a reload the engine begins no trial by itself for so long")                           \
    X(TRIALS_PAIRS, "trials.pairs", INTEGER, "pairs", 10, 4, 1000, true, NULL,                      \
      "pairs of blocks after which an experiment ends without a verdict")

enum setting_id {
#define X(id, name, type, unit, def, min, max, live, env, doc) SETTING_##id,
    SETTING_LIST(X)
#undef X
        SETTING_COUNT
};

/* What the engine may change by itself, and how an experiment with it is to be made.
 *    id, scope, coupling group, factor a step may change it by at most, settle time in s
 * Of a coupling group one setting at a time is on trial, because their effects mix. */
#define SETTING_TUNING_LIST(X)                                                                     \
    X(UPSTREAM_KEEPALIVE_MS, "upstream", "connections", 4, 5)                                        \
    X(UPSTREAM_KEEPALIVE_MAX, "upstream", "connections", 4, 3)                                       \
    X(UPSTREAM_FIRST_BYTE_TIMEOUT_MS, "upstream", "capacity", 20, 5)                                 \
    X(UPSTREAM_TRY_TIMEOUT_MS, "upstream", "capacity", 20, 5)                                        \
    X(UPSTREAM_RETRIES, "upstream", "capacity", 3, 3)                                                \
    X(UPSTREAM_BUDGET_SHARE, "upstream", "capacity", 5, 3)                                           \
    X(UPSTREAM_HEDGE_SHARE, "upstream", "capacity", 20, 3)                                           \
    X(UPSTREAM_HEDGE_MIN_MS, "upstream", "capacity", 20, 3)                                          \
    X(UPSTREAM_OUTLIER_FACTOR, "upstream", "capacity", 4, 5)                                         \
    X(UPSTREAM_OUTLIER_ERRORS, "upstream", "capacity", 10, 5)                                        \
    X(UPSTREAM_DNS_MIN_MS, "upstream", "connections", 60, 5)                                         \
    X(COMPRESSION_ENABLED, "worker", "compression", 1, 1)                                            \
    X(COMPRESSION_LEVEL, "worker", "compression", 12, 1)                                             \
    X(COMPRESSION_MIN_BYTES, "worker", "compression", 64, 1)                                         \
    X(COMPRESSION_INLINE_US, "worker", "compression", 10, 2)                                         \
    X(TASKS_ENABLED, "worker", "capacity", 1, 3)                                                     \
    X(TASKS_MAX, "worker", "capacity", 4, 3)                                                         \
    X(TASKS_THREADS, "worker", "capacity", 2, 3)                                                     \
    X(POOL_DB_MIN, "pool", "capacity", 4, 1)                                                         \
    X(POOL_DB_MAX, "pool", "capacity", 2, 1)                                                         \
    X(POOL_DB_IDLE_MS, "pool", "capacity", 20, 5)                                                    \
    X(POOL_DB_LIFETIME_MS, "pool", "capacity", 20, 5)                                                \
    X(POOL_DB_PIPELINE, "pool", "capacity", 64, 2)                                                   \
    X(POOL_DB_SLOW_MS, "pool", "capacity", 10, 2)                                                    \
    X(POOL_DB_SPREAD_MS, "pool", "capacity", 10, 2)                                                  \
    X(POOL_DB_PREPARED, "pool", "capacity", 16, 5)                                                   \
    X(POOL_DB_CANCEL_GONE, "pool", "capacity", 1, 3)                                                 \
    X(POOL_REDIS_MIN, "pool", "capacity", 4, 1)                                                      \
    X(POOL_REDIS_MAX, "pool", "capacity", 2, 1)                                                      \
    X(POOL_REDIS_SHARED, "pool", "capacity", 4, 3)                                                   \
    X(POOL_REDIS_IDLE_MS, "pool", "capacity", 20, 5)                                                 \
    X(POOL_REDIS_PIPELINE, "pool", "capacity", 16, 2)                                                \
    X(POOL_REDIS_COMMAND_MS, "pool", "capacity", 20, 3)                                              \
    X(SERVER_IDLE_TIMEOUT_MS, "global", "connections", 20, 5)

struct setting_tuning {
    const char *scope; /* what shares the value: "global", "worker" (each acts on it by itself), "pool", "upstream" */
    const char *group; /* coupling group */
    double step;       /* largest factor of one change, at least 1; numbers below 1 count as 1 */
    double settle_s;   /* from a change to its whole effect */
};

/* NULL: only an operator changes it. */
const struct setting_tuning *setting_tuning(int id);

struct setting_info {
    const char *name;
    enum setting_type type;
    const char *unit;
    double fallback; /* the default */
    double min, max;
    bool live;       /* false: read at start */
    const char *env; /* environment variable of the contract, or NULL */
    const char *doc;
};

extern const struct setting_info setting_infos[SETTING_COUNT];

enum { FOR_ALL, FOR_CANARY, SETTINGS_ROWS };

struct settings {
    _Atomic double value[SETTINGS_ROWS][SETTING_COUNT]; /* in force */
    _Atomic uint64_t canary;                    /* the bits of its workers */
    _Atomic double stable[SETTING_COUNT];
    _Atomic unsigned char tried[SETTING_COUNT]; /* value is that of a trial */
    _Atomic unsigned char origin[SETTING_COUNT]; /* of the stable value */
};

void settings_init(struct settings *settings);

/* A new stable value. Another than before ends a trial of the setting. */
void settings_set(struct settings *settings, int id, double value, enum setting_origin origin);

/* Holds a trial's value in force, for all or only for the canary, and lets it go. */
void settings_try(struct settings *settings, int id, double value, bool canary_only);
void settings_untry(struct settings *settings, int id);

/* The bit of this process in `canary`: 0 unless it is a worker that said which. */
extern uint64_t settings_reader;

static inline double setting_number(const struct settings *settings, enum setting_id id)
{
    bool canary = (atomic_load_explicit(&settings->canary, memory_order_relaxed) & settings_reader) != 0;
    return atomic_load_explicit(&settings->value[canary][id], memory_order_relaxed);
}

static inline uint64_t setting_integer(const struct settings *settings, enum setting_id id)
{
    return (uint64_t)(int64_t)setting_number(settings, id); /* one instruction, unlike straight to unsigned */
}

/* Index of a setting by name, or -1. */
int setting_find(struct str name);

/* The name nearest to a wrong one, or NULL when none is near. */
const char *setting_nearest(struct str name);

/* Reads a value from text ("true", "12", "0.5", "64KiB", "1.5s" by unit).
 * False fills `why` with what would be accepted. */
bool setting_parse(int id, struct str text, double *out, char *why, size_t why_size);

/* Checks type and bounds. False fills `why`. */
bool setting_check(int id, double value, char *why, size_t why_size);

const char *setting_origin_name(enum setting_origin origin);
