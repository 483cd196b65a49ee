-- Experiments: what is tried, what came of it, and how to stop them all.
--
-- GET  trials             those under way, and those that ended        GET trials/:id
-- POST trials { changes, metric, direction, route, reason }   one without a suggestion, or a change without effect (A/A)
-- POST trials/:id/stop
-- POST tuning/freeze { reason }   no trial begins from now on          POST tuning/resume
local admin = require "perilune.admin"
local p = require "perilune"
local tuning = require "perilune.tuning"
local app = admin.app()

-- The closed loop of this generation, which rules/routes/admin/suggestions.lua keeps going.
local function loop() return tuning.current() end

local function time(ms) return ms and os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(ms / 1000)) or p.json.null end

local function show(one)
  local out = {}
  for _, name in ipairs { "id", "suggestion", "rule", "target", "title", "by", "group", "changes", "metric", "direction", "mde", "phase", "why", "on", "block_s",
    "settle_s", "reference", "canary", "confirm", "try", "design", "workers", "unsuited" } do out[name] = one[name] end
  out.created_at, out.started_at, out.ended_at, out.progress = time(one.created_ms), time(one.started_ms), time(one.ended_ms), one:progress()
  return out
end

local function answer(status, data) return status, p.json.encode(admin.envelope(data)), { ["Content-Type"] = "application/json" } end

app:get(admin.path "trials", {
  summary = "Experiments: those under way, and those that ended",
  answers = { [200] = { trials = { "Trial" }, frozen = "object|null", leases_expired = "integer" } },
}, function()
  local list = p.json.array()
  for _, one in ipairs(loop().desk.running) do list[#list + 1] = show(one) end
  for _, one in ipairs(loop().desk.ended) do list[#list + 1] = show(one) end
  return answer(200, { trials = list, frozen = loop().desk.frozen or p.json.null, leases_expired = admin.trials.expired() })
end)

app:get(admin.path "trials/:id", {
  summary = "One trial",
  answers = { [200] = "Trial" },
  errors = { [404] = "unknown_trial" },
}, function(req)
  local one = loop().desk:find(req.params.id)
  if not one then return admin.problem(404, "unknown_trial", "there is no trial of this id; see GET trials") end
  return answer(200, show(one))
end)

-- What can be on trial: settings of a group, and the bounds of pools.
local function names_for_trial()
  local names = {}
  for _, one in ipairs(admin.stats.settings()) do
    if one.group then names[#names + 1] = one.name end
  end
  for _, pool in ipairs(admin.pools.list()) do
    names[#names + 1], names[#names + 2] = ("pool.%s.max"):format(pool.id), ("pool.%s.min"):format(pool.id)
  end
  return names
end

-- Why a trial cannot set this, or nil. `now` is what loop().env.read() gave.
local function not_for_trial(name, now, to)
  if not now or not now.group then
    local near = not now and admin.nearest(name, names_for_trial())
    return ("'%s' is no setting that can be on trial%s"):format(name, near and (", did you mean '%s'?"):format(near) or "")
  end
  if type(now.stable) == "boolean" then return type(to) ~= "boolean" and ("'%s' is true or false"):format(name) or nil end
  local whole = now.type == "integer"
  if type(to) ~= "number" or not (to >= now.min and to <= now.max) or whole and to ~= math.floor(to) then
    return ("'%s' is %s from %s to %s"):format(name, whole and "a whole number" or "a number", now.min, now.max)
  end
end

app:post(admin.path "trials", {
  summary = "Begins a trial without a suggestion",
  body = {
    changes = { type = "object", required = true, hint = "an object of settings by name, as in {\"pool.main.max\": 30}" },
    metric = { type = "string", pattern = "^[a-z0-9_]+$", hint = "a figure of a route: mean_ms, p95_ms, pool_wait, ..." },
    direction = { type = "string", values = { "down", "up" }, hint = "down or up: what is better" },
    route = { type = "string", hint = "a route as GET signals names it; without it all" },
    reason = { type = "string", hint = "a text: why" },
  },
  answers = { [202] = "Trial" },
  errors = { [404] = "unknown_route", [409] = "cannot_begin", [422] = "invalid_fields" },
}, function(req)
  local asked = req.input
  local list, group, settle, errors, names = {}, nil, 1, p.json.array(), {}
  for name in pairs(asked.changes) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local to, now = asked.changes[name], loop().env.read(name)
    local wrong = not_for_trial(name, now, to)
    if wrong then
      errors[#errors + 1] = { pointer = "/changes/" .. name:gsub("~", "~0"):gsub("/", "~1"), detail = wrong }
    else
      list[#list + 1] = { name = name, from = now.stable, to = to }
      group, settle = now.group, math.max(settle, now.settle_s)
    end
  end
  if #names == 0 then errors[1] = { pointer = "/changes", detail = "'changes' names at least one setting" } end
  if #errors > 0 then return admin.problem(422, "invalid_fields", errors[1].detail, nil, { errors = errors }) end
  local spec = { changes = list, group = group, settle_s = settle, metric = asked.metric or "mean_ms", direction = asked.direction, by = "operator",
    title = asked.reason, reason = asked.reason, seed = math.random(2 ^ 31), pairs = admin.setting "trials.pairs" }
  if asked.route then
    for _, thing in ipairs(admin.watch.things()) do
      if thing.kind == "route" and (thing.name == asked.route or thing.route == asked.route) then
        spec.routes, spec.route_names = { thing.index }, { thing.name }
      end
    end
    if not spec.routes then return admin.problem(404, "unknown_route", "no request has come for this route; see GET signals") end
  end
  local one, why = loop().desk:start(spec, admin.trials.now_ms(), loop().env)
  if not one then return admin.problem(409, "cannot_begin", why) end
  return answer(202, show(one))
end)

app:post(admin.path "trials/:id/stop", {
  summary = "Stops a trial; the stable settings are back",
  answers = { [200] = "Trial" },
  errors = { [404] = "unknown_trial" },
}, function(req)
  local one = loop().desk:stop(req.params.id, "ABORTED", "stopped by an operator", admin.trials.now_ms(), loop().env)
  if not one then return admin.problem(404, "unknown_trial", "no trial of this id runs; see GET trials") end
  loop():tick()
  return answer(200, show(one))
end)

app:post(admin.path "tuning/freeze", {
  summary = "No trial begins from now on",
  body = { reason = { type = "string", most = 2000, hint = "a text: why" } }, body_optional = true,
  answers = { [200] = { frozen = "object|null" } },
}, function(req)
  local asked = req.input
  loop().desk:freeze(asked.reason or "by an operator", "api")
  loop():tick()
  loop():checkpoint()
  loop():persist()
  return answer(200, { frozen = loop().desk.frozen })
end)

app:post(admin.path "tuning/resume", {
  summary = "Trials may begin again",
  answers = { [200] = { frozen = "object|null" } },
}, function()
  loop().desk:resume()
  loop():checkpoint()
  loop():persist()
  return answer(200, { frozen = p.json.null })
end)

return app
