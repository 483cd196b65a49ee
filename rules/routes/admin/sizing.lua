-- Looks at the pools every few seconds and says, or sets, how many connections they should have, as
-- rules/policies/pools.lua says.
--
-- GET resources/pools/:id/sizing : what is advised for a pool now, and from what
local admin = require "perilune.admin"
local p = require "perilune"
local sizing = require "perilune.sizing"
local app = admin.app()

local policy = sizing.policy(require "policies.pools")

local SETTLE_WINDOWS = 3 -- after a change; and so long a pool must look too large before it shrinks

local seen = {}   -- by id: { at, pool, busy, samples, advice, why, quiet, small }

local function cores()
  for _, figure in ipairs(admin.machine.figures()) do
    if figure.section == "cpu" and figure.name == "usable_cpus" and figure.value then return figure.value end
  end
  return 1
end

local function begin(entry, pool)
  entry.at, entry.pool, entry.busy, entry.samples = p.now(), pool, 0, 0
end

local function follow(entry, pool, options)
  local advice, why = sizing.advise(entry.pool, pool, entry.busy / math.max(1, entry.samples), p.now() - entry.at, options, cores())
  entry.advice, entry.why, entry.options = advice, why, options
  begin(entry, pool)
  entry.quiet = math.max(0, (entry.quiet or 0) - 1)
  entry.small = advice and advice.max < pool.max and (entry.small or 0) + 1 or 0
  if options.mode ~= "on" or not advice or advice.max == pool.max or entry.quiet > 0 then return end
  if advice.max < pool.max and entry.small < SETTLE_WINDOWS then return end
  if admin.pools.resize(pool.id, math.min(pool.min, advice.max), advice.max) then
    p.log.info(("pool %s: max %d > %d: %s"):format(pool.id, pool.max, advice.max, advice.why))
    entry.quiet, entry.small = SETTLE_WINDOWS, 0
  end
end

app:every(0.5, "sizes of pools", function()
  local there = {}
  for _, pool in ipairs(admin.pools.list()) do
    local options = policy(pool.id)
    if pool.pool_type == "database" and options.mode ~= "off" and not pool.draining then
      there[pool.id] = true
      local entry = seen[pool.id]
      if not entry then
        entry = {}
        seen[pool.id] = entry
        begin(entry, pool)
      end
      entry.busy, entry.samples = entry.busy + pool.used, entry.samples + 1
      if p.now() - entry.at >= admin.setting "pool.sizing.window_s" then follow(entry, pool, options) end
    end
  end
  for id in pairs(seen) do
    if not there[id] then seen[id] = nil end
  end
end)

app:get(admin.path "resources/pools/:id/sizing", {
  summary = "What is advised for a pool now, and from what",
  answers = { [200] = "Sizing" },
  errors = { [404] = "unknown_pool" },
}, function(req)
  local id, known = req.params.id, false
  for _, pool in ipairs(admin.pools.list()) do known = known or pool.id == id end
  if not known then return admin.problem(404, "unknown_pool", "there is no pool of this id; see GET resources/pools") end
  local entry, mode = seen[id], policy(id).mode
  return admin.envelope { mode = mode, window_s = admin.setting "pool.sizing.window_s", advice = entry and entry.advice or p.json.null,
    why = entry and (entry.advice and entry.advice.why or entry.why) or (mode == "off" and "it is off" or "the first window is not over") }
end)

return app
