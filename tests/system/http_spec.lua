--- HTTP/1.1 as clients of Lua routes see it.

local json = require "dkjson"

local engine = require "tests.support.engine"
local http = require "tests.support.http"
local loop = require "tests.support.loop"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello", function() return "hello" end)
app:get("/slow/:ms", function(req) p.sleep(tonumber(req.params.ms) / 1000) return req.params.ms end)
app:get("/shortest-sleep", function()
  local shortest = math.huge
  for _ = 1, 40 do
    local asleep = p.now()
    p.sleep(0.0205)
    shortest = math.min(shortest, p.now() - asleep)
  end
  return tostring(shortest)
end)
app:post("/echo", function(req) return req.body end)
app:put("/echo", function(req) return req.body .. req.body end)
app:post("/deaf", function() return "not interested" end)
app:get("/users/:id", function(req)
  return { id = req.params.id, raw = req.raw_params.id, path = req.path, query = req.query }
end)
app:get("/files/*rest", function(req)
  return { rest = req.params.rest, raw = req.raw_params.rest, path = req.path }
end)
app:get("/stream/:n", function(req)
  local n = tonumber(req.params.n)
  return 200, function(write) for i = 1, n do write("piece " .. i .. "\n") end end, { ["X-Kind"] = "stream" }
end)
app:get("/endless", function()
  return 200, function(write) while write "x\n" do p.sleep(0.02) end end, { ["X-Kind"] = "stream" }
end)
app:get("/flood", function()
  local piece = ("x"):rep(65536)
  return function(write) for _ = 1, 3200 do if not write(piece) then return end end end
end)
app:get("/given", function(req) return 200, "x", { [req.query.name or "X-Given"] = req.query.value } end)
app:get("/status/:code", function(req) return tonumber(req.params.code) end)
app:get("/fail", function()
  local password = "hunter2"
  error("cannot reach the vault with " .. password)
end)
app:get("/fail-late", function() return function(write) write("begun") error("too late") end end)
return app
]]

local LINE_OF_ERROR = (function()
  local line = 1
  for text in APP:gmatch("([^\n]*)\n") do
    if text:find("vault", 1, true) then return line end
    line = line + 1
  end
end)()

local served

local function start(settings)
  local args = {}
  for name, value in pairs(settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = name .. "=" .. value
  end
  served = engine.start { rules = { ["routes/app.lua"] = APP }, args = args }
  return served
end

--- A spec body with an engine of its own.
local function serving(settings, fn, timeout_ms)
  return function()
    loop.run(function()
      start(settings)
      fn(served)
    end, timeout_ms or 20000)
  end
end

local function total(name)
  return served:admin_get("~/stats?window=all").json.data[name]
end

local function ask_raw(bytes)
  local c = served:connect()
  c:send(bytes)
  local text, why = c:read_until_close(5000)
  c:close()
  return text, why
end

after_each(function()
  if served then served:stop() end
  served = nil
end)

describe("a connection", function()
  it("is kept for the next request, and closed when either side says so", serving({}, function(e)
    local c = e:connect()
    for _ = 1, 10 do assert.equal("hello", c:request("/hello").body) end
    local last = c:request { path = "/hello", headers = { Connection = "close" } }
    assert.equal("close", last.headers.connection)
    assert.equal("", (c:read_until_close()))
    c:close()
  end))

  it("of HTTP/1.0 is closed unless the client asks for more", serving({}, function(e)
    local text, why = ask_raw("GET /hello HTTP/1.0\r\n\r\n")
    assert.truthy(text:find("200 OK", 1, true))
    assert.equal("eof", why)
    local c = e:connect()
    for _ = 1, 3 do
      local response = c:request { path = "/hello", version = "1.0", headers = { Connection = "keep-alive" } }
      assert.equal("hello", response.body)
      assert.equal("keep-alive", response.headers.connection)
    end
    c:close()
  end))

  it("answers fifty pipelined requests in order, fast or slow", serving({}, function(e)
    local c, paths = e:connect(), {}
    for i = 1, 50 do paths[i] = i % 3 == 0 and "/slow/" .. i % 7 or "/users/" .. i end
    local responses = assert(c:pipeline(paths))
    for i, response in ipairs(responses) do
      local got = i % 3 == 0 and response.body or json.decode(response.body).id
      assert.equal(tostring(i % 3 == 0 and i % 7 or i), got)
    end
    c:close()
  end))

  it("that is half closed behind a whole request still gets its answer", serving({}, function(e)
    for _, path in ipairs { "/hello", "/slow/50", "/stream/3" } do
      local c = e:connect()
      c:send("GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n")
      c:shutdown()
      assert.equal(200, assert(c:read_response()).status, path)
      assert.equal("", (c:read_until_close()))
      c:close()
    end
  end))

  it("that ends inside a request is told so", serving({}, function(e)
    for _, part in ipairs { "GET /hel", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab" } do
      local c = e:connect()
      c:send(part)
      c:shutdown()
      assert.equal(400, assert(c:read_response()).status, part)
      c:close()
    end
  end))
end)

describe("p.sleep", function()
  it("never wakes too soon", serving({}, function(e)
    local shortest = tonumber(e:get("/shortest-sleep").body)
    assert.is_true(shortest >= 0.0205, shortest)
  end))
end)

describe("a request body", function()
  it("is the same to a handler whether it has a length or comes in chunks", serving({}, function(e)
    local c = e:connect()
    local large = ("0123456789abcdef"):rep(16384)
    for _, body in ipairs { "", "short", "line\r\n\0binary\255", large } do
      assert.equal(body, c:request({ method = "POST", path = "/echo", body = body }).body)
      local chunks = {}
      for at = 1, #body, 5000 do chunks[#chunks + 1] = body:sub(at, at + 4999) end
      assert.equal(body, c:request({ method = "POST", path = "/echo", chunks = chunks }).body)
    end
    assert.equal("abab", c:request({ method = "PUT", path = "/echo", body = "ab" }).body)
    c:close()
  end))

  it("that no handler reads does not become the next request", serving({}, function(e)
    local c = e:connect()
    local inner = "GET /fail HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal("not interested", c:request({ method = "POST", path = "/deaf", body = inner }).body)
    assert.equal("hello", c:request("/hello").body)
    c:close()
    local text = ask_raw("POST /deaf HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" .. inner)
    assert.truthy(text:find("Connection: close", 1, true))
    assert.equal(1, select(2, text:gsub("HTTP/1.1 ", ""))) -- of unknown length: not worth waiting for
  end))

  it("is asked for with one 100 Continue, and only when it is wanted", serving({}, function(e)
    local head = " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    local c = e:connect()
    c:send("POST /echo" .. head)
    assert.equal("HTTP/1.1 100 Continue\r\n\r\n", c:take_through("\r\n\r\n", loop.now_ms() + 5000))
    c:send("hello")
    local response = c:read_response()
    assert.equal("hello", response.body)
    assert.equal(0, #response.informational)
    c:send("POST /deaf" .. head)
    response = c:read_response()
    assert.equal("not interested", response.body)
    assert.equal(0, #response.informational)
    assert.equal("close", response.headers.connection)
    c:close()
  end))

  it("with another expectation is refused with 417", serving({}, function()
    local text = ask_raw("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 2\r\n\r\nok")
    assert.truthy(text:find("^HTTP/1.1 417 "))
  end))
end)

describe("limits", function()
  it("have a status each, and the connection ends with it", serving({
    ["server.body_bytes"] = 1048576, ["script.body_bytes"] = 65536,
  }, function(e)
    local function status_of(options)
      local response = assert(e:request(options))
      return response.status
    end
    assert.equal(413, status_of { method = "POST", path = "/echo", headers = { ["Content-Length"] = "1048577" }, body = "" })
    assert.equal(413, status_of { method = "POST", path = "/echo", body = ("x"):rep(70000) })
    assert.equal(413, status_of { method = "POST", path = "/echo", chunks = { ("x"):rep(40000), ("x"):rep(40000) } })
    assert.equal(414, status_of { path = "/" .. ("x"):rep(8192) })
    assert.equal(431, status_of { path = "/hello", headers = { ["X-Large"] = ("x"):rep(33000) } })
    local many = {}
    for i = 1, 101 do many["X-" .. i] = "1" end
    assert.equal(431, status_of { path = "/hello", headers = many })
    for _, bytes in ipairs {
      "GET /" .. ("x"):rep(9000) .. " HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /hello HTTP/1.1\r\nHost: x\r\nX: " .. ("x"):rep(40000), -- without an end
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    } do
      local text, why = ask_raw(bytes)
      assert.truthy(text:find("^HTTP/1.1 4%d%d "), text)
      assert.equal("eof", why)
    end
    assert.equal("hello", e:get("/hello").body)
  end))
end)

describe("routes", function()
  it("answer HEAD like GET without its body", serving({}, function(e)
    local c = e:connect()
    local get, head = c:request("/hello"), c:request { method = "HEAD", path = "/hello" }
    assert.equal(200, head.status)
    for _, name in ipairs { "content-length", "content-type" } do assert.equal(get.headers[name], head.headers[name]) end
    for _, path in ipairs { "/stream/3", "/endless" } do
      head = c:request { method = "HEAD", path = path, headers = { ["Accept-Encoding"] = "gzip" } }
      assert.same({ 200, "stream" }, { head.status, head.headers["x-kind"] })
    end
    assert.equal("hello", c:request("/hello").body)
    assert.equal(0, e:admin_get("~/stats").json.data.in_flight)
    c:close()
  end))

  it("tell their methods to OPTIONS and to a wrong method", serving({}, function(e)
    local options = e:request { method = "OPTIONS", path = "/echo" }
    assert.is_true(options.status == 204 or options.status == 200)
    local wrong = e:request { method = "DELETE", path = "/echo" }
    assert.equal(405, wrong.status)
    for _, response in ipairs { options, wrong } do
      for _, method in ipairs { "POST", "PUT", "OPTIONS" } do
        assert.truthy(response.headers.allow:find(method, 1, true), response.headers.allow)
      end
    end
    assert.truthy(e:request({ method = "POST", path = "/hello" }).headers.allow:find("GET, HEAD", 1, true))
    local trace = e:request { method = "TRACE", path = "/hello" }
    assert.same({ 405, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" }, { trace.status, trace.headers.allow })
  end))

  it("that do not exist are 404, as a problem document", serving({}, function(e)
    local response = e:get("/nothing/here")
    assert.equal(404, response.status)
    assert.equal("application/problem+json", response.headers["content-type"])
    assert.equal(404, json.decode(response.body).status)
  end))

  it("get parameters and query decoded", serving({}, function(e)
    local function ask(path) return json.decode(assert(e:get(path)).body) end
    assert.same({ id = "J\195\188rgen B", raw = "J%C3%BCrgen%20B", path = "/users/J%C3%BCrgen%20B",
      query = { a = "1 2", ["b c"] = "x&y=z", empty = "", flag = "" } },
      ask("/users/J%C3%BCrgen%20B?a=1+2&b%20c=x%26y%3Dz&empty=&flag&a=second"))
    assert.equal("a+b", ask("/users/a+b").id)
  end))

  it("are found by one canonical path", serving({}, function(e)
    local function ask(path) return json.decode(assert(e:get(path)).body) end
    assert.equal("hello", e:get("/users/%2e%2e/hello").body)
    assert.equal("hello", e:get("/users/.%2E/./hello").body)
    assert.equal("hello", e:get("/h%65llo").body)
    assert.equal("a/b", ask("/users/a%2Fb").id) -- an encoded slash divides nothing
    assert.equal("a%2Fb", ask("/users/a%2Fb").raw)
    assert.same({ rest = "x/y", raw = "x/y", path = "/files/x/y" }, ask("/files/./x/z/../y"))
    assert.equal(400, e:get("/../hello").status)
    assert.equal(400, e:get("/%2e%2e/%2e%2e/etc/passwd").status)
    assert.equal(400, e:get("/users/%00").status)
  end))
end)

describe("an answer", function()
  it("is streamed in chunks, or to the end of the connection for HTTP/1.0", serving({}, function(e)
    local expected = {}
    for i = 1, 1000 do expected[i] = "piece " .. i .. "\n" end
    expected = table.concat(expected)
    local c = e:connect()
    local response = c:request("/stream/1000")
    assert.equal("chunked", response.headers["transfer-encoding"])
    assert.equal("stream", response.headers["x-kind"])
    assert.equal(expected, response.body)
    assert.equal("", c:request("/stream/0").body)
    assert.equal("hello", c:request("/hello").body)
    c:close()
    local text = ask_raw("GET /stream/1000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert.is_nil(text:lower():find("transfer-encoding", 1, true))
    assert.equal(expected, text:match("\r\n\r\n(.*)"))
  end))

  it("has no body with 204 and 304", serving({}, function(e)
    local c = e:connect()
    for _, status in ipairs { 204, 304 } do
      local response = c:request("/status/" .. status)
      assert.equal(status, response.status)
      assert.is_nil(response.headers["transfer-encoding"])
    end
    assert.equal("hello", c:request("/hello").body)
    c:close()
  end))

  it("waits for a slow reader in little memory, and arrives whole", serving({}, function(e)
    local c = e:connect()
    c:send("GET /flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert.truthy(c:take_through("\r\n\r\n", loop.now_ms() + 5000):find("200 OK", 1, true))
    local at_first, most = e:worker_bytes(), 20 * 1048576 -- of an answer of ten times that
    local others = 0
    while others < 300 do -- the worker has had every chance to run ahead
      assert.equal("hello", e:get("/hello").body)
      others = others + 1
    end
    assert.is_true(e:worker_bytes() - at_first < most, ("from %d to %d bytes"):format(at_first, e:worker_bytes()))
    local got, last = #c.buffer, ""
    c.buffer = ""
    while c:fill(10000) do
      got, last = got + #c.buffer, (last .. c.buffer):sub(-5)
      c.buffer = ""
    end
    assert.equal(3200 * (65536 + #"10000\r\n" + 2) + 5, got)
    assert.equal("0\r\n\r\n", last)
    assert.is_true(e:worker_bytes() - at_first < most, ("from %d to %d bytes"):format(at_first, e:worker_bytes()))
    c:close()
  end, 60000))

  it("cannot be split by what a header is given", serving({}, function(e)
    assert.equal("fine", e:get("/given?value=fine").headers["x-given"])
    local attacks = {
      "value=a%0D%0ASet-Cookie:%20b", "value=a%0ASet-Cookie:%20b", "value=a%0DSet-Cookie:%20b",
      "name=X%0D%0ASet-Cookie&value=b", "name=X:%20a%0D%0ASet-Cookie&value=b", "name=&value=b", "name=a%20b&value=b",
      "name=Content-Length&value=0", "name=transfer-encoding&value=chunked", "name=Connection&value=upgrade",
    }
    for _, query in ipairs(attacks) do
      local response = assert(e:get("/given?" .. query))
      assert.equal(500, response.status, query)
      assert.is_nil(response.headers["set-cookie"], query)
      e:wait_log(json.decode(response.body).trace_id, 2000)
    end
    assert.truthy(e:log():find("line breaks or control characters", 1, true))
  end))
end)

describe("a handler that fails", function()
  it("is 500 with an id for the client, and the story under that id in the log", serving({}, function(e)
    local response = e:get("/fail")
    assert.equal(500, response.status)
    assert.equal("application/problem+json", response.headers["content-type"])
    local problem = json.decode(response.body)
    assert.equal(32, #problem.trace_id)
    for _, secret in ipairs { "hunter2", "vault", "app.lua", "traceback", "rules" } do
      assert.is_nil(response.raw:find(secret, 1, true), secret)
    end
    e:wait_log("error id=" .. problem.trace_id, 2000)
    local story = e:log():match("error id=" .. problem.trace_id .. ".*")
    assert.truthy(story:find("app.lua:" .. LINE_OF_ERROR .. ": cannot reach the vault", 1, true), story)
    assert.truthy(story:find("stack traceback", 1, true), story)
    assert.truthy(story:find('route="GET /fail"', 1, true), story)
    assert.equal("hello", e:get("/hello").body)
  end))

  it("uses the trace id of the client", serving({}, function(e)
    local id = "4bf92f3577b34da6a3ce929d0e0e4736"
    local response = e:request { path = "/fail", headers = { traceparent = "00-" .. id .. "-00f067aa0ba902b7-01" } }
    assert.equal(id, json.decode(response.body).trace_id)
    e:wait_log("error id=" .. id, 2000)
  end))

  it("behind the first piece of its answer is a visible cut", serving({}, function(e)
    local response, why = e:get("/fail-late")
    assert.is_nil(response)
    assert.truthy(why)
    e:wait_log("too late", 2000)
  end))
end)

describe("a deadline", function()
  local function took(fn)
    local began = loop.now_ms()
    fn()
    return loop.now_ms() - began
  end

  it("ends a head that comes in drops", serving({ ["server.head_timeout_ms"] = 200 }, function(e)
    local c = e:connect()
    c:send("GET /hello HTTP/1.1\r\n")
    local dripping = true
    local drip = loop.spawn(function()
      while dripping and c:send("X: y\r\n") do loop.sleep(20) end
    end)
    local text
    local ms = took(function() text = c:read_until_close(5000) end)
    dripping = false
    loop.join(drip)
    assert.truthy(text:find("^HTTP/1.1 408 "), text)
    assert.is_true(ms > 150 and ms < 4000, "after " .. ms)
    c:close()
  end))

  it("ends a body that stops", serving({ ["server.body_timeout_ms"] = 200, ["server.linger_ms"] = 100 }, function(e)
    local c = e:connect()
    c:send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    local text
    local ms = took(function() text = c:read_until_close(5000) end)
    assert.truthy(text:find("^HTTP/1.1 408 "), text)
    assert.is_true(ms > 150 and ms < 4000, "after " .. ms)
    c:close()
  end))

  it("ends a body that is slower than its least rate", serving({
    ["server.body_timeout_ms"] = 200, ["server.body_min_rate"] = 5000, ["server.linger_ms"] = 100,
  }, function(e)
    local c = e:connect()
    c:send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    local dripping = true
    local drip = loop.spawn(function()
      while dripping and c:send("drop") do loop.sleep(20) end
    end)
    local text = c:read_until_close(5000)
    dripping = false
    loop.join(drip)
    assert.truthy(text:find("^HTTP/1.1 408 "), text)
    c:close()
  end))

  it("closes idle connections without a word", serving({ ["server.idle_timeout_ms"] = 200 }, function(e)
    local fresh, used = e:connect(), e:connect()
    assert.equal("hello", used:request("/hello").body)
    for _, c in ipairs { fresh, used } do
      local text, why = c:read_until_close(5000)
      assert.equal("", text)
      assert.equal("eof", why)
      c:close()
    end
  end))

  it("cuts off a client that takes nothing of its answer", serving({ ["server.write_timeout_ms"] = 200 }, function(e)
    local c = e:connect()
    c:send("GET /flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    loop.wait_until(function() return total("aborted_total") == 1 end, 5000, "the client to be cut off")
    local text, why = c:read_until_close(5000)
    assert.is_true(why ~= "timeout")
    assert.is_nil(text:find("\r\n0\r\n\r\n", 1, true))
    c:close()
    assert.equal("hello", http.request({ address = e.listen, path = "/hello" }).body)
  end))
end)
