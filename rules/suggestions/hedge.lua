-- A few requests to an upstream take very long while most are fast and none fails: a second try at another instance, once the first
-- is slower than most, answers sooner. Costs the upstream the share of tries that `upstream.hedge_share` allows. Advice, because
-- only who knows the upstream knows whether it may be asked twice.
-- A tail that our own loop makes by standing still is none of the upstream's, nor are the misses of a route that is mostly cached,
-- nor what it takes to connect.
local counts = require("perilune.suggestions.sums").cache

local RATIO, FLOOR_MS, ERRORS, OWN, SHARE = 5, 20, 0.005, 0.5, 0.5

-- What the upstream usually takes. Of a cached route the median is a hit: there it is the mean of the requests that it got.
local function usual_ms(s, f)
  local median, d = s.now.p50_ms or 0, counts(s, f)
  local hits, misses = d and d.hits or 0, d and d.misses or 0
  return hits == 0 and median or math.max(median, s.now.upstream_first_byte * (hits + misses) / math.max(1, misses))
end

local function heavy(f)
  local names = {}
  for _, s in ipairs(f.routes) do
    if s.is_proxied ~= false and (s.now.upstream_first_byte or 0) >= math.max(0.5, SHARE * (s.now.mean_ms or 0)) and (s.now.rps or 0) >= 5 and (s.now.p99_ms or 0) >= RATIO * math.max(0.1, usual_ms(s, f))
      and (s.now.p99_ms or 0) - (s.now.p50_ms or 0) >= FLOOR_MS and (s.now.error_rate or 0) < ERRORS
      and (f.host.now.loop_lag_ms or 0) < OWN * (s.now.p99_ms - (s.now.p50_ms or 0)) then
      names[#names + 1] = s.name
    end
  end
  return names
end

return {
  id = "hedge",
  title = function() return "a second try for the slowest requests to the upstream" end,
  class = "architecture",
  on = "upstream",
  issue = { "upstream.slow", "upstream.tail" },
  when = function(s, f)
    local hedges = 0
    for _, peer in ipairs(s.peers) do hedges = hedges + ((peer.during or {}).hedges or 0) end
    return #s.peers >= 2 and hedges == 0 and #heavy(f) > 0
  end,
  impact = function(_, f)
    local names = heavy(f)
    local now, median = f:mean(names, "p99_ms"), f:mean(names, "p50_ms")
    return { metric = "p99_ms", now = now, predicted = math.min(now, 3 * median), lo = 2 * median, hi = now, routes = names,
      formula = "P(both slower than t) = S(t) * S(t - d): the delay and a usual answer", inputs = { p50_ms = median, p99_ms = now } }
  end,
  advise = function(s)
    return ("In perilune.lua: upstreams = { %s = { ..., hedge = true } }: idempotent requests get a second try once 95 %% would have been answered."):format(s.name)
  end,
  effort = "very_low",
  risk = 2,
  explain = function(_, f)
    local names = heavy(f)
    return ("%s has a p99 of %.0f ms where half are answered in %.1f ms"):format(names[1], f.by_route[names[1]].now.p99_ms, f.by_route[names[1]].now.p50_ms)
  end,
}
