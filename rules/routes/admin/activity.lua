-- Looks at the sessions of a database while its pool is in trouble: each look is a statement on the one connection
-- that control has beside the cap.
--
-- GET resources/pools/:id/activity : sessions now, and over the last half minute if somebody looked
local activity = require "perilune.activity"
local admin = require "perilune.admin"
local p = require "perilune"
local app = admin.app()

local EVERY_S, AFTER_S = 2, 30 -- and for how long after the last sign of trouble
local SIGNS = { "use_ms", "use_p95_ms", "wait_ms", "wait_p95_ms", "busy_share" }

local until_s, seen_of = {}, {} -- by pool: looked at till then; what was seen

local function find(id)
  for _, pool in ipairs(admin.pools.list()) do
    if pool.id == id then return pool end
  end
end

local function troubled(thing)
  for _, sign in ipairs(SIGNS) do
    local moved = thing.moved and thing.moved[sign]
    if moved and moved.direction == "up" then return true end
  end
end

local function look(id)
  local known, db = pcall(p.postgres, id)
  if not known then return nil, "this pool is going, or has just come; ask again" end
  local seen, why, sessions = activity.look(db)
  if seen then seen_of[id] = activity.add(seen_of[id] or {}, seen, p.now(), sessions) end
  return seen, why
end

app:every(EVERY_S, "looks at the sessions of databases", function()
  local sums = {}
  for _, thing in ipairs(admin.watch.things()) do
    if thing.kind == "pool" then
      if troubled(thing) then until_s[thing.name] = p.now() + AFTER_S end
      local pool = (until_s[thing.name] or 0) > p.now() and find(thing.name)
      if pool and pool.pool_type == "database" and pool.health == "up" then look(thing.name)
      else seen_of[thing.name] = nil end
    end
  end
  for id, list in pairs(seen_of) do sums[id] = activity.sum(list) end
  if next(sums) then activity.put(sums, p.now()) end
end)

app:get(admin.path "resources/pools/:id/activity", {
  summary = "Who waits for a lock and for whom, and who idles in a transaction",
  answers = { [200] = { now = "Activity", recent = "Activity", recent_s = "number" } },
  errors = { [404] = "unknown_pool", [409] = "no_database", [503] = "not_seen" },
}, function(req)
  local pool = find(req.params.id)
  if not pool then return admin.problem(404, "unknown_pool", "there is no pool of this id; see GET resources/pools") end
  if pool.pool_type ~= "database" then return admin.problem(409, "no_database", "this pool is no database") end
  local seen, why = look(pool.id)
  if not seen then return admin.problem(503, "not_seen", why) end
  return admin.envelope { now = seen, recent = activity.sum(seen_of[pool.id]), recent_s = activity.SPAN_S }
end)

return app
