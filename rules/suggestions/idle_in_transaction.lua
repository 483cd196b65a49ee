-- Transactions are open and do nothing: they keep a connection each (and what they have locked) from everybody else, so that
-- requests wait. More connections would only idle as well. From pg_stat_activity, looked at while a pool is in trouble.
local LOOKS, SHARE = 4, 0.2

local function activity(s) return s.pool.activity end

return {
  id = "idle_in_transaction",
  title = function(s) return ("transactions of %s are open and idle"):format(s.name) end,
  class = "database", on = "pool", issue = { "db.idle_in_tx", "db.pool_wait", "db.slow_query" },
  when = function(s, f)
    local a = activity(s)
    return a ~= nil and s.pool_type == "database" and a.looks >= LOOKS and a.idle_in_tx >= 1 and a.idle_in_tx >= SHARE * s.pool.max and #f:with("pool_wait", 0.01) > 0
  end,
  impact = function(s, f)
    local routes = f:with("pool_wait", 0.01)
    local now, wait = f:mean(routes, "mean_ms"), f:mean(routes, "pool_wait")
    return { metric = "mean_ms", now = now, predicted = now - wait, lo = now - wait, hi = now - wait / 2, routes = routes,
      formula = "mean - waiting for a connection", inputs = { pool_wait_ms = wait, idle = activity(s).idle_in_tx, max = s.pool.max } }
  end,
  advise = function()
    return "Begin the transaction later and end it sooner: nothing but statements between begin and commit, no call to another service, no waiting for the client. "
      .. "idle_in_transaction_session_timeout (ALTER ROLE ... SET) ends what is forgotten."
  end,
  effort = "low", risk = 1, inhibits = { "pool_undersized", "pool_oversized" },
  explain = function(s)
    local a = activity(s)
    return ("%.1f of %d connections were idle in a transaction in %d looks, the longest for %.1f s"):format(a.idle_in_tx, s.pool.max, a.looks, a.idle_in_tx_s)
  end,
}
