-- Much of the time with upstreams goes into connecting: connections are not used again. From the connect phase of routes.
local function part(f)
  local routes, rps = f:with("upstream_connect", 0.5)
  local connect = f:mean(routes, "upstream_connect")
  return routes, rps, connect, connect + f:mean(routes, "upstream_first_byte") + f:mean(routes, "upstream_body")
end

return {
  id = "keepalive_low",
  title = function() return "keep more connections to upstreams, for longer" end,
  class = "architecture", on = "host", issue = { "net.connect" },
  when = function(_, f)
    local _, rps, connect, all = part(f)
    return rps >= 2 and rps * f.span_s >= 50 and connect >= 1 and connect >= 0.15 * all and f:setting "upstream.keepalive_max" < 65536
  end,
  impact = function(_, f)
    local routes, _, connect, all = part(f)
    local now = f:mean(routes, "mean_ms")
    return { metric = "mean_ms", now = now, predicted = now - connect, lo = now - connect, hi = now - connect / 2, routes = routes,
      formula = "mean - connecting", inputs = { connect_ms = connect, upstream_ms = all } }
  end,
  set = function(_, f)
    return { ["upstream.keepalive_max"] = math.max(16, f:setting "upstream.keepalive_max" * 2), ["upstream.keepalive_ms"] = math.max(10000, f:setting "upstream.keepalive_ms" * 2) }
  end,
  effort = "very_low", risk = 1, verify = { metric = "mean_ms", direction = "down", mde = 0.05 }, inhibits = { "hedge" },
  explain = function(_, f)
    local _, rps, connect, all = part(f)
    return ("%.0f requests a second spend %.1f ms of %.1f ms with upstreams on connecting"):format(rps, connect, all)
  end,
}
