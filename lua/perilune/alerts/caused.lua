--- Alerts that a trial has caused: while its change is being taken back they disturb nobody, and are counted.
--
-- A guard lets go of a harmful change within seconds; what is measured over a window goes on for a while. So an alert that
-- began with the trial or later, on what the trial touched, is held back for RECOVERY_S after the end. One that is still
-- there then was not cured by taking the change back, and is told as any other.
-- SPDX-License-Identifier: MIT

local _, require = ...

local labels = require "perilune.alerts.labels"

local M = {}

local RECOVERY_S = 60

-- What says how requests fare; a full disk or a refused reload is no trial's doing.
local function may_be(set) return set.route or set.slo or set.pool or set.issue end

local function touches(routes, set)
  if not routes or not set.route then return true end
  for _, name in ipairs(routes) do
    if name == (set.method and set.method .. " " .. set.route or set.route) or labels.glob(set.route, name:match "^%S+ (.*)$" or name) then return true end
  end
  return false
end

--- The trial that an alert of these labels, there since `since` (unix time in s), is of; or nil. `taken_back` is a list of
-- { id, routes (names, nil: all), began_s, ended_s }.
function M.by(taken_back, set, since, now)
  if not since or not may_be(set) then return nil end
  for _, one in ipairs(taken_back) do
    if since >= one.began_s and now < one.ended_s + RECOVERY_S and touches(one.routes, set) then return one end
  end
end

--- The trials whose alerts may still come.
function M.current(taken_back, now)
  local out = {}
  for _, one in ipairs(taken_back) do
    if now < one.ended_s + RECOVERY_S then out[#out + 1] = one end
  end
  return out
end

return M
