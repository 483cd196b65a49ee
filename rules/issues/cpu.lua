-- Work on the processor: handlers, compression, the whole machine.

-- What waits for the loop can wait for many times as long as usual while others have the processor; with more clients that is theirs.
local function stalls(s, host, t)
  if host:above("connections", t.load_ratio, 4) or host:above("rps", 1.2, 5) then return false end
  return s:excess "queue" + s:excess "elsewhere" >= 0.5
end

-- Threads of the workers that are ready and get no processor, in seconds a second, are measured; where they are a good part of
-- the time that requests take more, others have the processor. Tuned on builds beside an hour of steady and daily load.
local WAITS = 0.3

local function waits(s, host)
  if not host:above("cpu_wait", 2, 0.1) then return false end
  local longest = 0
  for _, one in ipairs { s, host } do
    longest = math.max(longest, ((one.now.mean_ms or 0) - (one.usual.mean_ms or 0)) * (one.now.rps or 0) / 1000)
  end
  return host.now.cpu_wait - host.usual.cpu_wait >= WAITS * longest
end

-- Sessions of a database on this machine, where the kernel tells what they do at the processor (perilune.activity). A
-- statement may be slow because it computes, or because others keep it from the processor. Tuned on the laboratory's
-- noisy_neighbour (six processes that only compute, on two cores) and hungry_query (a statement that does).
local STARVED, THEIRS = 0.3, 0.5

local function database_of(s)
  for _, pool in ipairs(s.pools or {}) do
    local a = pool.activity
    if a and a.looks >= 3 and a.running and (a.cores or 0) > 0 then return a end
  end
end

-- It keeps half of the processors busy: then others are not what it, or we, wait for.
local function database_computes(s)
  local a = database_of(s)
  return a ~= nil and a.running >= THEIRS * a.cores
end

local function database_starves(s, host)
  local a = database_of(s)
  return a ~= nil and (host.now.cpu_share or 0) >= 0.85 and a.starved >= 0.1 and a.starved >= STARVED * (a.running + a.starved)
end

return {
  symptoms = {
    {
      name = "cpu", on = "host", type = "CPU_BOTTLENECK",
      when = function(s, t) return (s.now.cpu_share or 0) >= t.cpu_share and (s.usual.cpu_share == nil or s:rose("cpu_share", 1.15, 0.1)) and (s.now.worker_cpu or 0) > 0.5 end,
      severity = function(s) return s.now.cpu_share or 0 end,
      title = function(s) return ("%s of the processor time we may use is in use"):format(s:show "cpu_share") end,
    },
  },
  causes = {
    {
      code = "cpu.handler", of = "latency", type = "CPU_BOTTLENECK", target = "route",
      score = function(s) return s:excess "lua" end,
      says = function(s) return ("its handler runs for %s a request%s"):format(s:show "lua", s:usually "lua") end,
    },
    {
      code = "cpu.compression", of = "latency", type = "CPU_BOTTLENECK", target = "route",
      score = function(s) return s:excess "compress" end,
      says = function(s) return ("compressing takes %s a request%s"):format(s:show "compress", s:usually "compress") end,
    },
    { -- a handler of another route that keeps the processor makes everybody queue
      code = "cpu.handler", of = { "latency", "cpu" }, type = "CPU_BOTTLENECK", target = "hottest",
      inhibits = { "overload.queueing", "upstream.slow", "db.slow_query", "db.pool_wait", "redis.slow" },
      score = function(s)
        local hot, host = s.hottest, s.host or s
        -- a few requests that compute for long do not move the mean by much, and the loop all the more
        local burns = hot and (hot:above("lua", 1.5, 2) or hot:above("lua", 2, 0.3) and host:above("loop_lag_ms", 3, 20))
        if not burns then return s.kind == "host" and 0.4 or 0 end
        if s.kind == "host" then return 1 end
        if hot.name == s.name then return 0 end
        -- While a loop runs a handler, all that came in for others waits, whatever phase they are in.
        if host:above("loop_lag_ms", 2, 3) then return 0.95 end
        return s:excess "queue" + s:excess "elsewhere"
      end,
      says = function(s)
        local hot = s.hottest
        if not hot then return "no route's handler stands out" end
        return ("%s runs for %s a request%s; others wait meanwhile"):format(hot.name, hot:show "lua", hot:usually "lua")
      end,
    },
    { -- stretches what is measured in any phase, though not by much
      code = "host.contention", of = { "latency", "cpu" }, type = "CPU_BOTTLENECK", target = "host",
      inhibits = { "upstream.slow", "db.slow_query", "db.pool_wait", "redis.slow", "cpu.handler", "cpu.compression", "overload.queueing" },
      score = function(s, t)
        local host = s.host or s
        if host:above("worker_cpu", 1.2, 0.1) or database_computes(s) then return 0 end
        if database_starves(s, host) then return 0.95 end
        local waiting = waits(s, host)
        if s:ratio "mean_ms" >= 4 and not stalls(s, host, t) and not (waiting and host:above("cpu_wait", 3, 0.3)) then return 0 end
        if waiting then return 0.95 end
        if host:above("steal_share", 2, 0.1) or host:above("throttled_share", 2, 0.1) then return 0.95 end
        local others = (host.now.cpu_share or 0) >= 0.9 and host:above("cpu_share", 1.3, 0.2)
        return others and 0.9 or 0
      end,
      says = function(s)
        local host, database = s.host or s, database_of(s)
        return ("others use the processor: %s of what we may use is in use, %s was given to others; our workers use no more than usual, and %s of their threads wait for a turn%s%s"):format(
          host:show "cpu_share", host:show "steal_share", host:show "cpu_wait", host:usually "cpu_wait",
          database and (", as %.1f sessions of the database do, which compute on %.1f of %.0f processors"):format(database.starved, database.running, database.cores) or "")
      end,
    },
  },
}
