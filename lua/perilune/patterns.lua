--- How a service behaves, as a few named patterns: steps of its history that are alike, found by k-means.
--
-- A step is described by how much was asked, how long it took, how much of it failed, where the time went (phases) and what
-- was asked (routes), each on a scale where 1 is a difference one would name, as `perilune replay` has them. The largest
-- group is what is usual; the others are named by what is different in them. The hour is what is told of a pattern, not
-- what makes one: the same behaviour at another hour is the same pattern.
-- SPDX-License-Identifier: MIT

local core, require = ...

local ml = require "perilune.ml"

local M = {}

local PATTERNS_MOST, STEPS_LEAST, ROUTES, PHASES = 5, 20, 6, 3
local LOAD, LATENCY, ERRORS, SHARE = 0.5, 0.3, 0.03, 0.15
local null = core.json.null

local function known(value) return value ~= nil and value ~= null end

-- One description for each step with requests: { at_ms, requests, row }.
local function steps_of(all, routes, phases)
  local steps, by_time = {}, {}
  for i, route in ipairs(routes) do
    by_time[i] = {}
    for j, at in ipairs(route.columns.at_ms) do by_time[i][at] = route.columns.requests[j] end
  end
  for i, at in ipairs(all.at_ms) do
    local n, mean = all.requests[i], all.mean_ms[i]
    if known(n) and n > 0 and known(mean) then
      local one = { at_ms = at, requests = n, mean_ms = mean, errors = known(all.errors[i]) and all.errors[i] or 0, rps = all.rps[i], phases = {}, routes = {} }
      local row = { math.log(n) / LOAD, math.log(math.max(mean, 0.01)) / LATENCY, math.min(one.errors / n, 0.5) / ERRORS }
      for _, phase in ipairs(phases) do
        local value = all[phase] and all[phase][i]
        one.phases[phase] = known(value) and mean > 0 and math.min(1, value / mean) or 0
        row[#row + 1] = one.phases[phase] / SHARE
      end
      for r, route in ipairs(routes) do
        one.routes[route.name] = (by_time[r][at] or 0) / n
        row[#row + 1] = one.routes[route.name] / SHARE
      end
      one.row = row
      steps[#steps + 1] = one
    end
  end
  return steps
end

local function sum_of(steps, step_s, total)
  local out = { steps = #steps, share = #steps / total, phases = {}, routes = {}, hours = core.json.array() }
  local requests, time, errors, hours = 0, 0, 0, {}
  for _, one in ipairs(steps) do
    requests, time, errors = requests + one.requests, time + one.requests * one.mean_ms, errors + one.errors
    for name, share in pairs(one.phases) do out.phases[name] = (out.phases[name] or 0) + share * one.requests * one.mean_ms end
    for name, share in pairs(one.routes) do out.routes[name] = (out.routes[name] or 0) + share * one.requests end
    local hour = tonumber(os.date("!%H", math.floor(one.at_ms / 1000)))
    hours[hour] = (hours[hour] or 0) + 1
    out.last_ms = math.max(out.last_ms or 0, one.at_ms + step_s * 1000)
  end
  for name, value in pairs(out.phases) do out.phases[name] = value / time end
  for name, value in pairs(out.routes) do out.routes[name] = value / requests end
  for hour = 0, 23 do
    if (hours[hour] or 0) / #steps >= 0.1 then out.hours[#out.hours + 1] = hour end
  end
  out.rps, out.mean_ms, out.error_rate = requests / (#steps * step_s), time / requests, errors / requests
  return out
end

-- What differs from the usual, in words.
local function name(p, usual)
  local words = {}
  if p.rps > 1.5 * usual.rps then words[1] = "busy" elseif p.rps < usual.rps / 1.5 then words[1] = "quiet" end
  if p.mean_ms > 1.3 * usual.mean_ms then words[#words + 1] = "slow" elseif p.mean_ms < usual.mean_ms / 1.3 then words[#words + 1] = "fast" end
  if p.error_rate > usual.error_rate + 0.01 and p.error_rate > 2 * usual.error_rate then words[#words + 1] = "failing" end
  local function leading(mine, theirs, text)
    local best, most
    for one, share in pairs(mine) do
      local more = share - (theirs[one] or 0)
      if more >= 0.2 and (not most or more > most or more == most and one < best) then best, most = one, more end
    end
    if best then words[#words + 1] = text:format(best:gsub("_", " ")) end
  end
  leading(p.phases, usual.phases, "more %s")
  leading(p.routes, usual.routes, "mostly %s")
  return #words > 0 and table.concat(words, ", ") or "usual"
end

--- `all` is a series of the whole service, `routes` a list of { name, columns } of its busiest, each as watch.series() gives it;
-- `phases` names those that took time. Returns { patterns, steps, enough }, the largest pattern first.
function M.find(all, routes, phases, step_s)
  while #routes > ROUTES do table.remove(routes) end
  while #phases > PHASES do table.remove(phases) end
  local steps, list = steps_of(all, routes, phases), core.json.array()
  if #steps < STEPS_LEAST then return { patterns = list, steps = #steps, needed = STEPS_LEAST, enough = false } end
  local rows, groups = {}, {}
  for i, one in ipairs(steps) do rows[i] = one.row end
  local model = ml.kmeans(rows, { k_most = PATTERNS_MOST, seed = 1 })
  for _, one in ipairs(steps) do
    local group = model:group(one.row)
    groups[group] = groups[group] or {}
    table.insert(groups[group], one)
  end
  for _, members in pairs(groups) do list[#list + 1] = sum_of(members, step_s, #steps) end
  table.sort(list, function(a, b)
    if a.share ~= b.share then return a.share > b.share end
    return a.last_ms > b.last_ms
  end)
  for _, p in ipairs(list) do p.name = name(p, list[1]) end
  local newest_ms = steps[#steps].at_ms + step_s * 1000
  for _, p in ipairs(list) do
    p.now = p.last_ms == newest_ms
    p.last_seen = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(p.last_ms / 1000))
    p.last_ms = nil
  end
  return { patterns = list, steps = #steps, needed = STEPS_LEAST, enough = true }
end

return M
