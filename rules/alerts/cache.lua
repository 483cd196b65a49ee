-- A cache that answers too little of what it is asked.
return {
  policies = {
    {
      name = "LowCacheHitRatio", severity = "warning", on = "host", unit = "ratio", below = 0.5, exit = 0.6, for_ = "10m", keep_firing_for = "5m",
      value = function(s)
        if (s.cache_lookups or 0) < 1 then return nil end -- a second
        return s.cache_hit_ratio
      end,
      annotations = { summary = "the cache answers {{value}} of what it is asked, less than {{threshold}}" },
    },
  },
}
