-- Compressing leaves small bodies nearly as large as they were. From bytes before and after, and how many bodies there were, during the span.
local sums = require("perilune.suggestions.sums").compression

return {
  id = "compression_useless",
  title = function(_, f) return ("compress from %d bytes on"):format(math.ceil(sums(f).bytes_in / math.max(1, sums(f).bodies) * 2)) end,
  class = "compression", on = "host", issue = { "cpu.compression" }, needs = { "cpu_share", "mean_ms" },
  when = function(s, f)
    local t = sums(f)
    return t.bodies >= 100 and t.bytes_out > 0.9 * t.bytes_in and t.bytes_in / t.bodies < 8192 and t.cpu_s >= 0.02 * f.span_s and s.now.cpu_share > 0.1
  end,
  impact = function(s, f)
    local t = sums(f)
    local routes = f:with("compress", 0.001)
    local now, saved = f:mean(routes, "mean_ms"), f:mean(routes, "compress")
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - saved, hi = now, routes = routes, cores = t.cpu_s / f.span_s,
      formula = "mean - compress", inputs = { bytes_in = t.bytes_in, bytes_out = t.bytes_out, host_cpu = s.now.cpu_share } }
  end,
  set = function(_, f) return { ["compression.min_bytes"] = math.ceil(sums(f).bytes_in / math.max(1, sums(f).bodies) * 2) } end,
  effort = "very_low", risk = 1,
  explain = function(s, f)
    local t = sums(f)
    return ("%.0f bodies of %.0f bytes kept %.0f %% of their size; CPU is at %s"):format(t.bodies, t.bytes_in / t.bodies, t.bytes_out / t.bytes_in * 100, s:show "cpu_share")
  end,
}
