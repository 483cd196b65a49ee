-- Most answers are below the size from which they are compressed, and not tiny. From answers skipped as too small, and bytes of answers, during the span.
local sums = require("perilune.suggestions.sums").compression

return {
  id = "min_bytes_high",
  title = function(_, f) return ("compress from %d bytes on"):format(math.floor(f:setting "compression.min_bytes" / 2)) end,
  class = "compression", on = "host", issue = { "cpu.compression" }, needs = { "cpu_share", "mean_ms" },
  when = function(s, f)
    local t = sums(f)
    return f:setting "compression.enabled" and f:setting "compression.min_bytes" > 1024 and t.small >= 100 and t.bodies >= 20 and t.small >= t.bodies and t.bytes_out < 0.7 * t.bytes_in and s.now.cpu_share < 0.7
  end,
  impact = function(s, f)
    local t = sums(f)
    local routes = f:with("compress", 0.001)
    local all = {}
    for _, r in ipairs(f.routes) do
      if (r.now.bytes_out or 0) >= f:setting "compression.min_bytes" / 2 and r.now.bytes_out < f:setting "compression.min_bytes" then all[#all + 1] = r.name end
    end
    if #all == 0 then return nil end
    local now = f:mean(all, "bytes_out")
    return { metric = "bytes_out", now = now, predicted = now * t.bytes_out / t.bytes_in, lo = now * t.bytes_out / t.bytes_in, hi = now, routes = all,
      formula = "bytes * what is left of those that are compressed", inputs = { left = t.bytes_out / t.bytes_in, routes_compressed = #routes, host_cpu = s.now.cpu_share } }
  end,
  set = function(_, f) return { ["compression.min_bytes"] = math.floor(f:setting "compression.min_bytes" / 2) } end,
  effort = "very_low", risk = 1,
  explain = function(s, f)
    local t = sums(f)
    return ("%.0f answers were too small, %.0f were compressed to %.0f %%; CPU is at %s"):format(t.small, t.bodies, t.bytes_out / t.bytes_in * 100, s:show "cpu_share")
  end,
}
