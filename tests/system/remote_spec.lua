--- The library in a program on another machine than the engine: it sends what it measured over HTTP.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local process = require "tests.support.process"
local programs = require "tests.support.programs"

local HEAD, environment, good = programs.HEAD, programs.environment, programs.good

local function route_of(served, name)
  local data = assert(served:admin_get "~/stats?window=all").json.data
  for _, one in ipairs(data.routes) do
    if one.route == name then return one, data end
  end
  return { requests = 0 }, data
end

local function until_requests(served, name, n)
  loop.wait_until(function() return route_of(served, name).requests >= n end, 10000, n .. " requests of " .. name)
  local route, data = route_of(served, name)
  assert.equal(n, route.requests)
  return route, data
end

describe("attached to an engine on another machine", function()
  local served
  setup(function() served = engine.start { args = { "--set", "attach.guests=3" } } end)
  teardown(function() served:stop() end)

  it("a program is part of its statistics, with phases, sizes and the traces of slow requests", function()
    local said = good([[
      local engine = assert(perilune.attach("http://" .. arg[2]))
      for i = 1, 300 do
        local span = engine:start("POST", "/far/:id")
        span:phase("db", 4)
        span:finish { status = i % 100 == 0 and 503 or 200, bytes = 1000, bytes_in = 50, ms = 10 }
      end
      engine:start("GET", "/far/slow"):finish { status = 200, ms = 5000, trace_id = ("ab"):rep(16) }
      engine:start("GET", "/far/left"):finish { status = 0, ms = 1 }
      local open = engine:start("GET", "/far/open")
      say { info = engine:info(), value = results(engine:value "compression.min_bytes"), stats = results(pcall(engine.stats, engine)), tick = results(engine:tick()) }
      engine:close() -- sends what is left
    ]], { args = { served.admin } })
    assert.same({ mode = "attached", admin = served.admin, lost = 0 }, said[1].info)
    assert.same({ { "nil" }, { true } }, { said[1].value, said[1].tick })
    assert.matches("an attached engine is asked at http://" .. served.admin:gsub("%p", "%%%0"), said[1].stats[2])
    loop.run(function()
      local far, data = until_requests(served, "/far/:id", 300)
      assert.same({ "POST", 0.01, 300000, 15000 }, { far.method, far.error_rate, far.bytes_out, far.bytes_in })
      assert.is_true(math.abs(far.latency_ms.p50 - 10) < 0.2, far.latency_ms.p50)
      assert.is_true(math.abs(far.phases_ms.db.mean - 4) < 0.01)
      assert.equal(1, route_of(served, "/far/left").requests)
      local slow
      for _, one in ipairs(data.slow_requests) do if one.route == "/far/slow" then slow = one end end
      assert.same({ ("ab"):rep(16), 5000, "GET" }, { slow.trace_id, slow.latency_ms, slow.method })
      local entries = assert(served:admin_get "~/audit").json.data.entries
      for _, one in ipairs(entries) do assert.is_nil(one.path:find "parcels") end
    end, 20000)
  end)

  it("a short program that did not wait for an answer is one too", function()
    good([[
      local engine = assert(perilune.attach("http://" .. arg[2], { lazy = true }))
      local there, why = engine:tick()
      assert(there == nil and why:find "has not answered yet", why)
      for _ = 1, 20 do engine:start("GET", "/brief"):finish() end
      engine:close()
    ]], { args = { served.admin } })
    loop.run(function() until_requests(served, "/brief", 20) end, 20000)
  end)

  it("each fork tells what is its own", function()
    good([[
      local engine = assert(perilune.attach("http://" .. arg[2]))
      local ffi = require "ffi"
      ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      for _ = 1, 500 do engine:start("GET", "/forked"):finish() end
      local pids = {}
      for i = 1, 2 do
        pids[i] = ffi.C.fork()
        if pids[i] == 0 then
          for _ = 1, 100 do engine:start("GET", "/forked"):finish() end
          engine:close()
          ffi.C._exit(0)
        end
      end
      local status = ffi.new "int[1]"
      for i = 1, 2 do ffi.C.waitpid(pids[i], status, 0) assert(status[0] == 0) end
      for _ = 1, 30 do engine:start("GET", "/forked"):finish() end
      local open = engine:start("GET", "/forked")
      engine:close()
      if ffi.C.fork() == 0 then
        open:finish() -- of an engine that was closed before the fork
        ffi.C._exit(0)
      end
      ffi.C.waitpid(-1, status, 0)
      assert(status[0] == 0)
    ]], { args = { served.admin } })
    loop.run(function() until_requests(served, "/forked", 730) end, 20000)
  end)

  it("a program is told what is wrong", function()
    local guarded = engine.start { config = [[return { admin_tokens = {
      { name = "reader", role = "read", token = "the-token-that-reads" }, { name = "sender", role = "operate", token = "the-token-that-sends" } } }]] }
    local said = good([[
      local function why(...)
        local ok, engine, message = pcall(perilune.attach, ...)
        if not ok then return engine end
        return engine == nil and message or "fine"
      end
      say { why "https://engine:8001", why "http://", why "http://engine:no", why "http://engine:8001/path", why("http://127.0.0.1:" .. arg[4]), why "http://no.such.name.invalid:1",
        why("http://" .. arg[2]), why("http://" .. arg[2], { token = "the-token-that-reads" }), why("http://" .. arg[2], { token = "the-token-that-sends" }),
        why("http://" .. arg[3]), why("http://" .. arg[2], { token = "a\r\nb" }), why("http://x", { tokn = "a" }), why("http://x", { routes_max = 7 }) }
    ]], { args = { guarded.admin, guarded.listen, tostring(nginx.free_port()) } })[1]
    guarded:stop()
    assert.matches("reached by http:// here; put a proxy that speaks TLS before it on this machine", said[1])
    for i = 2, 4 do assert.matches("is http://host:port, as in http://10.0.0.5:8001", said[i]) end
    assert.matches("no engine answers at 127.0.0.1:%d+: Connection refused", said[5])
    assert.matches("the name no.such.name.invalid cannot be resolved", said[6])
    for i = 7, 8 do assert.matches('wants a token with the role operate: perilune.attach%(url, { token = "..." }%)', said[i]) end
    assert.equal("fine", said[9])
    assert.matches("the engine at 127.0.0.1:%d+", said[10])
    assert.matches("'token' has letters", said[11])
    assert.matches("unknown option 'tokn', did you mean 'token'", said[12])
    assert.matches("'routes_max' is a whole number from 8 to 1024", said[13])
  end)

  it("refuses what is no parcel, and more senders than it has place for", function()
    loop.run(function()
      local function post(body, kind)
        local got = assert(served:admin_request { method = "POST", path = "/api/v1/performance-optimization/parcels", body = body, headers = { ["Content-Type"] = kind or "application/vnd.perilune.parcel" } })
        return { got.status, got.json.code }
      end
      assert.same({ 422, "bad_parcel" }, post "what is this")
      assert.same({ 422, "bad_parcel" }, post "PLF1")
      assert.same({ 409, "other_version" }, post("PLF1" .. ("x"):rep(100)))
      assert.same({ 415, "wrong_type" }, post("{}", "application/json"))
    end, 20000)
    local said = good([[
      local engines, why = {}, nil
      for i = 1, 40 do
        engines[i], why = perilune.attach("http://" .. arg[2])
        if not engines[i] then say(why) break end
      end
    ]], { args = { served.admin } })
    assert.matches("all places for applications are taken: raise attach.guests", said[1])
  end)

  it("loses nothing while the engine is away", function()
    local folder, port = files.temporary "perilune-away", nginx.free_port()
    local address = "127.0.0.1:" .. port
    local first = engine.start { args = { "--admin", address } }
    files.write(folder .. "/main.lua", HEAD .. [[
      local engine = assert(perilune.attach("http://" .. arg[1]))
      for i = 1, 3 do
        local n = wait(30, function()
          local file = io.open(arg[2] .. "/" .. i)
          return file and tonumber((file:read "*l"))
        end)
        for _ = 1, n do engine:start("GET", "/away"):finish() end
        say { recorded = n }
      end
      engine:close()
    ]])
    local program = assert(process.start { command = "/usr/bin/luajit", args = { folder .. "/main.lua", address, folder }, env = environment() })
    loop.run(function()
      files.write(folder .. "/1", "100\n")
      until_requests(first, "/away", 100)
      first:stop()
      files.write(folder .. "/2", "200\n")
      loop.wait_until(function() return program:stdout():find '"recorded":200' end, 5000, "the second lot")
      local second = engine.start { args = { "--admin", address } }
      until_requests(second, "/away", 200)
      files.write(folder .. "/3", "7\n")
      assert.equal(0, (program:wait(10000)))
      until_requests(second, "/away", 207)
      second:stop()
    end, 60000)
    files.remove(folder)
  end)

  it("nginx is one, and does not wait for an engine that does not answer", function()
    local env, own = environment(), engine.start {}
    local function start(url)
      return nginx.start { lua = true, workers = 2, env = { LD_PRELOAD = env.LD_PRELOAD, ASAN_OPTIONS = env.ASAN_OPTIONS }, http = ([[
        lua_package_cpath '%s/?.so;;';
        init_worker_by_lua_block { require("perilune").nginx.init_worker "%s" }
        log_by_lua_block { require("perilune").nginx.log() }
      ]]):format(programs.LIBRARY, url), server = [[location / { return 200 "here"; }]] }
    end
    loop.run(function()
      local front = start("http://" .. own.admin)
      for i = 1, 50 do front:get("/users/" .. i) end
      until_requests(own, "/users/:id", 50)
      front:stop()
      -- A listener that never accepts: what it has place for is taken.
      local uv = require "luv"
      local silent = uv.new_tcp()
      silent:bind("127.0.0.1", 0)
      silent:listen(1, function() end)
      front = start(("http://127.0.0.1:%d"):format(silent:getsockname().port))
      local began = loop.now_ms()
      for _ = 1, 100 do assert.equal("here", front:get("/").body) end
      assert.is_true(loop.now_ms() - began < 2000)
      front:stop()
      silent:close()
    end, 60000)
    own:stop()
  end)
end)
