--- A load of constant concurrency that checks every answer, and wrk.
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local load = {}

local function kind_of(why)
  if why == "timeout" then return "timeout" end
  if why:find("^malformed") then return "protocol" end
  return "closed"
end

local function fail(result, kind, message)
  result.failed = result.failed + 1
  result.failures[kind] = (result.failures[kind] or 0) + 1
  result.messages[kind] = result.messages[kind] or message
end

local function ask(options, result, state, i)
  local request = options.request
  if not state.conn then
    local connected, refused = http.connect(options)
    if not connected then return fail(result, "connect", refused) end
    state.conn = connected
    result.connects = result.connects + 1
  end
  if type(request) == "function" then request = request(i) end
  local bytes = type(request) == "string" and request or http.build(request)
  local method = bytes:match("^%S+")
  local began, response = loop.now_ms(), nil
  local ok, why = state.conn:send(bytes, options.timeout_ms)
  if ok then response, why = state.conn:read_response { method = method, timeout_ms = options.timeout_ms } end
  if not response or (response.headers.connection or ""):lower() == "close" or response.until_close
    or not options.keep_alive then
    state.conn:close()
    state.conn = nil
  end
  if not response then return fail(result, kind_of(why), why) end
  result.latencies[#result.latencies + 1] = loop.now_ms() - began
  result.status[response.status] = (result.status[response.status] or 0) + 1
  if options.check then
    local fine, message = options.check(response, i)
    if not fine then return fail(result, "check", message or ("response %d: %s"):format(i, response.raw)) end
  end
  result.ok = result.ok + 1
end

local function percentile(sorted, part)
  return sorted[math.max(1, math.ceil(part * #sorted))]
end

local function with_defaults(options)
  local o = { connections = 10, requests = 1000, keep_alive = true, timeout_ms = 5000 }
  for k, v in pairs(options) do o[k] = v end
  o.request = o.request or { path = o.path or "/", method = o.method, headers = o.headers, body = o.body }
  if type(o.request) == "table" then
    local copy = { keep_alive = o.keep_alive }
    for k, v in pairs(o.request) do copy[k] = v end
    o.request = http.build(copy)
  end
  return o
end

--- Sends `requests` (1,000) over `connections` (10) connections, or goes on
-- for duration_ms or until `stop()` is true. options: address or host and
-- port; path, method, headers, body, or request (bytes, options of http.build,
-- or fn(i) -> either); keep_alive (true); timeout_ms (5,000); check(response,
-- i) -> ok, message. Nothing is retried. Returns {ok, failed, failures = {connect =,
-- timeout =, closed =, protocol =, check =}, messages = first one by kind,
-- status = {[200] =}, connects, seconds, rate, latency_ms = {p50, p90, p99, max}}.
function load.run(options)
  local o = with_defaults(options)
  local result = { ok = 0, failed = 0, failures = {}, messages = {}, status = {}, connects = 0, latencies = {} }
  local began, sent, workers = loop.now_ms(), 0, {}
  local deadline = o.duration_ms and began + o.duration_ms
  local endless = o.duration_ms or o.stop
  local function more()
    if deadline and loop.now_ms() >= deadline or o.stop and o.stop() then return false end
    return endless or sent < o.requests
  end
  for w = 1, o.connections do
    workers[w] = function()
      local state = {}
      while more() do
        sent = sent + 1
        ask(o, result, state, sent)
      end
      if state.conn then state.conn:close() end
    end
  end
  loop.all(workers)
  result.seconds = (loop.now_ms() - began) / 1000
  result.rate = (result.ok + result.failed) / result.seconds
  table.sort(result.latencies)
  local l = result.latencies
  result.latency_ms = { p50 = percentile(l, 0.5), p90 = percentile(l, 0.9), p99 = percentile(l, 0.99), max = l[#l] }
  return result
end

--- Clients of an engine (tests.support.engine) in the background until stop() of what is returned, both within loop.run(). What a
-- client cannot have, because a worker is being replaced, it asks for again. options: clients (8); request, as engine's;
-- pause_ms between requests (0); per_connection: requests after which a client connects anew (never); heard(i, answer).
function load.background(served, options)
  local going, clients = true, {}
  local function client(i)
    local c, n
    while going do
      if not c then c, n = served:connect(), 0 end
      local answer = c and c:request(options.request)
      if answer then
        n = n + 1
        if options.heard then options.heard(i, answer) end
      end
      if c and (not answer or n == options.per_connection) then
        c:close()
        c = nil
      end
      if options.pause_ms then loop.sleep(options.pause_ms) elseif not answer then loop.sleep(20) end
    end
    if c then c:close() end
  end
  for i = 1, options.clients or 8 do
    clients[i] = loop.spawn(function() client(i) end)
  end
  return { stop = function()
    going = false
    for _, one in ipairs(clients) do loop.join(one) end
  end }
end

local UNIT_MS = { us = 0.001, ms = 1, s = 1000, m = 60000, h = 3600000 }

local function to_ms(text)
  local value, unit = text:match("^([%d.]+)(%a+)$")
  return tonumber(value) * UNIT_MS[unit]
end

local FACTOR = { [""] = 1, K = 2^10, M = 2^20, G = 2^30 }

--- Parses what wrk --latency prints.
function load.parse_wrk(text)
  local errors = { connect = 0, read = 0, write = 0, timeout = 0, status = 0 }
  local result = { text = text, latency_ms = {}, errors = errors }
  local mean, stdev, max = text:match("Latency%s+([%d.]+%a+)%s+([%d.]+%a+)%s+([%d.]+%a+)")
  if not mean then return nil, "wrk printed no latencies:\n" .. text end
  result.latency_ms.mean, result.latency_ms.stdev, result.latency_ms.max = to_ms(mean), to_ms(stdev), to_ms(max)
  for part, value in text:gmatch("\n%s+(%d+)%%%s+([%d.]+%a+)") do
    result.latency_ms["p" .. part] = to_ms(value)
  end
  local requests, took = text:match("(%d+) requests in ([%d.]+%a+)")
  result.requests, result.seconds = tonumber(requests), to_ms(took) / 1000
  result.rate = tonumber(text:match("Requests/sec:%s+([%d.]+)"))
  local value, unit = text:match("Transfer/sec:%s+([%d.]+)([KMG]?)B")
  result.bytes_per_second = tonumber(value) * FACTOR[unit]
  for kind in pairs(errors) do
    local pattern = kind == "status" and "Non%-2xx or 3xx responses: (%d+)" or "Socket errors:.-" .. kind .. " (%d+)"
    errors[kind] = tonumber(text:match(pattern) or 0)
  end
  return result
end

local URGENT = [[chrt -f 1 true 2>/dev/null && exec chrt -f 1 "$@"; exec nice -n -15 "$@"]]

--- Runs wrk. options: url (or address and path), connections (10), threads
-- (1), seconds (2), script (file), headers (table), args (list, for the
-- script), urgent (true: before other processes, as far as we may). Returns {requests, seconds, rate, bytes_per_second, errors =
-- {connect, read, write, timeout, status}, latency_ms = {p50, p75, p90, p99, mean, stdev, max},
-- text}.
function load.wrk(options)
  local seconds = options.seconds or 2
  local args = { "--latency", "-t", tostring(options.threads or 1), "-c", tostring(options.connections or 10),
    "-d", seconds .. "s" }
  local function add(...)
    for _, arg in ipairs { ... } do args[#args + 1] = arg end
  end
  for name, value in pairs(options.headers or {}) do add("-H", name .. ": " .. value) end
  if options.script then add("-s", options.script) end
  add(options.url or ("http://%s%s"):format(options.address, options.path or "/"))
  if options.args then add("--", unpack(options.args)) end
  local command = "wrk"
  if options.urgent then
    command, args = "sh", { "-c", URGENT, "sh", "wrk", unpack(args) }
  end
  local code, out, err = process.run { command = command, args = args, timeout_ms = seconds * 1000 + 20000 }
  if code ~= 0 then return nil, ("wrk ended with %d: %s%s"):format(code, out, err) end
  return load.parse_wrk(out)
end

return load
