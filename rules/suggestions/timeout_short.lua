-- Attempts are given up on that would soon have been answered. From failures of the peers, and the tail of routes, which ends at the timeout.
local sums = require("perilune.suggestions.sums").attempts

return {
  id = "timeout_short",
  title = function(u) return ("wait longer for %s"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and t.failures >= 10 and t.failures >= 0.01 * t.attempts and f:mean(routes, "p95_ms") >= 0.8 * f:setting("upstream.first_byte_timeout_ms", u) and f:mean(routes, "p50_ms") >= 0.2 * f:setting("upstream.first_byte_timeout_ms", u)
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local now = f:mean(routes, "error_rate")
    return { metric = "error_rate", now = now, predicted = math.max(0, now - t.failures / t.attempts), lo = 0, hi = now, routes = routes,
      formula = "error rate - failures / attempts", inputs = { failures = t.failures, attempts = t.attempts } }
  end,
  set = function(u, f) return { [f:own(u, "upstream.first_byte_timeout_ms")] = f:setting("upstream.first_byte_timeout_ms", u) * 3 } end,
  effort = "very_low", risk = 2, verify = { metric = "error_rate", direction = "down", mde = 0.1, price = 1 }, inhibits = { "retry_storm" },
  explain = function(u, f)
    local t = sums(u)
    return ("%.0f of %.0f attempts at %s failed; p95 is at the timeout of %.0f ms"):format(t.failures, t.attempts, u.name, f:setting("upstream.first_byte_timeout_ms", u))
  end,
}
