-- Attempts fail by waiting far longer than answers ever take. From failures of the peers and the 99th percentile of first bytes of routes. Slow answers become errors: semantic.
local sums = require("perilune.suggestions.sums").attempts

return {
  id = "timeout_long",
  title = function(u) return ("give up on %s sooner"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and t.failures >= 10 and t.failures >= 0.005 * t.attempts and f:mean(routes, "p95_ms") >= 1 and f:mean(routes, "p99_ms") >= 0.5 * f:setting("upstream.first_byte_timeout_ms", u) and f:setting("upstream.first_byte_timeout_ms", u) > 10 * f:mean(routes, "p95_ms")
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local now, to = f:mean(routes, "p99_ms"), math.max(100, 3 * f:mean(routes, "p95_ms"))
    return { metric = "p99_ms", now = now, predicted = math.min(now, to), lo = math.min(now, to), hi = now, routes = routes,
      formula = "min(p99, the timeout)", inputs = { timeout_ms = f:setting("upstream.first_byte_timeout_ms", u), failures = t.failures } }
  end,
  set = function(u, f) return { [f:own(u, "upstream.first_byte_timeout_ms")] = math.ceil(math.max(100, 3 * f:mean(f:with("upstream_first_byte", 0.1), "p95_ms"))) } end,
  effort = "very_low", risk = 3, semantic = true, verify = { metric = "p99_ms", direction = "down", mde = 0.05 },
  explain = function(u, f)
    local t = sums(u)
    return ("%.0f of %.0f attempts at %s failed, the longest after %.0f ms; 95 %% of answers take %.0f ms"):format(t.failures, t.attempts, u.name, f:setting("upstream.first_byte_timeout_ms", u), f:mean(f:with("upstream_first_byte", 0.1), "p95_ms"))
  end,
}
