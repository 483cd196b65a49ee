--- Changes that do harm, and changes that are interrupted: what is tried, what happens meanwhile, and how it may end.
--   changes, metric, route   as POST trials takes them
--   before(w)                what must be so; returns how to end it
--   meanwhile(w)             once the change is on for the first time, or the trial is in the phase `at`
--   ends                     phases that are right
--   gross                    must be gone within 3 s
--   kept                     the trial may end with the change in force, and only if it says VERIFIED
local uv = require "luv"

local function busy(path, n, pause_ms)
  return function(w) return w:clients_of(n, path, pause_ms or 5) end
end

local function slow_service(ms)
  return function(w)
    w:instance(nil, { delay_ms = ms })
    return function() w:instance(nil, { delay_ms = 4 }) end
  end
end

local function pid_of(w, role)
  for _, one in ipairs(w.served:processes()) do
    if one.role == role then return one.pid end
  end
end

local back = { ROLLED_BACK = true }
local gone = { ROLLED_BACK = true, ABORTED = true, SUPERSEDED = true, INCONCLUSIVE = true }
local nothing = { NO_EFFECT = true, INCONCLUSIVE = true, ROLLED_BACK = true }

local list = {
  { name = "pool to one connection", changes = { ["pool.main.max"] = 2, ["pool.main.min"] = 1 }, metric = "mean_ms", route = "GET /db", before = busy("/db", 8), ends = back },
  { name = "one task at a time", changes = { ["tasks.max"] = 1 }, metric = "mean_ms", route = "GET /task", before = busy("/task", 6, 0), ends = back, gross = true },
  { name = "timeout below the service", changes = { ["upstream.first_byte_timeout_ms"] = 15 }, metric = "mean_ms", before = slow_service(25), ends = back }, -- of a fifth of the requests
  { name = "no task threads", changes = { ["tasks.enabled"] = false }, metric = "mean_ms", before = busy("/task", 4), ends = nothing },
  { name = "without compression", changes = { ["compression.enabled"] = false }, metric = "bytes_out", route = "GET /page", before = busy("/page", 2), ends = back },
  { name = "redis cut off", changes = { ["pool.redis.command_ms"] = 1 }, metric = "mean_ms", route = "GET /session", before = function(w)
    w:handlers { gets = 40 }
    local leave = w:clients_of(8, "/session", 0)
    return function()
      leave()
      w:handlers { gets = 1 }
    end
  end, ends = nothing },
  { name = "nothing changes", changes = { ["upstream.hedge_share"] = 0.06 }, metric = "mean_ms", ends = nothing },
  { name = "control is killed", changes = { ["tasks.threads"] = 3 }, metric = "mean_ms", meanwhile = function(w) uv.kill(pid_of(w, "control"), "sigkill") end, ends = gone },
  { name = "a worker is killed", changes = { ["tasks.threads"] = 3 }, metric = "mean_ms", meanwhile = function(w) uv.kill(pid_of(w, "worker"), "sigkill") end, ends = gone },
  { name = "an operator sets another", changes = { ["tasks.threads"] = 3 }, metric = "mean_ms",
    meanwhile = function(w) w:patch("config", { settings = { ["tasks.threads"] = 4 } }) end, ends = { SUPERSEDED = true },
    after = function(w) w:post("config/reset", { name = "tasks.threads" }) end },
  { name = "trials are frozen", changes = { ["tasks.threads"] = 3 }, metric = "mean_ms", meanwhile = function(w) w:post("tuning/freeze", { reason = "laboratory" }) end, ends = gone,
    after = function(w) w:post("tuning/resume", {}) end },
  { name = "somebody stops it", changes = { ["tasks.threads"] = 3 }, metric = "mean_ms", meanwhile = function(w) w:post("trials/" .. w.trial .. "/stop", {}) end, ends = gone },
}

-- Whoever dies, in whichever phase of a change that helps: the stable settings are in force, or what was verified is.
local function starved(w)
  w:patch("resources/pools/main", { min_size = 1, max_size = 2 })
  local leave = w:clients_of(8, "/db", 5)
  return function()
    leave()
    w:patch("resources/pools/main", { min_size = 4, max_size = 8 })
  end
end

local deaths = {
  control = function(w) uv.kill(pid_of(w, "control"), "sigkill") end,
  ["a worker"] = function(w) uv.kill(pid_of(w, "worker"), "sigkill") end,
  ["the supervisor"] = function(w) w.served:crash() end,
}

for _, phase in ipairs { "CANARY", "EXPAND", "CONFIRM", "KEEPING" } do
  for _, who in ipairs { "control", "a worker", "the supervisor" } do
    list[#list + 1] = { name = ("%s dies in %s"):format(who, phase), changes = { ["pool.main.max"] = 8 }, metric = "mean_ms", route = "GET /db", before = starved, at = phase,
      meanwhile = deaths[who], ends = gone, kept = phase == "KEEPING" }
  end
end

return list
