-- Answers of 500 and above.
local STAYS, USUAL_STAYS = 0.6, 0.8 -- what is open stays from such a share of its level on

-- Twice of what is usual is a problem, and so is what is usual if it is itself at the level of one: a route that fails from its
-- first request on has had nothing else to learn. Who fails about as often as the level says does not come and go.
local function fails(rate, usual, level, is_open)
  return rate >= (is_open and STAYS or 1) * level and (rate >= 2 * usual or usual >= (is_open and USUAL_STAYS or 1) * level)
end

return {
  symptoms = {
    {
      name = "errors", on = "route", type = "HIGH_ERROR_RATE",
      when = function(s, t, is_open)
        local rate = s.now.error_rate or 0
        if s.requests < t.min_requests or s.errors < (is_open and STAYS or 1) * t.error_events then return false end
        if fails(rate, s.usual.error_rate or 0, t.error_rate, is_open) then return true end
        return s:rose("error_rate", 2, t.error_rise)
      end,
      follows = function(s) return s:ratio "mean_ms" >= 2 and "latency" or nil end, -- what is slow first runs into its timeouts
      severity = function(s) return math.min(1, 0.3 + (s.now.error_rate or 0)) end,
      title = function(s) return ("%s fails: %s of its answers are 5xx%s"):format(s.name, s:show "error_rate", s:usually "error_rate") end,
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
