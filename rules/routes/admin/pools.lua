-- GET    resources/pools      : every pool of connections, all workers together
-- POST   resources/pools      : {"pool_id": "reports", "pool_type": "database", "max_size": 15} makes one; it survives restarts
-- GET    resources/pools/:id  : one of them
-- PATCH  resources/pools/:id  : {"max_size": 15, "idle_timeout_ms": 60000} takes effect at once, and is kept; connections stay.
--                               A min_size that is not named goes down with max_size
-- DELETE resources/pools/:id  : ends one that the API made: at once with ?force=true, else when its connections have done
-- GET    resources/pools/:id/statements : what its statements cost, the most expensive first
--
-- POST   resources/pools/:id/explain : {"statement": "select ..."} : what the server means to do with it, without doing it
--
-- A pool that names no server has that of DATABASE_URL or REDIS_URL, else of "main" in the configuration, else
-- the library's own default.
local admin = require "perilune.admin"
local explain = require "perilune.explain"
local overlay = require "perilune.overlay"
local p = require "perilune"
local app = admin.app()
local pools = admin.pools

local KNOWN_S = 2 -- how long a new pool may take to say whether it reaches its server
local COUNT = "a whole number from %d to %d"

local function count(min, max) return { type = "integer", min = min, max = max, hint = COUNT:format(min, max) } end
local function text(hint, pattern) return { type = "string", hint = hint, pattern = pattern or "." } end

local fields = {
  pool_id = { type = "string", pattern = "^%l[%w_%-]*$", required = true,
    hint = "a name of letters, digits, '_' and '-' that begins with a small letter" },
  pool_type = { type = "string", values = { "database", "redis" }, required = true, hint = "\"database\" or \"redis\"" },
  max_size = count(1, 10000), min_size = count(0, 10000),
  wait_timeout_ms = count(1, 3600000), statement_timeout_ms = count(1, 86400000), connect_timeout_ms = count(10, 600000),
  idle_timeout_ms = count(100, 86400000), max_lifetime_ms = count(100, 604800000),
  dsn = text "a connection string like postgresql://user@host/database or redis://host:6379/0",
  host = text("a host name or address", "^[%w%.:%-_]+$"), port = count(1, 65535), database = text "a database's name",
  user = text "a user's name",
  password = text "a password, better \"env:NAME\" or \"file:/path\", which say where it stands",
  sslmode = { type = "string", values = { "disable", "allow", "prefer", "require", "verify-ca", "verify-full" },
    hint = "one of libpq's: disable, allow, prefer, require, verify-ca, verify-full" },
}

-- Our words for what the configuration calls otherwise.
local option = {
  max_size = "max", min_size = "min", wait_timeout_ms = "wait_ms", connect_timeout_ms = "connect_ms",
  idle_timeout_ms = "idle_ms", max_lifetime_ms = "lifetime_ms", host = "host", user = "user", password = "password", sslmode = "sslmode",
}
local own_option = {
  database = { statement_timeout_ms = "statement_ms", database = "dbname", port = "port", dsn = "dsn" },
  redis = { statement_timeout_ms = "command_ms", database = "database", port = "port", dsn = "url" },
}
local section_of = { database = "postgres", redis = "redis" }

local function find(id)
  for _, pool in ipairs(pools.list()) do
    if pool.id == id then return pool end
  end
end

local function wrong(field, detail)
  return admin.problem(422, "invalid_fields", detail, nil, { errors = p.json.array { { pointer = "/" .. field, detail = detail } } })
end

local function missing()
  return admin.problem(404, "unknown_pool", "there is no pool of this id; see GET resources/pools")
end

--- The overlay's section and entry of a pool.
local function kept(id, values)
  for _, section in pairs(section_of) do
    if values[section] and values[section][id] then return section, values[section][id] end
  end
end

--- Whether the API made it: then all that is known of it is in the overlay.
local function is_ours(entry) return type(entry) == "table" and entry.made_by_api == true end

--- What the configuration calls what was asked for.
local function options_of(pool_type, asked)
  local entry, own = {}, own_option[pool_type]
  for name, value in pairs(asked) do
    local key = option[name] or own[name]
    if key then entry[key] = name == "port" and tostring(value) or value end
  end
  return entry
end

app:get(admin.path "resources/pools", {
  summary = "Every pool of connections, all workers together",
  answers = { [200] = { pools = { "Pool" } } },
}, function() return admin.envelope { pools = pools.list() } end)

app:post(admin.path "resources/pools", {
  summary = "Makes a pool, which survives restarts",
  body = fields,
  answers = { [201] = "Pool" },
  errors = { [409] = "pool_exists", [422] = "invalid_fields pool_refused", [503] = "not_kept not_open" },
}, function(req)
  local asked = req.input
  local max = asked.max_size or admin.setting(asked.pool_type == "redis" and "pool.redis.max" or "pool.db.max")
  if (asked.min_size or 0) > max then return wrong("min_size", ("'min_size' is above 'max_size', which is %d"):format(max)) end
  local id = asked.pool_id
  if find(id) or kept(id, overlay.read()) then
    return admin.problem(409, "pool_exists", "there is a pool of this id already; PATCH changes it")
  end
  local entry = options_of(asked.pool_type, asked)
  entry.made_by_api = true
  local record, why, refusal = overlay.change(function(values)
    local section = section_of[asked.pool_type]
    values[section] = values[section] or {}
    values[section][id] = entry
  end)
  if not record then
    return admin.problem(refusal and 422 or 503, refusal and "pool_refused" or "not_kept", why, nil, { problems = refusal and refusal.problems })
  end
  local pool, until_s = find(id), p.now() + KNOWN_S
  while (not pool or pool.health == "unknown") and p.now() < until_s do
    p.sleep(0.02)
    pool = find(id)
  end
  if not pool then return admin.problem(503, "not_open", "the pool is configured, but no worker has opened it yet; see GET resources/pools") end
  return 201, p.json.encode(admin.envelope(pool)), { ["Content-Type"] = "application/json", Location = admin.path("resources/pools/" .. id) }
end)

app:get(admin.path "resources/pools/:id", {
  summary = "One pool",
  answers = { [200] = "Pool" },
  errors = { [404] = "unknown_pool" },
}, function(req)
  local pool = find(req.params.id)
  if not pool then return missing() end
  return admin.envelope(pool)
end)

app:get(admin.path "resources/pools/:id/statements", {
  summary = "What its statements cost, the most expensive first",
  answers = { [200] = { statements = { "Statement" } } },
  errors = { [404] = "unknown_pool" },
}, function(req)
  if not find(req.params.id) then return missing() end
  local list = pools.statements(req.params.id)
  table.sort(list, function(a, b) return a.time_ms.mean * a.time_ms.count > b.time_ms.mean * b.time_ms.count end)
  return admin.envelope { statements = list }
end)

app:post(admin.path "resources/pools/:id/explain", {
  summary = "What the server means to do with a statement, without doing it",
  body = { statement = { type = "string", pattern = "%S", required = true, hint = "one statement; '?' stands for any constant, as in GET resources/pools/:id/statements" } },
  answers = { [200] = "Plan" },
  errors = { [404] = "unknown_pool", [409] = "no_database not_configured", [422] = "invalid_fields not_explained", [503] = "not_explained" },
}, function(req)
  local id = req.params.id
  local pool = find(id)
  if not pool then return missing() end
  if pool.pool_type ~= "database" then return admin.problem(409, "no_database", "this pool is no database") end
  local known, db = pcall(p.postgres, id)
  if not known then return admin.problem(409, "not_configured", "this pool is going, or has just come; ask again") end
  local plan, why, state = explain(db, req.input.statement)
  if not plan then return admin.problem(state and state:find("^08") and 503 or 422, "not_explained", why, nil, { sqlstate = state }) end
  return admin.envelope(plan)
end)

local changeable = {}
for _, name in ipairs { "max_size", "min_size", "wait_timeout_ms", "statement_timeout_ms", "connect_timeout_ms", "idle_timeout_ms",
  "max_lifetime_ms" } do
  changeable[name] = fields[name]
end

app:patch(admin.path "resources/pools/:id", {
  summary = "Changes a pool at once, and keeps it so; connections stay",
  body = changeable,
  answers = { [200] = "Pool" },
  errors = { [404] = "unknown_pool", [422] = "invalid_fields", [503] = "not_kept" },
}, function(req)
  local id = req.params.id
  local pool = find(id)
  if not pool then return missing() end
  local asked = req.input
  local done, what, word = pools.resize(id, asked.min_size, asked.max_size)
  if not done then
    if word == "unknown_pool" then return missing() end
    return wrong(word, what)
  end
  local now = find(id)
  if not now or not next(asked) then return admin.envelope(now or pool) end
  local record, why = overlay.change(function(values)
    local section = section_of[pool.pool_type]
    values[section] = values[section] or {}
    local entry = values[section][id] or {}
    for key, value in pairs(options_of(pool.pool_type, asked)) do entry[key] = value end
    if asked.max_size or asked.min_size then entry.max, entry.min = now.max, now.min end
    values[section][id] = entry
  end)
  if not record then return admin.problem(503, "not_kept", "the new size is in force, but nothing of this will survive a restart: " .. why) end
  return admin.envelope(find(id) or now)
end)

app:delete(admin.path "resources/pools/:id", {
  summary = "Ends a pool that the API made: at once with force, else when its connections have done",
  query = { force = { type = "boolean", status = 422, hint = "true or false" } },
  answers = { [202] = "Pool", [204] = false },
  errors = { [404] = "unknown_pool", [409] = "pool_configured pool_in_use", [422] = "bad_force", [503] = "not_kept" },
}, function(req)
  local id = req.params.id
  local force = req.asked.force
  local pool = find(id)
  local section, entry = kept(id, overlay.read())
  if not pool and not section then return missing() end
  if pool and pool.draining then
    if force then pools.delete(id, true) end
    return 202, p.json.encode(admin.envelope(pool)), { ["Content-Type"] = "application/json" }
  end
  if not is_ours(entry) then
    return admin.problem(409, "pool_configured", "this pool is in the configuration file or DATABASE_URL or REDIS_URL; remove it there")
  end
  local record, why, refusal = overlay.change(function(values) values[section][id] = nil end)
  if not record then
    return admin.problem(refusal and 409 or 503, refusal and "pool_in_use" or "not_kept", why, nil, { problems = refusal and refusal.problems })
  end
  pools.delete(id, force == true)
  return 204
end)

return app
