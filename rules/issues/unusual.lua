-- The last resort: signals that for long do together what they never did, with nothing else wrong and nothing changed.
--
-- It says where to look, not what to do: no suggestion answers its code. Tuned on simulated hours of steady and of diurnal load at
-- 2 to 2000 requests a second (tests/core/watch/company_test.c, with ten more seeds: 5000 hours), in which nothing was unusual for
-- longer than 131 s at a sample a second or 113 samples at one in ten seconds, and on services whose latency no longer follows their load: of ten, eight are said.
local CODE = "anomaly.unusual"

-- Which kind of problem a signal belongs to; any other is about time.
local types = {
  error_rate = "HIGH_ERROR_RATE", refused_rate = "HIGH_ERROR_RATE", aborted_rate = "HIGH_ERROR_RATE",
  cache_lookups = "CACHE_EFFICIENCY", cache_hit_ratio = "CACHE_EFFICIENCY", cache = "CACHE_EFFICIENCY",
  rps = "CONCURRENT_OVERLOAD", in_flight = "CONCURRENT_OVERLOAD", connections = "CONCURRENT_OVERLOAD", limited = "CONCURRENT_OVERLOAD",
  queue = "CONCURRENT_OVERLOAD", task = "CONCURRENT_OVERLOAD", task_wait_ms = "CONCURRENT_OVERLOAD", task_busy_share = "CONCURRENT_OVERLOAD",
  pool_wait = "DATABASE_BOTTLENECK", db = "DATABASE_BOTTLENECK", redis = "DATABASE_BOTTLENECK",
  cpu_share = "CPU_BOTTLENECK", worker_cpu = "CPU_BOTTLENECK", steal_share = "CPU_BOTTLENECK", throttled_share = "CPU_BOTTLENECK",
  loop_lag_ms = "CPU_BOTTLENECK", gc_pause_ms = "CPU_BOTTLENECK", lua = "CPU_BOTTLENECK", compress = "CPU_BOTTLENECK",
}

-- More or fewer requests than usual are not a problem, and make much else unusual.
local function load_moved(s)
  local host = s.host or s
  return s.moved.rps or host.moved.rps or host.moved.connections
end

local function unusual(s, t)
  local c = s.company
  if not c or not c.unusual or s.requests == 0 then return false end
  if c.severity < t.unusual_severity or c.samples < t.unusual_samples or s.at_ms - c.since_ms < t.unusual_s * 1000 then return false end
  return not load_moved(s) and not s:explained(c.since_ms, t.unusual_quiet_s * 1000, CODE)
end

-- The signals that stand out most, in words.
local function first(s)
  local out = {}
  for i = 1, math.min(3, #s.company.signals) do out[i] = ("%s (%.0f %%)"):format(s.company.signals[i].name, s.company.signals[i].share * 100) end
  return table.concat(out, ", ")
end

local function symptom(on)
  return {
    name = on == "host" and "unusual_host" or "unusual", on = on, type = "SLOW_RESPONSE", code = CODE, when = unusual,
    type_of = function(s) return s.company.signals[1] and types[s.company.signals[1].name] end,
    severity = function() return on == "host" and 0.01 or 0.1 end, -- low; a route says more than the host that it is part of
    title = function(s) return ("the signals of %s do together what they never did: %s"):format(s.name, first(s)) end,
  }
end

return { symptoms = { symptom "route", symptom "host" }, causes = {} }
