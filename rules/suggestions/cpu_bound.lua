-- The machine computes as much as it can, on our behalf. From the CPU share of the host and of the workers.
return {
  id = "cpu_bound",
  title = function(s) return ("add CPUs, or profile the hottest route"):format(s.name) end,
  class = "resources", on = "host", issue = { "cpu.handler", "overload.queueing" }, needs = { "cpu_share", "worker_cpu", "rps", "p95_ms" },
  when = function(s, f)
    return s.now.cpu_share >= 0.9 and s.now.worker_cpu >= 0.6 * f.cores and s.now.rps >= 5 and s:rose("p95_ms", 1.5, 5)
  end,
  impact = function(s, f)
    return { metric = "p95_ms", now = s.now.p95_ms, predicted = s.usual.p95_ms, lo = s.usual.p95_ms, hi = s.now.p95_ms,
      formula = "p95: the usual one, when CPU is no longer short", inputs = { cpu_share = s.now.cpu_share, cores = f.cores } }
  end,
  advise = function() return "Scale out, or look at GET stats for the route with the most Lua time; compression.level and caching free CPU first." end,
  effort = "high", risk = 1, inhibits = { "tasks_small" },
  explain = function(s) return ("CPU is at %s, workers use %.1f cores; p95 is %s, usually %s"):format(s:show "cpu_share", s.now.worker_cpu, s:show "p95_ms", s:show_usual "p95_ms") end,
}
