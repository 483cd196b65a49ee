-- More connections work at once than the server's cores bear: statements got slower, and no more of them get done.
-- From the pool's own times: what a statement usually takes and takes now, and how many are asked for.
-- By no more than half at once.
local function suggested(s) return math.max(s.pool.min, 2, math.ceil(s.pool.max / 2), math.ceil(s.now.calls * s.usual.use_ms / 1000 / 0.75)) end

return {
  id = "pool_oversized",
  title = function(s) return ("%d connections instead of %d for %s"):format(suggested(s), s.pool.max, s.name) end,
  class = "database", on = "pool", issue = { "db.slow_query" }, needs = { "use_ms", "calls", "busy_share", "wait_ms" },
  when = function(s)
    return s.pool_type == "database" and s:rose("use_ms", 1.5, 2) and s:ratio "calls" < 1.1 and s.now.calls >= 10 and s.now.busy_share >= 0.7
      and s.now.wait_ms < 1 and suggested(s) <= 0.7 * s.pool.max
  end,
  impact = function(s, f)
    local routes = f:with("db", 0.1)
    local now, saved = f:mean(routes, "mean_ms"), f:mean(routes, "db") * (1 - s.usual.use_ms / s.now.use_ms)
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - saved, hi = now - saved / 2, routes = routes,
      formula = "mean - db * (1 - usual use / use)", inputs = { use_ms = s.now.use_ms, usual_ms = s.usual.use_ms, connections = s.pool.max } }
  end,
  set = function(s) return { ["pool." .. s.name .. ".max"] = suggested(s) } end,
  effort = "very_low", risk = 2, verify = { metric = "mean_ms", direction = "down", mde = 0.05 },
  explain = function(s)
    return ("a statement takes %s instead of %s while %.0f %% of %d connections work and throughput is no higher"):format(
      s:show "use_ms", s:show_usual "use_ms", s.now.busy_share * 100, s.pool.max)
  end,
}
