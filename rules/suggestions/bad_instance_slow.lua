-- One peer is much slower than the others, and not slow enough to be ejected. From answers and their times of each peer during the span.
local sums = require("perilune.suggestions.sums").attempts

local peers = require("perilune.suggestions.sums").peers

local function odd(u) return peers(u, "ms") end

return {
  id = "bad_instance_slow",
  title = function(u) return ("eject slow peers of %s sooner"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and odd(u) ~= nil and (odd(u)).ms >= 3 * select(2, odd(u)).ms and (odd(u)).ms >= select(2, odd(u)).ms + 20 and f:setting("upstream.outlier_factor", u) > 2
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local bad, usual = odd(u)
    local now, saved = f:mean(routes, "mean_ms"), (bad.ms - usual.ms) * bad.n / t.attempts
    saved = math.min(saved, f:mean(routes, "upstream_first_byte"))
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - saved, hi = now, routes = routes,
      formula = "mean - share of the peer * (its time - median)", inputs = { peer_ms = bad.ms, median_ms = usual.ms, share = bad.n / t.attempts } }
  end,
  set = function(u, f) return { [f:own(u, "upstream.outlier_factor")] = math.max(1.5, math.min(f:setting("upstream.outlier_factor", u) / 2, (odd(u)).ms / select(2, odd(u)).ms * 0.8)) } end,
  xor = "bad_instance",
  effort = "very_low", risk = 2, inhibits = { "timeout_long", "retry_storm", "timeout_short" },
  explain = function(u)
    local t = sums(u)
    return ("%s of %s takes %.0f ms, the median peer %.0f ms, over %.0f attempts"):format((odd(u)).address, u.name, (odd(u)).ms, select(2, odd(u)).ms, t.attempts)
  end,
}
