-- Connections are replaced because they are old, so often that requests wait for new ones, or that many statements are the first
-- of a connection, which has its catalogues to read. From the pool's lifetime and size, which say how many must be replaced a
-- second, and how many are.
local LEAST_SHARE = 0.05 -- of the calls

local function forced(s) return s.pool.count / (s.pool.max_lifetime_ms / 1000) end

-- What a request spends more than usual in the database, on average over these routes.
local function slower(f, routes)
  local sum, n = 0, 0
  for _, name in ipairs(routes) do
    local now, usual, rps = f.by_route[name].now, f.by_route[name].usual, f.by_route[name].now.rps
    sum, n = sum + math.max(0, (now.db or 0) - (usual.db or now.db or 0)) * rps, n + rps
  end
  return n > 0 and sum / n or 0
end

return {
  id = "pool_churn",
  title = function(s) return "let connections of " .. s.name .. " live four times as long" end,
  class = "database", on = "pool", issue = { "db.connect_churn", "db.pool_wait" }, needs = { "opened", "wait_ms", "calls" },
  when = function(s)
    return s.pool_type == "database" and s.now.opened >= 0.2 and forced(s) >= 0.5 * s.now.opened and (s.now.wait_ms >= 0.5 or s.now.opened >= LEAST_SHARE * s.now.calls)
      and s.now.calls >= 2 and s.pool.max_lifetime_ms < 600000
  end,
  impact = function(s, f)
    local routes = f:with("db", 0.1)
    local now, waits, more = f:mean(routes, "mean_ms"), f:mean(routes, "pool_wait"), slower(f, routes)
    local saved = (waits * math.min(1, s.now.opened / s.now.calls) + more) * 0.75
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - waits - more, hi = now, routes = routes,
      formula = "mean - (pool wait * opened / calls + what the database takes more than usual) * (1 - lifetime now / then)",
      inputs = { forced = forced(s), opened = s.now.opened, wait_ms = waits, more_ms = more } }
  end,
  -- A pool with a lifetime of its own does not heed the setting.
  set = function(s, f) return s.pool.max_lifetime_ms == f:setting "pool.db.lifetime_ms" and { ["pool.db.lifetime_ms"] = s.pool.max_lifetime_ms * 4 } or nil end,
  advise = function(s, f)
    if s.pool.max_lifetime_ms == f:setting "pool.db.lifetime_ms" then return nil end
    return ("Give %s a longer life: lifetime_ms in the configuration of the pool, or PATCH resources/pools/%s with {\"max_lifetime_ms\": %.0f}."):format(s.name, s.name, s.pool.max_lifetime_ms * 4)
  end,
  effort = "very_low", risk = 1, inhibits = { "pool_cold" },
  explain = function(s)
    return ("%.2f of %.2f connections opened a second replace ones that reached %.0f s"):format(forced(s), s.now.opened, s.pool.max_lifetime_ms / 1000)
  end,
}
