-- The test harness itself, against nginx and a peer.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local peer = require "tests.support.peer"
local process = require "tests.support.process"
local uv = require "luv"

describe("the loop", function()
  it("runs a body as a coroutine and hands its error out", function()
    assert.equal(7, loop.run(function() loop.sleep(1) return 7 end))
    assert.has_error(function() loop.run(function() error({ code = 1 }) end) end, { code = 1 })
    local ok, why = pcall(loop.run, function() loop.sleep(1) error("torn") end)
    assert.is_false(ok)
    assert.matches("torn\nstack traceback", why)
  end)

  it("gives up on a body that never ends and says where it waits", function()
    local ok, why = pcall(loop.run, function() loop.await(function() end) end, 20)
    assert.is_false(ok)
    assert.matches("not finished after 20 ms.*harness_spec", why)
  end)

  it("runs functions side by side", function()
    loop.run(function()
      local began = loop.now_ms()
      local results = loop.all { function() loop.sleep(50) return 1 end, function() loop.sleep(50) return 2 end }
      assert.same({ 1, 2 }, results)
      assert.is_true(loop.now_ms() - began < 95)
      local ended = 0
      assert.has_error(function()
        loop.all { function() error("no", 0) end, function() loop.sleep(5) ended = 1 end }
      end)
      assert.equal(1, ended)
    end)
  end)

  it("waits for a condition and names it when it does not come", function()
    local n = 0
    assert.equal(3, loop.wait_until(function() n = n + 1 return n == 3 and n end))
    assert.has_error(function() loop.wait_until(function() end, 10, "rain") end, "waited 10 ms for rain")
  end)
end)

describe("a process", function()
  it("gives exit code and both outputs", function()
    local code, out, err = process.run { command = "sh", args = { "-c", "echo $X; echo oops >&2; exit 3" }, env = { X = "y" } }
    assert.same({ 3, "y\n", "oops\n" }, { code, out, err })
  end)

  it("is killed when it does not want to end", function()
    local p = process.start { command = "sh", args = { "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done" } }
    loop.wait_until(function() return p:stdout() ~= "" end)
    local _, signal = p:stop(50)
    assert.equal(9, signal)
    assert.is_nil((process.start { command = "/no/such/program" }))
  end)
end)

describe("the client against nginx", function()
  local server

  setup(function()
    server = nginx.start { files = { ["a.txt"] = "hello", ["deep/b.txt"] = ("x"):rep(300000) },
      http = "chunked_transfer_encoding on; gzip on; gzip_min_length 1; gzip_types text/plain;",
      server = "location = /teapot { return 418 'short and stout'; } location = /none { return 204; }" }
  end)
  teardown(function() server:stop() end)

  it("reads bodies by length, chunked ones, and none", function()
    local r = assert(server:get("/a.txt"))
    assert.same({ 200, "hello", "5" }, { r.status, r.body, r.headers["content-length"] })
    assert.equal(300000, #server:get("/deep/b.txt").body)
    r = server:request { path = "/a.txt", headers = { ["Accept-Encoding"] = "gzip" } }
    assert.equal("chunked", r.headers["transfer-encoding"])
    assert.equal("\31\139", r.body:sub(1, 2))
    assert.equal("", server:request { path = "/a.txt", method = "HEAD" }.body)
    assert.equal(204, server:get("/none").status)
    assert.equal(404, server:get("/nowhere").status)
  end)

  it("keeps a connection and pipelines on it", function()
    loop.run(function()
      local c = assert(http.connect { address = server.address })
      for _ = 1, 3 do assert.equal("hello", c:request("/a.txt").body) end
      local responses = assert(c:pipeline { "/a.txt", { path = "/a.txt", method = "HEAD" }, "/teapot", "/a.txt" })
      assert.same({ 200, 200, 418, 200 }, { responses[1].status, responses[2].status, responses[3].status, responses[4].status })
      assert.equal("hello", responses[4].body)
      c:close()
    end)
  end)

  it("sends raw bytes and reads until the end", function()
    local answer, why = http.exchange({ address = server.address }, "GET /a.txt HTTP/1.0\r\n\r\n")
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\nhello$", answer)
    assert.equal("eof", why)
    assert.matches("400 Bad Request", (http.exchange({ address = server.address }, "nonsense\r\n\r\n")))
  end)

  it("loads it with many connections and checks each answer", function()
    local result = load.run { address = server.address, path = "/a.txt", connections = 20, requests = 2000,
      check = function(response) return response.body == "hello" end }
    assert.same({ 2000, 0, 2000, 20 }, { result.ok, result.failed, result.status[200], result.connects })
    assert.is_true(result.latency_ms.p99 >= result.latency_ms.p50)
    result = load.run { address = server.address, requests = 50, request = function(i) return { path = i % 2 == 0 and "/a.txt" or "/" } end,
      check = function(response) return response.status == 200, "not found" end }
    assert.same({ 25, 25, 25 }, { result.ok, result.failed, result.failures.check })
    assert.equal("not found", result.messages.check)
  end)

  it("loads it with wrk", function()
    local result = assert(load.wrk { address = server.address, path = "/a.txt", seconds = 1 })
    assert.is_true(result.requests > 100 and result.rate > 100 and result.bytes_per_second > 1000)
    assert.is_true(result.latency_ms.p50 > 0 and result.latency_ms.p99 >= result.latency_ms.p50)
    assert.same({ connect = 0, read = 0, write = 0, timeout = 0, status = 0 }, result.errors)
    result = assert(load.wrk { address = server.address, path = "/nowhere", seconds = 1 })
    assert.equal(result.requests, result.errors.status)
  end)
end)

describe("a load", function()
  it("counts failures by kind", function()
    local silent = peer.start { connection = function(c) c:fill(2000) loop.sleep(300) end }
    local r = load.run { address = silent.address, connections = 2, requests = 4, timeout_ms = 30 }
    assert.same({ 0, 4, 4 }, { r.ok, r.failed, r.failures.timeout })
    silent:stop()
    local rude = peer.start { connection = function(c) c:fill() c:abort() end }
    r = load.run { address = rude.address, connections = 2, requests = 4 }
    assert.same({ 4 }, { r.failures.closed })
    rude:stop()
    r = load.run { address = rude.address, connections = 2, requests = 4 }
    assert.same({ 4, "ECONNREFUSED" }, { r.failures.connect, r.messages.connect })
    local odd = peer.start { answer = "HTTP/1.1 abc\r\n\r\n" }
    assert.same({ protocol = 4 }, load.run({ address = odd.address, connections = 2, requests = 4 }).failures)
    odd:stop()
  end)
end)

describe("a peer", function()
  local p
  after_each(function() if p then p:stop(true) end end)

  it("keeps the exact bytes of each connection and splits them", function()
    p = peer.start { answer = function(request) return { status = 201, body = request.method .. request.body } end }
    loop.run(function()
      local c = http.connect { port = p.port }
      local responses = c:pipeline { { path = "/1" }, { path = "/2", body = "abc" }, { path = "/3", method = "PUT", chunks = { "de", "f" } } }
      assert.same({ "GET", "POSTabc", "PUTdef" }, { responses[1].body, responses[2].body, responses[3].body })
      c:close()
      http.request { address = p.address, path = "/4" }
    end)
    local requests = p:requests()
    assert.equal(4, #requests)
    assert.equal("GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n", requests[1].raw)
    assert.equal("def", requests[3].body)
    assert.equal("close", requests[4].headers.connection)
    assert.equal(requests[1].raw .. requests[2].raw .. requests[3].raw, p.connections[1]:bytes())
  end)

  it("refuses everything malformed", function()
    for _, bytes in ipairs {
      "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "GET /\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy0\r\n\r\n",
    } do
      local request, why = peer.parse(bytes)
      assert.is_nil(request, bytes)
      assert.matches("^malformed", why, bytes)
    end
    for _, bytes in ipairs { "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" } do
      assert.same({ nil, "incomplete" }, { peer.parse(bytes) })
      assert.has_error(function() peer.split(bytes) end)
    end
  end)

  it("closes on a malformed request and tells", function()
    p = peer.start {}
    local answer, why = http.exchange({ address = p.address }, "GET / HTTP/1.1\r\n\r\n")
    assert.same({ "", "eof" }, { answer, why })
    assert.has_error(function() p:requests() end, "malformed: not exactly one Host")
  end)

  it("can be slow, and can be gone", function()
    p = peer.start { answer = function() loop.sleep(60) return { body = "late" } end }
    assert.same({ nil, "timeout" }, { http.request { address = p.address, timeout_ms = 20 } })
    assert.equal("late", http.request({ address = p.address }).body)
    p:stop(true)
    assert.same({ nil, "ECONNREFUSED" }, { http.request { address = p.address } })
  end)
end)

-- A shell script stands in for the program: it has its command line and a rule
-- served by a peer, and ends on SIGTERM.
describe("the engine's helper", function()
  local p, folder, before

  local function program(text)
    files.write(folder .. "/program", "#!/bin/sh\n" .. text)
    uv.fs_chmod(folder .. "/program", 493)
    uv.os_setenv("PERILUNE", folder .. "/program")
  end

  setup(function()
    before = os.getenv("PERILUNE")
    folder = files.temporary("perilune-harness")
    p = peer.start { answer = function(request)
      return { headers = { ["Content-Type"] = "application/json" }, body = ('{"processes":[{"path":"%s"}]}'):format(request.target) }
    end }
  end)
  teardown(function()
    uv.os_setenv("PERILUNE", before)
    p:stop()
    files.remove(folder)
  end)

  it("starts the program in a folder of its own and ends it", function()
    program(([[
echo "$@" >&2
cat $9/routes/app.lua
trap 'exit 7' TERM
printf '{"listen": "%s", "admin": "%s", "pid": %%d}' $$ > $7/ports.json
while :; do sleep 0.01; done
]]):format(p.address, p.address))
    local e = engine.start { rules = { ["routes/app.lua"] = "return {}" }, workers = 3, args = { "--extra", 1 } }
    assert.equal(e.pid, e.process.pid)
    assert.equal(p.port, e.admin_port)
    e:wait_log("run --listen 127.0.0.1:0 --admin 127.0.0.1:0")
    assert.matches("%-%-workers 3 %-%-extra 1", e:log())
    assert.equal(200, e:get("/x").status)
    assert.same({ { path = "/api/v1/performance-optimization/stats" } }, e:processes())
    e:write_rule("routes/deep/other.lua", "return 1")
    assert.equal("return 1", files.read(e.rules .. "/routes/deep/other.lua"))
    e:remove_rule("routes/deep/other.lua")
    assert.is_nil(files.read(e.rules .. "/routes/deep/other.lua"))
    local first = e.pid
    e:restart()
    assert.are_not.equal(first, e.pid)
    loop.wait_until(function() return e.process:stdout() == "return {}" end)
    assert.equal(7, e:stop())
    assert.is_nil(uv.fs_stat(e.folder))
  end)

  it("tells what the program said when it does not start", function()
    program("echo 'no such rule' >&2; exit 4")
    local ok, why = pcall(engine.start)
    assert.is_false(ok)
    assert.matches("did not start: it ended with 4\nno such rule", why)
    program("sleep 10")
    ok, why = pcall(engine.start, { timeout_ms = 50 })
    assert.is_false(ok)
    assert.matches("waited 50 ms for ports.json", why)
    assert.equal(4, (program("exit 4") or engine.run { args = { "check" } }))
  end)
end)

describe("the harness", function()
  it("leaves nothing open", function()
    loop.wait_until(function() return not loop.open_handles()[1] end, 2000, "timers of stopped peers")
  end)
end)
