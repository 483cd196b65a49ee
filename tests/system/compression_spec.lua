--- Compressed answers as real decoders and clients see them.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local peer = require "tests.support.peer"
local process = require "tests.support.process"

local APP = [[
local p = require "perilune"
local app = p.app()
local function body(n)
  local rows = {}
  for i = 1, n do rows[i] = ('{"id":%d,"name":"user %d","email":"user%d@example.org"}'):format(i, i * 7919 % 1000, i) end
  return "[" .. table.concat(rows, ",") .. "]"
end
local JSON = { ["Content-Type"] = "application/json" }
app:get("/json/:n", function(req) return 200, body(tonumber(req.params.n)), JSON end)
app:get("/tagged", function() return 200, body(100), { ["Content-Type"] = "application/json", ETag = '"v1"',
  ["Accept-Ranges"] = "bytes", ["Content-MD5"] = "Q2hlY2sgSW50ZWdyaXR5IQ==", Vary = "Origin" } end)
app:get("/weak", function() return 200, body(100), { ["Content-Type"] = "application/json", ETag = 'W/"v1"', Vary = "accept-encoding" } end)
app:get("/fixed", function() return 200, body(100), { ["Content-Type"] = "application/json", ["Cache-Control"] = "public, no-transform" } end)
app:get("/image", function() return 200, body(100), { ["Content-Type"] = "image/png" } end)
app:get("/coded", function() return 200, body(100), { ["Content-Type"] = "application/json", ["Content-Encoding"] = "x-own" } end)
app:get("/part", function() return 206, body(100), { ["Content-Type"] = "application/json", ["Content-Range"] = "bytes 0-99/1000" } end)
app:get("/unchanged", function() return 304, nil, { ETag = '"v1"' } end)
app:get("/nothing", function() return 204, nil, { ["Content-Type"] = "application/json" } end)
app:get("/off", function() return 200, body(100), JSON end)
app:get("/stream/:n", function(req)
  local n = tonumber(req.params.n)
  return 200, function(write) for i = 1, n do if not write(("line %d of a stream\n"):format(i)) then return end end end,
    { ["Content-Type"] = "text/plain" }
end)
app:get("/random", function()
  local bytes, x = {}, 7
  for i = 1, 4000 do x = (x * 1103515245 + 12345) % 2147483648 bytes[i] = string.char(x / 65536 % 256) end
  return 200, table.concat(bytes), { ["Content-Type"] = "text/plain" }
end)
local turn = 0
app:get("/next", function() turn = turn + 1 return "ok" end)
app:get("/events", function()
  return 200, function(write)
    turn = 0
    for i = 1, 5 do -- the next one only when the client has this one, and says so
      if not write(("data: event %d\n\n"):format(i)) then return end
      while turn < i do p.sleep(0.002) end
    end
  end, { ["Content-Type"] = "text/event-stream" }
end)
app:get("/hello", function() return "hello" end)
return app
]]

-- On a busy machine compression would step aside; what it does then has a test of its own.
local CALM = { ["policies/compression.lua"] = "return { cpu_high = 1, cpu_full = 1 }", ["routes/app.lua"] = APP }

local folder
local DECODE = [==[
import sys, gzip, zlib
data = sys.stdin.buffer.read() if len(sys.argv) < 3 else open(sys.argv[2], "rb").read()
sys.stdout.buffer.write({"gzip": gzip.decompress, "deflate": zlib.decompress}[sys.argv[1]](data))
]==]

--- What another program makes of a coded body.
local function decode(coding, bytes)
  files.write(folder .. "/coded", bytes)
  local command, args = "python3", { folder .. "/decode.py", coding, folder .. "/coded" }
  if coding == "zstd" then command, args = "zstd", { "-dcq", folder .. "/coded" } end
  if coding == "br" then command, args = "brotli", { "-dc", folder .. "/coded" } end
  local code, out, err = process.run { command = command, args = args, timeout_ms = 20000 }
  assert.equal(0, code, err)
  return out
end

local function ask(served, path, accept, more)
  local headers = { ["Accept-Encoding"] = accept }
  for name, value in pairs(more or {}) do headers[name] = value end
  return assert(served:request { path = path, headers = headers })
end

describe("an answer", function()
  local served
  setup(function()
    folder = files.temporary()
    files.write(folder .. "/decode.py", DECODE)
    served = engine.start { rules = { ["routes/app.lua"] = APP,
      ["policies/compression.lua"] = 'return { cpu_high = 1, cpu_full = 1, routes = { ["/off"] = false } }' } }
  end)
  teardown(function()
    served:stop()
    files.remove(folder)
  end)

  local function it_works(name, fn) it(name, function() loop.run(fn, 30000) end) end

  it_works("is compressed in each coding, and decoders of others read it", function()
    for _, n in ipairs { 20, 200, 20000 } do
      local path = "/json/" .. n
      local plain = served:get(path)
      assert.is_nil(plain.headers["content-encoding"])
      for _, coding in ipairs { "gzip", "deflate", "zstd", "br" } do
        local r = ask(served, path, coding)
        assert.equal(coding, r.headers["content-encoding"])
        assert.equal("Accept-Encoding", r.headers["vary"])
        assert.is_true(#r.body < #plain.body / 2, coding .. " " .. #r.body)
        assert.equal(tostring(#r.body), r.headers["content-length"])
        assert.is_true(decode(coding, r.body) == plain.body, coding)
      end
    end
  end)

  it_works("takes the coding that the client likes, and none that it refuses", function()
    for accept, expected in pairs {
      ["gzip, br;q=0.5"] = "gzip", ["gzip;q=0.2, br;q=0.9"] = "br", ["*"] = "zstd", ["*;q=0"] = false,
      ["identity"] = false, ["gzip;q=0"] = false, ["x-unknown"] = false, ["gzip, deflate, br, zstd"] = "zstd",
      ["identity;q=1, gzip;q=0.5"] = false, ["GZIP"] = "gzip", ["x-gzip"] = "gzip",
    } do
      assert.equal(expected or nil, ask(served, "/json/100", accept).headers["content-encoding"], accept)
    end
    assert.is_nil(served:get("/json/100").headers["content-encoding"])
  end)

  it_works("has a head that fits its body", function()
    local r = ask(served, "/tagged", "gzip")
    assert.equal('W/"v1"', r.headers.etag)
    assert.equal("Origin, Accept-Encoding", r.headers.vary)
    assert.is_nil(r.headers["accept-ranges"])
    assert.is_nil(r.headers["content-md5"])
    r = ask(served, "/tagged", "x-unknown")
    assert.equal('"v1"', r.headers.etag)
    assert.equal("Origin, Accept-Encoding", r.headers.vary)
    assert.equal("bytes", r.headers["accept-ranges"])
    r = ask(served, "/weak", "gzip")
    assert.equal('W/"v1"', r.headers.etag)
    assert.equal("accept-encoding", r.headers.vary)
    r = ask(served, "/unchanged", "gzip", { ["If-None-Match"] = 'W/"v1"' })
    assert.equal('W/"v1"', r.headers.etag)
    r = assert(served:request { method = "HEAD", path = "/json/100", headers = { ["Accept-Encoding"] = "gzip" } })
    assert.equal("gzip", r.headers["content-encoding"])
    assert.is_nil(r.headers["content-length"])
    assert.equal("", r.body)
  end)

  it_works("stays as it is where it must", function()
    for _, path in ipairs { "/fixed", "/image", "/part", "/off", "/json/2", "/random" } do
      assert.is_nil(ask(served, path, "gzip").headers["content-encoding"], path)
    end
    assert.equal("x-own", ask(served, "/coded", "gzip").headers["content-encoding"])
    assert.is_nil(ask(served, "/json/100", "gzip", { ["Cache-Control"] = "no-transform" }).headers["content-encoding"])
    local other_site = { Cookie = "s=1", Referer = "https://elsewhere.example/" }
    assert.is_nil(ask(served, "/json/100", "gzip", other_site).headers["content-encoding"])
  end)

  it_works("that is streamed is compressed, short or long", function()
    for _, n in ipairs { 100, 20000 } do
      local plain = served:get("/stream/" .. n).body
      for _, coding in ipairs { "gzip", "deflate", "zstd", "br" } do
        local r = ask(served, "/stream/" .. n, coding)
        assert.equal(coding, r.headers["content-encoding"])
        assert.is_true(#r.body < #plain / 2)
        assert.is_true(decode(coding, r.body) == plain, coding .. " of " .. n)
      end
    end
  end)

  it_works("of events stays alive: each is there before the next is sent", function()
    for _, coding in ipairs { "gzip", "br", "zstd" } do
      local c = served:connect()
      c:send(http.build { path = "/events", headers = { ["Accept-Encoding"] = coding } })
      local head = c:take_through("\r\n\r\n", loop.now_ms() + 5000)
      assert.matches("[Cc]ontent%-[Ee]ncoding: " .. coding, head)
      for i = 1, 5 do
        assert.is_true(#c.buffer > 0 or c:fill(5000) == true, ("event %d in %s"):format(i, coding))
        c.buffer = ""
        assert.equal("ok", served:get("/next").body)
      end
      c:close()
    end
  end)

  it_works("without a body stays without one", function()
    local r = ask(served, "/nothing", "gzip")
    assert.equal(204, r.status)
    assert.same({ nil, nil, "" }, { r.headers["content-encoding"], r.headers["content-length"], r.body })
  end)

  it_works("may lose its client at any time", function()
    for i = 1, 60 do
      local c = served:connect()
      c:send(http.build { path = i % 2 == 0 and "/stream/20000" or "/json/20000",
        headers = { ["Accept-Encoding"] = ({ "gzip", "br", "zstd" })[i % 3 + 1] } })
      if i % 4 == 0 then c:fill(1000) end
      c:close()
    end
    loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight == 0 end)
    assert.equal("hello", served:get("/hello").body)
  end)

  it_works("is counted by route and coding, with the reason of what was left", function()
    local own = engine.start { rules = CALM }
    local r
    for _ = 1, 3 do r = ask(own, "/json/2000", "br") end
    for _ = 1, 2 do ask(own, "/image", "gzip") end
    for _ = 1, 4 do ask(own, "/random", "gzip") end
    ask(own, "/json/2", "gzip")
    ask(own, "/json/100", "gzip;q=0")
    local plain = #own:get("/json/2000").body
    local data = own:admin_get("~/compression").json.data
    local by_route = {}
    for _, route in ipairs(data.routes) do by_route[route.route] = route end
    local json = by_route["/json/:n"]
    assert.same({ "br", 3, 3 * plain, 3 * #r.body }, { json.codings[1].coding, json.codings[1].bodies, json.codings[1].bytes_in,
      json.codings[1].bytes_out })
    assert.is_true(json.codings[1].cpu_s > 0 and math.abs(json.codings[1].ratio - #r.body / plain) < 1e-9)
    assert.equal(1, json.skipped.small)
    assert.equal(1, json.skipped.not_accepted)
    assert.equal(2, by_route["/image"].skipped.type)
    local vain = by_route["/random"] -- what was tried for nothing took time all the same
    assert.same({ 4, 0, 1 }, { vain.skipped.not_smaller, vain.codings[1].bodies, vain.codings[1].ratio })
    assert.is_true(vain.codings[1].cpu_s > 0)
    assert.equal(3 * (plain - #r.body), data.total.saved_bytes)
    assert.is_true(data.enabled)
    local metrics = own:admin_get("/metrics").body
    assert.matches('perilune_compressed_bodies_total{http_request_method="GET",http_route="/json/:n",coding="br"} 3\n', metrics, 1, true)
    assert.matches('perilune_compression_skipped_total{http_request_method="GET",http_route="/image",reason="type"} 2\n', metrics, 1, true)
    own:stop()
  end)

  it_works("gets lighter under load, and is left alone when the machine is saturated", function()
    local function counts(own)
      local route = own:admin_get("~/compression").json.data.routes[1]
      return route.lowered, route.skipped.cpu
    end
    local policy = "return { gzip = 9, cpu_high = 0.0001, cpu_full = 0.0002, lag_full_ms = %d }"
    local own = engine.start { rules = { ["routes/app.lua"] = APP, ["policies/compression.lua"] = policy:format(60000) } }
    local dense = #ask(served, "/json/2000", "gzip").body
    loop.wait_until(function()
      local r = ask(own, "/json/2000", "gzip")
      return r.headers["content-encoding"] == "gzip" and #r.body >= dense and counts(own) > 0
    end)
    own:write_rule("policies/compression.lua", policy:format(0))
    loop.wait_until(function()
      local r = ask(own, "/json/2000", "gzip")
      return not r.headers["content-encoding"] and select(2, counts(own)) > 0
    end)
    own:stop()
  end)

  it_works("is asked for by curl in its usual way", function()
    local plain = served:get("/json/500").body
    local code, out = process.run { command = "curl", args = { "-sS", "--compressed", "http://" .. served.listen .. "/json/500" } }
    assert.equal(0, code)
    assert.is_true(out == plain)
  end)
end)

describe("compression of what others answer", function()
  setup(function()
    folder = files.temporary()
    files.write(folder .. "/decode.py", DECODE)
  end)
  teardown(function() files.remove(folder) end)

  it("works on nginx's files, and leaves what nginx has compressed", function()
    loop.run(function()
      local text = ("a line of a file that nginx serves\n"):rep(20000)
      local origin = nginx.start { files = { ["a.txt"] = text, ["z/b.txt"] = text },
        server = "location /z/ { gzip on; gzip_types text/plain; gzip_min_length 1; }" }
      local served = engine.start { rules = { ["policies/compression.lua"] = CALM["policies/compression.lua"] },
        args = { "--upstream", "http://" .. origin.address } }
      for _, path in ipairs { "/a.txt", "/z/b.txt" } do
        local r = ask(served, path, "gzip")
        assert.equal("gzip", r.headers["content-encoding"])
        assert.is_true(decode("gzip", r.body) == text, path)
      end
      local r = ask(served, "/a.txt", "gzip", { Range = "bytes=0-9" })
      assert.equal(206, r.status)
      assert.equal(text:sub(1, 10), r.body)
      served:stop()
      origin:stop()
    end, 30000)
  end)

  it("keeps an event stream of an upstream alive: each is there before the next is sent", function()
    loop.run(function()
      local said, heard
      local origin = peer.start { connection = function(conn)
        if not conn:take_through("\r\n\r\n", loop.now_ms() + 5000) then return end
        conn:send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i = 1, 5 do
          local event = ("data: event %d\n\n"):format(i)
          if not conn:send(("%x\r\n%s\r\n"):format(#event, event)) then return end
          said = i
          loop.wait_until(function() return heard == i end)
        end
        conn:send("0\r\n\r\n")
      end }
      local served = engine.start { rules = { ["policies/compression.lua"] = CALM["policies/compression.lua"] },
        args = { "--upstream", "http://" .. origin.address } }
      for _, coding in ipairs { "gzip", "br", "zstd" } do
        said, heard = 0, 0
        local c = served:connect()
        c:send(http.build { path = "/events", headers = { ["Accept-Encoding"] = coding } })
        assert.matches("[Cc]ontent%-[Ee]ncoding: " .. coding, c:take_through("\r\n\r\n", loop.now_ms() + 5000))
        for i = 1, 5 do
          assert.is_true(#c.buffer > 0 or c:fill(5000) == true, ("event %d in %s"):format(i, coding))
          assert.equal(i, said)
          c.buffer = ""
          heard = i
        end
        c:close()
      end
      served:stop()
      origin:stop(true)
    end, 30000)
  end)

  it("takes constant memory, and a cut answer stays visibly cut", function()
    loop.run(function()
      local piece = ("0123456789abcdef"):rep(4096)
      local origin = peer.start { connection = function(conn)
        while true do
          local head = conn:take_through("\r\n\r\n", loop.now_ms() + 20000)
          if not head then return end
          local cut = head:find("GET /cut", 1, true)
          conn:send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " .. 1024 * #piece .. "\r\n\r\n")
          for _ = 1, cut and 10 or 1024 do
            if not conn:send(piece, 20000) then return end
          end
          if cut then return conn:close() end
        end
      end }
      local served = engine.start { rules = { ["policies/compression.lua"] = CALM["policies/compression.lua"] },
        args = { "--upstream", "http://" .. origin.address } }
      assert.equal(200, ask(served, "/warm", "gzip").status)
      local at_first = served:worker_bytes()
      local r = ask(served, "/big", "gzip")
      assert.is_true(decode("gzip", r.body) == piece:rep(1024))
      local grown = served:worker_bytes() - at_first
      assert.is_true(grown < 16 * 1048576, "the worker has grown by " .. grown)
      local response = served:request { path = "/cut", headers = { ["Accept-Encoding"] = "gzip" } }
      assert.is_nil(response)
      served:stop()
      origin:stop()
    end, 60000)
  end)

  it("makes each coded body of a cached answer once", function()
    loop.run(function()
      local asked, text = 0, ("a line of an answer that is cached\n"):rep(3000)
      local origin = peer.start { answer = function()
        asked = asked + 1
        return { headers = { ["Content-Type"] = "text/plain", ["Cache-Control"] = "max-age=60", ETag = '"v' .. asked .. '"' },
          body = text .. asked }
      end }
      local served = engine.start { rules = { ["policies/cache.lua"] = 'return { mode = "on" }',
        ["policies/compression.lua"] = 'return { gzip = 6, br = 5, cpu_high = 1, cpu_full = 1 }' },
        args = { "--upstream", "http://" .. origin.address } }
      local function reused() return served:admin_get("~/compression").json.data.routes[1].reused end
      local function seconds() return served:admin_get("~/compression").json.data.total.cpu_s end
      local function until_reused(coding, version)
        local before, r = reused(), nil
        loop.wait_until(function()
          r = ask(served, "/text", coding)
          return reused() > before
        end, 5000, coding .. " from the store")
        assert.equal(coding, r.headers["content-encoding"])
        assert.equal(('W/"v%d"'):format(version), r.headers.etag)
        assert.equal("Accept-Encoding", r.headers.vary)
        assert.matches("hit", r.headers["cache-status"])
        assert.is_true(decode(coding, r.body) == text .. version)
      end
      ask(served, "/text", "gzip")
      for _, coding in ipairs { "gzip", "br", "gzip" } do until_reused(coding, 1) end
      local spent, times = seconds(), reused()
      for _ = 1, 20 do ask(served, "/text", "gzip") end
      assert.same({ times + 20, spent }, { reused(), seconds() })
      assert.equal(1, asked)
      assert.is_true(served:get("/text").body == text .. 1)
      local purged = served:admin_request { method = "POST", path = "/api/v1/performance-optimization/cache/purge",
        json = { url = "http://localhost/text" } }
      assert.equal(3, purged.json.data.purged) -- the answer and its two codings
      ask(served, "/text", "br")
      until_reused("br", 2)
      served:stop()
      origin:stop(true)
    end, 30000)
  end)

  it("has levels for sizes", function()
    loop.run(function()
      local served = engine.start { rules = { ["routes/app.lua"] = APP, ["policies/compression.lua"] =
        "return { gzip = { { level = 6, up_to = 20000 }, { level = 1 } }, zstd = 6, cpu_high = 1, cpu_full = 1 }" } }
      local function sizes() return { #ask(served, "/json/200", "gzip").body, #ask(served, "/json/2000", "gzip").body } end
      local mixed = sizes()
      local function until_file(text)
        local before = served:admin_get("~/generations").json.data.active
        files.write(served.rules .. "/policies/compression.lua", text)
        loop.wait_until(function() return served:admin_get("~/generations").json.data.active ~= before end)
      end
      until_file("return { gzip = 1, cpu_high = 1, cpu_full = 1 }")
      local light
      loop.wait_until(function() light = sizes() return light[1] > mixed[1] end)
      until_file("return { gzip = 6, cpu_high = 1, cpu_full = 1 }")
      local dense
      loop.wait_until(function() dense = sizes() return dense[1] < light[1] and dense[2] < light[2] end)
      assert.same({ dense[1], light[2] }, mixed)
      for text, message in pairs {
        ["{ { level = 6 }, { level = 1 } }"] = "'gzip' number 1 needs 'up_to', in bytes and more than that before it",
        ["{ { level = 6, up_to = 100 } }"] = "'gzip' number 1 is for all larger bodies and has no 'up_to'",
        ["{ { level = 60 } }"] = "'gzip' number 1 is { level = 0 to 12, up_to = bytes }",
        ["{}"] = "'gzip' lists one to 4 levels, not 0",
        ["'six'"] = "'gzip' is a whole number from 0 to 12, or a list of levels by size",
      } do
        files.write(served.rules .. "/policies/compression.lua", "return { gzip = " .. text .. " }")
        served:wait_log(message)
      end
      served:stop()
    end, 30000)
  end)

  it("follows its settings and its file while it runs", function()
    loop.run(function()
      local served = engine.start { rules = CALM, args = { "--set", "compression.min_bytes=100000" } }
      assert.is_nil(ask(served, "/json/100", "gzip").headers["content-encoding"])
      files.write(served.rules .. "/policies/compression.lua", "return { min_bytes = 100, gzip = 9, cpu_high = 1, cpu_full = 1 }")
      loop.wait_until(function() return ask(served, "/json/100", "gzip").headers["content-encoding"] == "gzip" end)
      files.write(served.rules .. "/policies/compression.lua", "return { gzip = 99 }")
      served:wait_log("'gzip' is from 0 to 12, not 99")
      assert.equal("gzip", ask(served, "/json/100", "gzip").headers["content-encoding"])
      served:stop()
      served = engine.start { rules = { ["routes/app.lua"] = APP }, args = { "--set", "compression.enabled=false" } }
      assert.is_nil(ask(served, "/json/100", "gzip").headers["content-encoding"])
      served:stop()
    end, 30000)
  end)
end)
