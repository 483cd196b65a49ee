-- Entries leave the cache that would still be asked for. From evictions and the sampled miss-ratio curve: what misses with twice the size.
-- The size takes a restart, so this is advice.
local function gains(f)
  local list, lookups, saved = {}, 0, 0
  for i, r in ipairs(f.cache and f.cache.routes or {}) do
    local d = f.cache.during.routes and f.cache.during.routes[i] or {}
    local n = (d.hits or 0) + (d.misses or 0)
    local gain = r.miss and r.miss.same and r.miss.double and r.miss.same - r.miss.double or 0
    if n >= 50 and gain >= 0.03 then list[#list + 1], lookups, saved = (r.method or "GET") .. " " .. r.route, lookups + n, saved + gain * n end
  end
  return list, lookups > 0 and saved / lookups or 0, lookups
end

return {
  id = "cache_small",
  title = function(_, f) return ("a cache of %.0f MB instead of %.0f MB"):format(f.cache.limit_bytes * 2 / 1e6, f.cache.limit_bytes / 1e6) end,
  class = "cache", on = "host", issue = { "cache.cold" },
  when = function(s, f)
    if not f.cache or (f.cache.during.evictions or 0) < 10 then return false end
    local room = (f.figure["memory.limit_bytes"] or 0) - (f.figure["memory.working_set_bytes"] or 0)
    return #gains(f) > 0 and room >= 2 * f.cache.limit_bytes and (s.now.memory_share or 0) < 0.8
  end,
  impact = function(_, f)
    local routes, gain, lookups = gains(f)
    local now = f:mean(routes, "mean_ms")
    local saved = gain * f:mean(routes, "upstream_first_byte")
    return { metric = "mean_ms", now = now, predicted = now - saved, lo = now - 2 * saved, hi = now, routes = routes,
      formula = "mean - (miss(1x) - miss(2x)) * time of the upstream", inputs = { gain = gain, lookups = lookups } }
  end,
  advise = function(_, f) return ("Set cache.bytes = %.0f (--set cache.bytes=%.0f) and restart."):format(f.cache.limit_bytes * 2, f.cache.limit_bytes * 2) end,
  effort = "low", risk = 1,
  explain = function(_, f)
    local _, gain, lookups = gains(f)
    return ("%d entries were evicted; of %d lookups %.1f %% more would hit with twice the size"):format(f.cache.during.evictions, lookups, gain * 100)
  end,
}
