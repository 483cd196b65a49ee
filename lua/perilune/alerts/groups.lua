--- From alerts that fire to notifications: who is told, together with what, when, and how often. Pure: the time is given.
--
-- Alerts of a receiver that share the labels of group_by are one group. It is told of group_wait after it began, then
-- at most every group_interval when something is new or has ended, and every repeat_interval when nothing has. All times
-- are kept over a restart, so that a group neither waits anew nor is told of at once (Alertmanager's #4064).
--
-- What is inhibited or silenced is left out. What was told as firing is told as resolved, also from under a silence.
-- SPDX-License-Identifier: MIT

local _, require = ...

local labels = require "perilune.alerts.labels"

local M = {}

local groups = {}
groups.__index = groups

--- `routes` as policy.compile() gives them.
function M.new(routes, kept) return setmetatable({ routes = routes, list = kept or {} }, groups) end

--- The routes that an alert of these labels takes.
function groups:routes_of(set)
  local out = {}
  for _, route in ipairs(self.routes) do
    if labels.matches(route.match, set) then
      out[#out + 1] = route
      if not route.continue then break end
    end
  end
  return out
end

local function key_of(route, set)
  return route.receiver .. "|" .. labels.text(labels.pick(set, route.grouping.group_by)) .. "|" .. table.concat(route.grouping.group_by, ",")
end

--- An alert fires: { id, labels, annotations, starts_at, flapping }. Also whenever it has changed.
function groups:fires(alert, now)
  for _, route in ipairs(self:routes_of(alert.labels)) do
    local key = key_of(route, alert.labels)
    local group = self.list[key]
    if not group then
      group = { key = key, receiver = route.receiver, labels = labels.pick(alert.labels, route.grouping.group_by), created_at = now, alerts = {}, told = {} }
      self.list[key] = group
    end
    group.timing = route.grouping
    group.alerts[alert.id] = alert
  end
end

--- It fires no more.
function groups:ends(id, now)
  for _, group in pairs(self.list) do
    local alert = group.alerts[id]
    if alert then
      alert.ends_at, alert.flapping = now, nil
    end
  end
end

local function timing_of(self, group)
  if not group.timing then -- kept from before: by the routes of now
    for _, alert in pairs(group.alerts) do
      for _, route in ipairs(self:routes_of(alert.labels)) do
        if route.receiver == group.receiver then group.timing = route.grouping end
      end
    end
    group.timing = group.timing or self.routes[#self.routes].grouping
  end
  return group.timing
end

local function sorted(set)
  local list = {}
  for _, one in pairs(set) do list[#list + 1] = one end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

-- What one group has to say now, or nil.
local function flush(group, now, muted, repeat_s, refresh)
  local says, reason, fires = {}, nil, false
  for _, alert in ipairs(sorted(group.alerts)) do
    local told = group.told[alert.id]
    if alert.ends_at then
      if told then
        says[#says + 1], reason = { alert = alert, status = "resolved" }, reason or "resolved"
      end
    elseif not muted(alert) then
      local state = alert.flapping and "flapping" or "firing"
      fires = true
      refresh(alert)
      says[#says + 1] = { alert = alert, status = "firing" }
      if told ~= state then reason = state == "flapping" and "flapping" or told == "flapping" and reason or "firing" end
    end
  end
  if not reason and fires and group.told_at and now - group.told_at >= repeat_s then reason = "repeat" end
  return reason and says, reason
end

-- What has been said is remembered, what has ended forgotten.
local function settle(group, says, now)
  for _, one in ipairs(says or {}) do
    if one.status == "firing" then group.told[one.alert.id] = one.alert.flapping and "flapping" or "firing" end
  end
  for id, alert in pairs(group.alerts) do
    if alert.ends_at then group.alerts[id], group.told[id] = nil, nil end
  end
  if says then group.told_at = now end
  group.flushed_at = now
end

--- What is due: a list of { receiver, key, labels, reason, alerts = { { status, alert } } }. `muted(alert)` tells whether one
-- is inhibited or silenced, `refresh(alert)` brings what it says up to date.
function groups:tick(now, muted, refresh)
  local out = {}
  for key, group in pairs(self.list) do
    local timing = timing_of(self, group)
    local due = group.flushed_at and group.flushed_at + timing.group_interval_s or group.created_at + timing.group_wait_s
    if now >= due then
      local says, reason = flush(group, now, muted, timing.repeat_interval_s, refresh)
      if says then out[#out + 1] = { receiver = group.receiver, key = key, labels = group.labels, reason = reason, alerts = says } end
      settle(group, says, now)
      if next(group.alerts) == nil then self.list[key] = nil end
    end
  end
  table.sort(out, function(a, b) return a.key < b.key end)
  return out
end

--- What must outlive a restart.
function groups:dump()
  local out = {}
  for key, g in pairs(self.list) do
    out[key] = { key = g.key, receiver = g.receiver, labels = g.labels, created_at = g.created_at, flushed_at = g.flushed_at, told_at = g.told_at,
      alerts = g.alerts, told = g.told }
  end
  return out
end

return M
