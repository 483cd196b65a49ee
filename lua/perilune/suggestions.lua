--- The book of suggestions: rules are asked, their answers are raised, ranked, held back, and closed when their evidence is gone.
--
--     OPEN > QUEUED > RUNNING > SUCCEEDED or FAILED        what the engine can do: see perilune.trials
--     OPEN > ACKNOWLEDGED > DONE                           what a person does
--     OPEN > SNOOZED > OPEN, DISMISSED, EXPIRED, BLOCKED (by what)
--
-- A rule must hold in 3 of 4 looks before it is raised, and not hold for a while before its suggestion is closed. A rule that
-- is the cause of others inhibits them. While a suggestion is queued or on trial its content is frozen; all others are computed
-- anew with each look, from what is then left.
--
-- It knows no clock and no engine: facts and the time are given.

local core, require = ...

local asker = require "perilune.asker"
local rank = require "perilune.suggestions.rank"

local M = {}

local HOLDS, OF = 3, 4
local CLOSE_MS = 40000
local ERRORS_MOST = 3
local ENDED_KEPT = 200
local HISTORY_KEPT = 50

M.open_states = { OPEN = true, BLOCKED = true, SNOOZED = true, QUEUED = true, RUNNING = true, ACKNOWLEDGED = true }
local frozen = { QUEUED = true, RUNNING = true }

local book = {}
book.__index = book

--- options: note(suggestion, from, to, actor, why) writes the journal; mode(rule, routes) is "off", "suggest" or "auto";
-- read(name) as env.read of trials; log(text).
function M.new(rules, options)
  local self = setmetatable({ rules = rules, by_id = {}, options = options, entries = {}, open = {}, ended = {}, next_id = 1, errors = {}, quarantined = {}, asker = asker.new(),
    calibration = {}, counts = {}, looks = 0, saved_s = 0, saved_cpu_s = 0 }, book)
  for _, rule in ipairs(rules) do self.by_id[rule.id] = rule end
  return self
end

-- A rule that raises three times, or does not end, is not asked again before it is changed.
function book:ask(rule, what, ...)
  if self.quarantined[rule.id] then return nil end
  local ok, answer, over = self.asker:ask(rule.id, rule[what], ...)
  if ok or answer == nil then return answer end
  local count = (self.errors[rule.id] or 0) + 1
  self.errors[rule.id] = count
  if over or count >= ERRORS_MOST then
    self.quarantined[rule.id] = ("%s: %s"):format(what, tostring(answer))
    self.options.log(("rule %s is quarantined: it failed %d time(s), last in '%s': %s"):format(rule.id, count, what, tostring(answer)))
  end
end

function book:count(rule, what)
  local known = self.counts[rule] or {}
  known[what] = (known[what] or 0) + 1
  self.counts[rule] = known
end

--- Moves a suggestion to a state: journal first. Returns true; or nil and why it stays where it is.
function book:move(sug, state, actor, why, now_ms)
  local before = { state = sug.state, changed_ms = sug.changed_ms, ended_ms = sug.ended_ms }
  sug.state, sug.changed_ms, sug.etag = state, now_ms, sug.etag + 1
  sug.ended_ms = not M.open_states[state] and now_ms or nil
  sug.history[#sug.history + 1] = { at_ms = now_ms, from = before.state or core.json.null, to = state, actor = actor, why = why }
  local done, trouble = self.options.note(sug, before.state, state, actor, why)
  if not done then
    sug.state, sug.changed_ms, sug.ended_ms = before.state, before.changed_ms, before.ended_ms
    table.remove(sug.history)
    return nil, "the journal cannot be written: " .. tostring(trouble)
  end
  if #sug.history > HISTORY_KEPT then table.remove(sug.history, 1) end
  if sug.ended_ms then
    self.open[sug.key] = nil
    table.insert(self.ended, 1, sug)
    self.ended[ENDED_KEPT + 1] = nil
  end
  return true
end

-- ---- one rule and one thing ----

local function has_all(s, needs)
  for _, name in ipairs(needs or {}) do
    if s.now[name] == nil then return false end
  end
  return true
end

local function round(x, kind)
  if kind == "integer" then return math.floor(x + 0.5) end
  return x
end

--- What would be changed: { { name, from, to } }, within bounds, and unless `free`, within the step of the setting.
-- nil and why when nothing is left of it.
function book:changes(wanted, free)
  local list, names = {}, {}
  for name in pairs(wanted) do names[#names + 1] = name end
  table.sort(names)
  local group, settle
  for _, name in ipairs(names) do
    local now, to = self.options.read(name), wanted[name]
    if not now then return nil, ("there is no setting '%s'"):format(name) end
    if not now.group then return nil, ("'%s' is for an operator to change"):format(name) end
    if now.type ~= "boolean" then
      if type(to) ~= "number" or to ~= to then return nil, ("'%s' is a number"):format(name) end
      if not free then
        to = math.max(math.min(to, math.max(1, now.stable) * now.step), now.stable / now.step)
      end
      to = round(math.max(now.min, math.min(now.max, to)), now.type)
    elseif type(to) ~= "boolean" then return nil, ("'%s' is true or false"):format(name) end
    if to ~= now.stable then list[#list + 1] = { name = name, from = now.stable, to = to, unit = now.unit } end
    if group and group ~= now.group then return nil, ("'%s' and the others are of different coupling groups: their effects could not be told apart"):format(name) end
    group, settle = now.group, math.max(settle or 0, now.settle_s)
  end
  if #list == 0 then return nil, "the settings are there already" end
  return list, nil, group, settle
end

local function issue_of(rule, f, s)
  for _, code in ipairs(rule.issue or {}) do
    for _, issue in ipairs(f.issues) do
      if issue.code == code then
        local about = s.kind == "host" or issue.target == "host"
        for _, name in ipairs(issue.affected or {}) do about = about or name == s.name end
        if about or s.kind ~= "route" then return issue end
      end
    end
  end
end

-- What a rule says of a thing now, as the fields of a suggestion; nil when it has nothing to say.
function book:compute(rule, s, f)
  local raw = self:ask(rule, "impact", s, f)
  local routes = raw and raw.routes or s.kind == "route" and { s.name } or nil
  local rps = routes and f:rps(routes) or f.host and f.host.now.rps or 0
  local impact = rank.impact(raw, self.calibration[rule.id], rps)
  local issue = issue_of(rule, f, s)
  local verify = rule.verify or {}
  if impact then impact.direction = verify.direction or "down" end
  local out = { rule = rule.id, rule_version = rule.version, class = rule.class, target = s.name, on = rule.on,
    title = tostring(self:ask(rule, "title", s, f) or rule.id), explanation = tostring(self:ask(rule, "explain", s, f) or ""),
    issue = issue and issue.id or nil, issue_code = issue and issue.code or nil, impact = impact, difficulty = rule.effort, risk = rule.risk,
    semantic = rule.semantic or false, routes = routes,
    evidence = { samples = math.floor(s.requests or rps * (f.span_s or 0)), from_ms = f.at_ms - (f.span_s or 0) * 1000, to_ms = f.at_ms,
      signals = s.now } }
  local wanted = rule.set and self:ask(rule, "set", s, f)
  if wanted then
    local list, why, group, settle = self:changes(wanted)
    if not list then
      if not rule.advise then return nil, why end
    else
      out.operations, out.coupling_group, out.settle_s = list, group, verify.settle_s or settle
      out.verify = { metric = verify.metric or impact and impact.metric or "mean_ms", direction = verify.direction or "down", mde = verify.mde or 0.03, price = verify.price }
    end
  end
  local advice = rule.advise and self:ask(rule, "advise", s, f)
  if advice then out.advice = tostring(advice) end
  if not out.operations and not out.advice then return nil end
  local mode = self.options.mode(rule, routes)
  if not out.operations then out.apply_mode = "manual"
  elseif mode == "auto" and not rule.semantic and rank.is_trusted(self.calibration[rule.id]) then out.apply_mode = "auto"
  else out.apply_mode = "approve" end
  out.confidence = rank.confidence(self.calibration[rule.id], out.evidence.samples)
  out.benefit = rank.benefit(impact)
  out.roi = rank.roi(out.benefit, out.confidence, rule.effort, rule.risk)
  out.priority = rank.priority(impact, issue and issue.severity)
  return out
end

local function fill(sug, fields)
  for _, name in ipairs { "operations", "advice", "impact", "issue", "issue_code", "coupling_group", "verify", "routes" } do sug[name] = nil end
  for name, value in pairs(fields) do sug[name] = value end
end

function book:raise(key, fields, now_ms)
  local before
  for _, old in ipairs(self.ended) do
    if old.key == key then
      before = old
      break
    end
  end
  if before and before.state == "DISMISSED" and (not before.until_ms or now_ms < before.until_ms) then return end
  if before and before.state == "FAILED" and now_ms < before.ended_ms + self.options.rest_ms() then return end
  local sug = { id = ("sug-%d"):format(self.next_id), key = key, etag = 0, revision = before and before.revision + 1 or 1, history = {}, raised_ms = now_ms,
    seen_ms = now_ms, reopens = before and before.id or nil, regressed = before and before.state == "SUCCEEDED" or nil, failed_before = before and before.state == "FAILED" and before.verdict or nil }
  fill(sug, fields)
  self.next_id = self.next_id + 1
  if self:move(sug, "OPEN", "engine", fields.explanation, now_ms) then
    self.open[key] = sug
    self:count(sug.rule, "raised")
  end
end

-- ---- all rules ----

function book:holding(f, now_ms)
  local active = {}
  for _, rule in ipairs(self.rules) do
    if not self.quarantined[rule.id] and self.options.mode(rule) ~= "off" then
      for _, s in ipairs(f:of(rule.on)) do
        local key = rule.id .. "|" .. s.name
        local holds = has_all(s, rule.needs) and self:ask(rule, "when", s, f) and true or false
        local entry = self.entries[key]
        if holds and not entry then
          entry = { rule = rule, looks = {} }
          self.entries[key] = entry
        end
        if entry then
          table.insert(entry.looks, holds and 1 or 0)
          if #entry.looks > OF then table.remove(entry.looks, 1) end
          local sum = 0
          for _, one in ipairs(entry.looks) do sum = sum + one end
          entry.rule, entry.s, entry.holds, entry.sure, entry.at_ms = rule, s, holds, sum >= HOLDS, now_ms
          if entry.sure then active[rule.id] = active[rule.id] or s.name end
          if sum == 0 then self.entries[key] = nil end
        end
      end
    end
  end
  return active
end

local function inhibitor(self, rule, active)
  for id in pairs(active) do
    if id ~= rule.id then
      for _, what in ipairs(self.by_id[id].inhibits or {}) do
        if what == rule.id or what == "*" then return id end
      end
    end
  end
end

function book:blocks()
  local by_rule, best = {}, {}
  for _, sug in pairs(self.open) do
    if sug.state ~= "SNOOZED" then
      by_rule[sug.rule] = sug
      local xor = self.by_id[sug.rule] and self.by_id[sug.rule].xor
      if xor and (not best[xor] or sug.roi > best[xor].roi) then best[xor] = sug end
    end
  end
  for _, sug in pairs(self.open) do
    local rule, by = self.by_id[sug.rule], core.json.array()
    for _, id in ipairs(rule and rule.depends_on or {}) do
      if by_rule[id] then by[#by + 1] = by_rule[id].id end
    end
    local xor = rule and rule.xor and best[rule.xor]
    if xor and xor ~= sug then by[#by + 1] = xor.id end
    if sug.inhibited_by and by_rule[sug.inhibited_by] then by[#by + 1] = by_rule[sug.inhibited_by].id end
    sug.blocked_by = by
    if sug.state == "OPEN" and (#by > 0 or sug.inhibited_by) then sug.state = "BLOCKED"
    elseif sug.state == "BLOCKED" and #by == 0 and not sug.inhibited_by then sug.state = "OPEN" end
  end
end

-- A suggestion that waits for others is ranked as the set of all of them.
function book:set_roi(sug, seen)
  local benefit, effort = sug.benefit * sug.confidence, 1
  effort = sug.benefit > 0 and sug.roi > 0 and benefit / sug.roi or effort
  seen[sug] = true
  for _, id in ipairs(sug.blocked_by or {}) do
    local other = self:find(id)
    if other and not seen[other] then
      local b, e = self:set_roi(other, seen)
      benefit, effort = benefit + b, effort + e
    end
  end
  return benefit, effort
end

--- Open ones, in the order of what to do first.
function book:ranked()
  local list = {}
  for _, sug in pairs(self.open) do
    local benefit, effort = self:set_roi(sug, {})
    sug.set_roi = benefit / effort
    list[#list + 1] = sug
  end
  table.sort(list, function(a, b)
    local x, y = a.state == "BLOCKED" or a.state == "SNOOZED", b.state == "BLOCKED" or b.state == "SNOOZED"
    if x ~= y then return y end
    if a.priority ~= b.priority then return a.priority < b.priority end
    if a.set_roi ~= b.set_roi then return a.set_roi > b.set_roi end
    return a.id < b.id
  end)
  for i, sug in ipairs(list) do sug.rank = i end
  return list
end

--- One look at everything.
function book:look(f, now_ms)
  self.asker:begin()
  self.looks = self.looks + 1
  local active = self:holding(f, now_ms)
  for key, entry in pairs(self.entries) do
    local sug = self.open[key]
    local by = inhibitor(self, entry.rule, active)
    if entry.holds and sug then sug.seen_ms, sug.inhibited_by = now_ms, by end
    if entry.at_ms ~= now_ms then self.entries[key] = nil -- the thing is gone
    elseif entry.holds and not (sug and frozen[sug.state]) and (sug or entry.sure and not by) then
      local fields = self:compute(entry.rule, entry.s, f)
      if fields and sug then fill(sug, fields)
      elseif fields then self:raise(key, fields, now_ms) end
    end
  end
  for _, sug in pairs(self.open) do
    if not frozen[sug.state] then
      if sug.state == "SNOOZED" and now_ms >= (sug.until_ms or 0) then self:move(sug, "OPEN", "engine", "the snooze is over", now_ms) end
      if now_ms - sug.seen_ms > CLOSE_MS then
        self:move(sug, "EXPIRED", "engine", "its evidence is gone", now_ms)
        self:count(sug.rule, "expired")
      end
    end
  end
  self:blocks()
  self:ranked()
end

-- ---- what is done with one ----

function book:find(id)
  for _, sug in pairs(self.open) do
    if sug.id == id then return sug end
  end
  for _, sug in ipairs(self.ended) do
    if sug.id == id then return sug end
  end
end

--- Which of them the engine starts by itself: the first by rank, if it may.
function book:due()
  local list = {}
  for _, sug in ipairs(self:ranked()) do
    if sug.state == "QUEUED" or (sug.state == "OPEN" and sug.apply_mode == "auto" and sug.priority <= "P3" and sug.confidence >= 0.3) then list[#list + 1] = sug end
  end
  return list
end

--- A trial of it has ended.
function book:ended_trial(sug, one, now_ms)
  local verified = one.phase == "VERIFIED"
  local measured = verified and one.confirm and one.confirm.change or nil
  local predicted = sug.impact and sug.verify and sug.impact.metric == sug.verify.metric and sug.impact.change or nil
  sug.trial, sug.verdict = one.id, { phase = one.phase, why = one.why, canary = one.canary, confirm = one.confirm, metric = one.metric,
    reference = one.reference and one.reference.value }
  if one.touched and one.phase ~= "SUPERSEDED" and one.phase ~= "ABORTED" then
    self.calibration[sug.rule] = rank.learn(self.calibration[sug.rule], verified, predicted, measured)
  end
  self:count(sug.rule, one.phase:lower())
  if verified then
    sug.measured = { metric = one.metric, before = one.reference.value, change = measured, lo = one.confirm.change_lo, hi = one.confirm.change_hi }
    if predicted and predicted ~= 0 and measured / predicted > 0 then
      sug.prediction_error = math.log(measured / predicted)
      self:count(sug.rule, math.abs(sug.prediction_error) <= math.log(2) and "predicted_within_2x" or "predicted_worse")
    end
    local saved = measured and sug.impact and sug.impact.change ~= 0 and measured / sug.impact.change or 1
    sug.saves = { user_seconds_per_s = sug.impact and sug.impact.saved_s_per_s * saved or 0, cores = sug.impact and sug.impact.cores * saved or 0 }
    sug.took_ms = now_ms - sug.raised_ms
    return self:move(sug, "SUCCEEDED", "engine", one.why, now_ms)
  end
  if one.phase == "ABORTED" or one.phase == "SUPERSEDED" then
    sug.waits_for = one.why
    return self:move(sug, one.phase == "SUPERSEDED" and "SUPERSEDED" or "OPEN", "engine", one.why, now_ms)
  end
  return self:move(sug, "FAILED", "engine", ("%s: %s"):format(one.phase:lower(), one.why), now_ms)
end

--- What was saved by what was verified, for as long as it is in force.
function book:save(seconds)
  for _, sug in ipairs(self.ended) do
    if sug.state == "SUCCEEDED" and sug.saves and not sug.taken_back then
      self.saved_s = self.saved_s + sug.saves.user_seconds_per_s * seconds
      self.saved_cpu_s = self.saved_cpu_s + sug.saves.cores * seconds
    end
  end
end

-- ---- what outlives a reload ----

function book:dump()
  return { open = self.open, ended = self.ended, next_id = self.next_id, calibration = self.calibration, counts = self.counts, saved_s = self.saved_s,
    saved_cpu_s = self.saved_cpu_s }
end

function book:restore(dump)
  for name, value in pairs(dump) do self[name] = value end
end

return M
