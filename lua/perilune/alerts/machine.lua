--- One alert: from what is measured to inactive, pending, firing. Pure: the time is given.
--
--     inactive --holds--> pending --for so long--> firing --not for keep_firing_for--> inactive ("resolved")
--         ^---- not ---------'                        '-- holds again: as if nothing had been
--
-- Whether it holds has hysteresis: it begins beyond `enter` and ends when no longer beyond `exit`. Without data
-- `no_data` decides: "ok" as if it did not hold, "alert" as if it did, "keep" stops the clock.
--
-- An alert flaps when the share of its last 20 changes between 21 checks, weighted from 0.75 (the oldest) to 1.25 (the
-- newest), reaches flap_enter, and until it is below flap_leave (Nagios Core: Detection and handling of state flapping).
-- SPDX-License-Identifier: MIT

local M = {}

local CHANGES = 20

--- A new alert, which is inactive.
function M.new() return { state = "inactive", over = false, changes = {}, moved = false } end

local function beyond(policy, value, bound)
  if policy.direction == "below" then return value < bound end
  return value > bound
end

--- Whether the condition holds for a value, for one that was (`over`) or was not beyond it before.
function M.holds(policy, over, value)
  return beyond(policy, value, over and policy.exit or policy.enter)
end

--- 0 to 1: the weighted share of changes, the newest last in the list.
function M.flap_score(changes)
  local sum, n = 0, #changes
  for i = 1, n do
    local age = n - i
    if changes[i] == 1 then sum = sum + 1.25 - age * 0.5 / (CHANGES - 1) end
  end
  return sum / CHANGES
end

local function check_flaps(e, now, flap)
  e.check_at = e.check_at or now + flap.check_s
  local late = math.floor((now - e.check_at) / flap.check_s)
  if late > CHANGES then e.check_at = e.check_at + (late - CHANGES) * flap.check_s end
  while now >= e.check_at do
    e.changes[#e.changes + 1] = e.moved and 1 or 0
    if #e.changes > CHANGES then table.remove(e.changes, 1) end
    e.moved, e.check_at = false, e.check_at + flap.check_s
  end
  local score = M.flap_score(e.changes)
  if not e.flapping and score >= flap.enter then
    e.flapping = now
    return "flapping"
  elseif e.flapping and score < flap.leave then
    e.flapping = nil
    return "steady"
  end
end

local function move(policy, e, holds, now)
  if e.state == "inactive" then
    if not holds then return end
    e.active_at = now
    if policy.for_s > 0 then
      e.state = "pending"
      return "pending"
    end
    e.state, e.fired_at = "firing", now
    return "firing"
  elseif e.state == "pending" then
    if not holds then
      e.state, e.active_at = "inactive", nil
      return "dropped"
    end
    if now - e.active_at < policy.for_s then return end
    e.state, e.fired_at = "firing", now
    return "firing"
  end
  if holds then
    e.gone_at = nil
    return
  end
  e.gone_at = e.gone_at or now
  if now - e.gone_at < policy.keep_firing_s then return end
  e.state, e.ended_at, e.gone_at = "inactive", now, nil
  return "resolved"
end

--- One look. `value` nil: there is no data. `flap` is { check_s, enter, leave }. Returns what happened to the state
-- ("pending", "firing", "resolved", "dropped" or nil), and "flapping", "steady" or nil.
function M.step(policy, e, value, now, flap)
  local happened
  if value == nil then
    e.no_data = true
    if policy.no_data ~= "keep" then
      e.over = policy.no_data == "alert"
      happened = move(policy, e, e.over, now)
    end
  else
    e.no_data, e.value = nil, value
    e.over = M.holds(policy, e.over, value)
    happened = move(policy, e, e.over, now)
  end
  if happened == "firing" or happened == "resolved" then e.moved = true end
  return happened, check_flaps(e, now, flap)
end

--- Whether there is nothing about it that must be remembered.
function M.forgettable(e)
  if e.state ~= "inactive" or e.flapping or e.moved then return false end
  for _, changed in ipairs(e.changes) do
    if changed == 1 then return false end
  end
  return true
end

--- After `away_s` in which nobody looked: the time a pending alert has waited counts, the pause does not.
function M.resume(e, away_s)
  if e.state == "pending" then e.active_at = e.active_at + away_s end
  if e.gone_at then e.gone_at = e.gone_at + away_s end
  if e.check_at then e.check_at = e.check_at + away_s end
  return e
end

return M
