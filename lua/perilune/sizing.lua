--- The size of a pool of connections by queueing theory: the fewest connections with which requests wait no longer
-- than they may and connections are no busier than they shall be, and never more than the server bears.
--
-- Requests come at random (Poisson) to c servers (Erlang's C formula: A. K. Erlang, 1917; Kleinrock, "Queueing
-- Systems", vol. 1, 1975, sec. 3.8). The load in Erlang is arrivals times service time; where requests share
-- connections, one behind the other, what a request took contains its turn behind others, so the load is never
-- taken for more than the connections that were seen busy.

local core = ...

local M = {}

local LEAST_SAMPLES = 20 -- statements in the window; fewer say nothing
local FULL = 0.75       -- share of its connections seen busy from which on a pool with waiting requests is full
local GROWTH = 1.5       -- a full pool shows no more load than it has connections: it grows by steps
local SHRINK = 0.7       -- it shrinks when so little of it would do

local fields = {
  mode = { type = "string", values = { off = true, suggest = true, on = true }, default = "suggest", hint = "\"off\", \"suggest\" or \"on\"" },
  wait_ms = { type = "number", min = 0.01, max = 60000, default = 5, hint = "a number from 0.01 to 60000" },
  utilization = { type = "number", min = 0.05, max = 0.95, default = 0.75, hint = "a number from 0.05 to 0.95" },
  server_share = { type = "number", min = 0.01, max = 1, default = 0.8, hint = "a number from 0.01 to 1" },
  server_cores = { type = "number", min = 1, max = 4096, hint = "a number from 1 to 4096" },
  per_core = { type = "number", min = 0.5, max = 1000, default = 4, hint = "a number from 0.5 to 1000" },
}

local function check(values, where)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  for name, value in pairs(values) do
    local field = fields[name]
    if not field then
      local near = core.nearest(tostring(name), names)
      error(("rules/policies/pools.lua: unknown key '%s'%s%s"):format(tostring(name), where, near and (", did you mean '%s'?"):format(near) or ""), 0)
    end
    local fits = type(value) == field.type and (not field.values or field.values[value]) and (not field.min or (value >= field.min and value <= field.max))
    if not fits then error(("rules/policies/pools.lua: '%s' is %s%s"):format(name, field.hint, where), 0) end
  end
end

--- Judges what the policy file returned. Returns policy(pool id), which gives its options.
function M.policy(values)
  if type(values) ~= "table" then error("rules/policies/pools.lua returns a table", 0) end
  local common, pools = {}, values.pools or {}
  for name, value in pairs(values) do
    if name ~= "pools" then common[name] = value end
  end
  check(common, "")
  if type(pools) ~= "table" then error("rules/policies/pools.lua: 'pools' is a table of options by pool", 0) end
  for id, own in pairs(pools) do
    if type(own) ~= "table" then error(("rules/policies/pools.lua: the options of pool '%s' are a table"):format(tostring(id)), 0) end
    check(own, (" of pool '%s'"):format(tostring(id)))
  end
  return function(id)
    local out = {}
    for name, field in pairs(fields) do
      out[name] = pools[id] and pools[id][name]
      if out[name] == nil then out[name] = common[name] end
      if out[name] == nil then out[name] = field.default end
    end
    return out
  end
end

--- Erlang's C: how likely a request has to wait with `load` Erlang on `servers` of them; 1 when they cannot keep up.
function M.erlang_c(servers, load)
  if load >= servers then return 1 end
  local b = 1 -- Erlang's B, by its recursion, which neither overflows nor loses digits
  for n = 1, servers do b = load * b / (n + load * b) end
  return servers * b / (servers - load * (1 - b))
end

--- Mean wait in ms.
function M.wait_ms(servers, load, service_ms)
  if load >= servers then return math.huge end
  return M.erlang_c(servers, load) * service_ms / (servers - load)
end

local function fewest(load, service_ms, options, most)
  local c = math.max(1, math.ceil(load / options.utilization))
  while c < most and M.wait_ms(c, load, service_ms) > options.wait_ms do c = c + 1 end
  return math.min(c, most)
end

--- What a pool should be. `now` and `before` are its entries of pools.list(), `busy` the mean of connections seen
-- busy between them, `seconds` the time between, `cores` those of this machine. Returns { max, why, load, wait_ms,
-- predicted_wait_ms, most }; nil and why when nothing can be said.
function M.advise(before, now, busy, seconds, options, cores)
  local calls = now.statements - before.statements
  if calls < LEAST_SAMPLES then return nil, ("%d statements in %.0f s are too few"):format(calls, seconds) end
  local used, waited = now.use_time_ms, now.wait_time_ms
  local service_ms = (used.mean * used.count - before.use_time_ms.mean * before.use_time_ms.count) / math.max(1, used.count - before.use_time_ms.count)
  local wait_ms = (waited.mean * waited.count - before.wait_time_ms.mean * before.wait_time_ms.count) / math.max(1, waited.count - before.wait_time_ms.count)
  local load = math.min(calls / seconds * service_ms / 1000, busy)
  local most = math.floor((options.server_cores or cores) * options.per_core)
  if now.server_max > 0 then most = math.min(most, math.floor(now.server_max * options.server_share)) end
  most = math.max(1, most)
  local full = busy >= FULL * now.max and wait_ms > options.wait_ms
  local max = full and math.min(most, math.ceil(now.max * GROWTH)) or fewest(load, service_ms, options, most)
  if max < now.max and max > now.max * SHRINK then max = now.max end
  local advice = { max = max, load = load, service_ms = service_ms, wait_ms = wait_ms, most = most,
    predicted_wait_ms = full and core.json.null or M.wait_ms(max, load, service_ms) }
  if max > now.max then
    advice.why = full and ("all %d connections are busy and requests wait %.1f ms for one"):format(now.max, wait_ms)
      or ("%.1f connections are busy on average, of %d"):format(load, now.max)
  elseif max < now.max then
    advice.why = ("%.1f connections are busy on average: %d do, requests would wait %.2f ms"):format(load, max, advice.predicted_wait_ms)
  elseif full then
    advice.why = ("requests wait %.1f ms, and the server bears no more than %d connections: make the statements cheaper"):format(wait_ms, most)
  else
    advice.why = "its size fits its load"
  end
  return advice
end

return M
