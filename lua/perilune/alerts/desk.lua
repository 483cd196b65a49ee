--- The book of alerts inside the engine: looks, keeps on the disk, and sends.
--
-- What must not be lost is in <state>/alerts.json, written before anything is sent of it, and sums of error budgets are in
-- <state>/alerts-budgets.json, every minute. Over a reload both are handed on in memory. The generation whose turn came last
-- owns the book; what an older one is just sending is told to the owner, so that it is not sent twice.
-- SPDX-License-Identifier: MIT

local core, require = ...

local alerts = require "perilune.alerts"
local links = require "perilune.links"
local measure = require "perilune.alerts.measure"
local policy = require "perilune.alerts.policy"
local sender = require "perilune.alerts.sender"

local M = {}

local STATE, BUDGETS, JOURNAL = "alerts", "alerts-budgets", "alerts"
local OWNER, SENDING, TAKEN = "alerts.owner", "alerts.sending", "alerts.taken"
local BUDGETS_S = 60
local TURN_S, CLOCK_MS = 0.005, 5000
local EVENTS_A_LINE, AT_ONCE = 100, 20

local desk = {}
desk.__index = desk

-- Seconds since 1970, with fractions: the same for all who keep the book one after the other.
local function now() return core.unix_now() end
M.now = now

local function settings_of(into)
  local s = {}
  for _, one in ipairs(core.stats.settings()) do s[one.name] = one.value end
  into.interval_s, into.window_s, into.grace_s = s["alerts.interval_s"], s["alerts.window_s"], s["alerts.grace_s"]
  into.series_max, into.resend_s, into.timeout_ms = s["alerts.series_max"], s["alerts.resend_s"], s["alerts.timeout_ms"]
  into.flap.check_s, into.flap.enter, into.flap.leave = s["alerts.flap_check_s"], s["alerts.flap_enter"], s["alerts.flap_leave"]
  into.outbox.most, into.outbox.age_s = s["alerts.outbox"], s["alerts.outbox_s"]
  into.outbox.retry_s, into.outbox.retry_most_s = s["alerts.retry_ms"] / 1000, s["alerts.retry_most_ms"] / 1000
  return into
end

--- Reads the rules. In a check, where nothing is measured, that is all.
function M.open()
  local self = setmetatable({ config = policy.read(), settings = { flap = {}, outbox = {} }, events = {}, looked_at = 0, budgets_at = 0, after_ms = 0 }, desk)
  if core.watch then
    settings_of(self.settings)
    self.book = alerts.new(self.config, self.settings, function(kind, what) self:heard(kind, what) end)
  end
  return self
end

-- ---- what happened, for log and journal ----

function desk:heard(kind, what)
  if kind == "failed" then
    core.log("error", ("the policy %s of %s fails: %s"):format(what.name, what.file, what.message))
  elseif kind == "full" then
    core.log("error", ("there are %d alerts, and no further one is begun (alerts.series_max)"):format(what.most))
  elseif kind == "lost" then
    core.log("error", ("a notification to %s is given up: %s"):format(what.endpoint, what.why))
    self.events[#self.events + 1] = { event = kind, endpoint = what.endpoint, why = what.why }
  else
    local e = what.alert
    self.events[#self.events + 1] = { event = kind, id = e.id, labels = e.labels, value = e.value }
  end
end

function desk:journal()
  local at = os.date "!%Y-%m-%dT%H:%M:%SZ"
  for first = 1, #self.events, EVENTS_A_LINE do
    local part = core.json.array()
    for i = first, math.min(#self.events, first + EVENTS_A_LINE - 1) do part[#part + 1] = self.events[i] end
    core.journal.append(JOURNAL, core.json.encode { at = at, events = part })
  end
  self.events = {}
end

-- ---- kept ----

local function keep(name, text)
  if not pcall(core.keep.put, name, text) then core.keep.put(name, nil) end -- more than it holds: the disk has it
end

local function write(name, value)
  local text = core.json.encode(value)
  keep(name, text)
  return core.files.write(name, text)
end

--- Keeps what has changed. What cannot be written is tried again at the next look, and is an alert of its own.
function desk:save()
  if not self.book.dirty or not self:is_ours() then return end
  local ok, why = write(STATE, self.book:dump(now()))
  if ok then
    self.book.dirty = false
  elseif why ~= self.trouble then
    core.log("error", "the state of alerts cannot be kept: " .. why)
  end
  self.trouble = why
  self:journal()
end

function desk:save_budgets(at)
  if at < self.budgets_at + BUDGETS_S then return end
  self.budgets_at = at
  local ok, why = write(BUDGETS, { saved_at = at, after_ms = self.after_ms, budgets = self.book:dump_burns() })
  if not ok then self.trouble = why elseif not self.book.dirty then self.trouble = nil end
end

-- A text that cannot be read is put aside rather than believed.
local function decoded(name, text)
  local ok, value = pcall(core.json.decode, text or "")
  if ok and type(value) == "table" then return value end
  if text and text ~= "" then
    core.log("error", ("%s.json in the state folder is damaged: it is kept as %s-damaged.json, and alerts begin anew"):format(name, name))
    core.files.write(name .. "-damaged", text)
  end
end

local function kept(name)
  local text = core.keep.get(name)
  if text then return decoded(name, text), false end
  return decoded(name, core.files.read(name)), true
end

local function restore(self)
  local at = now()
  local state, restarted = kept(STATE)
  if state and state.version ~= alerts.VERSION then error(("it is of version %s, not %d"):format(tostring(state.version), alerts.VERSION), 0) end
  if state then self.book:restore(state, at, restarted) end
  local budgets = kept(BUDGETS)
  self.after_ms = budgets and budgets.after_ms or 0
  if budgets then self.book:restore_burns(budgets.budgets or {}) end
end

--- The first turn of this generation: the book is ours from now on.
function desk:ready()
  if self.owner then return end
  self.owner = tostring((tonumber(core.keep.get(OWNER) or 0)) + 1)
  core.keep.put(OWNER, self.owner)
  local ok, why = pcall(restore, self)
  if not ok then core.log("error", "the kept state of alerts cannot be used, they begin anew: " .. tostring(why)) end
end

function desk:is_ours() return core.keep.get(OWNER) == self.owner end

-- ---- looking ----

-- Lets others have a turn after so much work in one go.
function M.pauses()
  local since = os.clock()
  return function()
    if os.clock() - since < TURN_S then return end
    core.sleep(0)
    since = os.clock()
  end
end

-- For others to know which issues are felt.
local function tell(book)
  local list = {}
  book:each(function(e, policy)
    if e.state == "firing" or e.state == "pending" then list[#list + 1] = { id = e.id, labels = e.labels, on = policy.on } end
  end)
  table.sort(list, function(a, b) return a.id < b.id end)
  links.tell("alerts", list)
end

function desk:look(at)
  settings_of(self.settings)
  if self.after_ms > at * 1000 + CLOCK_MS then self.after_ms = at * 1000 end -- the clock was set back
  local events, to_ms = measure.events(self.after_ms, self.config.bounds)
  self.after_ms = to_ms
  self.book:know_taken_back(links.taken_back(), at)
  self.book:tick(measure.things(self.settings.window_s, self.trouble), events, at, M.pauses())
  if not self:is_ours() then return end
  tell(self.book)
  self:save()
  self:save_budgets(at)
end

--- For app:every(): looks when it is time to.
function desk:tick()
  self:ready()
  local at = now()
  if not self:is_ours() or (at >= self.looked_at and at < self.looked_at + self.settings.interval_s - 0.05) then return end
  self.looked_at = at
  local began = os.clock()
  self:look(at)
  local took = (os.clock() - began) * 1000
  self.cost = { looks = (self.cost and self.cost.looks or 0) + 1, last_ms = took, sum_ms = (self.cost and self.cost.sum_ms or 0) + took }
end

-- ---- sending ----

local function table_of(name) return core.json.decode(core.keep.get(name) or "{}") end

local function put_in(name, key, value)
  local all = table_of(name)
  all[key] = value
  core.keep.put(name, core.json.encode(all))
end

-- What an older generation has taken there since it lost the book.
function desk:take_word(endpoint)
  local taken = core.keep.get(TAKEN) and table_of(TAKEN)[endpoint.id]
  if not taken then return end
  put_in(TAKEN, endpoint.id, nil)
  for _, id in ipairs(taken) do
    if self.book.outbox:done(endpoint.id, id) then self.book.dirty = true end
  end
end

function desk:finished(endpoint, entry, ok, why, for_good, after_s)
  put_in(SENDING, endpoint.id, nil)
  if not self:is_ours() then
    if ok then
      local taken = table_of(TAKEN)[endpoint.id] or {}
      taken[#taken + 1] = entry.id
      put_in(TAKEN, endpoint.id, taken)
    end
    return
  end
  local box = self.book.outbox
  if ok then
    box:done(endpoint.id, entry.id)
  else
    if entry.attempts == 0 then core.log("warn", ("alerts: %s (%s) did not take a notification: %s"):format(endpoint.id, sender.where(endpoint), why)) end
    box:failed(endpoint.id, entry.id, why, now(), core.now() * 1e4 % 1, for_good, after_s)
  end
  self.book.dirty = true
  self:save()
end

--- Sends what is due to one endpoint. Each has a turn of its own, so that none waits for another.
function desk:deliver(endpoint)
  self:ready()
  if not self:is_ours() then return end
  self:take_word(endpoint)
  local timeout_ms = endpoint.timeout_ms or self.settings.timeout_ms
  for _ = 1, AT_ONCE do
    local entry = self.book.outbox:due(endpoint.id, now())
    local other = entry and core.keep.get(SENDING) and table_of(SENDING)[endpoint.id]
    if not entry or (other and other > now()) then return end
    self:save() -- before it is sent; where the disk is full, it is sent all the same
    put_in(SENDING, endpoint.id, now() + timeout_ms / 1000 + 1)
    entry.sending = true
    local function send()
      return sender.send(endpoint, entry.notification, { timeout_ms = timeout_ms, forget_at = now() + 4 * self.settings.resend_s,
        url = ("http://%s/api/v1/performance-optimization/"):format(core.control.address) })
    end
    local whole, ok, why, for_good, after_s = pcall(send)
    if not whole then ok, why, for_good = false, ok, true end -- it cannot be put into words: it never will
    self:finished(endpoint, entry, ok, tostring(why), for_good, after_s)
    if not self:is_ours() then return end
  end
end

-- ---- shared with /metrics and the dashboard ----

local current

--- The desk of this generation, for other files of it.
function M.set(one) current = one end

--- Figures for /metrics; nil while there are none.
function M.figures()
  if not current or not current.book then return nil end
  current:ready()
  return current.book:figures()
end

--- Every alert, those that fire first; nil while nothing is looked at.
function M.list()
  if not current or not current.book then return nil end
  current:ready()
  return current.book:list(now(), M.pauses())
end

return M
