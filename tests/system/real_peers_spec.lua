--- The engine in front of servers that others wrote, asked by clients that
-- others wrote: Debian's nginx with a tree of files, Python's threaded
-- application server; wrk, curl and h2load.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local process = require "tests.support.process"

local function bytes_of(size)
  local line = {}
  for i = 1, 1024 do line[i] = string.char((i * 31 + math.floor(i / 7)) % 256) end
  local block = table.concat(line)
  return block:rep(math.floor(size / 1024)) .. block:sub(1, size % 1024)
end

local TREE = { ["empty"] = "", ["one"] = "x", ["index.html"] = "<!doctype html><title>t</title>" }
for _, size in ipairs { 1000, 16384, 65537, 1048576, 20971520 } do TREE["sub/" .. size .. ".bin"] = bytes_of(size) end

local function curl(...)
  local code, out, err = process.run { command = "curl", args = { "-sS", "--max-time", "30", ... }, timeout_ms = 40000 }
  assert.equal(0, code, err)
  return out
end

local function requests_of(served)
  return served:admin_get("~/stats?window=all").json.data.requests_total
end

describe("in front of nginx", function()
  local origin, served
  setup(function()
    origin = nginx.start { files = TREE, server = "absolute_redirect off;" }
    served = engine.start { args = { "--upstream", "http://" .. origin.address }, workers = 2 }
  end)
  teardown(function()
    served:stop()
    origin:stop()
  end)

  it("curl gets every file as it is on the disk", function()
    for path, content in pairs(TREE) do
      local got = curl("http://" .. served.listen .. "/" .. path)
      assert.is_true(got == content, ("%s: %d bytes of %d"):format(path, #got, #content))
    end
  end)

  it("curl gets ranges, validators, redirects and refusals as nginx gave them", function()
    local url = "http://" .. served.listen
    assert.is_true(curl("-r", "1000-66535", url .. "/sub/1048576.bin") == TREE["sub/1048576.bin"]:sub(1001, 66536))
    local head = curl("-I", url .. "/sub/1000.bin")
    assert.matches("^HTTP/1.1 200", head)
    assert.matches("\r\n[Cc]ontent%-[Ll]ength: 1000\r\n", head)
    local etag = head:match("\r\n[Ee][Tt]ag: (%S+)")
    assert.equal("304", curl("-o", "/dev/null", "-w", "%{http_code}", "-H", "If-None-Match: " .. etag, url .. "/sub/1000.bin"))
    assert.equal("404", curl("-o", "/dev/null", "-w", "%{http_code}", url .. "/none"))
    assert.equal("405", curl("-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", url .. "/one"))
    assert.equal(url .. "/sub/", curl("-o", "/dev/null", "-w", "%{redirect_url}", url .. "/sub"))
  end)

  it("wrk and h2load are counted to the request, and none fails", function()
    for _, path in ipairs { "/one", "/sub/16384.bin", "/sub/65537.bin" } do
      local before = requests_of(served)
      local result = assert(load.wrk { address = served.listen, path = path, connections = 32, seconds = 1 })
      for kind, count in pairs(result.errors) do assert.equal(0, count, kind .. " errors of " .. path) end
      -- wrk leaves with answers under way, which it does not count.
      local counted = loop.wait_until(function()
        local data = served:admin_get("~/stats?window=all").json.data
        return data.in_flight == 0 and data.requests_total - before
      end)
      assert.is_true(counted >= result.requests and counted <= result.requests + 32,
        ("%s: wrk %d, engine %d"):format(path, result.requests, counted))
    end
    local before = requests_of(served)
    local code, out, err = process.run { command = "h2load", timeout_ms = 30000,
      args = { "--h1", "-n", "5000", "-c", "20", "http://" .. served.listen .. "/sub/1000.bin" } }
    assert.equal(0, code, err)
    assert.matches("5000 succeeded, 0 failed, 0 errored, 0 timeout", out)
    assert.equal(5000, requests_of(served) - before)
  end)
end)

local APP = [[
import http.server, json, sys, time
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(body)
    def do_GET(self):
        if self.path.startswith("/slow"): time.sleep(0.05)
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(100):
                piece = (b"%d " % i) * 50
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"y" * 200000)
            return
        seen = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        self.answer(200, json.dumps(seen).encode())
    do_HEAD = do_GET
    def read_chunked(self):
        body = b""
        while True:
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0: return body
    def do_POST(self):
        if self.headers.get("Transfer-Encoding"): body = self.read_chunked()
        else: body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, body, "application/octet-stream")
    do_PUT = do_POST
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = Server(("127.0.0.1", 0), App)
print(server.server_address[1], flush=True)
server.serve_forever()
]]

describe("in front of a Python application", function()
  local folder, app, served, url
  setup(function()
    folder = files.temporary()
    files.write(folder .. "/app.py", APP)
    app = assert(process.start { command = "python3", args = { folder .. "/app.py" } })
    local port = loop.wait_until(function() return app:stdout():match("^(%d+)\n") end, 10000, "the application")
    served = engine.start { args = { "--upstream", "http://127.0.0.1:" .. port } }
    url = "http://" .. served.listen
  end)
  teardown(function()
    served:stop()
    app:stop()
    files.remove(folder)
  end)

  it("curl's bodies arrive whole, of known length and in chunks", function()
    local body = TREE["sub/1048576.bin"]
    files.write(folder .. "/body", body)
    for _, extra in ipairs { "X-None: y", "Transfer-Encoding: chunked", "Expect: 100-continue" } do
      for _, method in ipairs { "POST", "PUT" } do
        local got = curl("-X", method, "-H", extra, "--data-binary", "@" .. folder .. "/body", url .. "/echo")
        assert.is_true(got == body, extra .. ": " .. #got)
      end
    end
  end)

  it("answers in chunks and up to the close come through", function()
    local expected = {}
    for i = 0, 99 do expected[#expected + 1] = (i .. " "):rep(50) end
    assert.equal(table.concat(expected), curl(url .. "/chunked"))
    assert.equal(("y"):rep(200000), curl(url .. "/until-close"))
  end)

  it("the application is told who asked and how", function()
    local seen = require("dkjson").decode(curl("-H", "X-Forwarded-For: 10.1.2.3", "-H", "Host: shop.example", url .. "/who?a=%20b"))
    assert.equal("/who?a=%20b", seen.path)
    assert.matches("127.0.0.1$", seen.headers["x-forwarded-for"])
    assert.equal("http", seen.headers["x-forwarded-proto"])
    assert.equal("shop.example", seen.headers["x-forwarded-host"] or seen.headers.host)
  end)

  it("wrk's slow requests do not wait for each other", function()
    local result = assert(load.wrk { address = served.listen, path = "/slow", connections = 16, seconds = 2 })
    for kind, count in pairs(result.errors) do assert.equal(0, count, kind) end
    assert.is_true(result.rate > 16 / 0.05 / 3, "requests a second: " .. result.rate)
  end)

  it("h2load's requests are answered, all of them", function()
    local code, out = process.run { command = "h2load", timeout_ms = 30000,
      args = { "--h1", "-n", "2000", "-c", "10", url .. "/x" } }
    assert.equal(0, code)
    assert.matches("2000 succeeded, 0 failed, 0 errored, 0 timeout", out)
  end)

  it("what it did not survive is told as 502", function()
    app:kill("sigkill")
    app:wait()
    assert.equal("502", curl("-o", "/dev/null", "-w", "%{http_code}", url .. "/x"))
  end)
end)
