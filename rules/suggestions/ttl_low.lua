-- Answers expire although their origin says that they have not changed (304). From misses and revalidations of the route during the span.
local counts = require("perilune.suggestions.sums").cache

local function n(d, name) return d[name] or 0 end

return {
  id = "ttl_low",
  title = function(s) return ("let answers of %s stay fresh for longer"):format(s.name) end,
  class = "cache", on = "route", issue = { "cache.cold" }, needs = { "mean_ms", "rps" },
  when = function(s, f)
    local d, r = counts(s, f)
    if not d then return false end
    local lookups = n(d, "hits") + n(d, "misses")
    return r ~= nil and lookups >= 50 and n(d, "revalidated") >= 20 and n(d, "revalidated") >= 0.5 * n(d, "misses") and (s.now.upstream_first_byte or 0) >= 1
  end,
  impact = function(s, f)
    local d = counts(s, f)
    local lookups = math.max(1, n(d, "hits") + n(d, "misses"))
    local saved = math.min(s.now.mean_ms, (s.now.upstream_first_byte or 0) * n(d, "revalidated") / math.max(lookups, n(d, "revalidated")) / 2)
    return { metric = "mean_ms", now = s.now.mean_ms, predicted = s.now.mean_ms - saved, lo = s.now.mean_ms - saved, hi = s.now.mean_ms,
      formula = "mean - upstream time * revalidated / lookups / 2: twice the time, half of the expiries", inputs = { hits = n(d, "hits"), misses = n(d, "misses"), lookups = lookups } }
  end,
  advise = function(s) return ("Double ttl of %s in rules/policies/cache.lua, or max-age at the origin, as far as readers may see answers of that age."):format(s.name) end,
  effort = "low", risk = 2, semantic = true,
  explain = function(s, f)
    local d = counts(s, f)
    return ("%.0f of %.0f misses only confirmed what the cache had"):format(n(d, "revalidated"), n(d, "misses"))
  end,
}
