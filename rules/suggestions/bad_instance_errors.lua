-- One peer fails much more than the others, and not enough to be ejected. From attempts and failures of each peer during the span.
local function sums(u)
  local t = { attempts = 0, failures = 0, retries = 0, hedges = 0, wins = 0, latency_s = 0, answers = 0 }
  for _, p in pairs(u.during and u.during.peers or {}) do
    t.attempts, t.failures, t.retries = t.attempts + (p.attempts or 0), t.failures + (p.failures or 0), t.retries + (p.retries or 0)
    t.hedges, t.wins = t.hedges + (p.hedges or 0), t.wins + (p.hedge_wins or 0)
    t.latency_s, t.answers = t.latency_s + (p.latency_sum_s or 0), t.answers + (p.answers or 0)
  end
  return t
end

local function odd(u)
  local list, now = {}, u.peers or {}
  for i, p in pairs(u.during and u.during.peers or {}) do
    if (p.attempts or 0) >= 50 and (p.answers or 0) >= 1 and now[i] and now[i].state ~= "ejected" then
      list[#list + 1] = { address = p.address, ms = p.latency_sum_s / p.answers * 1000, errors = p.failures / p.attempts, n = p.attempts }
    end
  end
  if #list < 3 then return end
  table.sort(list, function(a, b) return a.errors > b.errors end)
  return list[1], list[math.ceil((#list + 1) / 2)], #list
end

return {
  id = "bad_instance_errors",
  title = function(u) return ("eject failing peers of %s sooner"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and odd(u) ~= nil and (odd(u)).errors >= 0.05 and (odd(u)).errors * (odd(u)).n >= 10 and (odd(u)).errors >= 5 * math.max(0.002, select(2, odd(u)).errors) and f:setting "upstream.outlier_errors" > (odd(u)).errors * 0.7
  end,
  impact = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    local bad, usual = odd(u)
    local now, saved = f:mean(routes, "error_rate"), (bad.errors - usual.errors) * bad.n / t.attempts
    return { metric = "error_rate", now = now, predicted = math.max(0, now - saved), lo = 0, hi = now, routes = routes,
      formula = "error rate - share of the peer * (its failures - median)", inputs = { peer = bad.errors, median = usual.errors, share = bad.n / t.attempts } }
  end,
  set = function(u) return { ["upstream.outlier_errors"] = (odd(u)).errors * 0.7 } end,
  xor = "bad_instance",
  effort = "very_low", risk = 2, verify = { metric = "error_rate", direction = "down", mde = 0.1 }, inhibits = { "timeout_long", "retry_storm", "timeout_short" },
  explain = function(u)
    local t = sums(u)
    return ("%s of %s fails %.0f %% of the time, the median peer %.1f %%, over %.0f attempts"):format((odd(u)).address, u.name, (odd(u)).errors * 100, select(2, odd(u)).errors * 100, t.attempts)
  end,
}
