-- The machine, or each worker, computes as much as it can on our behalf. From the CPU share of the host and of the workers.
-- A worker's loop is one thread: where there are fewer workers than cores, more of them is the first thing to do.
local function more_workers(s, f) return s.now.cpu_share < 0.9 and f.workers < math.floor(f.cores) end

return {
  id = "cpu_bound",
  title = function(s, f) return more_workers(s, f) and ("run %d workers instead of %d"):format(math.floor(f.cores), f.workers) or "add CPUs, or profile the hottest route" end,
  class = "resources", on = "host", issue = { "cpu.handler", "overload.queueing" }, needs = { "cpu_share", "worker_cpu", "rps", "p95_ms" },
  when = function(s, f)
    local full = s.now.cpu_share >= 0.9 and s.now.worker_cpu >= 0.6 * f.cores or f:loops_busy() >= 0.9
    return full and s.now.rps >= 5 and s:rose("p95_ms", 1.5, 5)
  end,
  impact = function(s, f)
    return { metric = "p95_ms", now = s.now.p95_ms, predicted = s.usual.p95_ms, lo = s.usual.p95_ms, hi = s.now.p95_ms,
      formula = "p95: the usual one, when CPU is no longer short", inputs = { cpu_share = s.now.cpu_share, cores = f.cores } }
  end,
  advise = function(s, f)
    if more_workers(s, f) then return ("Start with --workers %d (or `workers` in the configuration): each has a loop of its own, and there are %d cores."):format(math.floor(f.cores), math.floor(f.cores)) end
    return "Scale out, or look at GET stats for the route with the most Lua time; compression.level and caching free CPU first."
  end,
  effort = "high", risk = 1, inhibits = { "tasks_small" },
  explain = function(s, f) return ("CPU is at %s, workers use %.1f cores, their loops are busy %.0f %% of the time; p95 is %s, usually %s"):format(s:show "cpu_share", s.now.worker_cpu, f:loops_busy() * 100, s:show "p95_ms", s:show_usual "p95_ms") end,
}
