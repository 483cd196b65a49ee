-- Redis answers far slower than usual and requests may wait long for it. From the pool's 95th percentile, now and usual.
-- A shorter limit turns the slowest commands into errors that a handler must bear: semantic.
local function suggested(s) return math.ceil(math.max(50, 3 * s.now.use_p95_ms)) end

return {
  id = "redis_slow",
  title = function(s) return ("give up commands to %s after %d ms"):format(s.name, suggested(s)) end,
  class = "database", on = "pool", issue = { "redis.slow" }, needs = { "use_p95_ms", "use_ms", "calls", "wait_ms" },
  when = function(s, f)
    return s.pool_type == "redis" and s.now.calls >= 5 and s:rose("use_p95_ms", 3, 5) and s.now.wait_ms < 0.5 * s.now.use_ms
      and f:setting "pool.redis.command_ms" > 2 * suggested(s)
  end,
  impact = function(s, f)
    local routes = f:with("redis", 0.1)
    local now = f:mean(routes, "p99_ms")
    local limit, to = f:setting "pool.redis.command_ms", suggested(s)
    return { metric = "p99_ms", now = now, predicted = math.min(now, to + now - math.min(now, f:mean(routes, "redis"))), lo = math.min(now, to), hi = now, routes = routes,
      formula = "min(p99, limit + p99 - redis)", inputs = { command_ms = limit, wanted = to, p95_ms = s.now.use_p95_ms } }
  end,
  set = function(s) return { ["pool.redis.command_ms"] = suggested(s) } end,
  advise = function() return "Look for slow commands: redis-cli SLOWLOG GET 25; redis-cli --bigkeys; replace KEYS by SCAN." end,
  effort = "low", risk = 3, semantic = true, verify = { metric = "p99_ms", direction = "down", mde = 0.05 },
  explain = function(s) return ("95 %% of commands end within %s, usually %s; waiting for a connection takes only %s"):format(
    s:show "use_p95_ms", s:show_usual "use_p95_ms", s:show "wait_ms") end,
}
