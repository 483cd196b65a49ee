-- GET   resources/pools      : every pool of connections, all workers together
-- GET   resources/pools/:id  : one of them
-- GET   resources/pools/:id/statements : what its statements cost, the most expensive first
-- PATCH resources/pools/:id  : {"max_size": 15, "min_size": 2} takes effect at once
local admin = require "perilune.admin"
local app = admin.app()
local pools = admin.pools

local status = { unknown_pool = 404, bad_max = 422, bad_min = 422 }

local function find(id)
  for _, pool in ipairs(pools.list()) do
    if pool.id == id then return pool end
  end
end

local function missing()
  return admin.problem(404, "unknown_pool", "there is no pool of this id; see GET resources/pools")
end

app:get(admin.path "resources/pools", function() return admin.envelope { pools = pools.list() } end)

app:get(admin.path "resources/pools/:id", function(req)
  local pool = find(req.params.id)
  if not pool then return missing() end
  return admin.envelope(pool)
end)

app:get(admin.path "resources/pools/:id/statements", function(req)
  if not find(req.params.id) then return missing() end
  local list = pools.statements(req.params.id)
  table.sort(list, function(a, b) return a.time_ms.mean * a.time_ms.count > b.time_ms.mean * b.time_ms.count end)
  return admin.envelope { statements = list }
end)

app:patch(admin.path "resources/pools/:id", function(req)
  local asked = admin.decode(req.body)
  if type(asked) ~= "table" then
    return admin.problem(400, "bad_json", "the body is a JSON object like {\"max_size\": 15}")
  end
  for key, value in pairs(asked) do
    if key ~= "max_size" and key ~= "min_size" then
      return admin.problem(422, "unknown_field", ("'%s' cannot be changed; max_size and min_size can"):format(tostring(key)))
    end
    if type(value) ~= "number" then return admin.problem(422, "bad_number", key .. " is a whole number") end
  end
  local done, what, word = pools.resize(req.params.id, asked.min_size, asked.max_size)
  if not done then return admin.problem(status[word], word, what) end
  return admin.envelope(find(req.params.id))
end)

return app
