--- Golden fixtures of the shipped rules: for each a snapshot in which it must be raised, and a near miss in which it must not.
-- Both are made from one healthy snapshot, in which no rule may be raised.
--
--     cases[id] = { fires = function(x) ... end,     makes of the healthy snapshot one in which the rule applies
--                   near = function(x) ... end,      and of that one in which it does not: one condition less; or several of them
--                   set = { [setting] = value },     what is then suggested (executable rules)
--                   predicted = number }             and expected, within 2 %
--
-- x.host, x.a and x.b (routes), x.main and x.redis (pools) are those of x.things, x.p1 and x.p2 the pools beside them.

local M = {}

local function thing(kind, name, now, usual)
  local own = {}
  for k, v in pairs(now) do own[k] = v end
  for k, v in pairs(usual or {}) do own[k] = v end
  return { kind = kind, name = name, requests = 500, now = now, usual = own, moved = {} }
end

local function peer(address)
  return { address = address, state = "closed", attempts = 9000, answers = 9000, failures = 0, latency_ms = 10 },
    { address = address, attempts = 400, answers = 400, failures = 0, retries = 0, hedges = 0, hedge_wins = 0, latency_sum_s = 4 }
end

--- A healthy loaded engine. `settings` are its settings by name.
function M.base(settings)
  local x = { at_ms = 1e12, span_s = 30, cores = 4, workers = 4, settings = settings, issues = {}, figures = { ["memory.limit_bytes"] = 16e9, ["memory.working_set_bytes"] = 4e9 } }
  x.host = thing("host", "host", { rps = 80, mean_ms = 20, p95_ms = 50, error_rate = 0, in_flight = 2, connections = 20, cpu_share = 0.3, worker_cpu = 1, steal_share = 0,
    throttled_share = 0, memory_share = 0.3, rss_bytes = 2e8, lua_bytes = 2e7, loop_lag_ms = 2, gc_pause_ms = 0.5, limited = 0, task_wait_ms = 0.2, task_busy_share = 0.2 })
  local phases = { rps = 40, mean_ms = 20, p50_ms = 18, p95_ms = 50, p99_ms = 70, error_rate = 0.01, bytes_out = 3000, lua = 0.5, compress = 0.2 }
  local function route(name, more)
    local now = {}
    for k, v in pairs(phases) do now[k] = v end
    for k, v in pairs(more) do now[k] = v end
    return thing("route", name, now)
  end
  x.a = route("GET /a", { db = 5, redis = 0.5, pool_wait = 0.05, task = 1 })
  x.b = route("GET /b", { upstream_connect = 0.1, upstream_first_byte = 10, upstream_body = 1, cache = 0.1 })
  x.main = thing("pool", "main", { calls = 60, wait_ms = 0.05, wait_p95_ms = 0.2, use_ms = 3, use_p95_ms = 8, busy_share = 0.2, error_rate = 0, opened = 0 })
  x.redis = thing("pool", "cache", { calls = 60, wait_ms = 0.05, wait_p95_ms = 0.1, use_ms = 0.3, use_p95_ms = 0.8, busy_share = 0.1, error_rate = 0, opened = 0 })
  x.things = { x.host, x.a, x.b, x.main, x.redis }
  local function pool(id, type)
    return { id = id, pool_type = type, max = 10, min = 2, count = 10, idle = 8, used = 2, server_max = 100, max_lifetime_ms = 3600000, idle_timeout_ms = 600000, statement_timeout_ms = 30000,
      statements = {}, during = { statements_total = 1800, timeouts = 0, opened = 0 } }
  end
  x.p1, x.p2 = pool("main", "database"), pool("cache", "redis")
  x.pools = { x.p1, x.p2 }
  x.p1.statements[1] = { statement = "select * from users where id = $1", calls = 9000, most_per_request = 1, most_by_route = "GET /a",
    during = { calls = 1200, requests = 1200, time_ms = { count = 1200, mean = 3 } } }
  x.statement = x.p1.statements[1].during
  local u = { name = "backend", peers = {}, during = { peers = {} } }
  for i = 1, 3 do
    u.peers[i], u.during.peers[i] = peer("10.0.0." .. i .. ":80")
    u.peers[i].during = u.during.peers[i]
  end
  x.upstreams, x.up = { u }, u.during.peers
  x.tasks = { processes = {}, kinds = {}, during = { kinds = { { done = 1000, refused = 0 } } } }
  x.task = x.tasks.during.kinds[1]
  x.cache = { limit_bytes = 1e8, bytes = 5e7, evictions = 0, routes = { { route = "/b", method = "GET", miss = { half = 0.21, same = 0.2, double = 0.19, fourfold = 0.18 } } },
    during = { evictions = 0, routes = { { hits = 800, misses = 200, revalidated = 5, stored = 190, collapsed = 5, stale = 0, bypassed = 0 } } } }
  x.cached = x.cache.during.routes[1]
  local coding = { coding = "gzip", bodies = 500, bytes_in = 5e6, bytes_out = 1e6, cpu_s = 0.1 }
  x.compression = { routes = { { route = "/a", codings = { coding }, skipped = {} } },
    during = { routes = { { offloaded = 0, codings = { { coding = "gzip", bodies = 500, bytes_in = 5e6, bytes_out = 1e6, cpu_s = 0.1 } }, skipped = { small = 10 } } } } }
  x.squeezed, x.coded = x.compression.during.routes[1], x.compression.during.routes[1].codings[1]
  x.limits = { concurrency = { { class = "all", limit = 20, base_ms = 20 } }, during = { concurrency = { { finished = 2400, rejected = 0 } } } }
  x.limited = x.limits.during.concurrency[1]
  return x
end

local function rise(s, signal, now, usual) s.now[signal], s.usual[signal], s.moved[signal] = now, usual, { direction = "up" } end
local function put(t, more) for k, v in pairs(more) do t[k] = v end end
local function all(list, more) for _, t in ipairs(list) do put(t, more) end end

M.cases = {
  pool_undersized = { fires = function(x) put(x.main.now, { wait_ms = 10, wait_p95_ms = 30, busy_share = 0.95, use_ms = 10, calls = 950 }); x.a.now.pool_wait, x.p1.used = 10, 10 end,
    near = function(x) x.main.now.busy_share = 0.7 end, set = { ["pool.main.max"] = 14 } },
  pool_oversized = { fires = function(x) rise(x.main, "use_ms", 20, 4); put(x.main.now, { busy_share = 0.8, calls = 400 }); x.main.usual.calls, x.a.now.db = 400, 15 end,
    near = function(x) x.main.now.calls = 600 end, set = { ["pool.main.max"] = 5 }, predicted = 8 },
  pool_cold = { fires = function(x) put(x.main.now, { opened = 6, wait_ms = 4 }); x.a.now.pool_wait, x.p1.during.opened = 4, 180 end, near = function(x) x.p1.during.opened = 15 end,
    set = { ["pool.main.min"] = 3, ["pool.db.idle_ms"] = 2400000 }, predicted = 19.6 },
  redis_cold = { fires = function(x) put(x.redis.now, { opened = 6, wait_ms = 4 }); x.a.now.pool_wait, x.p2.during.opened = 4, 180 end, near = function(x) x.redis.now.opened = 0.4 end,
    set = { ["pool.cache.min"] = 3, ["pool.redis.idle_ms"] = 2400000 }, predicted = 19.6 },
  pool_churn = { fires = function(x) put(x.main.now, { opened = 2, wait_ms = 1 }); x.p1.max_lifetime_ms, x.settings["pool.db.lifetime_ms"], x.a.now.pool_wait = 5000, 5000, 1 end,
    near = function(x) x.p1.max_lifetime_ms = 60000 end, set = { ["pool.db.lifetime_ms"] = 20000 } },
  redis_pool_undersized = { fires = function(x) put(x.redis.now, { wait_ms = 5, busy_share = 0.95, use_ms = 4, calls = 2400 }); x.a.now.pool_wait = 5 end,
    near = function(x) x.redis.now.busy_share = 0.5 end, set = { ["pool.cache.max"] = 14 } },
  redis_slow = { fires = function(x) rise(x.redis, "use_p95_ms", 30, 1); x.redis.now.use_ms, x.a.now.redis = 5, 5 end,
    near = function(x) x.redis.moved = {} end, set = { ["pool.redis.command_ms"] = 90 } },
  plan_overhead = { fires = function(x) for i = 1, 300 do x.p1.statements[i] = { statement = "select " .. i, during = { calls = 3 } } end end,
    near = function(x) for i = 250, 300 do x.p1.statements[i] = nil end end, set = { ["pool.db.prepared"] = 600 } },
  slow_query = { fires = function(x) x.statement.time_ms.mean, x.a.now.db, x.a.now.mean_ms = 80, 80, 100 end, near = function(x) x.statement.calls = 10 end, predicted = 60 },
  n_plus_one = { fires = function(x) put(x.statement, { calls = 24000, requests = 1200 }); x.a.now.db, x.a.now.mean_ms = 60, 80 end,
    near = function(x) x.statement.calls = 6000 end, predicted = 23 },
  statement_timeouts = { fires = function(x) x.p1.during.timeouts = 60 end, near = function(x) x.p1.during.timeouts = 9 end },
  lock_wait = { fires = function(x) x.p1.activity = { looks = 10, active = 8, blocked = 6, blocked_s = 0.8, idle_in_tx = 0, idle_in_tx_s = 0 }; x.a.now.db, x.a.now.mean_ms = 80, 100 end,
    near = function(x) x.p1.activity.blocked = 2 end, predicted = 40 },
  idle_in_transaction = { fires = function(x) x.p1.activity = { looks = 10, active = 2, blocked = 0, blocked_s = 0, idle_in_tx = 6, idle_in_tx_s = 2 }; x.a.now.pool_wait, x.a.now.mean_ms = 30, 50 end,
    near = function(x) x.p1.activity.idle_in_tx = 1 end, predicted = 20 },
  redis_chatty = { fires = function(x) x.redis.now.calls, x.a.now.redis = 800, 8 end, near = function(x) x.redis.now.calls = 150 end, predicted = 12.4 },
  cache_small = { fires = function(x) x.cache.during.evictions, x.cache.routes[1].miss.double = 500, 0.1 end, near = function(x) x.cache.routes[1].miss.double = 0.18 end, predicted = 19 },
  ttl_low = { fires = function(x) x.cached.revalidated = 150 end, near = function(x) x.cached.revalidated = 80 end },
  stampede = { fires = function(x) x.cached.collapsed, x.b.now.cache = 500, 8 end, near = function(x) x.cached.stale = 10 end, predicted = 12 },
  key_pollution = { fires = function(x) put(x.cached, { hits = 50, misses = 950, stored = 900 }); x.cache.during.entries = 850; x.cache.routes[1].miss.fourfold = 0.95 end,
    near = { function(x) x.cached.hits = 900 end, function(x) x.cache.during.entries = 40 end } }, -- purged meanwhile
  cache_bypassed = { fires = function(x) x.cached.bypassed = 2000 end, near = function(x) x.cached.bypassed = 500 end },
  uncompressed = { fires = function(x) x.settings["compression.enabled"], x.a.now.bytes_out = false, 50000 end, near = function(x) x.a.now.bytes_out = 2000 end,
    set = { ["compression.enabled"] = true }, predicted = 10000 },
  level_high = { fires = function(x) x.coded.cpu_s, x.host.now.cpu_share, x.a.now.compress = 30, 0.85, 6 end, near = function(x) x.host.now.cpu_share = 0.5 end, set = { ["compression.level"] = 3 } },
  compression_useless = { fires = function(x) put(x.coded, { bytes_in = 1e6, bytes_out = 0.95e6, cpu_s = 1 }) end, near = function(x) x.coded.bytes_out = 0.5e6 end, set = { ["compression.min_bytes"] = 4000 } },
  compression_in_vain = { fires = function(x) x.squeezed.skipped.not_smaller, x.coded.bodies, x.coded.cpu_s, x.a.now.compress = 900, 100, 3, 4 end,
    near = function(x) x.coded.bodies = 2000 end, predicted = 16.4 },
  compression_inline = { fires = function(x) x.coded.cpu_s, x.host.now.loop_lag_ms = 2, 25 end, near = function(x) x.host.now.loop_lag_ms = 5 end, set = { ["compression.inline_us"] = 25 } },
  min_bytes_high = { fires = function(x) x.settings["compression.min_bytes"], x.squeezed.skipped.small, x.a.now.bytes_out = 4096, 900, 3000 end, near = function(x) x.squeezed.skipped.small = 90 end,
    set = { ["compression.min_bytes"] = 2048 } },
  tasks_small = { fires = function(x) put(x.host.now, { task_wait_ms = 20, task_busy_share = 0.97 }); x.a.now.task, x.a.now.mean_ms = 30, 40 end, near = function(x) x.host.now.cpu_share = 0.9 end,
    set = { ["tasks.threads"] = 3 } },
  task_queue_full = { fires = function(x) x.task.refused = 100 end, near = function(x) x.task.refused = 5 end, set = { ["tasks.max"] = 100 } },
  loop_blocked = { fires = function(x) x.a.now.lua, x.host.now.loop_lag_ms = 12, 30 end, near = function(x) x.a.now.lua = 0.8 end },
  overload = { fires = function(x) x.host.now.cpu_share = 0.96; rise(x.host, "in_flight", 200, 10); rise(x.host, "p95_ms", 400, 50); x.limits.concurrency = {} end,
    near = function(x) x.host.now.cpu_share = 0.5 end, predicted = 50 },
  limit_low = { fires = function(x) x.limited.rejected = 300 end, near = function(x) x.limited.rejected = 5 end },
  keepalive_low = { fires = function(x) x.b.now.upstream_connect = 6 end, near = function(x) x.b.now.upstream_connect = 0.8 end,
    set = { ["upstream.keepalive_max"] = 512, ["upstream.keepalive_ms"] = 60000 }, predicted = 14 },
  retry_storm = { fires = function(x) all(x.up, { retries = 160, failures = 200 }) end, near = function(x) all(x.up, { failures = 40 }) end, set = { ["upstream.backend.budget_share"] = 0.1 } },
  hedge_low = { fires = function(x) all(x.up, { hedges = 20, hedge_wins = 12 }); put(x.b.now, { p50_ms = 10, p99_ms = 300 }) end, near = function(x) all(x.up, { hedge_wins = 1 }) end,
    set = { ["upstream.backend.hedge_share"] = 0.1 }, predicted = 150 },
  timeout_long = { fires = function(x) all(x.up, { failures = 10 }); put(x.b.now, { p95_ms = 100, p99_ms = 40000 }) end, near = function(x) x.b.now.p99_ms = 500 end,
    set = { ["upstream.backend.first_byte_timeout_ms"] = 3000 } },
  timeout_short = { fires = function(x) all(x.up, { failures = 20 }); put(x.b.now, { p50_ms = 40, p95_ms = 100 }); x.settings["upstream.first_byte_timeout_ms"] = 100 end,
    near = function(x) x.b.now.p95_ms = 60 end, set = { ["upstream.backend.first_byte_timeout_ms"] = 300 } },
  bad_instance = { fires = function(x) x.up[2].latency_sum_s = 16 end, near = function(x) x.up[2].latency_sum_s = 7 end, predicted = 10 },
  hedge = { fires = function(x) put(x.b.now, { p50_ms = 10, p99_ms = 300, error_rate = 0 }) end, predicted = 30,
    near = { function(x) x.b.now.p99_ms = 45 end, function(x) x.cached.hits = 3800 end, function(x) x.b.now.mean_ms = 30 end } }, -- slow are the few that miss; or what is not the upstream
  bad_instance_slow = { fires = function(x) x.up[2].latency_sum_s = 16 end, near = function(x) x.up[2].latency_sum_s = 8 end, set = { ["upstream.backend.outlier_factor"] = 2.5 }, predicted = 10 },
  bad_instance_errors = { fires = function(x) x.up[2].failures = 50 end, near = function(x) x.up[2].failures = 9 end, set = { ["upstream.backend.outlier_errors"] = 0.0875 } },
  gc_pause = { fires = function(x) x.host.now.gc_pause_ms = 30 end, near = function(x) x.host.now.gc_pause_ms = 8 end, predicted = 35 },
  memory_pressure = { fires = function(x) x.host.now.memory_share = 0.95 end, near = function(x) x.host.now.memory_share = 0.85 end },
  noisy_neighbour = { fires = function(x) x.host.now.steal_share = 0.2; rise(x.host, "mean_ms", 60, 20) end, near = function(x) x.host.now.steal_share = 0.02 end },
  cpu_bound = { fires = function(x) put(x.host.now, { cpu_share = 0.97, worker_cpu = 3.5 }); rise(x.host, "p95_ms", 200, 50) end, near = function(x) x.host.now.worker_cpu = 1 end, predicted = 50 },
  traffic_spike = { fires = function(x) rise(x.host, "rps", 400, 80); x.host.now.cpu_share = 0.6 end, near = function(x) x.host.now.rps = 150 end },
}

return M
