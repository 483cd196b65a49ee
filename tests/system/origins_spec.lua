--- In front of Node, and of HAProxy in front of Node; and bodies of a gigabyte both ways.
local uv = require "luv"
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local GIB = 2 ^ 30

local NODE = [[
const http = require("http")
const piece = Buffer.alloc(65536, "0123456789abcdef")
const server = http.createServer((req, res) => {
  const url = new URL(req.url, "http://x")
  if (url.pathname === "/big") {
    let left = Number(url.searchParams.get("bytes"))
    res.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": left })
    const more = () => {
      while (left > 0) {
        const n = Math.min(left, piece.length)
        left -= n
        if (!res.write(piece.subarray(0, n))) return res.once("drain", more)
      }
      res.end()
    }
    return more()
  }
  if (url.pathname === "/count") {
    let n = 0
    req.on("data", (chunk) => { n += chunk.length })
    return req.on("end", () => res.end(String(n)))
  }
  if (url.pathname === "/echo") return req.pipe(res)
  if (url.pathname === "/trailers") {
    res.writeHead(200, { Trailer: "X-Sum" })
    res.write("body")
    res.addTrailers({ "X-Sum": "4" })
    return res.end()
  }
  if (url.pathname === "/unchanged") return res.writeHead(304, { ETag: '"v1"' }).end()
  if (url.pathname === "/none") return res.writeHead(204).end()
  if (url.pathname === "/hints") {
    res.writeEarlyHints({ link: "</a.css>; rel=preload" })
    return res.end("after hints")
  }
  if (url.pathname === "/many") {
    for (let i = 0; i < 50; i++) res.setHeader("X-Field-" + i, "v".repeat(100))
    res.setHeader("Set-Cookie", ["a=1", "b=2"])
    return res.end("many")
  }
  if (url.pathname === "/dies") {
    res.writeHead(200, { "Content-Length": 100 })
    res.write("half")
    return setImmediate(() => req.socket.destroy())
  }
  res.setHeader("Content-Type", "application/json")
  res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.headers }))
})
server.keepAliveTimeout = 60000
server.listen(0, "127.0.0.1", () => console.log(server.address().port))
]]

local HAPROXY = [[
global
  nbthread 1
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:PORT
  http-request return status 200 content-type text/plain string "from haproxy" if { path /own }
  http-request deny deny_status 403 if { path /denied }
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:ORIGIN
]]

local function start_node(folder)
  files.write(folder .. "/app.js", NODE)
  local node = assert(process.start { command = "node", args = { folder .. "/app.js" } })
  local port = loop.wait_until(function() return node:stdout():match "^(%d+)\n" end, 20000, "Node")
  return node, tonumber(port)
end

--- HAProxy takes no port 0, so a port that was free a moment ago; another when somebody was faster.
local function start_haproxy(folder, origin)
  local deps = (os.getenv "BUILD" or "build") .. "/deps/peers"
  local libraries = {}
  for _, package in ipairs { "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1" } do
    libraries[#libraries + 1] = ("%s/%s/usr/lib/x86_64-linux-gnu"):format(deps, package)
  end
  for _ = 1, 10 do
    local probe = uv.new_tcp()
    probe:bind("127.0.0.1", 0)
    local port = probe:getsockname().port
    probe:close()
    files.write(folder .. "/haproxy.cfg", (HAPROXY:gsub("PORT", tostring(port)):gsub("ORIGIN", tostring(origin))))
    local haproxy = assert(process.start { command = deps .. "/haproxy/usr/sbin/haproxy", args = { "-db", "-f", folder .. "/haproxy.cfg" },
      env = { LD_LIBRARY_PATH = table.concat(libraries, ":") } })
    local up = loop.wait_until(function()
      local conn = not haproxy:exited() and http.connect { port = port }
      if conn then conn:close() end
      return haproxy:exited() and "no" or conn and "yes"
    end, 20000, "HAProxy")
    if up == "yes" then return haproxy, port end
  end
  error "HAProxy did not start"
end

for _, kind in ipairs { "Node", "HAProxy" } do
  describe("in front of " .. kind, function()
    local folder, node, haproxy, served
    setup(function()
      loop.run(function()
        folder = files.temporary()
        local port
        node, port = start_node(folder)
        if kind == "HAProxy" then haproxy, port = start_haproxy(folder, port) end
        served = engine.start { args = { "--upstream", "http://127.0.0.1:" .. port } }
      end, 40000)
    end)
    teardown(function()
      loop.run(function()
        served:stop()
        if haproxy then haproxy:stop() end
        node:stop()
        files.remove(folder)
      end, 20000)
    end)
    local function it_works(name, fn, ms) it(name, function() loop.run(fn, ms or 20000) end) end

    it_works("requests arrive as they were meant, and fields come back", function()
      local seen = json.decode(served:get("/x%20y?q=1&q=2").body)
      assert.equal("/x%20y?q=1&q=2", seen.url)
      assert.matches("^127%.0%.0%.1", seen.headers["x-forwarded-for"])
      assert.matches("^00%-%x+%-%x+%-%x%x$", seen.headers.traceparent)
      local many = served:get "/many"
      assert.equal("a=1, b=2", many.headers["set-cookie"])
      assert.equal(("v"):rep(100), many.headers["x-field-49"])
      assert.equal("body", served:get("/trailers").body)
      assert.equal("after hints", served:get("/hints").body)
      assert.equal(304, served:get("/unchanged").status)
      assert.equal(204, served:get("/none").status)
      local head = served:request { method = "HEAD", path = "/x" }
      assert.equal(200, head.status)
      assert.equal("", head.body)
    end)

    it_works("bodies go and come back, of known length and in chunks", function()
      for _, size in ipairs { 0, 1, 1000, 65536, 1000000 } do
        local body = ("x"):rep(size)
        assert.is_true(served:request({ method = "POST", path = "/echo", body = body }).body == body, size)
      end
      local code, out = process.run { command = "sh", timeout_ms = 15000, args = { "-c",
        "head -c 3000000 /dev/zero | curl -sS -T - http://" .. served.listen .. "/count" } }
      assert.equal(0, code)
      assert.equal("3000000", out)
    end)

    it_works("h2load's requests are answered, all of them", function()
      local code, out = process.run { command = "h2load", timeout_ms = 15000,
        args = { "--h1", "-n", "3000", "-c", "20", "http://" .. served.listen .. "/x" } }
      assert.equal(0, code)
      assert.matches("3000 succeeded, 0 failed, 0 errored, 0 timeout", out)
    end)

    it_works("an answer that breaks off is visibly cut", function()
      assert.is_nil((served:get "/dies"))
      assert.equal(204, served:get("/none").status)
    end)

    if kind == "HAProxy" then
      it_works("what it answers itself comes through", function()
        assert.equal("from haproxy", served:get("/own").body)
        assert.equal(403, served:get("/denied").status)
      end)
      return
    end

    it_works("a gigabyte each way takes constant memory", function()
      assert.equal(204, served:get("/none").status)
      local before = served:worker_bytes()
      local url = "http://" .. served.listen
      local code, out = process.run { command = "curl", timeout_ms = 120000,
        args = { "-sS", "-o", "/dev/null", "-w", "%{size_download}", ("%s/big?bytes=%d"):format(url, GIB) } }
      assert.same({ 0, ("%d"):format(GIB) }, { code, out })
      code, out = process.run { command = "sh", timeout_ms = 120000, args = { "-c",
        ("head -c %d /dev/zero | curl -sS -T - %s/count"):format(GIB, url) } }
      assert.same({ 0, ("%d"):format(GIB) }, { code, out })
      local grown = served:worker_bytes() - before
      assert.is_true(grown < 16 * 2 ^ 20, "the worker has grown by " .. grown)
    end, 260000)
  end)
end
