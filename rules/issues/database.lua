-- Time in PostgreSQL, in Redis, and before: waiting for a connection to them. What is slow there holds its connection
-- longer, so waiting is a symptom wherever the statements themselves became slower.
local function slower(s, kind)
  for _, pool in ipairs(s.pools) do
    if pool.pool_type == kind and pool:above("use_ms", 1.4, 0.5) then return pool end
  end
end

-- Of the active sessions, those that wait for a lock; of the connections, those that idle in a transaction. Nobody may have
-- looked: then none.
local function blocked(s)
  local share = 0
  for _, pool in ipairs(s.pools) do
    local a = pool.activity
    if a and a.looks >= 2 and a.active > 0 then share = math.max(share, math.min(1, a.blocked / a.active)) end
  end
  return share
end

local function idling(s)
  local most = 0
  for _, pool in ipairs(s.pools) do
    local a = pool.activity
    if a and a.looks >= 2 then most = math.max(most, a.idle_in_tx) end
  end
  return most
end

-- What its sessions do meanwhile, where that says something.
local function waiting_for(pool)
  local a = pool.activity
  if not a or a.looks < 2 or a.active < 0.5 then return "" end
  if a.reading >= 0.3 * a.active then return ("; %.0f %% of its active sessions wait for the disk"):format(a.reading / a.active * 100) end
  if a.running and a.running >= 0.5 * a.active then return ("; they compute, on %.1f of %.0f processors"):format(a.running, a.cores) end
  return ""
end

-- A pool that opens connections as it usually does not, one for every twenty calls or more: what requests wait for is the opening,
-- and statements are slow since each new connection has its catalogues to read.
local function churning(s)
  for _, pool in ipairs(s.pools) do
    if pool.pool_type == "database" and pool:above("opened", 2, 0.5) and pool.now.opened >= 0.05 * (pool.now.calls or 0) then return pool end
  end
end

return {
  symptoms = {
    {
      name = "pool_wait", on = "route", type = "DATABASE_BOTTLENECK",
      when = function(s, t)
        local wait = s.now.pool_wait or 0
        return s.requests >= t.min_requests and wait >= t.pool_wait_ms and wait >= t.pool_wait_share * (s.now.mean_ms or 0)
      end,
      severity = function(s) return (s.now.pool_wait or 0) / math.max(1, s.now.mean_ms or 1) end,
      title = function(s) return ("%s waits %s of its %s for a connection"):format(s.name, s:show "pool_wait", s:show "mean_ms") end,
    },
  },
  causes = {
    {
      code = "db.slow_query", of = { "latency", "pool_wait" }, type = "DATABASE_BOTTLENECK", target = "database",
      score = function(s)
        if churning(s) or blocked(s) >= 0.3 then return 0 end
        return s:excess "db" + (slower(s, "database") and s:excess "pool_wait" or 0)
      end,
      says = function(s)
        local pool = slower(s, "database")
        return pool and ("statements of %s take %s%s%s"):format(pool.name, pool:show "use_ms", pool:usually "use_ms", waiting_for(pool))
          or ("a request spends %s in the database%s"):format(s:show "db", s:usually "db")
      end,
    },
    {
      code = "db.lock", of = { "latency", "pool_wait" }, type = "DATABASE_BOTTLENECK", target = "database",
      score = function(s) return blocked(s) >= 0.3 and s:excess "db" + s:excess "pool_wait" or 0 end,
      says = function(s) return ("%.0f %% of the active sessions wait for a lock that another holds"):format(blocked(s) * 100) end,
    },
    {
      code = "db.connect_churn", of = { "latency", "pool_wait" }, type = "DATABASE_BOTTLENECK", target = "database",
      score = function(s) return churning(s) and blocked(s) < 0.3 and s:excess "db" + s:excess "pool_wait" or 0 end,
      says = function(s)
        local pool = churning(s)
        return ("%s opens %.1f connections a second for %.0f statements: requests wait for new ones"):format(pool.name, pool.now.opened, pool.now.calls)
      end,
    },
    {
      code = "db.idle_in_tx", of = { "latency", "pool_wait" }, type = "DATABASE_BOTTLENECK", target = "database",
      score = function(s) return idling(s) >= 1 and not slower(s, "database") and s:excess "pool_wait" or 0 end,
      says = function(s) return ("requests wait %s for a connection while %.0f transactions are open and idle"):format(s:show "pool_wait", idling(s)) end,
    },
    {
      code = "db.pool_wait", of = { "latency", "pool_wait" }, type = "DATABASE_BOTTLENECK", target = "database",
      score = function(s) return (slower(s, "database") or churning(s) or idling(s) >= 1) and 0 or s:excess "pool_wait" end,
      says = function(s) return ("requests wait %s for a connection, and the statements are as fast as ever: too few connections for this load"):format(s:show "pool_wait") end,
    },
    {
      code = "redis.slow", of = "latency", type = "DATABASE_BOTTLENECK", target = "redis",
      score = function(s) return s:excess "redis" end,
      says = function(s) return ("a request spends %s in Redis%s"):format(s:show "redis", s:usually "redis") end,
    },
  },
}
