-- Requests wait for a connection while the statements themselves are as fast as ever: there are too few of them.
local sizing = require "perilune.sizing"

local UTILIZATION = 0.75

-- The least number of connections with which a call waits less than a twentieth of what it takes.
local function wanted(s)
  local now, service = s.pool.max, math.max(0.05, s.now.use_ms or 0)
  local load = math.min((s.now.calls or 0) * service / 1000, s.pool.used and math.max(s.pool.used, now * (s.now.busy_share or 1)) or now)
  local c = math.max(now + 1, math.ceil(load / UTILIZATION))
  while c < now * 2 and sizing.wait_ms(c, load, service) > 0.05 * service do c = c + 1 end
  return c, load, service
end

-- What the server has room for.
local function room(s) return s.pool.server_max and s.pool.server_max > 0 and math.floor(s.pool.server_max * 0.8) or 2 * s.pool.max end

local function suggested(s) return math.min((wanted(s)), math.max(s.pool.max, room(s))) end

return {
  id = "pool_undersized",
  title = function(s) return ("%d connections instead of %d for %s"):format(suggested(s), s.pool.max, s.name) end,
  class = "database",
  on = "pool",
  issue = { "db.pool_wait" },
  needs = { "wait_ms", "use_ms", "calls", "busy_share" },
  when = function(s, f)
    local _, rps = f:with("pool_wait", f.t.pool_wait_ms / 4)
    return s.pool_type == "database" and rps > 0 and s.now.calls >= 2 and (s.now.wait_p95_ms or s.now.wait_ms) >= f.t.pool_wait_ms
      and s.now.wait_ms >= 0.1 * s.now.use_ms and s.now.busy_share >= 0.85 and room(s) > s.pool.max
  end,
  impact = function(s, f)
    local routes = f:with("pool_wait", 0.1)
    local c, load, service = wanted(s)
    local now, waits = f:mean(routes, "mean_ms"), f:mean(routes, "pool_wait")
    local left = math.min(waits, sizing.wait_ms(c, math.min(load, c * 0.9), service))
    return { metric = "mean_ms", now = now, predicted = now - (waits - left), lo = now - waits, hi = now - 0.5 * (waits - left), routes = routes,
      formula = "mean - (wait now - Wq(c)), Erlang C", inputs = { connections = s.pool.max, wanted = c, load = load, service_ms = service, wait_ms = waits } }
  end,
  set = function(s) return { ["pool." .. s.name .. ".max"] = suggested(s) } end,
  effort = "very_low",
  risk = 1,
  verify = { metric = "mean_ms", direction = "down", mde = 0.05 },
  explain = function(s, f)
    local _, rps = f:with("pool_wait", 0.1)
    return ("%.0f requests a second wait %s for one of %d connections, which are busy %.0f %% of the time; a statement takes %s"):format(
      rps, s:show "wait_ms", s.pool.max, s.now.busy_share * 100, s:show "use_ms")
  end,
}
