-- Far more requests than usual come, each as cheap as ever. From requests a second and the mean, against what is usual. No setting is to follow a spike.
return {
  id = "traffic_spike",
  title = function() return "prepare for more traffic" end,
  class = "resources", on = "host", issue = false, needs = { "rps", "mean_ms" },
  when = function(s, f)
    return s:rose("rps", 3, 50) and s:ratio "mean_ms" < 1.5 and f.cores > 0 and (s.now.cpu_share or 0) >= 0.5
  end,
  impact = function() end, -- nothing that we could change
  advise = function() return "Check that limits are on (rules/policies/limits.lua); add capacity if it lasts." end,
  effort = "medium", risk = 0, inhibits = { "pool_undersized", "tasks_small", "limit_low", "redis_pool_undersized" },
  explain = function(s) return ("%s requests a second, usually %s; a request takes %s, usually %s"):format(s:show "rps", s:show_usual "rps", s:show "mean_ms", s:show_usual "mean_ms") end,
}
