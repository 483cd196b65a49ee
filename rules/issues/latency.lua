-- Routes that answer slower than they usually do, and where that time goes.
--
-- `excess(phase)` is the share of a route's additional time that was measured in a phase, so the phase with most of
-- it is the cause by measurement, not by correlation. Tuned on the planted faults of tests/system/analyzer_spec.lua.
local function connecting(s) return (s.now.upstream_connect or 0) / math.max(1e-3, s.now.mean_ms or 0) end

-- At noon more is asked for than at night, and requests meet each other: that alone is a day's course.
local function busier(host, t) return host:above("connections", t.load_ratio, 4) or host:above("rps", t.load_ratio, 5) end

return {
  symptoms = {
    {
      name = "latency", on = "route", type = "SLOW_RESPONSE",
      when = function(s, t)
        if s.requests < t.min_requests then return false end
        if (s.now.p95_ms or 0) >= t.slow_ms then return true end
        local more = busier(s.host, t) and t.busy_factor or 1
        if s:rose("mean_ms", t.latency_ratio * more, t.latency_floor_ms * more) then return true end
        return s:rose("p95_ms", t.tail_ratio * more, t.tail_floor_ms * more) and s:above("mean_ms", t.tail_mean_ratio * more, 0)
      end,
      severity = function(s) return math.log(s:ratio "p95_ms" + 1) / math.log(10) end,
      title = function(s) return ("%s answers in %s%s (p95)"):format(s.name, s:show "p95_ms", s:usually("p95_ms", "in")) end,
    },
    { -- not new perhaps, but every request pays for it
      name = "connecting", on = "route", type = "SLOW_RESPONSE",
      when = function(s, t)
        return s.requests >= t.min_requests and (s.now.upstream_connect or 0) >= t.connect_ms and connecting(s) >= t.connect_share
      end,
      severity = connecting,
      title = function(s) return ("%s spends %s of its %s on connecting to the service behind"):format(s.name, s:show "upstream_connect", s:show "mean_ms") end,
    },
  },
  causes = {
    {
      code = "upstream.slow", of = "latency", type = "SLOW_RESPONSE", target = "route",
      score = function(s) return s:excess "upstream_first_byte" + s:excess "upstream_body" end,
      says = function(s) return ("the service behind takes %s to its first byte%s"):format(s:show "upstream_first_byte", s:usually "upstream_first_byte") end,
    },
    {
      code = "net.connect", of = { "latency", "connecting" }, type = "SLOW_RESPONSE", target = "route",
      score = function(s, t) return math.max(s:excess "upstream_connect", connecting(s) >= t.connect_share and 0.5 or 0) end,
      says = function(s) return ("connecting to the service behind takes %s a request%s"):format(s:show "upstream_connect", s:usually "upstream_connect") end,
    },
    {
      code = "net.client", of = "latency", type = "SLOW_RESPONSE", target = "route",
      score = function(s) return s:excess "write" end,
      says = function(s) return ("handing the answer to the client takes %s%s: slow clients or larger answers"):format(s:show "write", s:usually "write") end,
    },
  },
}
