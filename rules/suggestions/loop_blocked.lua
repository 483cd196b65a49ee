-- A handler holds its worker's loop for long at a time, so that all other requests of the worker wait for it: all of its
-- requests, or a few of them so long that its mean has doubled. A loop that does not get the processor lags as well, and stretches
-- what handlers take: then the workers compute less each second than the loop lags.
local LAG_MS, HANDLER_MS, FEW_LAG_MS, FEW_MS = 10, 5, 30, 0.3
local ACCOUNTED = 0.5 -- of the longest turn in a second, by what is computed in one
local GROWN = 0.25    -- of what a handler takes more in a second, by what the workers compute more: the rest of their work may be less

local function blocks(s, f)
  local lua, rps, host = s.now.lua or 0, s.now.rps or 0, f.host
  local lag, cores, before = host.now.loop_lag_ms or 0, host.now.worker_cpu, host.usual.worker_cpu
  if math.min(lua * rps, cores and cores * 1000 or math.huge) < ACCOUNTED * lag then return false end
  if lua >= HANDLER_MS then return true end
  if lua < FEW_MS or s:ratio "lua" < 2 or lag < FEW_LAG_MS then return false end
  return not cores or not before or (cores - before) * 1000 >= GROWN * (lua - s.usual.lua) * rps
end

local function blocker(f)
  local best
  for _, s in ipairs(f.routes) do
    if blocks(s, f) and (s.now.rps or 0) > 0 and (not best or s.now.lua > best.now.lua) then best = s end
  end
  return best
end

local function others(f, but)
  local names = {}
  for _, s in ipairs(f.routes) do
    if s ~= but and (s.now.queue or 0) > 0.2 then names[#names + 1] = s.name end
  end
  return names
end

return {
  id = "loop_blocked",
  title = function(_, f) return ("%s holds up all others: give its work to a task"):format(blocker(f).name) end,
  class = "asynchronous",
  on = "host",
  issue = { "cpu.handler", "runtime.loop_block" },
  needs = { "loop_lag_ms" },
  when = function(s, f) return s.now.loop_lag_ms >= LAG_MS and blocker(f) ~= nil end,
  impact = function(_, f)
    local names = others(f, blocker(f))
    if #names == 0 then return nil end
    local now, waits = f:mean(names, "mean_ms"), f:mean(names, "queue")
    return { metric = "mean_ms", now = now, predicted = now - waits, lo = now - waits, hi = now - waits / 2, routes = names, formula = "mean - waiting for the loop",
      inputs = { queue_ms = waits, handler_ms = blocker(f).now.lua } }
  end,
  advise = function(_, f)
    return ("In %s, move what computes into rules/lib/work.lua and call it by\n  local tasks = require \"perilune.tasks\"\n  return tasks:run { module = \"lib.work\", fn = \"compute\", arguments }\nso that it runs on a thread of its own."):format(blocker(f).name)
  end,
  effort = "low",
  risk = 1,
  explain = function(s, f)
    local b = blocker(f)
    return ("%s computes for %.1f ms a request on average; the loop was held up for %s"):format(b.name, b.now.lua, s:show "loop_lag_ms")
  end,
}
