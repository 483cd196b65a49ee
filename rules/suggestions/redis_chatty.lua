-- A request makes many round trips to Redis one after the other; they could go together.
local CALLS, SHARE, LEAST_MS = 5, 0.2, 1

local function chatty(s, f)
  local names, rps = f:with("redis", LEAST_MS)
  return rps > 0 and (s.now.calls or 0) / rps or 0, names
end

return {
  id = "redis_chatty",
  title = function(s, f) return ("%.0f round trips to %s a request could be one"):format((chatty(s, f)), s.name) end,
  class = "cache",
  on = "pool",
  issue = { "redis.slow", "redis.roundtrips" },
  needs = { "calls", "use_ms" },
  when = function(s, f)
    local n, names = chatty(s, f)
    return s.pool_type == "redis" and n >= CALLS and #names > 0 and f:mean(names, "redis") >= SHARE * f:mean(names, "mean_ms")
  end,
  impact = function(s, f)
    local n, names = chatty(s, f)
    local now, part = f:mean(names, "mean_ms"), f:mean(names, "redis")
    return { metric = "mean_ms", now = now, predicted = now - part * (n - 1) / n, lo = now - part, hi = now - part / 2, routes = names,
      formula = "mean - time in Redis * (n - 1) / n", inputs = { calls_per_request = n, redis_ms = part } }
  end,
  advise = function(s)
    return ("Ask for all at once: `redis:mget(...)`, or `redis:pipeline { { \"GET\", a }, { \"GET\", b } }` on pool %s sends them in one round trip."):format(s.name)
  end,
  effort = "low",
  risk = 1,
  explain = function(s, f)
    local n, names = chatty(s, f)
    return ("%s makes %.0f calls a request, which take %.1f ms of it"):format(names[1], n, f:mean(names, "redis"))
  end,
}
