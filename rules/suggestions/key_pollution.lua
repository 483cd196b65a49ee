-- Hardly any answer is used twice, and more room would not help: keys differ in what does not matter. From hits and stores during
-- the span; from evictions, of which there were none while entries grew in number (they do not where they are purged), or the
-- miss-ratio curve, which says the same of a cache that is full.
local counts = require("perilune.suggestions.sums").cache

local function n(d, name) return d[name] or 0 end
local function lookups_of(d) return n(d, "hits") + n(d, "misses") end

return {
  id = "key_pollution",
  title = function(s) return ("look at what tells the keys of %s apart"):format(s.name) end,
  class = "cache", on = "route", issue = { "cache.cold" }, needs = { "mean_ms", "rps" },
  when = function(s, f)
    local d, r = counts(s, f)
    if not d then return false end
    local lookups = n(d, "hits") + n(d, "misses")
    if r == nil or lookups < 200 or n(d, "stored") < 0.5 * lookups or n(d, "hits") >= 0.2 * lookups or (s.now.upstream_first_byte or 0) < 1 then return false end
    local all = f.cache.during
    if n(all, "evictions") == 0 then return n(all, "entries") >= 0.5 * n(d, "stored") end
    return r.miss ~= nil and (r.miss.fourfold or 0) >= 0.6
  end,
  impact = function(s, f)
    local d = counts(s, f)
    local lookups = math.max(1, n(d, "hits") + n(d, "misses"))
    local saved = math.min(s.now.mean_ms, (s.now.upstream_first_byte or 0) * math.min(1, n(d, "stored") / lookups) / 2)
    return { metric = "mean_ms", now = s.now.mean_ms, predicted = s.now.mean_ms - saved, lo = s.now.mean_ms - saved, hi = s.now.mean_ms,
      formula = "mean - upstream time * stored / lookups / 2; at best all stored ones were the same", inputs = { hits = n(d, "hits"), misses = n(d, "misses"), lookups = lookups } }
  end,
  advise = function(s) return ("Compare keys of %s: parameters such as utm_source, or a Vary on User-Agent or Cookie, make every key a new one. Leave them out of the key in rules/policies/cache.lua."):format(s.name) end,
  effort = "low", risk = 2, semantic = true,
  explain = function(s, f)
    local d = counts(s, f)
    return ("%.0f of %.0f lookups hit although every other answer is stored"):format(n(d, "hits"), lookups_of(d))
  end,
}
