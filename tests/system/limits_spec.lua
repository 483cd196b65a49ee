--- Limits: how many requests are let in, by the policy in rules/policies/limits.lua.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local process = require "tests.support.process"
local uv = require "luv"

local APP = [[
local app = require("perilune").app()
app:get("/a", function() return "a" end)
app:get("/b", function() return "b" end)
app:get("/free", function() return "free" end)
return app
]]

local function with(policy, test, workers)
  return function()
    loop.run(function()
      local served = engine.start {
        rules = { ["routes/app.lua"] = APP, ["policies/limits.lua"] = policy }, workers = workers,
      }
      test(served)
      served:stop()
    end, 20000)
  end
end

local function statuses(served, count, options)
  local seen = {}
  for i = 1, count do
    local response = served:request(options(i))
    seen[response.status] = (seen[response.status] or 0) + 1
  end
  return seen
end

describe("a rate limit", function()
  it("lets a burst in, then refuses with Retry-After and a reason", with([[
return { rate = 0.1, burst = 3, routes = { ["/free"] = false } }]], function(served)
    local seen = statuses(served, 10, function() return { path = "/a" } end)
    assert.same({ [200] = 3, [429] = 7 }, seen)
    local refused = served:get("/a")
    assert.equal("application/problem+json", refused.headers["content-type"])
    local wait = tonumber(refused.headers["retry-after"])
    assert.is_true(wait >= 1 and wait <= 10, "Retry-After: " .. tostring(wait))
    assert.matches('"code":"rate_limited"', refused.body, 1, true)
    assert.equal(200, served:get("/b").status) -- a limit of its own
    for _ = 1, 20 do assert.equal(200, served:get("/free").status) end
    assert.equal(8, served:admin_get("~/stats?window=all").json.data.counters.rate_refused)
    assert.matches("\nperilune_rate_refused_total 8\n", served:admin_get("/metrics").body)
  end))

  it("comes back at its rate", with([[return { rate = 50, burst = 1 }]], function(served)
    assert.equal(200, served:get("/a").status)
    local began, answered = loop.now_ms(), 0
    loop.wait_until(function()
      if served:get("/a").status == 200 then answered = answered + 1 end
      return answered == 10
    end)
    assert.is_true(loop.now_ms() - began >= 180, "ten requests at 50/s took " .. loop.now_ms() - began)
  end))

  it("is one for all workers", with([[return { rate = 0.01, burst = 20, key = "all" }]], function(served)
    local by_worker, seen = {}, { [200] = 0, [429] = 0 }
    for _ = 1, 60 do
      local response = served:get("/a") -- each on a new connection
      seen[response.status] = seen[response.status] + 1
    end
    assert.same({ [200] = 20, [429] = 40 }, seen)
    for _, one in ipairs(served:processes()) do
      if one.role == "worker" and one.requests > 0 then by_worker[#by_worker + 1] = one.requests end
    end
    assert.is_true(#by_worker > 1, "only one worker answered")
  end, 3))

  it("counts by a header, and routes with one name together", with([[
return { rate = 0.01, burst = 2, key = "header:X-Api-Key", name = "all" }]], function(served)
    for i, key in ipairs { "x", "y" } do
      assert.equal(200, served:request({ path = "/a", headers = { ["X-Api-Key"] = key } }).status, i)
      assert.equal(200, served:request({ path = "/b", headers = { ["x-api-key"] = key } }).status, i)
      assert.equal(429, served:request({ path = "/a", headers = { ["X-Api-Key"] = key } }).status, i)
    end
  end))

  it("that observes refuses nobody and counts", with([[return { rate = 0.01, burst = 1, mode = "observe" }]], function(served)
    for _ = 1, 5 do assert.equal(200, served:get("/a").status) end
    local counters = served:admin_get("~/stats?window=all").json.data.counters
    assert.equal(4, counters.rate_observed)
    assert.equal(0, counters.rate_refused)
  end))

  it("changes under way with its file", with([[return { rate = 0.01, burst = 1 }]], function(served)
    assert.equal(200, served:get("/a").status)
    assert.equal(429, served:get("/a").status)
    files.write(served.rules .. "/policies/limits.lua", "return {}")
    loop.wait_until(function() return served:get("/a").status == 200 end)
  end))
end)

describe("a cap on the connections of a client", function()
  local function open(served, from)
    local conn = assert(http.connect { address = served.listen, from = from })
    conn:send "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    return conn, assert(conn:read_response())
  end

  it("is one for all workers, says so, and gives back what is closed", function()
    loop.run(function()
      local served = engine.start { rules = { ["routes/app.lua"] = APP }, workers = 2,
        args = { "--set", "server.client_connections=4" } }
      local held = {}
      for i = 1, 4 do
        local conn, response = open(served)
        assert.equal(200, response.status)
        held[i] = conn
      end
      local conn, refused = open(served)
      assert.equal(429, refused.status)
      assert.equal("1", refused.headers["retry-after"])
      assert.matches("too many connections from this address", refused.body, 1, true)
      conn:close()
      local other, welcome = open(served, "127.0.0.2")
      assert.equal(200, welcome.status)
      other:close()
      held[1]:close()
      loop.wait_until(function()
        local again, response = open(served)
        again:close()
        return response.status == 200
      end)
      assert.is_true(served:admin_get("~/stats?window=all").json.data.counters.client_refused >= 1)
      served:stop()
    end)
  end)

  it("forgets what a killed worker held", function()
    loop.run(function()
      local served = engine.start { rules = { ["routes/app.lua"] = APP }, args = { "--set", "server.client_connections=2" } }
      open(served)
      open(served)
      local third, refused = open(served)
      assert.equal(429, refused.status)
      third:close()
      for _, one in ipairs(served:processes()) do
        if one.role == "worker" then uv.kill(one.pid, "sigkill") end
      end
      loop.wait_until(function()
        local conn = http.connect { address = served.listen }
        conn:send "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
        local response = conn:read_response()
        conn:close()
        return response and response.status == 200
      end)
      served:stop()
    end)
  end)
end)

describe("a policy file", function()
  it("is refused with every mistake, its line and the way out", function()
    loop.run(function()
      local folder = files.temporary()
      files.write(folder .. "/routes/app.lua", APP)
      files.write(folder .. "/policies/limits.lua", [[
return {
  rat = 5,
  burst = 0.5,
  key = "cookie",
  routes = {
    ["/nowhere"] = { rate = 1 },
    ["/a"] = { rate = "many" },
    ["GET /b"] = 7,
    b = {},
  },
}]])
      local code, err = process.run { command = engine.program(), args = { "check", "--rules", folder } }
      assert.equal(2, code)
      for _, expected in ipairs {
        "policies/limits.lua:2: unknown key 'rat', did you mean 'rate'?",
        "policies/limits.lua:3: 'burst' is a whole number, not 0.5",
        "policies/limits.lua:4: 'key' is",
        "policies/limits.lua:7: 'rate' is a number, not a string of route '/a'",
        "policies/limits.lua:8: an override is a table, or false for none of route 'GET /b'",
        "policies/limits.lua:9: an override is named like its route",
      } do
        assert.is_true(err:find(expected, 1, true) ~= nil, expected .. "\nis not in\n" .. err)
      end
      files.write(folder .. "/policies/limits.lua", 'return {\n  routes = { ["/nowhere"] = { rate = 1 } },\n}')
      code, err = process.run { command = engine.program(), args = { "check", "--rules", folder } }
      assert.equal(2, code)
      assert.matches("policies/limits.lua:2: there is no route '/nowhere'", err, 1, true)
      files.remove(folder)
    end)
  end)
end)

-- ---- how many at once ----------------------------------------------------------

local SLOW = [[
local p = require "perilune"
local app = p.app()
app:get("/slow", function() p.sleep(0.3) return "slow" end)
app:get("/low", function() p.sleep(0.3) return "low" end)
app:get("/hold", function() p.sleep(60) return "held" end)
return app
]]

local function concurrent(policy, test, options)
  options = options or {}
  return function()
    loop.run(function()
      local served = engine.start {
        rules = { ["routes/app.lua"] = SLOW, ["policies/limits.lua"] = policy }, workers = options.workers,
      }
      test(served)
      served:stop()
    end, options.ms or 20000)
  end
end

--- Asks for paths side by side; the answers in the order of the paths.
local function ask_all(served, paths)
  local jobs = {}
  for i, path in ipairs(paths) do jobs[i] = function() return served:get(path) end end
  return loop.all(jobs)
end

local function count(responses)
  local seen = {}
  for _, response in ipairs(responses) do seen[response.status] = (seen[response.status] or 0) + 1 end
  return seen
end

describe("a concurrency limit", function()
  it("lets so many in, lets some wait, and turns the others away", concurrent([[
return { concurrency = 2, queue = 2, queue_ms = 2000 }]], function(served)
    local began = loop.now_ms()
    local responses = ask_all(served, { "/slow", "/slow", "/slow", "/slow", "/slow", "/slow" })
    assert.same({ [200] = 4, [503] = 2 }, count(responses))
    local took = loop.now_ms() - began
    assert.is_true(took > 550 and took < 2000, "two rounds of 300 ms took " .. took)
    for _, response in ipairs(responses) do
      if response.status == 503 then
        assert.equal("1", response.headers["retry-after"])
        assert.matches('"code":"overloaded"', response.body, 1, true)
      end
    end
    assert.equal(2, served:admin_get("~/stats?window=all").json.data.counters.limit_refused)
    assert.equal(200, served:get("/slow").status)
    local view = served:admin_get("~/limits").json.data
    local class
    for _, one in ipairs(view.concurrency) do
      if one.class:find("/slow", 1, true) then class = one end
    end
    assert.same({ false, 2, 2, 2, 0 }, { class.adaptive, class.limit, class.queued, class.rejected, class.in_flight })
    assert.equal(5, class.finished)
    assert.is_true(class.waited_s > 0.5 and class.waited_s < 3)
    assert.same({ 0, 0 }, { view.rate.refused, view.connections.refused })
    local metrics = served:admin_get("/metrics").body
    assert.matches(('perilune_limiter_limit{class="%s"} 2\n'):format(class.class), metrics, 1, true)
    assert.matches(('perilune_limiter_rejected_total{class="%s"} 2\n'):format(class.class), metrics, 1, true)
  end))

  it("lets nobody wait for longer than he may", concurrent([[
return { concurrency = 1, queue = 10, queue_ms = 100 }]], function(served)
    local held = loop.spawn(function() return served:get("/slow") end)
    loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight == 1 end)
    local began = loop.now_ms()
    assert.equal(503, served:get("/slow").status)
    assert.is_true(loop.now_ms() - began >= 90)
    assert.equal(200, loop.join(held).status)
  end))

  it("lets the urgent wait in front, in the place of others", concurrent([[
return { concurrency = 1, queue = 1, queue_ms = 5000, name = "all",
  routes = { ["/slow"] = { priority = "critical" }, ["/low"] = { priority = "low" } } }]], function(served)
    local function in_flight(n)
      loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight == n end)
    end
    local first = loop.spawn(function() return served:get("/low") end)
    in_flight(1)
    local low = loop.spawn(function() return served:get("/low") end)
    in_flight(2)
    local urgent = loop.spawn(function() return served:get("/slow") end)
    assert.equal(503, loop.join(low).status)
    assert.equal(200, loop.join(first).status)
    assert.equal("slow", loop.join(urgent).body)
  end))

  it("forgets clients that leave the queue, or the room", concurrent([[
return { concurrency = 1, queue = 5, queue_ms = 30000 }]], function(served)
    local http = require "tests.support.http"
    local function leave(n)
      local conns = {}
      for i = 1, n do
        conns[i] = served:connect()
        conns[i]:send(http.build { path = "/slow", keep_alive = true })
      end
      loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight == n end)
      for _, c in ipairs(conns) do c:close() end
    end
    for _ = 1, 3 do leave(4) end
    loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight == 0 end)
    assert.equal(200, served:get("/slow").status)
  end))

  it("that observes lets all in and counts", concurrent([[return { concurrency = 1, mode = "observe" }]], function(served)
    assert.same({ [200] = 5 }, count(ask_all(served, { "/slow", "/slow", "/slow", "/slow", "/slow" })))
    assert.equal(4, served:admin_get("~/stats?window=all").json.data.counters.limit_observed)
  end))

  it("loses no place with a worker that dies", concurrent([[
return { concurrency = 2, queue = 0, routes = { ["/slow"] = { name = "all" }, ["/hold"] = { name = "all" } } }]], function(served)
    local http = require "tests.support.http"
    local conns = { served:connect(), served:connect() }
    for _, c in ipairs(conns) do c:send(http.build { path = "/hold", keep_alive = true }) end
    loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight == 2 end)
    assert.equal(503, served:get("/slow").status)
    for _, one in ipairs(served:processes()) do
      if one.role == "worker" then require("luv").kill(one.pid, "sigkill") end
    end
    loop.wait_until(function()
      local response = served:get("/slow")
      return response and response.status == 200
    end)
    for _, c in ipairs(conns) do c:close() end
  end, { workers = 2 }))
end)

-- An upstream that does eight things at a time, 20 ms each: 400 a second.
local EIGHT = [[
import http.server, threading, time
places = threading.Semaphore(8)
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
        with places: time.sleep(0.02)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
server = Server(("127.0.0.1", 0), App)
print(server.server_address[1], flush=True)
server.serve_forever()
]]

--- Sends `rate` requests a second for `ms`, whatever becomes of them. Returns the
-- latencies of those admitted, sorted, and how many were refused.
local function open_load(served, rate, ms)
  local latencies, refused, sent, idle = {}, 0, 0, {}
  local began = loop.now_ms()
  local open = 0
  local function one()
    local c = table.remove(idle) or assert(served:connect())
    local at = loop.now_ms()
    local response = assert(c:request("/work"))
    if response.status == 200 then
      latencies[#latencies + 1] = loop.now_ms() - at
    else
      assert.equal(503, response.status)
      refused = refused + 1
    end
    if response.headers.connection == "close" then c:close() else idle[#idle + 1] = c end
    open = open - 1
  end
  while loop.now_ms() - began < ms do
    while sent < (loop.now_ms() - began) * rate / 1000 do
      sent, open = sent + 1, open + 1
      loop.spawn(one)
    end
    loop.sleep(1)
  end
  loop.wait_until(function() return open == 0 end, 10000, "the last answers")
  for _, c in ipairs(idle) do c:close() end
  table.sort(latencies)
  return latencies, refused
end

local function p99(sorted)
  return sorted[math.ceil(#sorted * 0.99)]
end

describe("the adaptive limit", function()
  it("holds the p99 of who is admitted at three times the load, and refuses nobody at 60 %", function()
    loop.run(function()
      local folder = files.temporary()
      files.write(folder .. "/app.py", EIGHT)
      local app = assert(process.start { command = "python3", args = { folder .. "/app.py" } })
      local port = loop.wait_until(function() return app:stdout():match("^(%d+)\n") end, 10000, "the application")
      local served = engine.start {
        args = { "--upstream", "http://127.0.0.1:" .. port },
        rules = { ["policies/limits.lua"] = 'return { concurrency = "adaptive" }' },
      }
      open_load(served, 240, 4000) -- it learns what a request takes
      local why
      for _ = 1, 4 do -- another program that wants the processors spoils an attempt
        local calm, refused = open_load(served, 240, 5000)
        open_load(served, 1200, 8000) -- it comes down
        local busy, turned_away = open_load(served, 1200, 4000)
        assert.is_true(turned_away > #busy, "it was no overload")
        why = refused > (#calm + refused) * 0.001 and ("%d of %d refused at 60 %%"):format(refused, #calm)
          or #busy / 4 < 300 and ("only %d a second were admitted"):format(#busy / 4)
          or p99(busy) > 2 * p99(calm) and ("p99 of the admitted: %.1f ms, unloaded %.1f ms"):format(p99(busy), p99(calm))
        if not why then break end
        open_load(served, 240, 3000) -- it comes back
      end
      assert.is_falsy(why, why)
      served:stop()
      app:stop()
      files.remove(folder)
    end, 150000)
  end)
end)
