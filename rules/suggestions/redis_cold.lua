-- Connections are opened while requests wait for them: too few are kept ready, and idle ones go too soon.
-- From connections opened and calls made a second, and the time that requests wait in the pool.
local function suggested(s)
  return math.min(s.pool.max, math.max(s.pool.min + 1, math.ceil(s.now.calls * s.now.use_ms / 1000 / 0.75)))
end

return {
  id = "redis_cold",
  title = function(s) return ("keep %d connections of %s open, and idle ones for longer"):format(suggested(s), s.name) end,
  class = "database", on = "pool", issue = { "db.pool_wait" }, needs = { "opened", "calls", "wait_ms", "use_ms", "busy_share" },
  when = function(s)
    return s.pool_type == "redis" and s.now.opened >= 0.5 and s.now.opened >= 0.05 * s.now.calls and s.now.calls >= 2 and s.now.wait_ms >= 1
      and s.now.busy_share < 0.85 and s.pool.min < s.pool.max and (s.during.opened or 0) >= 2 * s.pool.max -- not just warming up
  end,
  impact = function(s, f)
    local routes = f:with("pool_wait", 0.1)
    local now, waits = f:mean(routes, "mean_ms"), f:mean(routes, "pool_wait")
    local saved = waits * math.min(1, s.now.opened / s.now.calls)
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - waits, hi = now, routes = routes,
      formula = "mean - pool wait * opened / calls", inputs = { opened = s.now.opened, calls = s.now.calls, wait_ms = waits } }
  end,
  set = function(s, f)
    local idle = f:setting "pool.redis.idle_ms"
    return { ["pool." .. s.name .. ".min"] = suggested(s), ["pool.redis.idle_ms"] = s.pool.idle_timeout_ms == idle and idle * 4 or nil } -- one of its own does not heed it
  end,
  effort = "very_low", risk = 1, verify = { metric = "mean_ms", direction = "down", mde = 0.03 },
  explain = function(s)
    return ("%.1f connections are opened a second for %.0f calls, which wait %s; %d are kept"):format(s.now.opened, s.now.calls, s:show "wait_ms", s.pool.min)
  end,
}
