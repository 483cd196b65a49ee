-- One peer fails much more than the others, and not enough to be ejected. From attempts and failures of each peer during the span.
local sums = require("perilune.suggestions.sums").attempts

local peers = require("perilune.suggestions.sums").peers

local function odd(u) return peers(u, "errors") end

return {
  id = "bad_instance_errors",
  title = function(u) return ("eject failing peers of %s sooner"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and odd(u) ~= nil and (odd(u)).errors >= 0.05 and (odd(u)).errors * (odd(u)).n >= 10 and (odd(u)).errors >= 5 * math.max(0.002, select(2, odd(u)).errors) and f:setting("upstream.outlier_errors", u) > (odd(u)).errors * 0.7
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local bad, usual = odd(u)
    local now, saved = f:mean(routes, "error_rate"), (bad.errors - usual.errors) * bad.n / t.attempts
    return { metric = "error_rate", now = now, predicted = math.max(0, now - saved), lo = 0, hi = now, routes = routes,
      formula = "error rate - share of the peer * (its failures - median)", inputs = { peer = bad.errors, median = usual.errors, share = bad.n / t.attempts } }
  end,
  set = function(u, f) return { [f:own(u, "upstream.outlier_errors")] = (odd(u)).errors * 0.7 } end,
  xor = "bad_instance",
  effort = "very_low", risk = 2, verify = { metric = "error_rate", direction = "down", mde = 0.1 }, inhibits = { "timeout_long", "retry_storm", "timeout_short" },
  explain = function(u)
    local t = sums(u)
    return ("%s of %s fails %.0f %% of the time, the median peer %.1f %%, over %.0f attempts"):format((odd(u)).address, u.name, (odd(u)).errors * 100, select(2, odd(u)).errors * 100, t.attempts)
  end,
}
