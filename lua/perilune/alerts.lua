--- Alerts: what is measured > policies > alerts that fire > groups > notifications on their way.
--
--     things of a tick > one machine for each policy and thing (perilune.alerts.machine)
--                      > groups by receiver and labels          (perilune.alerts.groups)
--                      > queues of endpoints                    (perilune.alerts.outbox)
--
-- Who an alert is, is its labels: name and severity of the policy, its labels, and those of the thing. Whatever else of a
-- policy is changed, the alert goes on from where it was; one whose policy or labels are gone is resolved.
--
-- This module keeps the book. It reads no clock, no file and sends nothing: the time and what is measured are given
-- (perilune.alerts.measure), what is queued is sent by others (perilune.alerts.sender).
-- SPDX-License-Identifier: MIT

local core, require = ...

local asker = require "perilune.asker"
local burn = require "perilune.alerts.burn"
local caused = require "perilune.alerts.caused"
local groups = require "perilune.alerts.groups"
local labels = require "perilune.alerts.labels"
local machine = require "perilune.alerts.machine"
local outbox = require "perilune.alerts.outbox"

local M = { VERSION = 1 } -- of what dump() gives

local RESOLVED_KEPT, EXPIRED_KEPT = 200, 100
local LOW_RPS, PAGE_EVENTS, TICKET_EVENTS = 1, 10, 3

local book = {}
book.__index = book

--- `config` is what policy.compile() gives. `settings` is read at each use: { grace_s, series_max, flap = { check_s, enter, leave },
-- resend_s, outbox = { most, age_s, retry_s, retry_most_s } }. `on_event(kind, what)` hears of "pending", "firing", "resolved",
-- "flapping", "steady" (an alert), "failed" (of a policy's function), "lost" (a notification), "full".
function M.new(config, settings, on_event)
  local self = setmetatable({
    config = config, settings = settings, on_event = on_event or function() end,
    alerts = {}, count = 0, resolved = {}, silences = {}, next_silence = 1, burns = {}, resend_at = {}, failing = {}, asker = asker.new(),
    dirty = false, grace_until = 0, taken_back = {}, held_back = {}, held_back_total = 0,
  }, book)
  self.by_kind = {}
  for _, policy in ipairs(config.policies) do
    self.alerts[policy.id] = {}
    self.by_kind[policy.on] = self.by_kind[policy.on] or {}
    table.insert(self.by_kind[policy.on], policy)
  end
  for key in pairs(config.slis) do self.burns[key] = burn.new() end
  self:use(groups.new(config.routes), outbox.new(settings.outbox, function(...) self:lost(...) end))
  return self
end

function book:use(g, o)
  self.groups, self.outbox = g, o
end

function book:lost(endpoint, entry, why)
  self.dirty = true
  self.on_event("lost", { endpoint = endpoint, entry = entry, why = why })
end

-- ---- what an alert says ----

local function number(value)
  local size = math.abs(value)
  return ((size >= 100 and "%.0f" or size >= 1 and "%.2f" or "%.3g"):format(value):gsub("(%.%d-)0+$", "%1"):gsub("%.$", ""))
end

--- A value in words, by its unit.
function M.show(value, unit)
  if not value then return "no data" end
  if unit == "ratio" then return number(value * 100) .. " %" end
  if unit == "ms" and value >= 1000 then return number(value / 1000) .. " s" end
  return number(value) .. (unit ~= "" and " " .. unit or "")
end

local function said(policy, e)
  local words = { value = M.show(e.value, policy.unit), threshold = M.show(policy.enter, policy.unit), ["for"] = number(policy.for_s) .. " s" }
  local out = {}
  for name, text in pairs(policy.annotations) do
    out[name] = text:gsub("{{%s*([%w_.]+)%s*}}", function(what)
      local label = what:match "^labels%.(.*)$"
      if label then return e.labels[label] or "" end
      local extra = what:match "^thing%.(.*)$"
      if extra then return e.about and tostring(e.about[extra] or "") or "" end
      return words[what]
    end)
  end
  if e.no_data then out.no_data = "there is no data" end
  return out
end

local function told(policy, e)
  return { id = e.id, labels = e.labels, annotations = said(policy, e), starts_at = e.fired_at or e.active_at, since = e.active_at, flapping = e.flapping and true or nil }
end

-- ---- one look ----

local function labels_of(policy, thing)
  local set = {}
  for name, value in pairs(thing.labels or {}) do set[name] = value end
  for name, value in pairs(policy.labels) do set[name] = value end
  return set
end

function book:value(policy, thing)
  if policy.min_events > 0 and (thing.requests or 0) < policy.min_events then return nil end
  if not policy.value then return thing[policy.signal] end
  local ok, value = self.asker:ask(policy.id, policy.value, thing)
  if value == nil or ok and type(value) == "number" then return value == value and value or nil end
  if not self.failing[policy.id] then
    self.failing[policy.id] = tostring(ok and "it returned a " .. type(value) .. ", not a number" or value)
    self.on_event("failed", { name = policy.name, file = policy.file, message = self.failing[policy.id] })
  end
end

function book:begin(policy, thing)
  if self.count >= self.settings.series_max then
    if not self.is_full then self.on_event("full", { most = self.settings.series_max }) end
    self.is_full = true
    return
  end
  local e = machine.new()
  e.labels, e.thing = labels_of(policy, thing), thing.name
  e.id = labels.fingerprint(e.labels)
  self.alerts[policy.id][thing.name] = e
  self.count, self.is_full = self.count + 1, false
  return e
end

function book:forget(policy_id, name)
  if self.alerts[policy_id][name] then
    self.alerts[policy_id][name] = nil
    self.count = self.count - 1
  end
end

function book:keep_resolved(policy, e, now)
  table.insert(self.resolved, 1, { id = e.id, labels = e.labels, annotations = said(policy, e), value = e.value, active_at = e.active_at, fired_at = e.fired_at,
    ended_at = now, policy = policy.name, file = policy.file, unit = policy.unit })
  self.resolved[RESOLVED_KEPT + 1] = nil
end

-- What a step of the machine means for others.
function book:happened(policy, e, what, flaps, now)
  if flaps then
    self.dirty = true
    self.on_event(flaps, { policy = policy, alert = e })
  end
  if what then
    self.dirty = true
    self.on_event(what, { policy = policy, alert = e })
    if what == "resolved" then self:keep_resolved(policy, e, now) end
  end
  -- One that flaps is told of as firing until it is steady.
  local is_up = e.state == "firing" or e.flapping ~= nil
  if is_up and (what or flaps) then
    self.groups:fires(told(policy, e), now)
    e.is_told = true
    self:changed(e.id)
  elseif not is_up and e.is_told then
    self.groups:ends(e.id, now)
    e.is_told = nil
    self:changed(e.id, { status = "resolved", alert = told(policy, e) }, now)
  end
end

-- A look at one thing for one policy. Most are inactive and stay so: that is decided first.
function book:look(policy, thing, now)
  local value = self:value(policy, thing)
  local e = self.alerts[policy.id][thing.name]
  if not e then
    if value == nil and policy.no_data ~= "alert" then return end
    if value ~= nil and not machine.holds(policy, false, value) then return end
    e = self:begin(policy, thing)
    if not e then return end
  end
  if value == nil and now < self.grace_until then return end
  e.about = thing
  local what, flaps = machine.step(policy, e, value, now, self.settings.flap)
  self:happened(policy, e, what, flaps, now)
  if machine.forgettable(e) then self:forget(policy.id, thing.name) end
end

-- What was there and is not among the things any more has no data.
function book:look_for_gone(policy, seen, now)
  if now < self.grace_until then return end
  for name, e in pairs(self.alerts[policy.id]) do
    if not seen[name] then
      local what, flaps = machine.step(policy, e, nil, now, self.settings.flap)
      self:happened(policy, e, what, flaps, now)
      if machine.forgettable(e) then self:forget(policy.id, name) end
    end
  end
end

local function meant(policy, thing)
  return not policy.match or labels.matches(policy.match, thing.labels or {})
end

--- Events of the indicators since the call before: { name, route, requests, errors, slow = { n by bound } } each.
function book:count_events(routes, now)
  for key, sli in pairs(self.config.slis) do
    local total, bad = 0, 0
    for _, r in ipairs(routes) do
      if labels.glob(sli.route, r.route) or labels.glob(sli.route, r.name) then
        total = total + r.requests
        bad = bad + (sli.bound and r.slow[sli.bound] or not sli.bound and r.errors or 0)
      end
    end
    self.burns[key]:add(total, bad, now)
  end
end

--- The value of a policy that an objective has made.
function M.burn_value(policy, counts, now)
  if policy.burn == "low" then return counts:low(policy.slo.low_traffic_rps or LOW_RPS, now) end
  local least = policy.burn == "page" and (policy.slo.page_events or PAGE_EVENTS) or policy.slo.ticket_events or TICKET_EVENTS
  return (counts:excess(burn[policy.burn], policy.objective, least, now))
end

function book:look_at_burns(now)
  for _, policy in ipairs(self.by_kind.slo or {}) do
    local thing = { name = policy.sli, labels = {}, value = M.burn_value(policy, self.burns[policy.sli], now) }
    policy.signal = "value"
    self:look(policy, thing, now)
  end
end

--- One look at all. `things` is { route = list, host = list, pool = list, engine = list, issue = list } of
-- { name, labels, requests, signal = value }; `events` what count_events() takes. `pause()` is called where the book
-- is whole, for what takes long.
function book:tick(things, events, now, pause)
  self.asker:begin()
  self:count_events(events, now)
  for kind, policies in pairs(self.by_kind) do
    if kind ~= "slo" then
      local list = things[kind] or {}
      for _, policy in ipairs(policies) do
        local seen = {}
        for _, thing in ipairs(list) do
          if not policy.match or meant(policy, thing) then
            seen[thing.name] = true
            self:look(policy, thing, now)
          end
        end
        if next(self.alerts[policy.id]) then self:look_for_gone(policy, seen, now) end
        if pause then pause() end
      end
    end
  end
  self:look_at_burns(now)
  self:notify(now, pause)
end

-- ---- who is told ----

--- Each alert that is not forgotten, with its policy.
function book:each(fn)
  for _, policy in ipairs(self.config.policies) do
    for _, e in pairs(self.alerts[policy.id]) do fn(e, policy) end
  end
end

--- The silence that an alert of these labels is under, or nil.
function book:silenced(set, now)
  for _, silence in ipairs(self.silences) do
    if now >= silence.starts_at and now < silence.ends_at and labels.matches(silence.matchers, set) then return silence end
  end
end

function book:firing()
  local list = {}
  self:each(function(e) if e.state == "firing" then list[#list + 1] = e end end)
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

-- For endpoints that are told of each alert at once: who has changed.
function book:changed(id, ended)
  self.changes = self.changes or {}
  self.changes[id] = ended or true
end

function book:endpoints_of(receiver) return self.config.receivers[receiver] and self.config.receivers[receiver].endpoints or {} end

local function only_firing(notification)
  local alerts = {}
  for _, one in ipairs(notification.alerts) do
    if one.status == "firing" then alerts[#alerts + 1] = one end
  end
  if #alerts == 0 then return nil end
  return { receiver = notification.receiver, key = notification.key, labels = notification.labels, reason = notification.reason, alerts = alerts }
end

-- What is queued is as it was then.
local function frozen(notification) return core.json.decode(core.json.encode(notification)) end

function book:queue_groups(now, muted)
  local by_id
  local function refresh(alert)
    if not by_id then
      by_id = {}
      self:each(function(e, policy) by_id[e.id] = { e, policy } end)
    end
    local at = by_id[alert.id]
    if at and at[1].about then alert.annotations = said(at[2], at[1]) end
  end
  for _, n in ipairs(self.groups:tick(now, muted, refresh)) do
    self.dirty = true
    for _, endpoint in ipairs(self:endpoints_of(n.receiver)) do
      local fits = endpoint.send_resolved and n or only_firing(n)
      if endpoint.kind ~= "alertmanager" and fits then self.outbox:put(endpoint.id, frozen(fits), now) end
    end
  end
end

-- Alertmanager groups and waits by itself: it is told at once, and again, of all that fires.
function book:queue_direct(now, muted)
  local endpoints = {}
  for _, endpoint in ipairs(self.config.endpoints) do
    if endpoint.kind == "alertmanager" then endpoints[#endpoints + 1] = endpoint end
  end
  local changes = self.changes or {}
  self.changes = nil
  if #endpoints == 0 then return end
  local all = {}
  self:each(function(e, policy)
    if e.is_told then
      local alert = told(policy, e)
      if not muted(alert) then all[#all + 1] = { status = "firing", alert = alert } end
    end
  end)
  for _, change in pairs(changes) do
    if change ~= true then all[#all + 1] = change end
  end
  table.sort(all, function(a, b) return a.alert.id < b.alert.id end)
  for _, endpoint in ipairs(endpoints) do
    local again, due = now >= (self.resend_at[endpoint.id] or 0), {}
    for _, one in ipairs(all) do
      local is_for = false
      for _, route in ipairs(self.groups:routes_of(one.alert.labels)) do is_for = is_for or route.receiver == endpoint.receiver end
      if one.status == "resolved" then one.alert.ends_at = one.alert.ends_at or now end
      if is_for and (again or changes[one.alert.id]) and (one.status == "firing" or endpoint.send_resolved) then due[#due + 1] = one end
    end
    if again then self.resend_at[endpoint.id] = now + self.settings.resend_s end
    if #due > 0 then
      self.dirty = true
      self.outbox:merge(endpoint.id, frozen { receiver = endpoint.receiver, key = "", labels = {}, reason = "state", alerts = due }, now)
    end
  end
end

--- Which trials were just taken back, as perilune.alerts.caused has them: what they have caused is not told.
function book:know_taken_back(list, now)
  self.taken_back = caused.current(list, now)
  if #self.taken_back == 0 then self.held_back = {} end
end

-- The trial that an alert is of, which is counted once.
function book:caused_by(id, set, since, now)
  local one = caused.by(self.taken_back, set, since, now)
  if one and self.held_back[id] ~= one.id then
    self.held_back[id], self.held_back_total, self.dirty = one.id, self.held_back_total + 1, true
  end
  return one
end

function book:notify(now, pause)
  local inhibited = labels.inhibition(self.config.inhibit, #self.config.inhibit > 0 and self:firing() or {})
  local function muted(alert)
    if pause then pause() end
    return self:silenced(alert.labels, now) ~= nil or inhibited(alert.id, alert.labels) ~= nil
      or self:caused_by(alert.id, alert.labels, alert.since, now) ~= nil
  end
  self:queue_groups(now, muted)
  self:queue_direct(now, muted)
end

-- ---- silences ----

--- Adds one: { matchers, ttl_s, starts_at, author, comment }.
function book:silence(asked, now)
  local starts = math.max(now, asked.starts_at or now)
  local silence = { id = ("silence-%d"):format(self.next_silence), matchers = asked.matchers, starts_at = starts, ends_at = starts + asked.ttl_s,
    created_at = now, author = asked.author, comment = asked.comment }
  self.next_silence = self.next_silence + 1
  table.insert(self.silences, 1, silence)
  local past = 0
  for i = #self.silences, 1, -1 do
    if self.silences[i].ends_at <= now then past = past + 1 end
    if past > EXPIRED_KEPT and self.silences[i].ends_at <= now then
      table.remove(self.silences, i)
      past = past - 1
    end
  end
  self.dirty = true
  return silence
end

function book:find_silence(id)
  for _, silence in ipairs(self.silences) do
    if silence.id == id then return silence end
  end
end

--- Ends one now.
function book:unsilence(silence, now)
  if silence.ends_at > now then
    silence.ends_at = now
    self.dirty = true
  end
end

-- ---- what is shown ----

--- All alerts: those that fire, are pending, and were, as { id, state, labels, ... }. `pause` as for tick().
function book:list(now, pause)
  local out, there, inhibited = {}, {}, labels.inhibition(self.config.inhibit, self:firing())
  self:each(function(e, policy)
    if e.state ~= "inactive" or e.flapping then there[#there + 1] = { e, policy } end
  end)
  for i, one in ipairs(there) do
    local e, policy = one[1], one[2]
    if pause then pause() end
    local silence, by = self:silenced(e.labels, now), inhibited(e.id, e.labels) or caused.by(self.taken_back, e.labels, e.active_at, now)
    out[i] = { id = e.id, state = e.state == "inactive" and "flapping" or e.state, labels = e.labels, annotations = said(policy, e), value = e.value,
      unit = policy.unit, since = e.active_at, fired_at = e.fired_at, policy = policy.name, file = policy.file, severity = policy.severity,
      silenced_by = silence and silence.id, inhibited_by = by and by.id, flapping = e.flapping ~= nil, no_data = e.no_data or nil, on = policy.on,
      flap_score = machine.flap_score(e.changes) }
  end
  local rank = { firing = 1, flapping = 2, pending = 3 }
  table.sort(out, function(a, b)
    if a.state ~= b.state then return rank[a.state] < rank[b.state] end
    if a.since ~= b.since then return (a.since or 0) > (b.since or 0) end
    return a.id < b.id
  end)
  for _, e in ipairs(self.resolved) do
    out[#out + 1] = { id = e.id, state = "resolved", labels = e.labels, annotations = e.annotations, value = e.value, unit = e.unit, since = e.active_at,
      fired_at = e.fired_at, ended_at = e.ended_at, policy = e.policy, file = e.file, severity = e.labels.severity, flapping = false }
  end
  return out
end

--- For /metrics: { alerts = { { severity, state, count } }, endpoints = { { receiver, kind, sent, failed, lost, waiting } } }.
function book:figures()
  local counts, out = {}, { alerts = {}, endpoints = {}, held_back = self.held_back_total }
  self:each(function(e, policy)
    if e.state ~= "inactive" then
      local key = policy.severity .. " " .. e.state
      counts[key] = (counts[key] or 0) + 1
    end
  end)
  for _, severity in ipairs { "critical", "warning", "info" } do
    for _, state in ipairs { "firing", "pending" } do
      out.alerts[#out.alerts + 1] = { severity = severity, state = state, count = counts[severity .. " " .. state] or 0 }
    end
  end
  for _, endpoint in ipairs(self.config.endpoints) do
    local n = self.outbox.counts[endpoint.id] or { sent = 0, failed = 0, lost = 0 }
    out.endpoints[#out.endpoints + 1] = { receiver = endpoint.receiver, kind = endpoint.kind, sent = n.sent, failed = n.failed, lost = n.lost,
      waiting = self.outbox:waiting(endpoint.id) }
  end
  return out
end

-- ---- over a restart ----

--- What must outlive a reload and a restart, as plain values; burns() apart, because it is large.
function book:dump(now)
  local alerts = {}
  for _, policy in ipairs(self.config.policies) do
    for name, e in pairs(self.alerts[policy.id]) do
      local kept = { policy = policy.id, thing = name }
      for field, value in pairs(e) do
        if field ~= "about" then kept[field] = value end
      end
      alerts[#alerts + 1] = kept
    end
  end
  return { version = M.VERSION, saved_at = now, alerts = alerts, resolved = self.resolved, silences = self.silences, next_silence = self.next_silence,
    groups = self.groups:dump(), outbox = self.outbox:dump(), resend_at = self.resend_at, held_back = self.held_back, held_back_total = self.held_back_total }
end

function book:dump_burns()
  local out = {}
  for key, counts in pairs(self.burns) do out[key] = counts:dump() end
  return out
end

-- One alert of a dump, if its policy still makes the same one.
function book:take_back(kept, away_s)
  local policy = self.config.by_id[kept.policy]
  if not policy then return false end
  local e = machine.new()
  for field, value in pairs(kept) do
    if field ~= "policy" then e[field] = value end
  end
  if policy.match and not labels.matches(policy.match, e.labels) then return false end
  machine.resume(e, away_s)
  self.alerts[policy.id][kept.thing] = e
  self.count = self.count + 1
  return true
end

--- Goes on from a dump, read at `now`. `restarted`: nothing was measured meanwhile.
function book:restore(dump, now, restarted)
  local away_s = restarted and math.max(0, now - (dump.saved_at or now)) or 0
  if restarted then self.grace_until = now + self.settings.grace_s end
  self.resolved, self.silences, self.next_silence = dump.resolved or {}, dump.silences or {}, dump.next_silence or 1
  self.resend_at = dump.resend_at or {}
  self.held_back, self.held_back_total = dump.held_back or {}, dump.held_back_total or 0
  self:use(groups.new(self.config.routes, dump.groups), outbox.new(self.settings.outbox, function(...) self:lost(...) end, dump.outbox))
  for _, queue in pairs(self.outbox.queues) do
    for _, entry in ipairs(queue) do entry.sending = nil end
  end
  for _, kept in ipairs(dump.alerts or {}) do
    if not self:take_back(kept, away_s) and kept.is_told then
      self.groups:ends(kept.id, now)
      self:changed(kept.id, { status = "resolved", alert = { id = kept.id, labels = kept.labels, annotations = {}, starts_at = kept.fired_at } })
      self.dirty = true
    end
  end
  self.outbox:only(self.config.endpoints)
end

function book:restore_burns(dump)
  for key in pairs(self.config.slis) do
    if dump[key] then self.burns[key] = burn.restore(dump[key]) end
  end
end

return M
