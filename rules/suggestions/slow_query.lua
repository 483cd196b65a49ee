-- A statement takes much of the database's time and long enough for a person to look at its plan. Not ours to change: what it
-- needs (an index, another shape, fewer rows) is a decision about data.
local LEAST_MS, LEAST_CALLS, LEAST_SHARE = 20, 20, 0.2

local function share(s)
  local all, own = 0, s.during.time_ms and (s.during.time_ms.mean or 0) * (s.during.calls or 0) or 0
  for _, one in ipairs(s.pool.pool.statements or {}) do
    local d = one.during or {}
    all = all + (d.time_ms and (d.time_ms.mean or 0) * (d.calls or 0) or 0)
  end
  return all > 0 and own / all or 0
end

return {
  id = "slow_query",
  title = function(s) return ("a statement of %s takes %.0f ms: look at its plan"):format(s.pool.name, s.during.time_ms.mean) end,
  class = "database",
  on = "statement",
  issue = { "db.slow_query" },
  when = function(s, f)
    local time = s.during.time_ms
    if not time or (s.during.calls or 0) < LEAST_CALLS or time.mean < LEAST_MS then return false end
    local routes = f:with("db", LEAST_MS / 4)
    return #routes > 0 and share(s) >= LEAST_SHARE
  end,
  impact = function(s, f)
    local routes = f:with("db", LEAST_MS / 4)
    local now, part = f:mean(routes, "mean_ms"), f:mean(routes, "db") * share(s)
    return { metric = "mean_ms", now = now, predicted = now - part / 2, lo = now - part, hi = now, routes = routes,
      formula = "mean - half of what the statement takes of it; between nothing and all", inputs = { statement_ms = s.during.time_ms.mean, share = share(s), db_ms = part } }
  end,
  advise = function(s)
    return ("EXPLAIN (ANALYZE, BUFFERS) %s;\nor POST resources/pools/%s/explain with {\"statement\": ...}: a sequential scan of a large table asks for an index "
      .. "(CREATE INDEX CONCURRENTLY ON table (column)), many rows read for few returned for a narrower condition."):format(s.statement.statement, s.pool.name)
  end,
  effort = "medium",
  risk = 1,
  inhibits = { "pool_undersized" },
  explain = function(s)
    return ("it was called %d times and takes %.1f ms, %.0f %% of all time in %s: %s"):format(s.during.calls, s.during.time_ms.mean, share(s) * 100, s.pool.name,
      s.statement.statement:sub(1, 120))
  end,
}
