-- Most retries fail as well and only add load. From attempts, retries and failures of the peers during the span.
local sums = require("perilune.suggestions.sums").attempts

return {
  id = "retry_storm",
  title = function(u) return ("spend less on retries of %s"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and t.retries >= 20 and t.retries >= 0.2 * (t.attempts - t.retries) and t.failures >= 0.3 * t.attempts and f:setting("upstream.budget_share", u) > 0.1
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local now, base = f:mean(routes, "mean_ms"), math.max(1, t.attempts - t.retries)
    local saved = f:mean(routes, "upstream_first_byte") * math.max(0, t.retries / base - 0.1) / (t.attempts / base)
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - 2 * saved, hi = now, routes = routes,
      formula = "mean - upstream time * (retries / requests - budget) / attempts a request", inputs = { attempts = t.attempts, retries = t.retries, failures = t.failures } }
  end,
  set = function(u, f) return { [f:own(u, "upstream.budget_share")] = math.max(0.1, f:setting("upstream.budget_share", u) / 5) } end,
  effort = "very_low", risk = 2, inhibits = { "hedge_low", "hedge" },
  explain = function(u, f)
    local t = sums(u)
    return ("%.0f of %.0f attempts at %s were retries, %.0f failed; the budget is %.0f %%"):format(t.retries, t.attempts, u.name, t.failures, f:setting("upstream.budget_share", u) * 100)
  end,
}
