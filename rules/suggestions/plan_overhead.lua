-- More different statements are in use than a connection keeps prepared, so they are parsed and planned again and again.
-- From the statements seen on the pool and pool.db.prepared. What planning costs is not measured: no impact is claimed.
local function count(s)
  local n, calls = 0, 0
  for _, one in ipairs(s.pool.statements or {}) do
    if one.during and (one.during.calls or 0) > 1 then n, calls = n + 1, calls + one.during.calls end
  end
  return n, calls
end

return {
  id = "plan_overhead",
  title = function(s) return ("keep %d statements of %s prepared"):format(count(s) * 2, s.name) end,
  class = "database", on = "pool", issue = false, needs = { "calls" },
  when = function(s, f)
    local n, calls = count(s)
    return s.pool_type == "database" and s.now.calls >= 10 and calls >= 200 and n > f:setting "pool.db.prepared"
  end,
  impact = function() end,
  set = function(s) return { ["pool.db.prepared"] = count(s) * 2 } end,
  effort = "very_low", risk = 1, verify = { metric = "mean_ms", direction = "down", mde = 0.03 },
  explain = function(s, f) return ("%d statements are called repeatedly; a connection keeps %d prepared"):format((count(s)), f:setting "pool.db.prepared") end,
}
