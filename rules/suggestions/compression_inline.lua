-- Bodies are compressed on the loop for so long that other requests wait. From CPU time per body and the longest turn of a loop.
local sums = require("perilune.suggestions.sums").compression

return {
  id = "compression_inline",
  title = function(_, f) return ("compress in task threads from %d us on"):format(math.max(20, math.floor(f:setting "compression.inline_us" / 4))) end,
  class = "compression", on = "host", issue = { "cpu.compression" }, needs = { "cpu_share", "mean_ms" },
  when = function(s, f)
    local t = sums(f)
    return t.bodies >= 50 and t.offloaded < 0.5 * t.bodies and t.cpu_s / t.bodies >= 0.001 and (s.now.loop_lag_ms or 0) >= 10 and f:setting "compression.inline_us" >= 40 and s.now.cpu_share < 0.85
  end,
  impact = function(s, f)
    local t = sums(f)
    local routes = f:with("compress", 0.001)
    local now = f:mean(routes, "p99_ms")
    local saved = math.min(now, t.cpu_s / t.bodies * 1000)
    return { metric = "p99_ms", now = now, predicted = now - saved, lo = now - math.min(now, s.now.loop_lag_ms), hi = now, routes = routes,
      formula = "p99 - time of one body on the loop", inputs = { body_ms = t.cpu_s / t.bodies * 1000, loop_lag_ms = s.now.loop_lag_ms } }
  end,
  set = function(_, f) return { ["compression.inline_us"] = math.max(20, math.floor(f:setting "compression.inline_us" / 4)) } end,
  effort = "very_low", risk = 1,
  explain = function(s, f)
    local t = sums(f)
    return ("a body takes %.1f ms on the loop, whose longest turn is %s"):format(t.cpu_s / t.bodies * 1000, s:show "loop_lag_ms")
  end,
}
