--- A policy over what was: how often it would have fired. Pure: the history is given.
--
-- A step of the history is one look, so an alert shorter than a step is not seen. What the history does not hold (pools,
-- the engine, issues, functions of such signals) is told as not replayed.
-- SPDX-License-Identifier: MIT

local _, require = ...

local alerts = require "perilune.alerts"
local burn = require "perilune.alerts.burn"
local machine = require "perilune.alerts.machine"

local M = {}

local SPANS_SHOWN = 50

--- One policy on one thing. `steps` is a list of { at (s), requests, signal = value } or false where there is none.
-- Returns { fired, flaps, pending, firing_s, spans = { { from, to } } }.
function M.run(policy, steps, value_of, step_s, flap)
  local e, out = machine.new(), { fired = 0, flaps = 0, pending = 0, firing_s = 0, spans = {} }
  for _, step in ipairs(steps) do
    local value
    if not step.empty then value = value_of(step) end
    local what, flaps = machine.step(policy, e, value, step.at, flap)
    if what == "firing" then
      out.fired = out.fired + 1
      if out.fired <= SPANS_SHOWN then out.spans[out.fired] = { from = step.at } end
    elseif what == "resolved" and out.spans[out.fired] then
      out.spans[out.fired].to = step.at
    elseif what == "pending" then
      out.pending = out.pending + 1
    end
    if flaps == "flapping" then out.flaps = out.flaps + 1 end
    if e.state == "firing" then out.firing_s = out.firing_s + step_s end
  end
  return out
end

--- Columns of a history (watch.series) as steps, with those that it leaves out as empty ones.
function M.steps(columns, from, to, step_s, null)
  local out, at = {}, {}
  for i, ms in ipairs(columns.at_ms) do at[math.floor(ms / 1000 / step_s)] = i end
  for slot = math.floor(from / step_s), math.ceil(to / step_s) - 1 do
    local step, i = { at = (slot + 1) * step_s, empty = at[slot] == nil }, at[slot]
    for name, column in pairs(columns) do
      if i and name ~= "at_ms" and column[i] ~= null then step[name] = column[i] end
    end
    out[#out + 1] = step
  end
  return out
end

-- The first signal that a policy's function asks for and `columns` has not. What it asks for behind that is not known.
local function asks_for(policy, columns, signals)
  local missing
  local asked = setmetatable({}, { __index = function(_, name)
    if signals[name] and not columns[name] then missing = missing or name end
    return signals[name] and 0 or nil
  end })
  pcall(policy.value, asked)
  return missing
end

--- Why a policy cannot be replayed, or nil. `columns` are those of the history, `signals` those of the policy's kind of thing.
function M.lacks(policy, columns, signals)
  if policy.on == "slo" then return nil end
  if policy.on ~= "route" and policy.on ~= "host" then return ("the history is of routes and the host, not of kind '%s'"):format(policy.on) end
  local missing = policy.signal and not columns[policy.signal] and policy.signal or policy.value and asks_for(policy, columns, signals)
  if missing then return ("the history does not hold '%s' of a %s"):format(missing, policy.on) end
end

--- How a policy reads its value from a step, as it does from a thing.
function M.reader(policy)
  return function(step)
    if policy.min_events > 0 and (step.requests or 0) < policy.min_events then return nil end
    if policy.signal then return step[policy.signal] end
    local ok, value = pcall(policy.value, step)
    return ok and type(value) == "number" and value == value and value or nil
  end
end

--- The same of a policy of an objective; the steps are sums over its routes.
function M.burn_reader(policy)
  local counts = burn.new()
  return function(step)
    counts:add(step.requests or 0, (policy.labels.sli == "latency" and step.slow or step.errors) or 0, step.at)
    return alerts.burn_value(policy, counts, step.at)
  end
end

--- Steps of several routes as one.
function M.sum(lists)
  local out
  for _, steps in ipairs(lists) do
    if not out then
      out = {}
      for i, step in ipairs(steps) do out[i] = { at = step.at, empty = false, requests = 0, errors = 0, slow = 0 } end
    end
    for i, step in ipairs(steps) do
      for _, name in ipairs { "requests", "errors", "slow" } do out[i][name] = out[i][name] + (step[name] or 0) end
    end
  end
  return out or {}
end

local function times(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

--- "would have fired 7 times, 2 flaps".
function M.words(total) return ("would have fired %s, %s"):format(times(total.fired, "time"), times(total.flaps, "flap")) end

return M
