-- One peer is much slower than the others, and not slow enough to be ejected. From answers and their times of each peer during the span.
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
  table.sort(list, function(a, b) return a.ms > b.ms end)
  return list[1], list[math.ceil((#list + 1) / 2)], #list
end

return {
  id = "bad_instance_slow",
  title = function(u) return ("eject slow peers of %s sooner"):format(u.name) end,
  class = "architecture", on = "upstream", issue = { "upstream.errors", "upstream.slow" },
  when = function(u, f)
    local t = sums(u)
    local routes = f:with("upstream_first_byte", 0.1)
    return t.attempts >= 100 and #routes > 0 and odd(u) ~= nil and (odd(u)).ms >= 3 * select(2, odd(u)).ms and (odd(u)).ms >= select(2, odd(u)).ms + 20 and f:setting "upstream.outlier_factor" > 2
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
  set = function(u, f) return { ["upstream.outlier_factor"] = math.max(1.5, math.min(f:setting "upstream.outlier_factor" / 2, (odd(u)).ms / select(2, odd(u)).ms * 0.8)) } end,
  xor = "bad_instance",
  effort = "very_low", risk = 2, inhibits = { "timeout_long", "retry_storm", "timeout_short" },
  explain = function(u)
    local t = sums(u)
    return ("%s of %s takes %.0f ms, the median peer %.0f ms, over %.0f attempts"):format((odd(u)).address, u.name, (odd(u)).ms, select(2, odd(u)).ms, t.attempts)
  end,
}
