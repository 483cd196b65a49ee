-- Routes that answer slower than they usually do, and where that time goes.
--
-- `excess(phase)` is the share of a route's additional time that was measured in a phase, so the phase with most of
-- it is the cause by measurement, not by correlation. Tuned on the planted faults of tests/system/analyzer_spec.lua.
return {
  symptoms = {
    {
      name = "latency", on = "route", type = "SLOW_RESPONSE",
      when = function(s, t)
        if s.requests < t.min_requests then return false end
        if (s.now.p95_ms or 0) >= t.slow_ms then return true end
        if s:rose("mean_ms", t.latency_ratio, t.latency_floor_ms) then return true end
        return s:rose("p95_ms", t.tail_ratio, t.tail_floor_ms) and s:above("mean_ms", t.tail_mean_ratio, 0)
      end,
      severity = function(s) return math.log(s:ratio "p95_ms" + 1) / math.log(10) end,
      title = function(s) return ("%s answers in %s, usually in %s (p95)"):format(s.name, s:show "p95_ms", s:show_usual "p95_ms") end,
    },
  },
  causes = {
    {
      code = "upstream.slow", of = "latency", type = "SLOW_RESPONSE", target = "route",
      score = function(s) return s:excess "upstream_first_byte" + s:excess "upstream_body" end,
      says = function(s) return ("the service behind takes %s to its first byte, usually %s"):format(s:show "upstream_first_byte", s:show_usual "upstream_first_byte") end,
    },
    {
      code = "net.connect", of = "latency", type = "SLOW_RESPONSE", target = "route",
      score = function(s) return s:excess "upstream_connect" end,
      says = function(s) return ("connecting to the service behind takes %s a request, usually %s"):format(s:show "upstream_connect", s:show_usual "upstream_connect") end,
    },
    {
      code = "net.client", of = "latency", type = "SLOW_RESPONSE", target = "route",
      score = function(s) return s:excess "write" end,
      says = function(s) return ("handing the answer to the client takes %s, usually %s: slow clients or larger answers"):format(s:show "write", s:show_usual "write") end,
    },
  },
}
