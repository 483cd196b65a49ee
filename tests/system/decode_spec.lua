--- Request bodies with a content coding, where a policy has them decoded.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"
local process = require "tests.support.process"

local RULES = {
  ["routes/app.lua"] = [[
    local p = require "perilune"
    local app = p.app()
    local function tell(req)
      return 200, req.body, { ["X-Coding"] = req.headers["content-encoding"] or "none", ["X-Length"] = req.headers["content-length"] or "none" }
    end
    app:post("/echo", tell)
    app:post("/raw", tell)
    app:post("/name", function(req) return p.json.decode(req.body).name end)
    app:proxy("/to/*rest", "origin")
    return app
  ]],
  ["policies/compression.lua"] = 'return { decode_requests = true, routes = { ["/raw"] = { decode_requests = false } } }',
}

local folder

--- What another program makes of `text`.
local function encode(coding, text)
  files.write(folder .. "/plain", text)
  local commands = {
    gzip = { "python3", { "-c", "import gzip,sys; sys.stdout.buffer.write(gzip.compress(open(sys.argv[1],'rb').read()))" } },
    deflate = { "python3", { "-c", "import zlib,sys; sys.stdout.buffer.write(zlib.compress(open(sys.argv[1],'rb').read()))" } },
    zstd = { "zstd", { "-cq" } },
    br = { "brotli", { "-c" } },
  }
  local args = commands[coding][2]
  args[#args + 1] = folder .. "/plain"
  local code, out, err = process.run { command = commands[coding][1], args = args }
  assert.equal(0, code, err)
  return out
end

describe("a coded request body", function()
  local served, origin, last
  setup(function()
    folder = files.temporary()
    loop.run(function()
      origin = peer.start { answer = function(request)
        last = request
        return { body = tostring(#request.body) }
      end }
      served = engine.start { rules = RULES, config = ('return { upstreams = { origin = { "http://%s" } } }'):format(origin.address),
        args = { "--set", "server.body_bytes=4000000" } }
    end)
  end)
  teardown(function()
    loop.run(function()
      served:stop()
      origin:stop(true)
    end)
    files.remove(folder)
  end)

  local function post(path, coding, body)
    return served:request { method = "POST", path = path, headers = { ["Content-Encoding"] = coding }, body = body }
  end

  local function it_works(name, fn) it(name, function() loop.run(fn, 30000) end) end

  it_works("reaches handlers and upstreams plain, with a head that speaks of plain bytes", function()
    for _, coding in ipairs { "gzip", "deflate", "zstd", "br" } do
      for _, n in ipairs { 1, 1000, 100000 } do
        local lines = {}
        for i = 1, n do lines[i] = ("line %d is %d"):format(i, i * 7919 % 10007) end
        local text = table.concat(lines, "\n")
        local coded = encode(coding, text)
        local r = assert(post("/echo", coding, coded))
        assert.is_true(r.body == text, coding .. " " .. n)
        assert.same({ "none", "none" }, { r.headers["x-coding"], r.headers["x-length"] })
        r = assert(post("/to/x", coding, coded))
        assert.equal(tostring(#text), r.body)
        assert.is_nil(last.headers["content-encoding"])
        assert.is_true(last.body == text, coding .. " to an upstream")
      end
    end
    assert.equal("Ada", post("/name", "GZIP", encode("gzip", '{"name":"Ada"}')).body)
    assert.equal("Ada", post("/name", "identity", '{"name":"Ada"}').body)
  end)

  it_works("may come in any pieces, and be of no byte", function()
    local text = ("piece by piece "):rep(50)
    local coded = encode("gzip", text)
    local c = served:connect()
    c:send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i = 1, #coded do c:send(("1\r\n%s\r\n"):format(coded:sub(i, i))) end
    c:send("0\r\n\r\n")
    local r = assert(c:read_response())
    assert.equal(text, r.body)
    c:send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n")
    assert.same({ 200, "" }, { (assert(c:read_response())).status, "" })
    c:close()
  end)

  it_works("stays as it is where the policy does not say so", function()
    local coded = encode("gzip", "as it is")
    local r = post("/raw", "gzip", coded)
    assert.is_true(r.body == coded)
    assert.same({ "gzip", tostring(#coded) }, { r.headers["x-coding"], r.headers["x-length"] })
    assert.equal("anything", post("/raw", "x-own", "anything").body)
  end)

  it_works("in a coding that is not known is refused, with those that are", function()
    for _, coding in ipairs { "x-own", "gzip, gzip", 'a"b' } do
      local r = post("/echo", coding, "12345")
      assert.equal(415, r.status)
      assert.equal("gzip, deflate, zstd, br", r.headers["accept-encoding"])
      assert.equal("coding_unknown", r.body:match '"code":"([%w_]+)"')
    end
  end)

  it_works("that is damaged, or ends too early, is refused", function()
    local words = {}
    for i = 1, 20000 do words[i] = ("word %d "):format(i * 7919 % 10007) end
    local text = table.concat(words)
    for _, coding in ipairs { "gzip", "deflate", "zstd", "br" } do
      local coded = encode(coding, text)
      for _, path in ipairs { "/echo", "/to/x" } do
        local function refused(body, what)
          local r = assert(post(path, coding, body))
          assert.equal(400, r.status, what)
          assert.matches("Content%-Encoding", r.body)
        end
        refused("this is no coded body at all", coding)
        refused(coded:sub(1, -2), coding .. " cut")
        refused(coded .. "more", coding .. " and more")
      end
    end
  end)

  it_works("is bounded when plain: by its size and by its ratio", function()
    for _, coding in ipairs { "gzip", "zstd", "br" } do
      local bomb = encode(coding, ("\0"):rep(50000000))
      local before = served:worker_bytes()
      for _ = 1, 5 do assert.equal(413, assert(post("/echo", coding, bomb)).status) end
      local grown = served:worker_bytes() - before
      assert.is_true(grown < 16 * 1048576, coding .. " has grown the worker by " .. grown)
      assert.equal(413, assert(post("/echo", coding, encode(coding, ("\0"):rep(1000000)))).status, "by its ratio")
    end
    assert.equal("still here", served:request { method = "POST", path = "/echo", body = "still here" }.body)
  end)

  it_works("waits for the upstream that takes it", function()
    local blob = {}
    local x = 7
    for i = 1, 300000 do x = (x * 1103515245 + 12345) % 2147483648 blob[i] = ("%d\n"):format(x % 1000) end
    local text = table.concat(blob)
    local slow = peer.start { connection = function(conn)
      conn:take_through("\r\n\r\n", loop.now_ms() + 5000)
      local got, last_chunk = 0, ""
      while not last_chunk:find "0\r\n\r\n$" do
        if #conn.buffer == 0 and not conn:fill(5000) then return end
        got, last_chunk = got + #conn.buffer, (last_chunk .. conn.buffer):sub(-8)
        conn.buffer = ""
      end
      conn:send(peer.response(200, {}, tostring(got)))
    end }
    local own = engine.start { rules = { ["policies/compression.lua"] = "return { decode_requests = true }" },
      args = { "--upstream", "http://" .. slow.address } }
    local c = own:connect()
    c:send(http.build { method = "POST", path = "/", headers = { ["Content-Encoding"] = "gzip" }, body = encode("gzip", text) })
    local r = assert(c:read_response())
    assert.is_true(tonumber(r.body) >= #text)
    own:stop()
    slow:stop(true)
  end)
end)
