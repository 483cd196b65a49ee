-- Many requests wait for one and the same fetch. From requests that joined a fetch, of all that missed, during the span.
local counts = require("perilune.suggestions.sums").cache

local function n(d, name) return d[name] or 0 end

return {
  id = "stampede",
  title = function(s) return ("serve %s stale while it is fetched again"):format(s.name) end,
  class = "cache", on = "route", issue = { "cache.cold" }, needs = { "mean_ms", "rps" },
  when = function(s, f)
    local d, r = counts(s, f)
    if not d then return false end
    local lookups = n(d, "hits") + n(d, "misses")
    -- of all requests many waited, or behind each fetch a crowd did
    local crowd = n(d, "collapsed") >= 0.3 * lookups or n(d, "collapsed") >= 5 * math.max(1, n(d, "misses"))
    return r ~= nil and lookups >= 50 and n(d, "collapsed") >= 20 and crowd and n(d, "stale") == 0 and (s.now.mean_ms or 0) >= 5
  end,
  impact = function(s, f)
    local d = counts(s, f)
    local lookups = math.max(1, n(d, "hits") + n(d, "misses"))
    local saved = math.min(s.now.mean_ms, (s.now.upstream_first_byte or 0) * n(d, "collapsed") / math.max(lookups, n(d, "collapsed")))
    return { metric = "mean_ms", now = s.now.mean_ms, predicted = s.now.mean_ms - saved, lo = s.now.mean_ms - saved, hi = s.now.mean_ms,
      formula = "mean - upstream time * collapsed / lookups", inputs = { hits = n(d, "hits"), misses = n(d, "misses"), lookups = lookups } }
  end,
  advise = function(s) return ("Allow stale-while-revalidate for %s in rules/policies/cache.lua: one request fetches, the others are answered at once."):format(s.name) end,
  effort = "low", risk = 2, semantic = true,
  explain = function(s, f)
    local d = counts(s, f)
    return ("%.0f requests waited for the fetch of another, of %.0f misses"):format(n(d, "collapsed"), n(d, "misses"))
  end,
}
