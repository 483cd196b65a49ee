-- A cached route gets requests that the cache does not answer. From bypassed requests of the route during the span.
local counts = require("perilune.suggestions.sums").cache

local function n(d, name) return d[name] or 0 end

return {
  id = "cache_bypassed",
  title = function(s) return ("let the cache answer %s"):format(s.name) end,
  class = "cache", on = "route", issue = { "cache.cold" }, needs = { "mean_ms", "rps" },
  when = function(s, f)
    local d, r = counts(s, f)
    if not d then return false end
    local lookups = n(d, "hits") + n(d, "misses")
    return r ~= nil and n(d, "bypassed") >= 100 and n(d, "bypassed") >= lookups and (s.now.upstream_first_byte or 0) >= 5
  end,
  impact = function(s, f)
    local d = counts(s, f)
    local lookups = math.max(1, n(d, "hits") + n(d, "misses"))
    local saved = math.min(s.now.mean_ms, (s.now.upstream_first_byte or 0) * (lookups > 1 and n(d, "hits") / lookups or 0) * n(d, "bypassed") / (n(d, "bypassed") + lookups))
    return { metric = "mean_ms", now = s.now.mean_ms, predicted = s.now.mean_ms - saved, lo = s.now.mean_ms - saved, hi = s.now.mean_ms,
      formula = "mean - upstream time * hit ratio of those that ask * share that does not ask", inputs = { hits = n(d, "hits"), misses = n(d, "misses"), lookups = lookups } }
  end,
  advise = function(s) return ("See why requests of %s pass the cache by (Authorization, a method, Cache-Control: no-store) in rules/policies/cache.lua."):format(s.name) end,
  effort = "low", risk = 2, semantic = true,
  explain = function(s, f)
    local d = counts(s, f)
    return ("%.0f requests were not answered by the cache, %.0f asked it"):format(n(d, "bypassed"), n(d, "hits") + n(d, "misses"))
  end,
}
