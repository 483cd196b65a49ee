-- Memory is nearly at its limit, or threads wait for memory. From the working set and the pressure that the kernel tells.
return {
  id = "memory_pressure",
  title = function(s) return ("use less memory"):format(s.name) end,
  class = "resources", on = "host", issue = { "mem.pressure" }, needs = { "memory_share" },
  when = function(s, f)
    return (s.now.memory_share >= 0.92 or (s.now.memory_share >= 0.7 and (f.figure["pressure.memory_some_10s"] or 0) >= 0.1)) and (f.figure["memory.limit_bytes"] or 0) > 0
  end,
  impact = function(s, f)
    local limit = f.figure["memory.limit_bytes"]
    local cache = f.cache and f.cache.bytes or 0
    return { metric = "memory_share", now = s.now.memory_share, predicted = s.now.memory_share - 0.5 * cache / limit, lo = s.now.memory_share - cache / limit, hi = s.now.memory_share,
      formula = "share - half of what the cache holds / limit", inputs = { cache_bytes = cache, limit_bytes = limit } }
  end,
  advise = function() return "Lower cache.bytes (a restart), script.memory_bytes or the number of workers, or raise the memory limit." end,
  effort = "low", risk = 1, inhibits = { "cache_small", "tasks_small", "pool_undersized" },
  explain = function(s) return ("the working set is %s of the limit; workers hold %s"):format(s:show "memory_share", s:show "rss_bytes") end,
}
