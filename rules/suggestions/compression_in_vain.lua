-- A route's bodies do not get smaller: they are compressed already, or random, or encrypted, under a type that says text. From what
-- was compressed and what was thrown away, being no smaller, and the CPU it took, during the span.
local coded = require("perilune.suggestions.sums").coded
local BODIES, SHARE, CORES = 100, 0.5, 0.02

return {
  id = "compression_in_vain",
  title = function(s) return "do not compress " .. s.name end,
  class = "compression", on = "route", issue = { "cpu.compression" }, needs = { "mean_ms", "compress", "rps" },
  when = function(s, f)
    local t = f.span_s > 0 and coded(s, f)
    return t and t.not_smaller >= BODIES and t.not_smaller >= SHARE * (t.bodies + t.not_smaller) and t.cpu_s >= CORES * f.span_s or false
  end,
  impact = function(s, f)
    local t = coded(s, f)
    local saved = math.min(s.now.mean_ms, s.now.compress * t.not_smaller / (t.bodies + t.not_smaller))
    return { metric = "mean_ms", now = s.now.mean_ms, predicted = s.now.mean_ms - saved, lo = s.now.mean_ms - s.now.compress, hi = s.now.mean_ms, cores = t.cpu_s / f.span_s,
      formula = "mean - compress * those not smaller / all", inputs = { bodies = t.bodies, not_smaller = t.not_smaller, cpu_s = t.cpu_s } }
  end,
  advise = function(s) return ("In rules/policies/compression.lua: routes = { [%q] = false }. Or give its answers the type that they have."):format(s.name) end,
  effort = "very_low", risk = 1, inhibits = { "level_high", "compression_useless" },
  explain = function(s, f)
    local t = coded(s, f)
    return ("%.0f of %.0f bodies of %s did not get smaller, which took %.2f cores"):format(t.not_smaller, t.bodies + t.not_smaller, s.name, t.cpu_s / f.span_s)
  end,
}
