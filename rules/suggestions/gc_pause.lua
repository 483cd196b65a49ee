-- Garbage collection holds workers up. From the longest timed pause of a collector and the tail of all requests.
return {
  id = "gc_pause",
  title = function(s) return ("make less garbage"):format(s.name) end,
  class = "resources", on = "host", issue = { "memory.lua", "cpu.handler" }, needs = { "gc_pause_ms", "p95_ms", "rps" },
  when = function(s, f)
    return s.now.gc_pause_ms >= 10 and s.now.gc_pause_ms >= 0.2 * s.now.p95_ms and s.now.rps >= 5 and f.cores > 0
  end,
  impact = function(s, f)
    local saved = math.min(s.now.p95_ms, s.now.gc_pause_ms)
    return { metric = "p95_ms", now = s.now.p95_ms, predicted = s.now.p95_ms - saved / 2, lo = s.now.p95_ms - saved, hi = s.now.p95_ms,
      formula = "p95 - half of the longest pause", inputs = { gc_pause_ms = s.now.gc_pause_ms, cores = f.cores } }
  end,
  advise = function() return "Keep large tables out of handlers (a cache or Redis instead), reuse tables, and join texts with table.concat." end,
  effort = "medium", risk = 1, inhibits = { "loop_blocked" },
  explain = function(s) return ("a collector paused for %s; p95 of all requests is %s, Lua heaps hold %s"):format(s:show "gc_pause_ms", s:show "p95_ms", s:show "lua_bytes") end,
}
