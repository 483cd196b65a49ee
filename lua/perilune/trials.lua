--- Which suggestions may be on trial, and what becomes of them: the desk.
--
-- At most TOTAL trials run at once, one of a coupling group and one of a route, because effects mix. A setting that was on
-- trial rests for `cooldown_s`; one that was reversed three times in a day is locked for a day; a rule that did harm to a
-- target waits an hour, then longer, up to a week. Somebody who asks for a trial is asked for less than the engine itself:
-- a deploy a minute ago holds only the engine back.
--
-- Each step is a record of the journal, on disk before a setting moves. What is on trial stays in force only as long as the
-- lease that each tick renews (core/board/trials.h), so a desk that dies leaves the stable settings behind; its successor
-- finds in the journal what was under way and closes it as rolled back.
--
-- The clock, the traffic and the settings come through `env`, see perilune.trials.trial.

local _, require = ...

local trial = require "perilune.trials.trial"

local M = {}

local TOTAL = 2
local DAY_MS = 86400000
local REVERSALS = 3
local HARM_MS, HARM_MOST_MS = 3600000, 7 * DAY_MS
local ENDED_KEPT = 100
local RETRIES = 2

local desk = {}
desk.__index = desk

--- options: cooldown_s, on_end(trial).
function M.new(options)
  return setmetatable({ options = options, running = {}, ended = {}, next_id = 1, rested = {}, reversals = {}, harms = {}, frozen = nil }, desk)
end

local function targets(spec)
  local names = {}
  for _, change in ipairs(spec.changes) do names[#names + 1] = change.name end
  return names
end

local function key_of(spec) return (spec.rule or "") .. "|" .. (spec.target or "") end

--- Why a trial may not begin now, or nil. `spec.by` is "auto" when nobody asked for it.
function desk:refuses(spec, now_ms, env)
  if self.frozen then return "trials are frozen: " .. self.frozen.reason end
  local outside = env.frozen(spec)
  if outside then return outside end
  if #self.running >= TOTAL then return ("%d trials run already"):format(#self.running) end
  for _, one in ipairs(self.running) do
    if one.group == spec.group then return ("%s, of the same group (%s), is on trial"):format(one.suggestion or one.id, spec.group) end
    for _, route in ipairs(spec.route_names or {}) do
      for _, other in ipairs(one.route_names or {}) do
        if route == other then return ("a trial on %s runs already"):format(route) end
      end
    end
  end
  for _, name in ipairs(targets(spec)) do
    local now = env.read(name)
    if not now then return ("there is no setting '%s'"):format(name) end
    local until_ms = self.rested[name]
    if until_ms and now_ms < until_ms and spec.by == "auto" then return ("'%s' rests for %.0f s after its last trial"):format(name, (until_ms - now_ms) / 1000) end
    local count = 0
    for _, at in ipairs(self.reversals[name] or {}) do
      if now_ms - at < DAY_MS then count = count + 1 end
    end
    if count >= REVERSALS and spec.by == "auto" then return ("'%s' was taken back %d times in a day and is locked"):format(name, count) end
  end
  local harm = self.harms[key_of(spec)]
  if harm and now_ms < harm.until_ms and spec.by == "auto" then return ("it did harm %d times and waits for %.0f min"):format(harm.count, (harm.until_ms - now_ms) / 60000) end
  for _, change in ipairs(spec.changes) do
    local now = env.read(change.name)
    if now.stable ~= change.from then return ("'%s' is %s by now, not %s"):format(change.name, tostring(now.stable), tostring(change.from)) end
  end
end

--- Begins a trial. Returns it; or nil and why not.
function desk:start(spec, now_ms, env)
  local why = self:refuses(spec, now_ms, env)
  if why then return nil, why end
  spec.id = ("trial-%d"):format(self.next_id)
  self.next_id = self.next_id + 1
  local one = trial.new(spec)
  one.since_ms, one.created_ms = now_ms, now_ms
  local noted, trouble = env.note(one, nil, "PRECHECK", spec.reason)
  if not noted then return nil, "the journal cannot be written: " .. tostring(trouble) end
  self.running[#self.running + 1] = one
  return one
end

local function settle(self, one, now_ms)
  local reversed = one.phase ~= "VERIFIED" and one.touched
  for _, name in ipairs(targets(one)) do
    if one.touched then self.rested[name] = now_ms + self.options.cooldown_s * 1000 end
    if reversed and one.phase ~= "SUPERSEDED" then
      local list = self.reversals[name] or {}
      list[#list + 1] = now_ms
      while #list > 10 do table.remove(list, 1) end
      self.reversals[name] = list
    end
  end
  local key = key_of(one)
  if one.phase == "ROLLED_BACK" then
    local harm = self.harms[key] or { count = 0 }
    harm.count = harm.count + 1
    harm.until_ms = now_ms + math.min(HARM_MOST_MS, HARM_MS * 2 ^ (harm.count - 1))
    self.harms[key] = harm
  elseif one.phase == "VERIFIED" then
    self.harms[key] = nil
  end
end

--- Goes on with all of them, and renews the lease. Some times a second.
function desk:tick(now_ms, env)
  if self.frozen then
    for _, one in ipairs(self.running) do one:stop(now_ms, "ABORTED", "trials are frozen: " .. self.frozen.reason, env) end
  end
  local still = {}
  for _, one in ipairs(self.running) do
    local phase = one:tick(now_ms, env)
    if trial.ended[phase] then
      settle(self, one, now_ms)
      table.insert(self.ended, 1, one)
      self.ended[ENDED_KEPT + 1] = nil
      self.options.on_end(one)
    else
      still[#still + 1] = one
    end
  end
  self.running = still
  env.renew(#still > 0)
end

--- Takes back a running trial.
function desk:stop(id, phase, why, now_ms, env)
  for _, one in ipairs(self.running) do
    if one.id == id then
      one:stop(now_ms, phase, why, env)
      return one
    end
  end
end

function desk:freeze(reason, by) self.frozen = { reason = reason, by = by } end
function desk:resume() self.frozen = nil end

function desk:find(id)
  for _, list in ipairs { self.running, self.ended } do
    for _, one in ipairs(list) do
      if one.id == id then return one end
    end
  end
end

--- Whether a verdict allows another try, with a horizon twice as long: what could not be told may be told in more time.
function M.again(one) return one.phase == "INCONCLUSIVE" and (one.try or 1) <= RETRIES end

function desk:dump()
  local running, ended = {}, {}
  for i, one in ipairs(self.running) do running[i] = one:dump() end
  for i, one in ipairs(self.ended) do ended[i] = one:dump() end
  return { running = running, ended = ended, next_id = self.next_id, rested = self.rested, reversals = self.reversals, harms = self.harms, frozen = self.frozen }
end

function desk:restore(dump)
  for _, name in ipairs { "next_id", "rested", "reversals", "harms", "frozen" } do
    if dump[name] ~= nil then self[name] = dump[name] end
  end
  for _, one in ipairs(dump.running or {}) do self.running[#self.running + 1] = trial.restore(one) end
  for _, one in ipairs(dump.ended or {}) do self.ended[#self.ended + 1] = trial.restore(one) end
end

return M
