-- One request asks the same statement again and again: each costs a round trip, and all of them could be one.
local LEAST, LEAST_SHARE, LEAST_MS = 8, 0.2, 2

local function per_request(s)
  local requests = s.during.requests or 0
  return requests > 0 and (s.during.calls or 0) / requests or 0
end

-- The route that does it, as the statement remembers it.
local function route(s, f) return s.statement.most_by_route and f.by_route[s.statement.most_by_route] end

return {
  id = "n_plus_one",
  title = function(s) return ("%s asks one statement %.0f times a request"):format(s.statement.most_by_route or "a route", per_request(s)) end,
  class = "database",
  on = "statement",
  issue = { "db.slow_query", "db.n_plus_one" },
  when = function(s, f)
    local r = route(s, f)
    return r ~= nil and (s.during.requests or 0) >= 20 and per_request(s) >= LEAST and (r.now.db or 0) >= LEAST_MS
      and (r.now.db or 0) >= LEAST_SHARE * (r.now.mean_ms or 0)
  end,
  impact = function(s, f)
    local r, n = route(s, f), per_request(s)
    local now, saved = r.now.mean_ms, r.now.db * (n - 1) / n
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - saved, hi = now - saved / 2, routes = { r.name },
      formula = "mean - time in the database * (n - 1) / n", inputs = { calls_per_request = n, db_ms = r.now.db } }
  end,
  advise = function(s)
    return ("Ask for all of them at once: `WHERE id = ANY($1)` with a list, or a join. The statement: %s"):format(s.statement.statement)
  end,
  effort = "low",
  risk = 1,
  inhibits = { "slow_query", "pool_undersized" },
  explain = function(s, f)
    local r = route(s, f)
    return ("%s spends %s of its %s in the database, on %.0f calls of one statement a request: %s"):format(r.name, r:show "db", r:show "mean_ms", per_request(s),
      s.statement.statement:sub(1, 120))
  end,
}
