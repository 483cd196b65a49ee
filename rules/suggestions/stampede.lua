-- Many requests wait for one and the same fetch. From requests that joined a fetch, of all that missed, during the span, and the
-- time they waited, which is the phase `cache` of the route.
local counts = require("perilune.suggestions.sums").cache

local function n(d, name) return d[name] or 0 end

return {
  id = "stampede",
  title = function(s) return ("serve %s stale while it is fetched again"):format(s.name) end,
  class = "cache", on = "route", issue = { "cache.stampede", "cache.cold" }, needs = { "mean_ms", "rps", "cache" },
  when = function(s, f)
    local d, r = counts(s, f)
    if not d then return false end
    local lookups = n(d, "hits") + n(d, "misses")
    -- of all requests many waited, or behind each fetch a crowd did, or those few that did waited most of the time there is
    local crowd = n(d, "collapsed") >= 0.3 * lookups or n(d, "collapsed") >= 5 * math.max(1, n(d, "misses")) or s.now.cache >= 0.3 * s.now.mean_ms
    return r ~= nil and lookups >= 50 and n(d, "collapsed") >= 20 and crowd and n(d, "stale") == 0 and (s.now.mean_ms or 0) >= 5
  end,
  impact = function(s, f)
    local d, now, waits = counts(s, f), s.now.mean_ms, s.now.cache
    return { metric = "mean_ms", now = now, predicted = math.max(0, now - waits), lo = math.max(0, now - waits - (s.now.upstream_first_byte or 0)), hi = now - waits / 2,
      formula = "mean - waiting for the fetch of another", inputs = { waits_ms = waits, collapsed = n(d, "collapsed"), misses = n(d, "misses") } }
  end,
  advise = function(s) return ("Allow stale-while-revalidate for %s in rules/policies/cache.lua: one request fetches, the others are answered at once."):format(s.name) end,
  effort = "low", risk = 2, semantic = true, inhibits = { "hedge" },
  explain = function(s, f)
    local d = counts(s, f)
    return ("%.0f requests waited for the fetch of another, beside %.0f misses: %s of %s a request"):format(n(d, "collapsed"), n(d, "misses"), s:show "cache", s:show "mean_ms")
  end,
}
