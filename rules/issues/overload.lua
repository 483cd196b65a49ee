-- More work than there is room for: requests queue. More clients, not slower work, is what tells it apart.
local function more_load(host, t)
  return host:above("connections", t.load_ratio, 4) and host:above("rps", 1.2, 5) or host:above("rps", t.load_ratio, 5)
end

-- Where no more is asked for, requests queue for their turn because more clients are served slower, because a limit lets few in,
-- or for a reason that is not load.
local function more_clients(host, t)
  return host:above("connections", t.load_ratio, 4)
end

local function more_refused(host)
  return host:above("limited", 2, 1)
end

return {
  symptoms = {
    {
      name = "limited", on = "host", type = "CONCURRENT_OVERLOAD",
      when = function(s) return s:rose("limited", 2, 1) end,
      severity = function(s) return math.min(1, (s.now.limited or 0) / math.max(1, s.now.rps or 1)) end,
      title = function(s) return ("%s requests a second are refused by limits"):format(s:show "limited") end,
    },
  },
  causes = {
    {
      code = "overload.queueing", of = { "latency", "limited" }, type = "CONCURRENT_OVERLOAD", target = "host",
      inhibits = { "db.slow_query", "db.pool_wait", "redis.slow", "upstream.slow", "cpu.handler", "cpu.compression",
        "host.contention" },
      score = function(s, t)
        local host = s.host or s
        local more = more_load(host, t)
        if s.kind == "host" then return more and 1 or 0.45 end
        local queued = s:excess "queue" + s:excess "elsewhere"
        if not more then return (more_clients(host, t) or more_refused(host)) and queued * 0.45 or 0 end -- too little to inhibit anything
        -- With many more clients than before, whatever is behind them queues as well.
        return host:above("connections", 2, 4) and 0.95 or queued
      end,
      says = function(s, t)
        local host = s.host or s
        local load = ("%s connections (usually %s) ask %s times a second (usually %s)"):format(
          host:show "connections", host:show_usual "connections", host:show "rps", host:show_usual "rps")
        if more_load(host, t) or more_clients(host, t) then return load .. ": requests wait for their turn" end
        if s.kind == "host" or more_refused(host) then return "limits refuse requests or let them wait, and there are no more than usual" end
        return load .. ", and before there were more: some still wait for their turn"
      end,
    },
  },
}
