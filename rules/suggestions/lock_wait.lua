-- Statements wait for locks that others hold: they look slow, and neither a plan nor another connection makes them faster.
-- From pg_stat_activity, looked at while a pool is in trouble.
local LOOKS, SHARE, LONGEST_S = 4, 0.3, 1

local function activity(s) return s.pool.activity end

local function share(a) return a.active > 0 and math.min(1, a.blocked / a.active) or 0 end

return {
  id = "lock_wait",
  title = function(s) return ("statements of %s wait for a lock"):format(s.name) end,
  class = "database", on = "pool", issue = { "db.lock", "db.slow_query", "db.pool_wait" },
  when = function(s, f)
    local a = activity(s)
    return a ~= nil and s.pool_type == "database" and a.looks >= LOOKS and a.blocked >= 0.5 and (share(a) >= SHARE or a.blocked_s >= LONGEST_S) and #f:with("db", 1) > 0
  end,
  impact = function(s, f)
    local routes = f:with("db", 1)
    local now, db = f:mean(routes, "mean_ms"), f:mean(routes, "db")
    local part = db * share(activity(s))
    return { metric = "mean_ms", now = now, predicted = now - part, lo = now - part, hi = now, routes = routes,
      formula = "mean - time in the database * share of active sessions that wait for a lock", inputs = { db_ms = db, blocked = activity(s).blocked, active = activity(s).active } }
  end,
  advise = function(s)
    local by = activity(s).blocker
    return ("Make the transaction that holds the lock shorter: no waiting for anything else inside it, the contended row last, rows always in the same order; "
      .. "SKIP LOCKED for queues, one UPDATE instead of SELECT ... FOR UPDATE and UPDATE.%s SET lock_timeout bounds the wait."):format(
      by and (" %d waited for session %d, last statement: %s."):format(by.waiting, by.pid, by.statement or "not to be seen by this role") or "")
  end,
  effort = "medium", risk = 1, inhibits = { "pool_undersized", "pool_oversized", "slow_query" },
  explain = function(s)
    local a = activity(s)
    return ("%.1f of %.1f active sessions waited for a lock in %d looks, the longest for %.1f s"):format(a.blocked, a.active, a.looks, a.blocked_s)
  end,
}
