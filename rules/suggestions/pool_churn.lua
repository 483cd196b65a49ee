-- Connections are replaced because they are old, so often that requests wait for new ones.
-- From the pool's lifetime and size, which say how many must be replaced a second, and how many are.
local function forced(s) return s.pool.count / (s.pool.max_lifetime_ms / 1000) end

return {
  id = "pool_churn",
  title = function(s) return "let connections of " .. s.name .. " live four times as long" end,
  class = "database", on = "pool", issue = { "db.connect_churn", "db.pool_wait" }, needs = { "opened", "wait_ms", "calls" },
  when = function(s)
    return s.pool_type == "database" and s.now.opened >= 0.2 and forced(s) >= 0.5 * s.now.opened and s.now.wait_ms >= 0.5
      and s.now.calls >= 2 and s.pool.max_lifetime_ms < 600000
  end,
  impact = function(s, f)
    local routes = f:with("pool_wait", 0.1)
    local now, waits = f:mean(routes, "mean_ms"), f:mean(routes, "pool_wait")
    local saved = waits * math.min(1, s.now.opened / s.now.calls) * 0.75
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - waits, hi = now, routes = routes,
      formula = "mean - pool wait * opened / calls * (1 - lifetime now / then)", inputs = { forced = forced(s), opened = s.now.opened, wait_ms = waits } }
  end,
  set = function(_, f) return { ["pool.db.lifetime_ms"] = f:setting "pool.db.lifetime_ms" * 4 } end,
  effort = "very_low", risk = 1, inhibits = { "pool_cold" },
  explain = function(s)
    return ("%.2f of %.2f connections opened a second replace ones that reached %.0f s"):format(forced(s), s.now.opened, s.pool.max_lifetime_ms / 1000)
  end,
}
