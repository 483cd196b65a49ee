--- The reverse proxy between a client and a recording upstream.

local engine = require "tests.support.engine"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"

local function proxy(upstream, options)
  options = options or {}
  local args = { "--upstream", "http://" .. upstream.address }
  for _, arg in ipairs(options.args or {}) do args[#args + 1] = arg end
  return engine.start { args = args, rules = options.rules, config = options.config, workers = options.workers }
end

local function soon(condition, what)
  loop.wait_until(condition, 5000, what)
end

describe("a proxied request", function()
  local upstream, served

  after_each(function()
    if served then served:stop() end
    if upstream then upstream:stop(true) end
    served, upstream = nil, nil
  end)

  it("reaches the upstream with its method, target, fields and body", function()
    loop.run(function()
      upstream = peer.start { answer = peer.response(201, { ["X-From"] = "upstream" }, "made") }
      served = proxy(upstream)
      local response = assert(served:request {
        method = "PUT", path = "/a%20b/c?x=1&y=%2F", headers = { ["X-Mine"] = "yes", ["Content-Type"] = "text/plain" }, body = "body",
      })
      assert.equal(201, response.status)
      assert.equal("made", response.body)
      assert.equal("upstream", response.headers["x-from"])
      local seen = upstream:requests()[1]
      assert.equal("PUT", seen.method)
      assert.equal("/a%20b/c?x=1&y=%2F", seen.target)
      assert.equal("yes", seen.headers["x-mine"])
      assert.equal("body", seen.body)
      assert.equal("4", seen.headers["content-length"])
    end)
  end)

  it("loses what belongs to one hop, and cannot nominate away what does not", function()
    loop.run(function()
      upstream = peer.start { answer = peer.response(200, { ["Keep-Alive"] = "timeout=5", Upgrade = "h2c" }, "ok") }
      served = proxy(upstream)
      local response = assert(served:request {
        headers = {
          Connection = "close, X-Secret, Cookie, X-Forwarded-For", ["X-Secret"] = "1", Cookie = "a=b", TE = "trailers",
          ["Keep-Alive"] = "timeout=5", ["Proxy-Connection"] = "keep-alive", ["Proxy-Authorization"] = "x",
        },
      })
      local seen = upstream:requests()[1].headers
      for _, name in ipairs { "x-secret", "te", "keep-alive", "proxy-connection", "proxy-authorization", "connection" } do
        assert.is_nil(seen[name], name)
      end
      assert.equal("a=b", seen.cookie)
      assert.is_nil(response.headers["keep-alive"])
      assert.is_nil(response.headers.upgrade)
    end)
  end)

  it("tells who asked, and does not believe the client about it", function()
    loop.run(function()
      upstream = peer.start()
      served = proxy(upstream)
      local forged = { ["X-Forwarded-For"] = "6.6.6.6", ["X-Real-IP"] = "6.6.6.6", Forwarded = "for=6.6.6.6" }
      served:request { headers = forged }
      local seen = upstream:requests()[1].headers
      assert.equal("127.0.0.1", seen["x-forwarded-for"])
      assert.equal("127.0.0.1", seen["x-real-ip"])
      assert.equal("http", seen["x-forwarded-proto"])
      assert.is_nil(seen.forwarded)
      served:stop()
      served = proxy(upstream, { args = { "--set", "server.trust_forwarded=true" } })
      served:request { headers = forged }
      local all = upstream:requests()
      assert.equal("6.6.6.6, 127.0.0.1", all[#all].headers["x-forwarded-for"])
    end)
  end)

  it("shares kept-alive upstream connections", function()
    loop.run(function()
      upstream = peer.start()
      served = proxy(upstream)
      for _ = 1, 20 do assert.equal(200, served:get("/").status) end
      assert.equal(1, #upstream.connections)
    end)
  end)

  it("is sent again when a kept connection had just been closed, but only if it is idempotent", function()
    loop.run(function()
      -- The first connection answers once, then closes when the next request arrives.
      upstream = peer.start {
        answer = function(_, entry)
          entry.count = (entry.count or 0) + 1
          if entry == upstream.connections[1] and entry.count == 2 then return nil, "close" end
          return peer.response(200, {}, "ok")
        end,
      }
      served = proxy(upstream)
      assert.equal(200, served:get("/").status)
      assert.equal(200, served:get("/").status)
      assert.equal(2, #upstream.connections)
      served:stop()
      upstream:stop(true)
      local fresh
      fresh = peer.start {
        answer = function(_, entry)
          entry.count = (entry.count or 0) + 1
          if entry.count == 2 then return nil, "close" end
          return peer.response(200, {}, "ok")
        end,
      }
      upstream = fresh
      served = proxy(upstream)
      assert.equal(200, served:get("/").status)
      assert.equal(502, served:request({ method = "POST", path = "/", body = "x" }).status)
      assert.equal(2, fresh.seen)
    end)
  end)

  it("gets 502 when nobody listens, as a problem document without inner details", function()
    loop.run(function()
      upstream = peer.start()
      upstream:stop_listening()
      served = proxy(upstream)
      local response = served:get("/")
      assert.equal(502, response.status)
      assert.equal("application/problem+json", response.headers["content-type"])
      assert.is_nil(response.body:find(tostring(upstream.port), 1, true))
      served:wait_log(tostring(upstream.port), 2000)
    end)
  end)

  it("gets 504 when the upstream does not answer in time", function()
    loop.run(function()
      upstream = peer.start { answer = function() loop.sleep(3000) end }
      served = proxy(upstream, { args = { "--set", "upstream.first_byte_timeout_ms=100" } })
      local response = served:get("/")
      assert.equal(504, response.status)
      soon(function() return upstream:open_connections() == 0 or upstream.connections[1].conn.ended end, "the connection cut")
    end)
  end)

  it("is visibly cut when the upstream dies inside its answer", function()
    loop.run(function()
      upstream = peer.start { answer = function() return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", "close" end }
      served = proxy(upstream)
      local response, why = served:get("/")
      assert.is_nil(response)
      assert.truthy(why)
      upstream.options.answer = function() return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n", "close" end
      response = served:get("/")
      assert.is_nil(response)
    end)
  end)

  it("is taken back from the upstream when the client goes", function()
    loop.run(function()
      upstream = peer.start {
        connection = function(conn, entry)
          conn:take_through("\r\n\r\n", loop.now_ms() + 5000)
          entry.asked = true
          entry.left = not conn:fill(10000)
        end,
      }
      served = proxy(upstream, { args = { "--set", "server.half_close_ms=100" } })
      for _, way in ipairs { "close", "abort" } do
        local c = served:connect()
        c:send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        local before = #upstream.connections
        soon(function()
          local last = upstream.connections[#upstream.connections]
          return last and last.asked and not last.left and #upstream.connections >= before
        end, "the request at the upstream")
        local entry = upstream.connections[#upstream.connections]
        c[way](c)
        soon(function() return entry.left end, "the upstream connection closed after " .. way)
      end
      soon(function() return served:admin_get("~/stats?window=all").json.data.aborted_total == 2 end, "two aborted requests")
    end)
  end)

  it("passes 64 MB both ways unharmed in little memory", function()
    loop.run(function()
      local piece = string.rep("0123456789abcdef", 4096) -- 64 KiB
      local pieces = 1024
      local function count_and_echo(conn)
        local head = conn:take_through("\r\n\r\n", loop.now_ms() + 5000)
        local length = tonumber(head:match("[Cc]ontent%-[Ll]ength: (%d+)"))
        conn:send("HTTP/1.1 200 OK\r\nContent-Length: " .. length .. "\r\n\r\n")
        local left = length
        while left > 0 do
          if #conn.buffer == 0 and not conn:fill(20000) then return end
          local bytes = conn.buffer
          conn.buffer = ""
          left = left - #bytes
          conn:send(bytes, 20000)
        end
      end
      upstream = peer.start { connection = count_and_echo }
      served = proxy(upstream)
      local c = served:connect()
      local at_first = served:worker_bytes()
      c:send(("POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"):format(pieces * #piece))
      local sender = loop.spawn(function()
        for _ = 1, pieces do assert(c:send(piece, 20000)) end
      end)
      local head = c:take_through("\r\n\r\n", loop.now_ms() + 10000)
      assert.truthy(head:find("200 OK", 1, true))
      local got, at = 0, 0
      while got < pieces * #piece do
        if #c.buffer == 0 then assert(c:fill(20000)) end
        local bytes = c.buffer
        c.buffer = ""
        local expected = (piece .. piece .. piece):sub(at + 1, at + #bytes)
        if #bytes <= 2 * #piece then assert.is_true(bytes == expected) end
        got, at = got + #bytes, (at + #bytes) % #piece
      end
      loop.join(sender)
      local grown = served:worker_bytes() - at_first
      assert.is_true(grown < 16 * 1024 * 1024, "the worker has grown by " .. grown)
      c:close()
    end, 60000)
  end)

  it("is framed anew: chunks up, chunks down, and to the end of the connection for HTTP/1.0", function()
    loop.run(function()
      upstream = peer.start { answer = function(request)
        return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyou\r\n5;x=y\r\n said\r\n"
          .. ("%x\r\n%s\r\n0\r\n\r\n"):format(#request.body + 1, " " .. request.body)
      end }
      served = proxy(upstream)
      local response = assert(served:request { method = "POST", path = "/", chunks = { "hel", "lo" } })
      assert.equal("you said hello", response.body)
      assert.equal("chunked", response.headers["transfer-encoding"])
      local c = served:connect()
      c:send("GET / HTTP/1.0\r\nHost: x\r\n\r\n")
      local text = c:read_until_close(5000)
      assert.truthy(text:find("you said ", 1, true))
      assert.is_nil(text:lower():find("transfer-encoding", 1, true))
    end)
  end)

  it("answers HEAD, 204 and 304 without a body, and drops interim answers", function()
    loop.run(function()
      upstream = peer.start { answer = function(request)
        if request.target == "/204" then return "HTTP/1.1 204 No Content\r\n\r\n" end
        if request.target == "/304" then return "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n" end
        if request.method == "HEAD" then return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" end
        return "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" .. peer.response(200, {}, "final")
      end }
      served = proxy(upstream)
      local c = served:connect()
      assert.equal(204, c:request({ path = "/204" }).status)
      assert.equal('"a"', c:request({ path = "/304" }).headers.etag)
      assert.equal("10", c:request({ method = "HEAD", path = "/" }).headers["content-length"])
      assert.equal("final", c:request({ path = "/" }).body)
      c:close()
    end)
  end)

  it("shows the phases that the upstream tells in Server-Timing", function()
    loop.run(function()
      upstream = peer.start { answer = peer.response(200, { ["Server-Timing"] = 'db;dur=12.5, redis;dur=.5;desc="x", other;dur=9' }, "ok") }
      served = proxy(upstream)
      for _ = 1, 5 do served:get("/") end
      local route = served:admin_get("~/stats?window=all").json.data.routes[1]
      assert.equal(5, route.phases_ms.db.count)
      assert.is_true(math.abs(route.phases_ms.db.mean - 12.5) < 0.01)
      assert.equal(5, route.phases_ms.redis.count)
      assert.is_true(route.phases_ms.upstream_first_byte.count == 5)
    end)
  end)

  it("makes a fast upstream wait for a slow client", function()
    loop.run(function()
      local sent = 0
      upstream = peer.start { connection = function(conn)
        conn:take_through("\r\n\r\n", loop.now_ms() + 5000)
        local piece = string.rep("x", 65536)
        conn:send("HTTP/1.1 200 OK\r\nContent-Length: " .. 65536 * 3000 .. "\r\n\r\n")
        for _ = 1, 3000 do
          if not conn:send(piece, 500) then return end
          sent = sent + #piece
        end
      end }
      served = proxy(upstream)
      local c = served:connect()
      local at_first = served:worker_bytes()
      c:send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
      c:fill(5000)
      local before = -1
      soon(function() -- it stops growing: everybody waits
        local same = before == sent
        before = sent
        loop.sleep(100)
        return same and sent > 0
      end, "the upstream to stall")
      assert.is_true(sent < 40 * 1024 * 1024, "sent " .. sent)
      local grown = served:worker_bytes() - at_first
      assert.is_true(grown < 16 * 1024 * 1024, "the worker has grown by " .. grown)
      c:close()
    end, 30000)
  end)
end)

describe("a proxy route", function()
  it("asks for the rest of its path, behind the middleware of its app", function()
    loop.run(function()
      local upstream = peer.start { answer = function(request) return peer.response(200, {}, request.target) end }
      local served = engine.start {
        config = ('return { upstreams = { backend = "http://%s", based = "http://%s/base/" } }'):format(upstream.address, upstream.address),
        rules = {
          ["routes/plain.lua"] = [[
            local p = require "perilune"
            local app = p.app()
            app:proxy("/legacy/*rest", "backend")
            app:proxy("/kept/*rest", "backend", { keep_path = true })
            app:proxy("/based/*rest", "based")
            app:get("/chosen", function(req) return p.forward("backend", "/from/lua") end)
            return app]],
          ["routes/guarded.lua"] = [[
            local app = require("perilune").app()
            app:use(function(req, next)
              if req.headers["x-key"] ~= "1" then return 401, { error = "no key" } end
              return next(req)
            end)
            app:proxy("/guarded/*rest", "backend")
            return app]],
        },
      }
      assert.equal("/a/b%2Fc?q=1", served:get("/legacy/a/b%2Fc?q=1").body)
      assert.equal("/kept/a", served:get("/kept/a").body)
      assert.equal("/base/a", served:get("/based/a").body)
      assert.equal("/from/lua", served:get("/chosen").body)
      assert.equal(401, served:get("/guarded/x").status)
      assert.equal("/x%20y", served:request({ path = "/guarded/x%20y", headers = { ["X-Key"] = "1" } }).body)
      assert.equal(404, served:get("/other").status)
      served:stop()
      upstream:stop(true)
    end)
  end)
end)

describe("perilune.http", function()
  it("makes requests from handlers and names what went wrong", function()
    loop.run(function()
      local upstream = peer.start { answer = function(request)
        if request.target == "/never" then loop.sleep(2000) return nil, "close" end
        if request.target == "/junk" then return "not http at all\r\n\r\n", "close" end
        return peer.response(200, { ["X-Method"] = request.method, ["X-Sent"] = request.headers["x-sent"] or "" }, request.body)
      end }
      local closed = http and peer.start()
      closed:stop_listening()
      local served = engine.start { rules = { ["routes/app.lua"] = ([[
        local p = require "perilune"
        local app = p.app()
        local base, closed = "http://%s", "http://%s"
        local function show(res, message, code)
          if not res then return { code = code, message = message } end
          return { status = res.status, body = res.body, method = res.headers["x-method"], sent = res.headers["x-sent"] }
        end
        app:get("/get", function() return show(p.http.get(base .. "/a", { headers = { ["X-Sent"] = "1" } })) end)
        app:get("/post", function() return show(p.http.post(base .. "/a", "some body")) end)
        app:get("/closed", function() return show(p.http.get(closed .. "/")) end)
        app:get("/never", function() return show(p.http.get(base .. "/never", { timeout_ms = 50 })) end)
        app:get("/junk", function() return show(p.http.get(base .. "/junk")) end)
        app:get("/bad", function() return show(p.http.get("ftp://x")) end)
        app:get("/inner", function()
          local co = coroutine.wrap(function() return show(p.http.get(base .. "/a")) end)
          return co()
        end)
        app:get("/typo", function() return show(p.http.request { url = base, metod = "GET" }) end)
        return app]]):format(upstream.address, closed.address) } }
      local json = require "dkjson"
      local function ask(path) return json.decode(served:get(path).body) end
      assert.same({ status = 200, body = "", method = "GET", sent = "1" }, ask("/get"))
      assert.same({ status = 200, body = "some body", method = "POST", sent = "" }, ask("/post"))
      assert.equal("connect", ask("/closed").code)
      assert.equal("timeout", ask("/never").code)
      assert.equal("protocol", ask("/junk").code)
      assert.equal("invalid", ask("/bad").code)
      assert.equal(200, ask("/inner").status)
      assert.equal(500, served:get("/typo").status)
      served:wait_log("did you mean 'method'", 2000)
      served:stop()
      upstream:stop(true)
      closed:stop(true)
    end)
  end)
end)

describe("a proxied request and its trace", function()
  local upstream, served

  after_each(function()
    if served then served:stop() end
    if upstream then upstream:stop(true) end
    served, upstream = nil, nil
  end)

  local TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

  local function seen_with(headers)
    served:request { headers = headers }
    local all = upstream:requests()
    return all[#all].headers
  end

  it("go on with a parent of their own, or begin", function()
    loop.run(function()
      upstream = peer.start()
      served = proxy(upstream)
      local seen = seen_with { traceparent = ("00-%s-%s-01"):format(TRACE, PARENT), tracestate = "a=1,b=2" }
      local trace, parent, flags = seen.traceparent:match("^00%-(%x+)%-(%x+)%-(%x%x)$")
      assert.equal(TRACE, trace)
      assert.not_equal(PARENT, parent)
      assert.equal(16, #parent)
      assert.equal("01", flags)
      assert.equal("a=1,b=2", seen.tracestate)
      assert.truthy(seen_with { traceparent = ("01-%s-%s-01-more"):format(TRACE, PARENT) }.traceparent:find(TRACE, 1, true))
      local ids = {}
      for _, invalid in ipairs {
        "", "00-" .. ("0"):rep(32) .. "-" .. PARENT .. "-01", ("ff-%s-%s-01"):format(TRACE, PARENT),
        ("00-%s-%s-01-more"):format(TRACE, PARENT), ("00-%s-%s-01"):format(TRACE, ("0"):rep(16)),
        ("00-%s-%s-1"):format(TRACE, PARENT), ("00-%s-%s-01"):format(TRACE:upper(), PARENT),
      } do
        seen = seen_with { traceparent = invalid ~= "" and invalid or nil, tracestate = "a=1" }
        trace, parent, flags = seen.traceparent:match("^00%-(%x+)%-(%x+)%-(%x%x)$")
        assert.equal(32, #trace)
        assert.is_nil(ids[trace])
        ids[trace] = true
        assert.not_equal(TRACE, trace)
        assert.equal(16, #parent)
        assert.equal("00", flags)
        assert.is_nil(seen.tracestate)
      end
    end)
  end)

  it("are left alone when that is turned off", function()
    loop.run(function()
      upstream = peer.start()
      served = proxy(upstream, { args = { "--set", "upstream.trace=false" } })
      local mine = ("00-%s-%s-01"):format(TRACE, PARENT)
      assert.equal(mine, seen_with({ traceparent = mine }).traceparent)
      assert.is_nil(seen_with({}).traceparent)
    end)
  end)

  it("let server-sent events through at once", function()
    loop.run(function()
      local go = false
      upstream = peer.start { connection = function(conn)
        conn:take_through("\r\n\r\n", loop.now_ms() + 5000)
        conn:send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i = 1, 3 do
          local event = ("data: %d\n\n"):format(i)
          conn:send(("%x\r\n%s\r\n"):format(#event, event))
          loop.wait_until(function() return go end, 5000, "the client to have the event")
          go = false
        end
        conn:send("0\r\n\r\n")
      end }
      served = proxy(upstream)
      local c = served:connect()
      c:send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
      for i = 1, 3 do -- the next event comes only after this one has arrived
        assert.truthy(c:take_through(("data: %d\n\n"):format(i), loop.now_ms() + 3000))
        go = true
      end
      assert.truthy(c:take_through("0\r\n\r\n", loop.now_ms() + 3000))
      c:close()
    end)
  end)

  it("keep an upstream out of it while a buffered body arrives, up to the bound", function()
    loop.run(function()
      upstream = peer.start { answer = function(request) return peer.response(200, {}, tostring(#request.body)) end }
      served = engine.start {
        config = ("return { upstreams = { backend = 'http://%s' }, settings = { ['upstream.buffer_request_bytes'] = 1000 } }"):format(upstream.address),
        rules = { ["routes/a.lua"] = "local app = require('perilune').app()\n"
          .. "app:proxy('/held', 'backend', { buffer_request = true, keep_path = true })\n"
          .. "app:proxy('/straight', 'backend', { keep_path = true })\nreturn app" },
      }
      local function begin(path, framing, first)
        local c = served:connect()
        c:send(("POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s"):format(path, framing, first))
        return c
      end
      local straight = begin("/straight", "Content-Length: 6", "abc")
      loop.wait_until(function() return #upstream.connections == 1 end, 5000, "the straight request at the upstream")
      local held = begin("/held", "Content-Length: 6", "abc")
      local chunked = begin("/held", "Transfer-Encoding: chunked", "3\r\nabc\r\n")
      straight:send("def")
      assert.equal("6", assert(straight:read_response()).body)
      assert.equal(200, served:admin_get("/livez").status)
      assert.equal(1, #upstream.connections)
      held:send("def")
      chunked:send("3\r\ndef\r\n0\r\n\r\n")
      assert.equal("6", assert(held:read_response()).body)
      assert.equal("6", assert(chunked:read_response()).body)
      local all = upstream:requests()
      assert.equal("6", all[#all].headers["content-length"])
      -- Above the bound it streams, and nothing is lost.
      local long = begin("/held", "Transfer-Encoding: chunked", "7d0\r\n" .. ("x"):rep(2000) .. "\r\n")
      local before = upstream.seen
      long:send("3\r\nend\r\n0\r\n\r\n")
      assert.equal("2003", assert(long:read_response()).body)
      local big = begin("/held", "Content-Length: 5000", ("y"):rep(5000))
      assert.equal("5000", assert(big:read_response()).body)
      assert.equal(before + 2, upstream.seen)
      -- A client that gives up in the middle leaves nothing behind.
      local gone = begin("/held", "Content-Length: 900", "part")
      gone:close()
      assert.equal("6", assert(begin("/held", "Content-Length: 6", "abcdef"):read_response()).body)
      for _, c in ipairs { straight, held, chunked, long, big } do c:close() end
    end)
  end)
end)
