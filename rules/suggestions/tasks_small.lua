-- Tasks wait for a thread while the machine has cores to spare.
local sizing = require "perilune.sizing"

local WAIT_MS, WAIT_SHARE, BUSY, CPU = 5, 0.1, 0.85, 0.8

local function width(f) return f:setting "tasks.threads" end
local function suggested(f) return math.min(64, width(f) + math.max(1, math.floor(width(f) / 2))) end

return {
  id = "tasks_small",
  title = function(_, f) return ("%d task threads instead of %d"):format(suggested(f), width(f)) end,
  class = "asynchronous",
  on = "host",
  issue = { "async.queue", "overload.queueing" },
  needs = { "task_wait_ms", "task_busy_share", "cpu_share" },
  when = function(s, f)
    local routes = f:with("task", WAIT_MS)
    return #routes > 0 and s.now.task_wait_ms >= WAIT_MS and s.now.task_wait_ms >= WAIT_SHARE * f:mean(routes, "mean_ms") and s.now.task_busy_share >= BUSY
      and s.now.cpu_share < CPU
  end,
  impact = function(s, f)
    local routes = f:with("task", WAIT_MS)
    local now, c = f:mean(routes, "mean_ms"), width(f)
    local service = math.max(0.1, f:mean(routes, "task") - s.now.task_wait_ms)
    local load = math.min(c * 0.98, s.now.task_busy_share * c)
    local left = math.min(s.now.task_wait_ms, sizing.wait_ms(suggested(f), load, service))
    return { metric = "mean_ms", now = now, predicted = now - (s.now.task_wait_ms - left), routes = routes, formula = "mean - (wait now - Wq(threads)), Erlang C",
      inputs = { threads = c, wanted = suggested(f), service_ms = service, load = load, wait_ms = s.now.task_wait_ms } }
  end,
  set = function(_, f) return { ["tasks.threads"] = suggested(f) } end,
  effort = "very_low",
  risk = 1,
  explain = function(s, f)
    return ("tasks wait %s for one of %d threads of a worker, which are busy %.0f %% of the time, with %.0f %% of the CPU in use"):format(s:show "task_wait_ms", width(f),
      s.now.task_busy_share * 100, s.now.cpu_share * 100)
  end,
}
