-- Hedged attempts help, and the budget suppresses the rest of them. From hedges and those that answered first, and the tail of routes.
local sums = require("perilune.suggestions.sums").attempts

return {
  id = "hedge_low",
  title = function(u) return ("allow more hedges for %s"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and t.hedges >= 20 and t.hedges >= 0.8 * f:setting("upstream.hedge_share", u) * t.attempts and t.wins >= 0.3 * t.hedges and t.failures < 0.005 * t.attempts and #u.peers >= 2 and f:setting("upstream.hedge_share", u) < 0.1 and f:mean(routes, "p99_ms") >= math.max(20, 5 * f:mean(routes, "p50_ms"))
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local now = f:mean(routes, "p99_ms")
    local saved = (now - f:mean(routes, "p95_ms")) * t.wins / t.hedges
    return { metric = "p99_ms", now = now, predicted = now - saved, lo = now - saved, hi = now, routes = routes,
      formula = "p99 - (p99 - p95) * share of hedges that answered first", inputs = { hedges = t.hedges, wins = t.wins, attempts = t.attempts } }
  end,
  set = function(u, f) return { [f:own(u, "upstream.hedge_share")] = math.min(0.1, f:setting("upstream.hedge_share", u) * 2) } end,
  effort = "very_low", risk = 2, verify = { metric = "p99_ms", direction = "down", mde = 0.05 },
  explain = function(u)
    local t = sums(u)
    return ("%.0f of %.0f hedges answered first, at %.1f %% of attempts: the share allowed"):format(t.wins, t.hedges, t.hedges / t.attempts * 100)
  end,
}
