-- Statements run into their time limit: something holds locks, or a plan went wrong. From the pool's counts during the span.
return {
  id = "statement_timeouts",
  title = function(s) return "find what makes statements of " .. s.name .. " time out" end,
  class = "database", on = "pool", issue = { "db.errors", "db.slow_query" },
  when = function(s)
    local d = s.during
    return s.pool_type == "database" and (d.timeouts or 0) >= 10 and d.timeouts >= 0.01 * math.max(1, d.statements_total or 0)
  end,
  impact = function(s, f)
    local routes = f:with("db", 1)
    local now, lost = f:mean(routes, "error_rate"), s.during.timeouts / math.max(1, f:rps(routes) * f.span_s)
    return { metric = "error_rate", now = now, predicted = math.max(0, now - lost), lo = 0, hi = now, routes = routes,
      formula = "error rate - timeouts / requests", inputs = { timeouts = s.during.timeouts } }
  end,
  advise = function()
    return "SELECT pid, state, wait_event_type, now() - xact_start AS age, pg_blocking_pids(pid), query FROM pg_stat_activity\n"
      .. "WHERE wait_event_type = 'Lock' OR state = 'idle in transaction' ORDER BY age DESC;\nEnd transactions sooner; take locks in one order."
  end,
  effort = "medium", risk = 1, inhibits = { "pool_undersized" },
  explain = function(s) return ("%d of %d statements reached %.0f ms"):format(s.during.timeouts, s.during.statements_total or 0, s.pool.statement_timeout_ms) end,
}
