-- Requests wait for a connection to Redis while commands are as fast as ever. From wait and use times of the pool.
local sizing = require "perilune.sizing"

local function wanted(s)
  local now, service = s.pool.max, math.max(0.05, s.now.use_ms)
  local load = math.min(s.now.calls * service / 1000, now * s.now.busy_share)
  local c = now + 1
  while c < now * 2 and sizing.wait_ms(c, load, service) > 0.05 * service do c = c + 1 end
  return c, load, service
end

return {
  id = "redis_pool_undersized",
  title = function(s) return ("%d connections instead of %d for %s"):format((wanted(s)), s.pool.max, s.name) end,
  class = "database", on = "pool", issue = { "redis.slow", "db.pool_wait" }, needs = { "wait_ms", "use_ms", "calls", "busy_share" },
  when = function(s, f)
    return s.pool_type == "redis" and s.now.calls >= 5 and s.now.wait_ms >= f.t.pool_wait_ms and s.now.wait_ms >= 0.1 * s.now.use_ms and s.now.busy_share >= 0.85
  end,
  impact = function(s, f)
    local routes = f:with("pool_wait", 0.1)
    local c, load, service = wanted(s)
    local now, waits = f:mean(routes, "mean_ms"), f:mean(routes, "pool_wait")
    local saved = waits - math.min(waits, sizing.wait_ms(c, load, service))
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - waits, hi = now - saved / 2, routes = routes,
      formula = "mean - (wait now - Wq(c)), Erlang C", inputs = { connections = s.pool.max, wanted = c, load = load, service_ms = service } }
  end,
  set = function(s) return { ["pool." .. s.name .. ".max"] = (wanted(s)) } end,
  effort = "very_low", risk = 1, verify = { metric = "mean_ms", direction = "down", mde = 0.05 },
  explain = function(s)
    return ("requests wait %s for one of %d connections to Redis, busy %.0f %% of the time"):format(s:show "wait_ms", s.pool.max, s.now.busy_share * 100)
  end,
}
