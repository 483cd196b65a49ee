-- A cache that answers less than it did. What it no longer answers goes to the service behind, so the time that
-- routes lose there is this issue's, not the service's.
local function dropped(host, t)
  return host:fell("cache_hit_ratio", t.cache_drop) and (host.now.cache_lookups or 0) >= t.cache_lookups
end

return {
  symptoms = {
    {
      name = "cache", on = "host", type = "CACHE_EFFICIENCY",
      when = function(s, t) return dropped(s, t) end,
      severity = function(s) return (s.usual.cache_hit_ratio or 0) - (s.now.cache_hit_ratio or 0) end,
      title = function(s) return ("the cache answers %s of its requests%s"):format(s:show "cache_hit_ratio", s:usually "cache_hit_ratio") end,
    },
  },
  causes = {
    {
      code = "cache.cold", of = { "cache", "latency" }, type = "CACHE_EFFICIENCY", target = "host",
      inhibits = { "upstream.slow", "cpu.handler", "db.slow_query", "db.pool_wait", "host.contention" },
      score = function(s, t)
        if s.kind == "host" then return 0.9 end
        local host = s.host
        if (host.usual.cache_hit_ratio or 0) - (host.now.cache_hit_ratio or 1) < t.cache_drop then return 0 end
        return (s:excess "upstream_first_byte" + s:excess "upstream_body" + s:excess "upstream_connect" + s:excess "lua" + s:excess "cache")
      end,
      says = function(s)
        local host = s.host or s
        return ("the hit ratio fell from %s to %s: entries were purged, ran out, or are pushed out by others"):format(host:show_usual "cache_hit_ratio", host:show "cache_hit_ratio")
      end,
    },
    {
      code = "cache.stampede", of = "latency", type = "CACHE_EFFICIENCY", target = "route", inhibits = { "overload.queueing", "upstream.slow" },
      score = function(s) return s:excess "cache" end,
      says = function(s) return ("requests wait %s for an answer that another request fetches%s"):format(s:show "cache", s:usually "cache") end,
    },
  },
}
