-- From where on the analyzer calls something a problem. A copy of this file below your rules folder replaces it;
-- what it leaves out keeps the value that stands here.
--
-- A ratio alone would cry over 0.2 ms instead of 0.1, a floor alone over every slow report: both must be passed,
-- with enough requests to mean it. Tuned on planted faults under 20 to 2000 requests a second with services of 1 to
-- 50 ms, and on an hour of steady and of diurnal load, in which nothing may be said.
return {
  min_requests = 10,          -- in the last sample of a route; fewer say nothing

  latency_ratio = 1.5,        -- mean against what is usual
  latency_floor_ms = 3,       -- and at least so much more
  tail_ratio = 2,             -- or p95, which a busy neighbour moves for seconds
  tail_floor_ms = 5,
  tail_mean_ratio = 1.2,      -- if the mean has noticed as well
  busy_factor = 1.5,          -- ratios and floors of both times so much, while there is more load than usual
  slow_ms = 1000,             -- a p95 that is a problem at any time, learnt or not

  error_rate = 0.05,          -- a share of 5xx that is a problem at any time, and at least twice a usual one below it
  error_rise = 0.01,          -- or so much more than usual
  error_events = 5,           -- and at least so many in the last half minute, older ones counting less

  pool_wait_share = 0.25,     -- of a route's mean time spent waiting for a connection, at any time
  pool_wait_ms = 2,           -- and at least so long

  connect_share = 0.25,       -- of it spent connecting to an upstream, at any time
  connect_ms = 1.5,           -- and at least so long

  cache_drop = 0.15,          -- of the hit ratio against what is usual
  cache_lookups = 5,          -- a second, at least

  cpu_share = 0.90,           -- of what we may use
  memory_share = 0.92,
  disk_share = 0.92,

  leak_bytes = 4e6,           -- the workers' memory over what is usual, and a quarter of it in leak_window_s
  leak_trend = 0.6,           -- Mann-Kendall's tau over leak_window_s, 1: only up
  leak_window_s = 20,

  load_ratio = 1.5,           -- requests or connections against what is usual

  cause_least = 0.35,         -- a cause that explains less of what is wrong is not named
  cause_margin = 0.10,        -- nor one that leads the next by less: the cause is "unknown" then

  unusual_severity = 2,       -- signals unusual together: the worst hundredth of ordinary samples is 1
  unusual_s = 600,            -- for so long
  unusual_samples = 150,      -- and over so many samples
  unusual_quiet_s = 600,      -- and nothing else was wrong or changed up to so long before

  open_after = 3,             -- looks (one a second) that find it
  close_after = 8,            -- looks in a row that do not
}
