-- GET config                : every setting with type, unit, bounds, value and where it comes from
-- GET config/:name          : one of them, and what was changed of it
-- PATCH config              : { "settings": { "compression.level": 4 }, "reason": "..." }; ?dry_run=true shows and does nothing
-- POST config/reset         : { "name": "compression.level" } or {}: what the API has set is gone, one or all
-- POST config/undo          : { "seq": 12 }: that change is taken back, if nothing came after it
-- GET config/journal?limit= : who changed what, when and why, the newest first
--
-- A setting of the scope "upstream" may be given for one of them: "upstream.api.retries" beside "upstream.retries".
--
-- A change is journaled before it is in force, kept over a restart, and goes below a flag and above the file. An ETag tells the
-- generation, the newest change and the values, for generations are counted anew after a restart: with If-Match a change is
-- refused when somebody else was first.
local admin = require "perilune.admin"
local overlay = require "perilune.overlay"
local p = require "perilune"
local setting_names = require "perilune.setting_names"
local app = admin.app()

local JOURNAL = "settings"
local LIMIT = 50

local function settings()
  local by_name, names = {}, {}
  for _, one in ipairs(admin.stats.settings()) do by_name[one.name], names[#names + 1] = one, one.name end
  return by_name, names
end

-- A setting by name: one of those, or one that an upstream does not have for itself yet, as in "upstream.api.retries".
local function find(known, name)
  if known[name] then return known[name] end
  local whole = known[setting_names.of_upstreams(name) or ""]
  local now = whole and admin.trials.state(name)
  if not now then return end
  local info = {}
  for key, value in pairs(whole) do info[key] = value end
  info.name, info.value, info.stable, info.on_trial, info.canary_only = name, now.value, now.stable, now.on_trial or nil, nil
  info.default = now.stable
  return info
end

local function history()
  local entries = {}
  for _, line in ipairs(admin.journal.read(JOURNAL)) do
    local entry = p.json.decode(line)
    if type(entry) == "table" and entry.seq then entries[#entries + 1] = entry end
  end
  return entries
end

-- The value without a trial.
local function stable(info)
  if info.on_trial then return info.stable end
  return info.value
end

local function etag()
  local entries, values = history(), {}
  for i, one in ipairs(admin.stats.settings()) do values[i] = ("%s=%s"):format(one.name, tostring(stable(one))) end
  local digest = admin.control.digest(table.concat(values, "\n")):sub(1, 16)
  return ('"g%d-%d-%s"'):format(admin.stats.generation().active, #entries > 0 and entries[#entries].seq or 0, digest)
end

local function answer(data, status, more)
  return status or 200, p.json.encode(admin.envelope(data, nil, more)), { ["Content-Type"] = "application/json", ETag = etag() }
end

local function invalid(errors)
  return admin.problem(422, "invalid_settings", errors[1].detail, nil, { errors = errors })
end

local function pointer(name) return "/settings/" .. name:gsub("~", "~0"):gsub("/", "~1") end

-- What is wrong with a value for a setting, or nil.
local function wrong(info, value)
  local range = info.min and ("%s to %s%s"):format(info.min, info.max, info.unit ~= "" and " " .. info.unit or "") or "true or false"
  if info.type == "boolean" then return type(value) ~= "boolean" and ("'%s' is %s"):format(info.name, range) or nil end
  if type(value) ~= "number" then return ("'%s' is a number, %s"):format(info.name, range) end
  if info.type == "integer" and value ~= math.floor(value) then return ("'%s' is a whole number, %s"):format(info.name, range) end
  if value < info.min or value > info.max then return ("'%s' is out of bounds: %s"):format(info.name, range) end
end

-- What each setting had when the API first set it: by the journal, for what is below the API's value is not asked for.
local function beneath()
  local values = {}
  for _, entry in ipairs(history()) do
    for _, one in ipairs(entry.changes or {}) do
      if one.api_from == p.json.null then values[one.name] = one.from end
    end
  end
  return values
end

local busy = false

-- One change at a time, from looking whether what was read still stands to its end.
local function alone(req, fn)
  while busy do p.sleep(0.01) end
  if not admin.if_match(req, etag()) then
    return admin.problem(412, "changed", ("the configuration is %s by now; read it again and decide"):format(etag()), { ETag = etag() })
  end
  busy = true
  local done = { pcall(fn) }
  busy = false
  if not done[1] then error(done[2], 0) end
  return unpack(done, 2, 4)
end

-- Puts values ({ name = value, or null: as without the API }) in force: journal first. Returns the answer.
local function change(values, reason, dry_run, more)
  local known, changes = settings(), p.json.array()
  local before = overlay.read().settings or {}
  local order, own = {}, beneath()
  for name in pairs(values) do order[#order + 1] = name end
  table.sort(order)
  for _, name in ipairs(order) do
    local to = values[name]
    if before[name] == nil then before[name] = p.json.null end
    if to ~= before[name] then
      local info, will_be = find(known, name), to
      if to == p.json.null then
        will_be = own[name]
        if info.origin ~= "api" then will_be = stable(info) elseif will_be == nil then will_be = info.default end
      end
      changes[#changes + 1] = { name = name, from = stable(info), to = will_be, api_from = before[name], api_to = to,
        needs_restart = not info.live or nil }
    end
  end
  local entry = { changes = changes, reason = reason, dry_run = dry_run or nil }
  for name, value in pairs(more or {}) do entry[name] = value end
  if dry_run or #changes == 0 then return answer(entry) end
  local entries = history()
  entry.seq = (#entries > 0 and entries[#entries].seq or 0) + 1
  entry.at, entry.who = os.date "!%Y-%m-%dT%H:%M:%SZ", "api"
  entry.generation = admin.stats.generation().active
  local kept, why = admin.journal.append(JOURNAL, p.json.encode(entry))
  if not kept then return admin.problem(503, "not_journaled", "nothing was changed: " .. why) end
  local record, refused, refusal = overlay.change(function(all)
    all.settings = all.settings or {}
    for _, one in ipairs(changes) do
      all.settings[one.name] = one.api_to
      if one.api_to == p.json.null then all.settings[one.name] = nil end
    end
  end)
  if not record then
    admin.journal.append(JOURNAL, p.json.encode { seq = entry.seq + 1, at = entry.at, who = "api", refused = entry.seq, reason = refused, changes = p.json.array() })
    return admin.problem(refusal and 422 or 503, refusal and "refused" or "not_kept", refused, nil, { problems = refusal and refusal.problems })
  end
  local now = settings()
  for _, one in ipairs(changes) do
    local info = find(now, one.name)
    one.value, one.origin = info.value, info.origin
    if one.api_to == p.json.null and not one.needs_restart then one.to = stable(info) end -- the file may have changed since
  end
  return answer(entry)
end

local DRY_RUN = { dry_run = { type = "boolean", default = false, hint = "true or false" } }
local IF_MATCH = { ["If-Match"] = "the ETag of what was read: refused (412) when somebody else was first" }

app:get(admin.path "config", {
  summary = "Every setting with type, unit, bounds, value and where it comes from",
  answers = { [200] = { settings = { "Setting" } } },
}, function() return answer { settings = admin.stats.settings() } end)

app:get(admin.path "config/journal", {
  summary = "Who changed what, when and why, the newest first",
  query = admin.paged({}, LIMIT, 1000),
  answers = { [200] = { changes = { "ConfigChange" } } },
  errors = { [400] = "bad_limit bad_cursor" },
}, function(req)
  local entries, newest = history(), {}
  for i = #entries, 1, -1 do newest[#newest + 1] = entries[i] end
  local changes, more, bad = admin.page(req, newest, function(one) return tostring(one.seq) end)
  if not changes then return unpack(bad) end
  return answer({ changes = changes }, nil, more)
end)

app:get(admin.path "config/:name", {
  summary = "One setting, and what was changed of it",
  answers = { [200] = "SettingWithChanges" },
  errors = { [404] = "unknown_setting" },
}, function(req)
  local known, names = settings()
  local info = find(known, req.params.name)
  if not info then
    local near = admin.nearest(req.params.name, names)
    return admin.problem(404, "unknown_setting", ("there is no setting '%s'%s"):format(req.params.name, near and (", did you mean '%s'?"):format(near) or ""))
  end
  info.changes = p.json.array()
  for _, entry in ipairs(history()) do
    for _, one in ipairs(entry.changes) do
      if one.name == info.name then
        info.changes[#info.changes + 1] = { seq = entry.seq, at = entry.at, who = entry.who, reason = entry.reason, from = one.from, to = one.to }
      end
    end
  end
  return answer(info)
end)

app:patch(admin.path "config", {
  summary = "Changes settings: on the disk first, then in force",
  query = DRY_RUN, headers = IF_MATCH,
  body = {
    settings = { type = "object", required = true, hint = "an object of settings by name, as in {\"compression.level\": 4}" },
    reason = { type = "string", most = 2000, hint = "a text: why" },
  },
  answers = { [200] = "ConfigChange" },
  errors = { [400] = "bad_json bad_dry_run", [409] = "overruled", [412] = "changed", [422] = "invalid_fields invalid_settings refused", [503] = "not_journaled not_kept" },
}, function(req)
  local asked, dry_run = req.input, req.asked.dry_run
  local known, names = settings()
  local errors, given = p.json.array(), {}
  for name in pairs(asked.settings) do given[#given + 1] = tostring(name) end
  table.sort(given)
  local overruled
  for _, name in ipairs(given) do
    local info, value = find(known, name), asked.settings[name]
    if not info then
      local near = admin.nearest(name, names)
      errors[#errors + 1] = { pointer = pointer(name), detail = ("there is no setting '%s'%s"):format(name, near and (", did you mean '%s'?"):format(near) or "") }
    elseif value ~= p.json.null then
      local what = wrong(info, value)
      if what then errors[#errors + 1] = { pointer = pointer(name), detail = what } end
      if info.origin == "flag" or info.origin == "environment" then overruled = overruled or info end
    end
  end
  if #given == 0 then errors[1] = { pointer = "/settings", detail = "'settings' names at least one setting" } end
  if #errors > 0 then return invalid(errors) end
  if overruled then
    return admin.problem(409, "overruled", ("'%s' is set by a %s, which goes before the API: take it away there first"):format(overruled.name,
      overruled.origin == "flag" and "flag" or "environment variable"))
  end
  return alone(req, function() return change(asked.settings, asked.reason, dry_run) end)
end)

app:post(admin.path "config/reset", {
  summary = "What the API has set is gone, one or all",
  query = DRY_RUN, headers = IF_MATCH,
  body = { name = { type = "string", hint = "the name of a setting" }, reason = { type = "string", most = 2000, hint = "a text: why" } },
  body_optional = true,
  answers = { [200] = "ConfigChange" },
  errors = { [400] = "bad_json bad_dry_run", [412] = "changed", [422] = "invalid_fields invalid_settings refused", [503] = "not_journaled not_kept" },
}, function(req)
  local asked, dry_run = req.input, req.asked.dry_run
  local known, names = settings()
  local values = {}
  if asked.name and not find(known, asked.name) then
    local near = admin.nearest(asked.name, names)
    return invalid(p.json.array { { pointer = "/name", detail = ("there is no setting '%s'%s"):format(asked.name, near and (", did you mean '%s'?"):format(near) or "") } })
  end
  return alone(req, function()
    for name in pairs(overlay.read().settings or {}) do
      if not asked.name or asked.name == name then values[name] = p.json.null end
    end
    return change(values, asked.reason or "reset", dry_run)
  end)
end)

app:post(admin.path "config/undo", {
  summary = "Takes a change back, if nothing came after it",
  headers = IF_MATCH,
  body = { seq = { type = "integer", min = 1, max = 2 ^ 53, required = true, hint = "the number of a change, see GET config/journal" } },
  answers = { [200] = "ConfigChange" },
  errors = { [404] = "unknown_change", [409] = "superseded", [412] = "changed", [422] = "invalid_fields refused", [503] = "not_journaled not_kept" },
}, function(req)
  local asked = req.input
  return alone(req, function()
    local found
    for _, entry in ipairs(history()) do
      if entry.seq == asked.seq and #entry.changes > 0 then found = entry end
    end
    if not found then return admin.problem(404, "unknown_change", "there is no change of this number; see GET config/journal") end
    local now, values = overlay.read().settings or {}, {}
    for _, one in ipairs(found.changes) do
      local is = now[one.name]
      if is == nil then is = p.json.null end
      if is ~= one.api_to then
        return admin.problem(409, "superseded", ("'%s' was changed again since; take back the newest change first"):format(one.name))
      end
      values[one.name] = one.api_from
    end
    return change(values, ("takes back change %d"):format(asked.seq), false, { undoes = asked.seq })
  end)
end)

return app
