-- Answers of 500 and above.
return {
  symptoms = {
    {
      name = "errors", on = "route", type = "HIGH_ERROR_RATE",
      when = function(s, t)
        local rate = s.now.error_rate or 0
        if s.requests < t.min_requests or rate * s.requests < t.error_events then return false end
        if rate >= t.error_rate and rate >= 2 * (s.usual.error_rate or 0) then return true end
        return s:rose("error_rate", 2, t.error_rise)
      end,
      follows = function(s) return s:ratio "mean_ms" >= 2 and "latency" or nil end, -- what is slow first runs into its timeouts
      severity = function(s) return math.min(1, 0.3 + (s.now.error_rate or 0)) end,
      title = function(s) return ("%s fails: %s of its answers are 5xx, usually %s"):format(s.name, s:show "error_rate", s:show_usual "error_rate") end,
    },
  },
  causes = {
    {
      code = "upstream.errors", of = "errors", type = "HIGH_ERROR_RATE", target = "route",
      score = function(s) return s.is_proxied and 0.8 or 0 end,
      says = function(s) return ("the service behind fails, or cannot be reached: %s of answers"):format(s:show "error_rate") end,
    },
    {
      code = "db.errors", of = "errors", type = "HIGH_ERROR_RATE", target = "database",
      score = function(s)
        for _, pool in ipairs(s.pools) do
          if (pool.now.error_rate or 0) >= 0.05 and (s.now.db or 0) + (s.now.pool_wait or 0) + (s.now.redis or 0) > 0 then return 0.9 end
        end
        return 0
      end,
      says = function() return "calls to the database fail" end,
    },
    {
      code = "errors.handler", of = "errors", type = "HIGH_ERROR_RATE", target = "route",
      score = function(s) return s.is_proxied and 0 or 0.7 end,
      says = function() return "its handler fails or answers with 5xx; the log names the line" end,
    },
  },
}
