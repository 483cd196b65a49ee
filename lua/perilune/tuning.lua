--- The closed loop, wired to the engine: facts > suggestions > trials > what is kept.
--
--     perilune.suggestions   which are open                    (knows no engine)
--     perilune.trials        which are on trial, and verdicts  (knows no engine)
--     this module            snapshots, the journal, the settings on the board, what outlives a reload and a crash
--
-- The journal "tuning" has a record for each step of a suggestion and of a trial, with the thing itself as it is then, and
-- now and then one with all that was learnt; from these a successor goes on after control has died.

local core, require = ...

local activity = require "perilune.activity"
local admin = require "perilune.admin"
local benchmark = require "perilune.benchmark"
local analysis = require "perilune.analyzer.rules"
local desks = require "perilune.trials"
local facts = require "perilune.suggestions.facts"
local links = require "perilune.links"
local setting_names = require "perilune.setting_names"
local overlay = require "perilune.overlay"
local suggestions = require "perilune.suggestions"
local trial = require "perilune.trials.trial"

local M = {}

local OWNER = "tuning.owner"
local KEPT, JOURNAL, SETTINGS_JOURNAL = "tuning", "tuning", "settings"
local SPAN_S = 30       -- that growth is taken over
local LOOKS_LATE_S = 30 -- without a look that came to its end
local TAKEN_BACK = 10   -- trials that alerts may be of
local QUEUE_MS = 600000 -- an approved suggestion waits so long for its trial

local function now_ms() return admin.trials.now_ms() end

-- ---- the policy ----

local modes = { off = true, suggest = true, auto = true }
local places = { mode = "string", rules = "table", classes = "table", routes = "table" }

--- Checks rules/policies/tuning.lua. Returns mode(rule, routes).
function M.policy(values)
  local where = "rules/policies/tuning.lua"
  if type(values) ~= "table" then error(where .. " returns a table", 0) end
  for name, value in pairs(values) do
    if not places[name] then
      local near = core.nearest(tostring(name), { "mode", "rules", "classes", "routes" })
      error(("%s: unknown key '%s'%s"):format(where, tostring(name), near and (", did you mean '%s'?"):format(near) or ""), 0)
    end
    if type(value) ~= places[name] then error(("%s: '%s' is a %s"):format(where, name, places[name]), 0) end
    for key, mode in pairs(name == "mode" and { mode = value } or value) do
      if not modes[mode] then error(("%s: %s is \"off\", \"suggest\" or \"auto\""):format(where, name == "mode" and "mode" or name .. "." .. tostring(key)), 0) end
    end
  end
  local by_rule, by_class, by_route = values.rules or {}, values.classes or {}, values.routes or {}
  return function(rule, routes)
    local mode = by_rule[rule.id] or by_class[rule.class] or values.mode or "suggest"
    for _, name in ipairs(routes or {}) do
      local own = by_route[name] or by_route[name:match "^%S+ (.*)$"]
      if own == "off" or (own == "suggest" and mode == "auto") then mode = own end
      if own == "auto" and mode == "suggest" and not by_rule[rule.id] then mode = own end
    end
    return mode
  end
end

-- ---- snapshots ----

local function figures()
  local out = {}
  for _, figure in ipairs(admin.machine.figures()) do
    if figure.value then out[figure.section .. "." .. figure.name] = figure.value end
  end
  return out
end

local function counters()
  local pools, sessions = admin.pools.list(), activity.get(core.now())
  for _, pool in ipairs(pools) do
    pool.statements_total, pool.activity = pool.statements, sessions[pool.id]
    pool.statements = pool.pool_type == "database" and admin.pools.statements(pool.id) or {}
  end
  local totals = {}
  for _, counter in ipairs(admin.stats.counters()) do totals[counter.name] = counter.value end
  return { pools = pools, upstreams = admin.upstreams.list(), tasks = admin.task_stats(), cache = admin.cache.view() or nil,
    compression = { routes = admin.compression.routes() }, limits = { concurrency = admin.limits.classes() }, counters = totals }
end

-- What the cache would miss with other sizes, per route: { [1] = ratio, [2] =, [4] =, [0.5] = }, as far as it was sampled.
local function curves(cache)
  for _, route in ipairs(cache and cache.routes or {}) do
    route.miss = {}
    for name, factor in pairs { half = 0.5, same = 1, double = 2, fourfold = 4 } do
      route.miss[name] = admin.cache.miss_ratio(route.id, math.floor(cache.limit_bytes * factor)) or nil
    end
  end
end

local function attach(now, grown)
  local function each(list, changes)
    local by = {}
    for _, row in ipairs(changes or {}) do by[row.id or row.name or row.statement or row.address or ""] = row end
    for _, row in ipairs(list or {}) do row.during = by[row.id or row.name or row.statement or row.address or ""] or {} end
  end
  each(now.pools, grown.pools)
  each(now.upstreams, grown.upstreams)
  for i, upstream in ipairs(now.upstreams) do each(upstream.peers, grown.upstreams[i] and grown.upstreams[i].peers) end
  for i, pool in ipairs(now.pools) do each(pool.statements, grown.pools[i] and grown.pools[i].statements) end
  curves(now.cache)
  for _, name in ipairs { "tasks", "cache", "compression", "limits", "counters" } do
    if now[name] then now[name].during = grown[name] or {} end
  end
  return now
end

-- ---- the engine behind it ----

local tuning = {}
tuning.__index = tuning

local function setting(name) return admin.setting(name) end

local function overruled(name)
  for _, one in ipairs(admin.stats.settings()) do
    if one.name == name and (one.origin == "flag" or one.origin == "environment") then return one.origin end
  end
end

--- How the API names what a trial may change, for the overlay: section, id and key; or nil for a plain setting.
local function pool_of(name)
  local id, bound = setting_names.of_pool(name)
  if not id then return end
  for _, pool in ipairs(admin.pools.list()) do
    if pool.id == id then return pool.pool_type == "redis" and "redis" or "postgres", id, bound end
  end
end

local function keep_changes(changes, reason, who)
  local entries = {}
  for _, line in ipairs(admin.journal.read(SETTINGS_JOURNAL)) do
    local entry = core.json.decode(line)
    if type(entry) == "table" and entry.seq then entries[#entries + 1] = entry end
  end
  local before = overlay.read().settings or {}
  local record = { seq = (#entries > 0 and entries[#entries].seq or 0) + 1, at = os.date "!%Y-%m-%dT%H:%M:%SZ", who = who, reason = reason,
    generation = admin.stats.generation().active, changes = core.json.array() }
  for _, one in ipairs(changes) do
    local own = before[one.name]
    if own == nil then own = core.json.null end
    record.changes[#record.changes + 1] = { name = one.name, from = one.from, to = one.to, api_from = own, api_to = one.to }
  end
  local done, trouble = admin.journal.append(SETTINGS_JOURNAL, core.json.encode(record))
  if not done then return nil, trouble end
  -- A pool takes its bounds at once. The overlay is a reload, after which another copy of this module is at work.
  local function resize(which)
    for _, one in ipairs(changes) do
      local section, id, bound = pool_of(one.name)
      if section then admin.pools.resize(id, bound == "min" and one[which] or nil, bound == "max" and one[which] or nil) end
    end
  end
  resize "to"
  local kept, refused = overlay.change(function(all)
    for _, one in ipairs(changes) do
      local section, id, bound = pool_of(one.name)
      if section then
        all[section] = all[section] or {}
        all[section][id] = all[section][id] or {}
        all[section][id][bound] = one.to
      else
        all.settings = all.settings or {}
        all.settings[one.name] = one.to
      end
    end
  end)
  if kept then return true end
  resize "from"
  return nil, refused
end

-- The worker, from 0, of which as many have answered more requests as fewer.
local function ordinary_worker()
  local list = {}
  for _, process in ipairs(admin.machine.processes()) do
    if process.role == "worker" then list[#list + 1] = { index = tonumber(process.name:match "%d+"), requests = process.requests } end
  end
  table.sort(list, function(a, b) return a.requests < b.requests end)
  local one = list[math.ceil((#list + 1) / 2)]
  return one and one.index or 0
end

local function environment(self)
  local env = {}

  env.span = admin.watch.span
  function env.read(name) return admin.trials.state(name) end
  env.restarts = admin.stats.restarts

  -- Only what has a value of its own in each worker can be tried by some, and only one trial at a time can.
  function env.workers(one)
    for _, change in ipairs(one.changes) do
      local now = admin.trials.state(change.name)
      if not now or now.scope ~= "worker" then return 1 end
    end
    for _, other in ipairs(self.desk.running) do
      if other ~= one and other.design == "canary" then return 1 end
    end
    return admin.stats.workers(), ordinary_worker()
  end
  env.arms = admin.trials.arms

  function env.apply(one, on, workers)
    if one.design == "canary" then admin.trials.canary(workers) end
    for _, change in ipairs(one.changes) do
      if on then
        local done, why = admin.trials.try(change.name, change.to, workers ~= nil)
        if not done then
          for _, other in ipairs(one.changes) do admin.trials.restore(other.name) end
          return nil, why
        end
      else
        admin.trials.restore(change.name)
        local now = admin.trials.state(change.name)
        if now and now.on_trial then return nil, ("'%s' could not be restored"):format(change.name) end
      end
    end
    admin.trials.renew(setting "trials.lease_s")
    return true
  end

  function env.keep(one)
    self:persist()
    return keep_changes(one.changes, ("%s: %s"):format(one.suggestion or one.id, one.title or "verified"), one.id)
  end

  function env.frozen(one)
    if admin.journal.flag "freeze" then return "trials are frozen by the file 'freeze' in the state folder" end
    if benchmark.running(now_ms()) then return "a benchmark is running" end
    for _, change in ipairs(one.changes or {}) do
      local by = overruled(change.name)
      if by then return ("'%s' is set by a %s, which goes before what a trial can keep"):format(change.name, by) end
    end
    if one.by ~= "auto" or one.phase then return end
    local g = admin.stats.generation()
    local since_s = g.activated_s_ago
    if since_s and g.active > 1 and since_s < setting "trials.quiet_s" then return ("a reload was %.0f s ago"):format(since_s) end
    for _, issue in ipairs(self.issues or {}) do
      if issue.code == "host.contention" or issue.code == "load.spike" then return ("%s: %s"):format(issue.code, issue.title or "") end
    end
  end

  function env.note(one, from, to, why)
    local data = {}
    for name, value in pairs(one) do data[name] = value end
    data.phase, data.why = to, why
    return admin.journal.append(JOURNAL, core.json.encode { type = "trial", id = one.id, suggestion = one.suggestion, at = os.date "!%Y-%m-%dT%H:%M:%SZ",
      from = from or core.json.null, to = to, why = why, data = data })
  end

  function env.renew(active) if active then admin.trials.renew(setting "trials.lease_s") end end

  return env
end

--- What all rules see now; growth needs two of them. Plain data.
function tuning:snapshot()
  local now = counters()
  local at = now_ms()
  local list = self.snapshots
  list[#list + 1] = { at_ms = at, counters = now }
  while #list > 2 and at - list[2].at_ms >= SPAN_S * 1000 do table.remove(list, 1) end
  local before = list[1]
  local out = attach(core.json.decode(core.json.encode(now)), facts.growth(now, before.counters))
  out.at_ms, out.span_s = at, (at - before.at_ms) / 1000
  out.figures, out.settings = figures(), {}
  out.cores, out.workers = out.figures["cpu.usable_cpus"] or 1, admin.stats.workers()
  for _, one in ipairs(admin.stats.settings()) do
    out.settings[one.name] = one.value
    if one.on_trial then out.settings[one.name] = one.stable end
  end
  out.things = admin.watch.things()
  local kept = admin.keep.get "analyzer"
  local open = kept and core.json.decode(kept).open or {}
  out.issues = {}
  for _, issue in pairs(open) do out.issues[#out.issues + 1] = issue end
  table.sort(out.issues, function(a, b) return a.id < b.id end)
  return out
end

function tuning:facts(snapshot) return facts.new(snapshot, self.units, self.thresholds) end

-- A suggestion or a trial has ended a step.
local function note_suggestion(sug, from, to, actor, why)
  return admin.journal.append(JOURNAL, core.json.encode { type = "suggestion", id = sug.id, at = os.date "!%Y-%m-%dT%H:%M:%SZ", from = from or core.json.null, to = to,
    actor = actor, why = why, data = sug })
end

function tuning:checkpoint()
  local b = self.book
  admin.journal.append(JOURNAL, core.json.encode { type = "checkpoint", at = os.date "!%Y-%m-%dT%H:%M:%SZ", calibration = b.calibration, counts = b.counts,
    saved_s = b.saved_s, saved_cpu_s = b.saved_cpu_s, next_sug = b.next_id, next_trial = self.desk.next_id, rested = self.desk.rested,
    reversals = self.desk.reversals, harms = self.desk.harms, frozen = self.desk.frozen or core.json.null })
end

-- After control has died: the last record of each thing is what it was.
local function recover(self)
  local sugs, trials, order, point = {}, {}, {}, nil
  for _, line in ipairs(admin.journal.read(JOURNAL)) do
    local record = core.json.decode(line)
    if type(record) == "table" and type(record.data) == "table" then
      local by = record.type == "trial" and trials or sugs
      if not by[record.id] then order[#order + 1] = { by, record.id } end
      by[record.id] = record.data
    elseif type(record) == "table" and record.type == "checkpoint" then point = record end
  end
  if point then
    self.book.calibration, self.book.counts = point.calibration, point.counts
    self.book.saved_s, self.book.saved_cpu_s = point.saved_s, point.saved_cpu_s
    self.book.next_id, self.desk.next_id = point.next_sug, point.next_trial
    self.desk.rested, self.desk.reversals, self.desk.harms = point.rested, point.reversals, point.harms
    self.desk.frozen = point.frozen ~= core.json.null and point.frozen or nil
  end
  local at = now_ms()
  for _, one in ipairs(order) do
    local by, id = one[1], one[2]
    local data = by[id]
    if by == trials then
      self.desk.next_id = math.max(self.desk.next_id, (tonumber(id:match "%d+$") or 0) + 1)
      local dead = trial.restore(data)
      if not trial.ended[dead.phase] then dead:finish(at, "ROLLED_BACK", "control ended in the middle of it", self.env) end
      table.insert(self.desk.ended, 1, dead)
    else
      self.book.next_id = math.max(self.book.next_id, (tonumber(id:match "%d+$") or 0) + 1)
      data.seen_ms = at
      if data.state == "QUEUED" or data.state == "RUNNING" then
        self.book:move(data, "OPEN", "engine", "control ended in the middle of it: the stable settings are in force", at)
      end
      if suggestions.open_states[data.state] then self.book.open[data.key] = data else table.insert(self.book.ended, 1, data) end
    end
  end
end

--- Whether a reload has put another copy of this module into its place.
function tuning:is_over() return admin.keep.get(OWNER) ~= self.owner end

function tuning:persist()
  if self:is_over() then return end
  admin.keep.put(KEPT, core.json.encode { book = self.book:dump(), desk = self.desk:dump() })
end

-- What alerts hold back; perilune.alerts.caused says for how long.
local function tell_taken_back(ended)
  local list = {}
  for _, one in ipairs(ended) do
    if one.phase == "ROLLED_BACK" and one.started_ms and #list < TAKEN_BACK then
      list[#list + 1] = { id = one.id, routes = one.route_names, began_s = one.started_ms / 1000, ended_s = one.ended_ms / 1000 }
    end
  end
  links.take_back(list)
end

-- Where routes are on the board; those that had no request since control began are left out.
local function indexes(names)
  local out = {}
  for _, thing in ipairs(admin.watch.things()) do
    for _, name in ipairs(names) do
      if thing.kind == "route" and thing.name == name then out[#out + 1] = thing.index end
    end
  end
  return out
end

--- Starts what is due: what somebody approved, and what may start by itself.
function tuning:begin()
  local at = now_ms()
  for _, sug in ipairs(self.book:due()) do
    local auto = sug.state ~= "QUEUED"
    local spec = { suggestion = sug.id, rule = sug.rule, target = sug.target, title = sug.title, by = auto and "auto" or "operator", group = sug.coupling_group,
      route_names = sug.routes, changes = sug.asked or sug.operations, metric = sug.verify.metric, direction = sug.verify.direction, mde = sug.verify.mde, price = sug.verify.price,
      settle_s = sug.settle_s, seed = (math.random(2 ^ 31) + at) % 2 ^ 31, pairs = setting "trials.pairs" * 2 ^ ((sug.tries or 1) - 1), try = sug.tries or 1, reason = sug.title }
    local one, why
    spec.routes = sug.routes and indexes(sug.routes)
    if sug.routes and #spec.routes < #sug.routes then
      why = "what its routes do is not known yet"
    else
      one, why = self.desk:start(spec, at, self.env)
    end
    sug.waits_for = why
    if one then
      sug.trial = one.id
      self.book:move(sug, "RUNNING", auto and "engine" or "operator", one.id, at)
    elseif not auto and at - sug.changed_ms > QUEUE_MS then
      self.book:move(sug, "OPEN", "engine", "its trial could not begin: " .. why, at)
    end
  end
end

--- Some times a second.
function tuning:tick()
  if #self.desk.running > 0 and not self:is_over() then
    self.desk:tick(now_ms(), self.env)
    self:persist()
  end
end

local function look(self)
  local snapshot = self:snapshot()
  self.issues, self.last = snapshot.issues, snapshot
  local began = core.now()
  local at = now_ms()
  self.book:look(self:facts(snapshot), at)
  self.book:save(self.looked_ms and (at - self.looked_ms) / 1000 or 0)
  self.looked_ms, self.look_ms = at, (core.now() - began) * 1000
  self:begin()
  self:persist()
end

--- Every two seconds. Raises what goes wrong, which is remembered until a look goes well.
function tuning:look()
  local done, why = pcall(look, self)
  self.failed = not done and tostring(why) or nil
  if not done then error(why, 0) end
end

--- Why there is no look at the rules, so that nothing is suggested; nil when all is well.
function tuning:trouble()
  local since_s = (now_ms() - (self.looked_ms or self.began_ms)) / 1000
  if self.failed then return self.failed end
  if since_s > LOOKS_LATE_S then return ("no look at the rules has come to its end for %.0f s; the log may say why"):format(since_s) end
end

local current

--- The loop of this generation, for other files of it; nil in a check.
function M.current() return current end

--- The loop of this engine, with what rules.read() and policy() give. Goes on where its predecessor ended.
function M.new(list, policy, log)
  local self = setmetatable({ began_ms = now_ms(), snapshots = {}, units = { host = {}, route = {}, pool = {} }, thresholds = analysis.read().thresholds, log = log }, tuning)
  for _, signal in ipairs(admin.watch.signals()) do self.units[signal.kind][signal.name] = signal.unit end
  self.env = environment(self)
  self.book = suggestions.new(list, {
    note = note_suggestion, mode = policy, read = self.env.read, log = log,
    rest_ms = function() return setting "trials.cooldown_s" * 1000 end,
  })
  self.desk = desks.new { cooldown_s = setting "trials.cooldown_s", on_end = function(one)
    local sug = self.book:find(one.suggestion or "")
    log(("%s of %s ended: %s: %s"):format(one.id, one.suggestion or "nobody", one.phase, one.why or ""))
    if sug and sug.state == "RUNNING" then
      if desks.again(one) and not self.desk.frozen then
        sug.tries = (sug.tries or 1) + 1
        self.book:move(sug, "OPEN", "engine", one.why .. "; a longer trial may tell", now_ms())
      else
        self.book:ended_trial(sug, one, now_ms())
      end
    end
    tell_taken_back(self.desk.ended)
    self:checkpoint()
  end }
  self.owner = tostring(tonumber(admin.keep.get(OWNER) or 0) + 1)
  admin.keep.put(OWNER, self.owner)
  local kept = admin.keep.get(KEPT)
  if kept then
    local dump = core.json.decode(kept)
    self.book:restore(dump.book)
    self.desk:restore(dump.desk)
  else
    recover(self)
    self:persist()
  end
  current = self
  return self
end

return M
