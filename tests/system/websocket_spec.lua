--- WebSocket tunnels: real server and client of another make, and hand-made handshakes.

local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"
local process = require "tests.support.process"

local KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" -- RFC 6455 1.3

local SERVER = [[
import asyncio, websockets
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
]]

local CLIENT = [[
import asyncio, os, sys, websockets
async def one(url, i):
    async with websockets.connect(url, max_size=None) as ws:
        for size in (0, 1, 125, 126, 65536, 3000000):
            text = os.urandom(size)
            await ws.send(text)
            assert await ws.recv() == text, size
        await asyncio.gather(*(ws.send("message %d" % n) for n in range(50)))
        got = [await ws.recv() for _ in range(50)]
        assert sorted(got) == sorted("message %d" % n for n in range(50))
async def main():
    await asyncio.gather(*(one(sys.argv[1], i) for i in range(5)))
    print("echoed", flush=True)
asyncio.run(main())
]]

local function handshake(options)
  options = options or {}
  local lines = { (options.method or "GET") .. " /chat HTTP/1.1", "Host: x", "Connection: " .. (options.connection or "Upgrade"),
    "Upgrade: " .. (options.upgrade or "websocket") }
  if options.key ~= false then lines[#lines + 1] = "Sec-WebSocket-Key: " .. (options.key or KEY) end
  if options.version ~= false then lines[#lines + 1] = "Sec-WebSocket-Version: " .. (options.version or "13") end
  if options.more then lines[#lines + 1] = options.more end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (options.body or "")
end

local ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
  .. ACCEPT .. "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"

describe("a WebSocket", function()
  local served, upstream, python, folder

  after_each(function()
    if served then served:stop() end
    if upstream then upstream:stop(true) end
    if python then python:stop() end
    if folder then files.remove(folder) end
    served, upstream, python, folder = nil, nil, nil, nil
  end)

  local function serve(address, ...)
    local args = { "--upstream", "http://" .. address }
    for _, arg in ipairs { ... } do args[#args + 1] = arg end
    served = engine.start { args = args, workers = 2 }
  end

  --- An upstream that answers the handshake with `answer` and then calls speak(conn).
  local function start_upstream(answer, speak)
    upstream = peer.start { connection = function(conn)
      if not conn:take_through("\r\n\r\n", loop.now_ms() + 5000) then return end
      conn:send(answer)
      if speak then speak(conn) end
    end }
    return upstream.address
  end

  it("of another make goes through, with messages of all sizes both ways", function()
    loop.run(function()
      folder = files.temporary("perilune-websocket")
      files.write_tree(folder, { ["server.py"] = SERVER, ["client.py"] = CLIENT })
      python = assert(process.start { command = "/usr/bin/python3", args = { folder .. "/server.py" } })
      local port = loop.wait_until(function() return python:stdout():match("(%d+)\n") end, 10000, "the echo server")
      serve("127.0.0.1:" .. port)
      local code, out, err = process.run { command = "/usr/bin/python3",
        args = { folder .. "/client.py", "ws://" .. served.listen .. "/" }, timeout_ms = 30000 }
      assert.equal(0, code, err)
      assert.equal("echoed\n", out)
      local text = served:admin_get("/metrics").body
      assert.equal("5", text:match("perilune_tunnels_total (%d+)"))
      assert.equal("5", text:match('perilune_responses_total{http_request_method="GET",http_route="/%*",status_class="1xx"} (%d+)'))
    end, 60000)
  end)

  it("is bytes both ways after a valid 101, and what comes at once with it is not lost", function()
    loop.run(function()
      serve(start_upstream(ACCEPTED .. "first", function(conn)
        local bytes = conn:take(5, loop.now_ms() + 5000)
        conn:send("[" .. tostring(bytes) .. "]")
        conn:read_until_close(5000)
      end))
      local c = served:connect()
      c:send(handshake() .. "early")
      local head = c:take_through("\r\n\r\n", loop.now_ms() + 5000)
      assert.truthy(head:find("^HTTP/1.1 101 "))
      assert.truthy(head:find("Sec%-WebSocket%-Accept: " .. ACCEPT:gsub("%p", "%%%0")))
      assert.truthy(head:find("Sec-WebSocket-Protocol: chat", 1, true))
      assert.truthy(head:find("Connection: Upgrade", 1, true))
      assert.is_nil(head:lower():find("content-length", 1, true))
      assert.equal("first[early]", c:take(12, loop.now_ms() + 5000))
      c:close()
      loop.wait_until(function() return upstream.connections[1].conn.ended end, 5000, "the upstream's end")
    end)
  end)

  it("tells one side when the other goes", function()
    loop.run(function()
      serve(start_upstream(ACCEPTED, function(conn)
        conn:take_through("bye", loop.now_ms() + 5000)
        conn:send("so long")
      end))
      local c = served:connect()
      c:send(handshake())
      c:take_through("\r\n\r\n", loop.now_ms() + 5000)
      c:send("bye")
      local rest, why = c:read_until_close(5000)
      assert.equal("so long", rest)
      assert.equal("eof", why)
    end)
  end)

  it("that is malformed is refused, and the upstream hears nothing of it", function()
    loop.run(function()
      serve(start_upstream(ACCEPTED))
      for name, options in pairs {
        ["no key"] = { key = false }, ["a short key"] = { key = "YWJj" }, ["no base64"] = { key = "!!!sample!!nonce!!!!!!!==" },
        ["two keys"] = { more = "Sec-WebSocket-Key: " .. KEY },
        ["a POST"] = { method = "POST" }, ["a body"] = { more = "Content-Length: 5", body = "hello" },
        ["an empty body"] = { more = "Content-Length: 0" },
        ["a chunked body"] = { more = "Transfer-Encoding: chunked", body = "0\r\n\r\n" },
      } do
        local c = served:connect()
        c:send(handshake(options))
        local response = assert(c:read_response())
        assert.equal(400, response.status, name)
        c:close()
      end
      local c = served:connect()
      c:send(handshake { version = "8" })
      local response = assert(c:read_response())
      assert.equal(426, response.status)
      assert.equal("13", response.headers["sec-websocket-version"])
      assert.equal("websocket", response.headers.upgrade)
      c:close()
      assert.equal(0, #upstream.connections)
    end)
  end)

  it("needs a 101 that answers its key", function()
    loop.run(function()
      for _, answer in ipairs {
        ACCEPTED:gsub("s3pP", "s3pQ"), ACCEPTED:gsub("Sec%-WebSocket%-Accept[^\r]*\r\n", ""),
        ACCEPTED:gsub("Upgrade: websocket", "Upgrade: h2c"), ACCEPTED:gsub("Connection: Upgrade\r\n", ""),
      } do
        serve(start_upstream(answer))
        local c = served:connect()
        c:send(handshake() .. "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        assert.equal(502, assert(c:read_response()).status)
        c:close()
        served:stop()
        upstream:stop(true)
        served, upstream = nil, nil
      end
    end, 20000)
  end)

  it("that the upstream refuses stays HTTP", function()
    loop.run(function()
      upstream = peer.start { answer = function(request)
        return peer.response(request.headers.upgrade and 403 or 200, {}, request.target)
      end }
      serve(upstream.address)
      local c = served:connect()
      c:send(handshake())
      assert.equal(403, assert(c:read_response()).status)
      local response = assert(c:request { path = "/after", keep_alive = true })
      assert.equal("/after", response.body)
      c:close()
    end)
  end)

  it("is all that may be upgraded to: h2c is never passed on", function()
    loop.run(function()
      upstream = peer.start()
      serve(upstream.address)
      for _, upgrade in ipairs { "h2c", "TLS/1.0", "websocket, h2c", "h2c, websocket" } do
        local c = served:connect()
        c:send(handshake { upgrade = upgrade, connection = "Upgrade, HTTP2-Settings", more = "HTTP2-Settings: AAMAAABk" })
        assert.equal(200, assert(c:read_response()).status)
        c:close()
      end
      for _, request in ipairs(upstream:requests()) do
        assert.is_nil(request.headers.upgrade)
        assert.is_nil(request.headers.connection)
        assert.is_nil(request.headers["http2-settings"])
      end
      -- An upstream cannot start one that nobody asked for.
      upstream.options.answer = function() return ACCEPTED, "close" end
      assert.equal(502, served:get("/").status)
    end)
  end)

  it("can be turned off", function()
    loop.run(function()
      serve(start_upstream(ACCEPTED), "--set", "upstream.websocket=false")
      local c = served:connect()
      c:send(handshake())
      assert.equal(403, assert(c:read_response()).status)
      c:close()
      assert.equal(0, #upstream.connections)
    end)
  end)

  it("in which nobody says anything is closed after its time, but not before", function()
    loop.run(function()
      serve(start_upstream(ACCEPTED, function(conn)
        for _ = 1, 6 do
          loop.sleep(100)
          conn:send("x")
        end
        conn:read_until_close(8000)
      end), "--set", "upstream.tunnel_idle_ms=300")
      local c = served:connect()
      c:send(handshake())
      c:take_through("\r\n\r\n", loop.now_ms() + 5000)
      local began = loop.now_ms()
      local rest = c:read_until_close(5000)
      assert.equal("xxxxxx", rest)
      local took = loop.now_ms() - began
      assert.is_true(took > 800 and took < 3000, "closed after " .. took)
      loop.wait_until(function() return upstream.connections[1].conn.ended end, 5000, "the upstream's end")
    end)
  end)

  it("waits for a slow side instead of filling memory", function()
    loop.run(function()
      local megabyte, sent = ("m"):rep(1048576), 0
      serve(start_upstream(ACCEPTED, function(conn)
        for _ = 1, 64 do
          if not conn:send(megabyte, 20000) then return end
          sent = sent + 1
        end
      end))
      local c = served:connect()
      c:send(handshake())
      c:take_through("\r\n\r\n", loop.now_ms() + 5000)
      local seen = -1
      loop.wait_until(function() -- until it moves no more
        local moved = sent ~= seen
        seen = sent
        if moved then loop.sleep(200) end
        return not moved
      end, 10000, "the sender to be held")
      assert.is_true(sent < 40, sent .. " MB went into the sky")
      local got = #c.buffer
      c.buffer = ""
      while got < 64 * 1048576 do
        assert(c:fill(5000))
        got = got + #c.buffer
        c.buffer = ""
      end
      assert.equal(64 * 1048576, got)
      c:close()
    end, 60000)
  end)

  it("has the grace of a shutdown, and then ends", function()
    loop.run(function()
      serve(start_upstream(ACCEPTED, function(conn)
        while conn:fill(8000) do
          conn:send(conn.buffer)
          conn.buffer = ""
        end
      end), "--set", "server.drain_ms=600")
      local c = served:connect()
      c:send(handshake())
      c:take_through("\r\n\r\n", loop.now_ms() + 5000)
      served.process:kill("sigterm")
      served:wait_log("draining", 5000)
      c:send("still there")
      assert.equal("still there", c:take(11, loop.now_ms() + 5000))
      local _, why = c:read_until_close(5000)
      assert.not_equal("timeout", why)
      assert.equal(0, (served.process:wait(5000)))
    end, 20000)
  end)
end)
