--- The loop inside an application: what the engine's control process does, without a server around it.
--
--     spans > frames > signals > issues > suggestions > trials of the application's own settings
--
-- It runs in a state of its own (core/embed/brain.c). The application calls the functions returned here by name, with
-- plain data both ways; what it should hear of waits as events until it asks.
--
-- What a server has and an application has not (pools, upstreams, a cache, workers) is absent, so rules that need it do
-- not fire. What rules may turn are the settings that the application declares.

local core, require = ...

local EVENTS_MOST = 1000
local SETTINGS, MISSING = "host.settings", {}

-- ---- what the modules of the loop expect of an engine ----

local declared = core.keep.get(SETTINGS)
declared = declared and core.json.decode(declared) or {} -- by name: what setting() was given, value, stable
local events = {}

local function emit(kind, data)
  data.event = kind
  if #events >= EVENTS_MOST then table.remove(events, 1) end
  events[#events + 1] = data
end

local function keep_declared() core.keep.put(SETTINGS, core.json.encode(declared)) end

local measured = core.stats
local own_settings = { ["trials.cooldown_s"] = true, ["trials.quiet_s"] = true, ["trials.pairs"] = true, ["trials.lease_s"] = true }

core.stats = setmetatable({
  restarts = function() return 0 end,
  counters = function() return {} end,
  settings = function()
    local list = core.json.array {}
    for _, one in ipairs(measured.settings()) do
      if own_settings[one.name] then list[#list + 1] = one end
    end
    for _, one in pairs(declared) do
      list[#list + 1] = { name = one.name, type = one.type, unit = one.unit, default = one.default, value = one.value, min = one.min, max = one.max,
        origin = one.origin, live = true, on_trial = one.value ~= one.stable or nil, stable = one.value ~= one.stable and one.stable or nil, doc = one.doc }
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    return list
  end,
}, { __index = measured })

local function put(one, value, why)
  one.value = value
  keep_declared()
  emit("set", { name = one.name, value = value, why = why })
end

core.trials = {
  now_ms = core.unix_ms,
  renew = function() end, -- a change is as mortal as the process that it is in
  expired = function() return 0 end,
  state = function(name)
    local one = declared[name]
    if not one then return end
    return { value = one.value, stable = one.stable, on_trial = one.value ~= one.stable, unit = one.unit, min = one.min, max = one.max, type = one.type,
      scope = "application", group = one.group, step = one.step, settle_s = one.settle_s }
  end,
  try = function(name, value)
    if not declared[name] then return nil, ("the application has no setting '%s'"):format(name) end
    put(declared[name], value, "trial")
    return true
  end,
  restore = function(name)
    local one = declared[name]
    if one and one.value ~= one.stable then put(one, one.stable, "restored") end
  end,
}

local function nothing() return {} end
core.pools = { list = nothing, statements = nothing, resize = nothing }
core.upstreams = { list = nothing }
core.cache = { view = function() end, miss_ratio = function() end }
core.compression = { routes = nothing }
core.limits = { classes = nothing }
core.task_stats = function() end
core.control = MISSING
core.overlay = MISSING

local journals = {}
core.journal = core.journal or {
  append = function(name, line)
    local list = journals[name] or {}
    journals[name] = list
    if #list >= 1000 then table.remove(list, 1) end
    list[#list + 1] = line
    return true
  end,
  read = function(name) return journals[name] or {} end,
  failures = nothing,
  flag = function() return false end,
}

local analyzer = require "perilune.analyzer"
local issue_rules = require "perilune.analyzer.rules"
local tuning = require "perilune.tuning"
local suggestion_rules = require "perilune.suggestions.rules"

-- ---- the loop ----

local ANALYZER = "analyzer"

local book = analyzer.new(issue_rules.read(), core.watch.signals(), function(kind, issue)
  if kind == "failed" then core.log("error", ("a rule of issues/ fails: %s: %s"):format(issue.name, issue.message)) return end
  emit("issue", { what = kind, id = issue.id, type = issue.type, code = issue.code, target = issue.target, title = issue.title, cause = issue.cause_text })
end)
if core.keep.get(ANALYZER) then book:restore(core.json.decode(core.keep.get(ANALYZER))) end

-- Of the built-in rules those that need nothing which only a server has; and all of the program's own.
local for_programs = { cpu_bound = true, memory_pressure = true, noisy_neighbour = true, overload = true, traffic_spike = true }
local function applicable(list)
  local out = {}
  for _, rule in ipairs(list) do
    if for_programs[rule.id] or core.is_own("suggestions/" .. rule.id .. ".lua") then out[#out + 1] = rule end
  end
  return out
end

local loop = tuning.new(applicable(suggestion_rules.read()), tuning.policy(require "policies.tuning"), function(text) core.log("warn", text) end)

local move = loop.book.options.note
loop.book.options.note = function(sug, from, to, actor, why)
  emit("suggestion", { id = sug.id, rule = sug.rule, target = sug.target, title = sug.title, from = from, state = to, actor = actor, why = why })
  return move(sug, from, to, actor, why)
end

local note = loop.env.note
loop.env.note = function(one, from, to, why)
  emit("trial", { id = one.id, suggestion = one.suggestion, from = from, phase = to, why = why })
  return note(one, from, to, why)
end

loop.env.frozen = function()
  if core.journal.flag "freeze" then return "trials are frozen by the file 'freeze' in the state folder" end
end

-- The proven value becomes the stable one; the journal has it before, and a later start takes it from there.
loop.env.keep = function(one)
  loop:persist()
  for _, change in ipairs(one.changes) do
    local done, why = core.journal.append("settings", core.json.encode { name = change.name, from = change.from, to = change.to, by = one.id, at_ms = core.unix_ms() })
    if not done then return nil, why end
  end
  for _, change in ipairs(one.changes) do
    local setting = declared[change.name]
    setting.stable, setting.origin = change.to, "trial"
    if setting.value ~= change.to then put(setting, change.to, "verified") end
  end
  keep_declared()
  return true
end

local looked, asked = -1, 0

local function look()
  local ticks = core.watch.cost().ticks
  if ticks == looked then return end
  looked = ticks
  book:tick(core.watch.things(), core.unix_ms())
  core.keep.put(ANALYZER, core.json.encode(book:dump()))
end

-- ---- what the application can call ----

local M = {}

--- A few times a second.
function M.tick()
  look()
  loop:tick()
  local now = core.now()
  if now - asked >= 2 then
    asked = now
    loop:look()
  end
end

--- What has happened since it was last asked.
function M.events()
  local out = events
  events = {}
  return out
end

--- Figures of the last seconds (0: since the start).
function M.stats(window_s) return measured.stats(window_s or 60) end

local function issues(state)
  local out = {}
  for _, issue in ipairs(book:list()) do
    if not state or issue.state == state then out[#out + 1] = issue end
  end
  return out
end

function M.issues(state) return issues(state) end

--- Looks now: open issues, of one route if it is named, and what was looked at.
function M.analyze(route)
  look()
  local looked_at, found = {}, {}
  for _, thing in ipairs(core.watch.things()) do
    if not route or thing.kind ~= "route" or thing.name == route or thing.name:match "^%S+ (.*)$" == route then
      looked_at[#looked_at + 1] = { kind = thing.kind, name = thing.name, samples = thing.samples, learnt = thing.learnt, needed = thing.needed, requests = thing.requests,
        now = thing.now, usual = thing.usual, moved = thing.moved, company = thing.company }
    end
  end
  for _, issue in ipairs(issues "open") do
    local here = not route or issue.target == route
    for _, name in ipairs(issue.affected or {}) do here = here or name == route or name:match "^%S+ (.*)$" == route end
    if here then found[#found + 1] = issue end
  end
  return { issues = found, looked_at = looked_at, learning = book:learning() }
end

--- Open suggestions, the best first; with `all` those that have ended, too.
function M.suggestions(all)
  local out = {}
  for _, sug in ipairs(loop.book:ranked()) do out[#out + 1] = sug end
  for _, sug in ipairs(all and loop.book.ended or {}) do out[#out + 1] = sug end
  return out
end

function M.trials()
  local out = {}
  for _, list in ipairs { loop.desk.running, loop.desk.ended } do
    for _, one in ipairs(list) do
      out[#out + 1] = { id = one.id, suggestion = one.suggestion, phase = one.phase, why = one.why, changes = one.changes, metric = one.metric, canary = one.canary,
        confirm = one.confirm, progress = one:progress() }
    end
  end
  return out
end

local function find(id)
  local sug = loop.book:find(id)
  if not sug then return nil, ("there is no suggestion '%s'"):format(tostring(id)) end
  return sug
end

--- Queues a suggestion that changes settings; its trial begins when nothing is in the way.
function M.apply(id)
  local sug, why = find(id)
  if not sug then return nil, why end
  if not sug.operations then return nil, "this is advice, which the engine cannot do itself: " .. tostring(sug.advice) end
  if sug.state ~= "OPEN" then return nil, ("it is %s, not OPEN"):format(sug.state) end
  local done, trouble = loop.book:move(sug, "QUEUED", "application", "approved", core.unix_ms())
  if not done then return nil, trouble end
  loop:begin()
  loop:persist()
  return sug.state
end

function M.dismiss(id, reason)
  local sug, why = find(id)
  if not sug then return nil, why end
  if sug.state ~= "OPEN" and sug.state ~= "BLOCKED" and sug.state ~= "SNOOZED" then return nil, ("it is %s"):format(sug.state) end
  local done, trouble = loop.book:move(sug, "DISMISSED", "application", reason, core.unix_ms())
  loop:persist()
  if not done then return nil, trouble end
  return sug.state
end

--- Takes a trial, or what it has kept, back.
function M.rollback(id)
  local sug, why = find(id)
  if not sug then return nil, why end
  local at = core.unix_ms()
  if sug.state == "RUNNING" then
    loop.desk:stop(sug.trial, "ABORTED", "taken back by the application", at, loop.env)
    loop:tick()
    return sug.state
  end
  if sug.state == "QUEUED" then
    loop.book:move(sug, "OPEN", "application", "taken back before its trial began", at)
    return sug.state
  end
  if sug.state ~= "SUCCEEDED" or sug.taken_back then return nil, "nothing of it is in force" end
  local one, back = loop.desk:find(sug.trial), {}
  for _, change in ipairs(one and one.changes or sug.operations) do
    local now = declared[change.name]
    if not now or now.stable ~= change.to then return nil, ("'%s' was changed again since"):format(change.name) end
    back[#back + 1] = { name = change.name, from = change.to, to = change.from }
  end
  local kept, trouble = loop.env.keep { changes = back, id = "application" }
  if not kept then return nil, trouble end
  sug.taken_back = true
  loop.book:move(sug, "SUCCEEDED", "application", "taken back", at)
  loop:persist()
  return sug.state
end

-- ---- settings ----

local function kept_value(name)
  local value
  for _, line in ipairs(core.journal.read "settings") do
    local record = core.json.decode(line)
    if type(record) == "table" and record.name == name then value = record.to end
  end
  return value
end

local function fits(one, value)
  if one.type == "boolean" then return type(value) == "boolean" end
  return type(value) == "number" and value >= one.min and value <= one.max and (one.type ~= "integer" or value == math.floor(value))
end

local function bounds(one)
  if one.type == "boolean" then return "true or false" end
  return ("%s from %s to %s"):format(one.type == "integer" and "a whole number" or "a number", one.min, one.max)
end

--- Declares a setting; it was checked by the caller. Returns the value in force.
function M.setting(one)
  local old = declared[one.name]
  one.value, one.stable, one.origin = one.default, one.default, "default"
  local kept = kept_value(one.name)
  if old and fits(one, old.stable) then one.value, one.stable, one.origin = old.value, old.stable, old.origin
  elseif kept ~= nil and fits(one, kept) then one.value, one.stable, one.origin = kept, kept, "trial" end
  declared[one.name] = one
  keep_declared()
  return one.value
end

--- An operator's edit: it ends a trial of the setting.
function M.set(name, value)
  local one = declared[name]
  if not one then
    local names = {}
    for known in pairs(declared) do names[#names + 1] = known end
    table.sort(names)
    local near = core.nearest(tostring(name), names)
    return nil, ("there is no setting '%s'%s"):format(tostring(name), near and (", did you mean '%s'?"):format(near) or "")
  end
  if not fits(one, value) then return nil, ("'%s' is %s"):format(name, bounds(one)) end
  local done, why = core.journal.append("settings", core.json.encode { name = name, from = one.stable, to = value, by = "application", at_ms = core.unix_ms() })
  if not done then return nil, why end
  one.stable, one.origin = value, "application"
  put(one, value, "set")
  return true
end

function M.settings() return declared end

return M
