--- The library inside programs that are not ours: plain LuaJIT, luv, nginx; alone and attached to an engine.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local process = require "tests.support.process"
local programs = require "tests.support.programs"
local uv = require "luv"

local LIBRARY, HEAD, environment, host, good = programs.LIBRARY, programs.HEAD, programs.environment, programs.run, programs.good

describe("the library", function()
  it("needs nothing but the C library, and exports nothing but its doors", function()
    local function out(...)
      local code, text, err = process.run { command = "/usr/bin/" .. (...), args = { select(2, ...) } }
      assert.equal(0, code, err)
      return text
    end
    for _, file in ipairs { "perilune.so", "perilune/codec.so", "perilune/tasks.so", "perilune/postgres.so" } do
      for symbol in out("nm", "-D", "--defined-only", LIBRARY .. "/" .. file):gmatch "%S+ [TDBRVW] (%S+)" do
        assert.matches("^luaopen_perilune", symbol)
      end
    end
    for needed in out("readelf", "-d", LIBRARY .. "/perilune.so"):gmatch "Shared library: %[([^%]]+)%]" do
      assert.is_true(needed:find "^libc%." ~= nil or needed:find "^libm%." ~= nil or needed:find "^ld%-linux" ~= nil or needed:find "^lib%a*san%." ~= nil or needed:find "^libgcc_s" ~= nil
        or needed:find "^libpthread" ~= nil, needed)
    end
  end)

  it("measures spans, their phases, and what was given up", function()
    local said = good [[
      local engine = assert(perilune.new {})
      for i = 1, 100 do
        local span = engine:start("GET", "/users/:id")
        span:phase("db", 20)
        span:finish { status = i <= 90 and 200 or 503, bytes = 1000, bytes_in = 50, ms = 25, trace_id = ("a"):rep(32) }
      end
      local span = engine:start("POST", "/users")
      local sum = span:wrap("task", function(a, b) return a + b end, 1, 2)
      local ok, why = pcall(span.wrap, span, "task", error, "no")
      span:finish(201, 10)
      do local forgotten = engine:start("GET", "/lost") end
      collectgarbage() collectgarbage()
      local stats = engine:stats(0)
      local routes = {}
      for _, route in ipairs(stats.routes) do routes[(route.method or "") .. " " .. (route.route or route.name)] = route end
      say { sum = sum, why = why, total = stats.requests_total, in_flight = stats.in_flight, aborted = stats.aborted_total, routes = routes }
      say { pcall(span.finish, span) }
      say { pcall(engine.start(engine, "GET", "/x").phase, engine:start("GET", "/x"), "dbx", 1) }
      engine:close()
      say { pcall(engine.stats, engine) }
    ]]
    local first = said[1]
    assert.equal(3, first.sum)
    assert.equal("no", first.why)
    assert.equal(1, first.aborted)
    assert.equal(0, first.in_flight)
    local users = first.routes["GET /users/:id"]
    assert.equal(100, users.requests)
    assert.is_true(math.abs(users.latency_ms.p50 - 25) < 2, users.latency_ms.p50)
    assert.is_true(users.error_rate == 0.1, users.error_rate)
    assert.matches("a span is finished once", said[2][2])
    assert.matches("there is no phase 'dbx'; it is one of queue, lua, pool_wait, db", said[3][2])
    assert.matches("this engine was closed", said[4][2])
  end)

  it("says what is wrong with options, folders and rules, and goes on with the rules it has", function()
    local said = good([[
      local folder = arg[1]
      say { pcall(perilune.new, { rulez = "x" }) }
      say(results(perilune.new { rules = folder .. "/nowhere" }))
      say(results(perilune.new { rules = folder .. "/bad" }))
      local engine = assert(perilune.new { rules = folder .. "/good" })
      local file = assert(io.open(folder .. "/good/thresholds.lua", "w"))
      file:write("return { no_such_threshold = 1 }")
      file:close()
      say(wait(10, function() engine:tick() local info = engine:info() return info.problems ~= "" and info end))
      os.remove(folder .. "/good/thresholds.lua")
      say(wait(10, function() engine:tick() local info = engine:info() return info.problems == "" and info.generation == 2 and info end))
    ]], { files = { ["bad/suggestions/mine.lua"] = "return { id = 'mine', ", ["good/lib/x.lua"] = "return 1" } })
    assert.matches("unknown option 'rulez', did you mean 'rules'%?", said[1][2])
    assert.matches("nowhere'?: No such file", said[2][2])
    assert.matches("mine.lua:1: ", said[3][2])
    assert.matches("there is no threshold 'no_such_threshold'", said[4].problems)
    assert.equal(1, said[4].generation)
    assert.equal(2, said[5].generation)
  end)

  it("finds what is wrong with a program, and rules of the program's own turn its settings", function()
    local said = good([[
      local engine = assert(perilune.new { rules = arg[1] .. "/rules", state = arg[1] .. "/state" })
      local batch, heard = nil, {}
      local value = engine:setting { name = "batch.size", type = "integer", default = 10, min = 1, max = 100, step = 10, apply = function(v) batch = v end }
      engine:on("suggestion", function(event) heard[#heard + 1] = event.state end)
      local suggestion = wait(40, function()
        engine:start("GET", "/items"):finish { ms = 50, bytes = 10 }
        engine:tick()
        for _, one in ipairs(engine:suggestions()) do if one.rule == "batch_small" then return one end end
      end)
      say { value = value, batch = batch, suggestion = suggestion, heard = heard }
      say(results(engine:set("batch.size", 1000)))
      say { engine:set("batch.size", 20) }
      say { batch = batch, value = engine:value "batch.size", unknown = results(engine:set("batch.sizes", 1)) }
      say { engine:dismiss(suggestion.id, "not now") }
      engine:close()
      local again = assert(perilune.new { rules = arg[1] .. "/rules", state = arg[1] .. "/state" })
      say { again:setting { name = "batch.size", type = "integer", default = 10, min = 1, max = 100, apply = function(v) batch = v end }, batch }
    ]], { files = { ["rules/suggestions/batch_small.lua"] = [[
      return {
        id = "batch_small", class = "asynchronous", on = "route", issue = false, effort = "low", risk = 1,
        title = function() return "larger batches" end,
        when = function(s, f) return s.name == "GET /items" and f:setting "batch.size" < 50 and (s.now.p50_ms or 0) > 20 end,
        impact = function(s) return { metric = "mean_ms", now = 50, predicted = 30, lo = 25, hi = 40, routes = { s.name }, formula = "measured", inputs = {} } end,
        set = function() return { ["batch.size"] = 50 } end,
        explain = function() return "each batch costs a round trip" end,
      }]], ["rules/suggestions/a_endless.lua"] = [[ -- and one that takes none of the others with it
      return { id = "a_endless", class = "resources", on = "host", issue = false, effort = "low", risk = 1, title = function() return "x" end, impact = function() end,
        when = function() for _ = 1, 1000 do pcall(function() while true do end end) end end, advise = function() return "x" end, explain = function() return "x" end }]] } })
    assert.equal(10, said[1].value)
    assert.equal(10, said[1].batch)
    assert.equal("batch_small", said[1].suggestion.rule)
    assert.same({ "OPEN" }, said[1].heard)
    assert.equal("batch.size", said[1].suggestion.operations[1].name)
    assert.matches("'batch.size' is a whole number from 1 to 100", said[2][2])
    assert.is_true(said[3][1])
    assert.equal(20, said[4].batch)
    assert.equal(20, said[4].value)
    assert.matches("did you mean 'batch.size'", said[4].unknown[2])
    assert.equal("DISMISSED", said[5][1])
    assert.same({ 20, 20 }, said[6])
  end)

  it("does its work on a thread of its own when it is told to", function()
    local said = good [[
      local engine = assert(perilune.new { thread = true })
      say(wait(20, function()
        engine:start("GET", "/x"):finish { ms = 5 }
        local looked = engine:analyze("/x").looked_at
        for _, thing in ipairs(looked) do if thing.kind == "route" and thing.samples > 1 then return { info = engine:info(), samples = thing.samples } end end
      end))
    ]]
    assert.is_true(said[1].info.thread)
    assert.is_true(said[1].samples > 1)
  end)

  it("compresses as a client likes it, and says when a compressor is missing", function()
    local said = good [[
      local body = ("a line of text, again\n"):rep(500)
      for _, coding in ipairs { "zstd", "br", "gzip", "deflate" } do
        local smaller, name = perilune.compress(body, { accept = coding .. ";q=1.0, identity;q=0.5" })
        say { name, #smaller < #body / 10, perilune.decompress(smaller, name) == body }
      end
      say { #perilune.compress("small", { accept = "gzip" }), select(2, perilune.compress("small", { accept = "gzip" })) == nil }
      say { select(2, perilune.compress(body, { accept = "gzip;q=0" })) == nil }
      say(results(perilune.decompress("not gzip", "gzip")))
      say { pcall(perilune.compress, body, { acept = "br" }) }
      package.loaded["perilune.codec"], package.cpath = nil, arg[1] .. "/?.so"
    ]]
    for i, coding in ipairs { "zstd", "br", "gzip", "deflate" } do assert.same({ coding, true, true }, said[i]) end
    assert.same({ 5, true }, said[5])
    assert.same({ true }, said[6])
    assert.equal("protocol", said[7][3])
    assert.matches("did you mean 'accept'", said[8][2])
    local _, code, err = host([[
      package.cpath = arg[1] .. "/?.so"
      perilune.compress(("x"):rep(5000), { accept = "gzip" })
    ]])
    assert.equal(1, code)
    assert.matches("module 'perilune.codec' not found", err)
  end)

  it("has the kernels", function()
    local said = good [[
      local t = perilune.ml.trend { 1, 2, 3, 4, 5, 6, 7, 8 }
      local rows = {}
      for i = 1, 200 do rows[i] = { i % 7, i % 5 } end
      rows[77] = { 100, 100 }
      local scores = perilune.ml.forest(rows, { seed = 1 }):score(rows)
      local best, at = 0, 0
      for i, score in ipairs(scores) do if score > best then best, at = score, i end end
      say { tau = t.tau, at = at }
    ]]
    assert.same({ tau = 1, at = 77 }, said[1])
  end)

  it("is several engines in one process, in several states, before and after a fork", function()
    local said = good [[
      local a, b = assert(perilune.new {}), assert(perilune.new { thread = true })
      for _ = 1, 10 do a:start("GET", "/a"):finish() end
      for _ = 1, 20 do b:start("GET", "/b"):finish() end
      say { a:stats(0).requests_total, b:stats(0).requests_total }
      package.loaded.perilune = nil
      local other = require "perilune"
      local c = assert(other.new {})
      c:start("GET", "/c"):finish()
      say { c:stats(0).requests_total, other ~= perilune }
      local uv = require "luv"
      local threads = {}
      for i = 1, 4 do
        threads[i] = uv.new_thread(function(path, cpath)
          package.path, package.cpath = path, cpath
          local p = require "perilune"
          local e = assert(p.new { thread = true })
          for _ = 1, 1000 do e:start("GET", "/t"):finish() end
          assert(e:stats(0).requests_total == 1000)
        end, package.path, package.cpath)
      end
      for i = 1, 4 do threads[i]:join() end
      local ffi = require "ffi"
      ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      local pid = ffi.C.fork()
      if pid == 0 then
        local ok, why = pcall(function()
          a:start("GET", "/a"):finish()
          b:start("GET", "/b"):finish()
          assert(a:stats(0).requests_total == 11, "a")
          assert(b:stats(0).requests_total == 21, "b")
          assert(wait(20, function() b:start("GET", "/b"):finish() return #b:analyze("/b").looked_at > 1 end), "no thread")
          a:close()
          b:close()
        end)
        if not ok then io.stderr:write(tostring(why), "\n") end
        ffi.C._exit(ok and 0 or 7)
      end
      local status = ffi.new "int[1]"
      ffi.C.waitpid(pid, status, 0)
      a:start("GET", "/a"):finish()
      say { status[0], a:stats(0).requests_total }
    ]]
    assert.same({ 10, 20 }, said[1])
    assert.same({ 1, true }, said[2])
    assert.same({ 0, 11 }, said[3])
  end)

  it("shares a luv loop with whatever else runs on it", function()
    local said = good [[
      local uv = require "luv"
      local engine = assert(perilune.new {})
      local timer = uv.new_timer()
      timer:start(0, 100, function() engine:tick() end)
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(64, function()
        local client = uv.new_tcp()
        server:accept(client)
        client:read_start(function(_, chunk)
          if not chunk then client:close() return end
          local span = engine:start("GET", "/hello")
          local body = perilune.compress(("hello "):rep(500), { accept = "gzip" })
          client:write(("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
          span:finish { status = 200, bytes = #body }
        end)
      end)
      local port, done = server:getsockname().port, 0
      for _ = 1, 10 do
        local client = uv.new_tcp()
        client:connect("127.0.0.1", port, function()
          local left = 20
          client:read_start(function(_, chunk)
            if not chunk or not chunk:find("HTTP/1.1 200", 1, true) then return end
            done, left = done + 1, left - 1
            if left > 0 then client:write "GET /hello HTTP/1.1\r\n\r\n" else client:close() end
          end)
          client:write "GET /hello HTTP/1.1\r\n\r\n"
        end)
      end
      local over = uv.new_timer()
      over:start(0, 20, function()
        if done < 200 then return end
        over:close() timer:close() server:close()
      end)
      uv.run()
      say { done, engine:stats(0).requests_total }
    ]]
    assert.same({ 200, 200 }, said[1])
  end)
end)

describe("the rockspec", function()
  it("installs the library from the tree", function()
    local tree = files.temporary "perilune-rocks"
    local code, out, err = process.run { command = "/usr/bin/luarocks", timeout_ms = 300000, env = { MAKEFLAGS = "", MODE = "release" }, -- whatever this suite was made in
      args = { "--lua-version", "5.1", "make", "--tree", tree, "perilune-scm-1.rockspec" } }
    assert.equal(0, code, out .. err)
    local env = { LUA_PATH = ";;", LUA_CPATH = tree .. "/lib/lua/5.1/?.so" }
    code, out, err = process.run { command = "/usr/bin/luajit", env = env,
      args = { "-e", [[local p = require "perilune" print(p.version, (select(2, p.compress(("x"):rep(2000), { coding = "br" }))), p.tasks():run { kernel = "crc32", "abc" }, p.pool.postgres("host=127.0.0.1 port=1"):stats().health)]] } }
    assert.equal(0, code, err)
    assert.matches("br\t352441c2\tunknown", out)
    files.remove(tree)
  end)
end)

describe("attached to a running engine", function()
  local served
  setup(function() served = engine.start { args = { "--set", "attach.guests=5" } } end)
  teardown(function() served:stop() end)

  local function requests(route)
    local stats = assert(served:admin_get "~/stats?window=all").json.data
    for _, one in ipairs(stats.routes) do
      if (one.route or one.name) == route then return one.requests, one end
    end
    return 0
  end

  it("processes are one service in its statistics", function()
    local text = [[
      local engine = assert(perilune.attach(arg[2]))
      for _ = 1, 500 do
        local span = engine:start("GET", "/shared")
        span:phase("db", 3)
        span:finish { status = 200, bytes = 10, ms = 5 }
      end
      say(engine:info())
      say { level = engine:value "compression.level", none = engine:value "no.such" == nil, why = select(2, pcall(engine.stats, engine)) }
    ]]
    local tasks = {}
    for i = 1, 3 do tasks[i] = function() return good(text, { args = { served.state .. "/perilune.sock" } }) end end
    local said
    loop.run(function() said = loop.all(tasks) end, 60000)
    for _, one in ipairs(said) do
      assert.equal("attached", one[1].mode)
      assert.equal(served.admin, one[1].admin)
      assert.is_true(type(one[2].level) == "number")
      assert.is_true(one[2].none)
      assert.matches("is asked at http://" .. served.admin:gsub("%p", "%%%0"), one[2].why)
    end
    assert.equal(1500, (requests "/shared"))
    local _, route = requests "/shared"
    assert.is_true(math.abs(route.latency_ms.p50 - 5) < 0.5)
  end)

  it("a process that dies leaves nothing in flight, and its place is free", function()
    local text = [[
      local engine = assert(perilune.attach(arg[2]))
      local open = {}
      for i = 1, 7 do open[i] = engine:start("GET", "/dies") end
      require("ffi").cdef "int kill(int, int); int getpid(void);"
      require("ffi").C.kill(require("ffi").C.getpid(), 9)
    ]]
    for _ = 1, 8 do host(text, { args = { served.state .. "/perilune.sock" } }) end -- more than there are places
    loop.run(function()
      loop.wait_until(function() return assert(served:admin_get "~/stats?window=all").json.data.in_flight == 0 end, 5000, "nothing in flight")
    end, 10000)
  end)

  it("a fork has a lane of its own, and the sixth process is told why there is none", function()
    local said = good([[
      local engine = assert(perilune.attach(arg[2]))
      local ffi = require "ffi"
      ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      local pids = {}
      for i = 1, 3 do
        pids[i] = ffi.C.fork()
        if pids[i] == 0 then
          for _ = 1, 1000 do engine:start("GET", "/forked"):finish() end
          ffi.C._exit(engine:info().lost == 0 and 0 or 1)
        end
      end
      for _ = 1, 1000 do engine:start("GET", "/forked"):finish() end
      local failed = 0
      for i = 1, 3 do
        local status = ffi.new "int[1]"
        ffi.C.waitpid(pids[i], status, 0)
        failed = failed + status[0]
      end
      local held = {}
      for i = 1, 5 do held[i] = results(perilune.attach(arg[2])) end
      say { failed = failed, fifth = type(held[4][1]) == "userdata", sixth = held[5][2] }
    ]], { args = { served.state .. "/perilune.sock" } })
    assert.equal(0, said[1].failed)
    assert.is_true(said[1].fifth)
    assert.matches("raise attach.guests", said[1].sixth)
    assert.equal(4000, (requests "/forked"))
  end)

  it("a program goes on with the successor of an engine that was restarted", function()
    local one = engine.start {}
    local folder = files.temporary "perilune-again"
    files.write(folder .. "/main.lua", HEAD .. [[
      local engine = assert(perilune.attach(arg[1]))
      local open = engine:start("GET", "/old")
      local told
      while true do
        engine:start("GET", "/again"):finish()
        local there, why = engine:tick()
        if why and not told then told = say { why = why } or true end
        if there and told then break end
      end
      open:finish()
      for _ = 1, 7 do engine:start("GET", "/successor"):finish() end
      say { lost = engine:info().lost }
    ]])
    local host_process = assert(process.start { command = "/usr/bin/luajit", args = { folder .. "/main.lua", one.state .. "/perilune.sock" }, env = environment() })
    loop.run(function()
      loop.wait_until(function()
        for _, route in ipairs(assert(one:admin_get "~/stats?window=all").json.data.routes) do
          if (route.route or route.name) == "/again" then return true end
        end
      end, 10000, "its first span")
      one:stop { keep = true }
      loop.wait_until(function() return host_process:stdout():find "no engine answers" end, 20000, "that the engine's end is noticed")
      local again = engine.start { folder = one.folder }
      loop.wait_until(function() return host_process:exited() end, 20000, "the program to go on")
      assert.matches('"lost":1', host_process:stdout())
      local found
      for _, route in ipairs(assert(again:admin_get "~/stats?window=all").json.data.routes) do
        if (route.route or route.name) == "/successor" then found = route.requests end
      end
      assert.equal(7, found)
      again:stop()
    end, 60000)
    files.remove(folder)
  end)

  it("says why it cannot: no engine, something else, another version", function()
    local folder = files.temporary "perilune-door"
    local MAGIC = "perilun1"
    local function door(name, bytes)
      local server = uv.new_pipe(false)
      assert(server:bind(folder .. "/" .. name))
      server:listen(8, function()
        local client = uv.new_pipe(true)
        server:accept(client)
        local shown = uv.new_pipe(false)
        shown:open(uv.fs_open(folder .. "/file", "w+", 384))
        client:write2(bytes, server, function() client:close() end)
        shown:close()
      end)
      return server
    end
    local other = door("other", MAGIC .. ("\1"):rep(8) .. ("\0"):rep(8) .. "9.9.9" .. ("\0"):rep(24 - 5 + 80))
    local noise = door("noise", ("HTTP/1.1 400 Bad Request\r\n"):rep(20))
    local said
    loop.run(function()
      said = good([[
        for _, name in ipairs { "none", "other", "noise" } do say(results(perilune.attach(arg[2] .. "/" .. name))) end
        say(results(perilune.attach(("x"):rep(200))))
      ]], { args = { folder } })
    end, 30000)
    other:close()
    noise:close()
    loop.settle()
    files.remove(folder)
    assert.matches("no engine answers at .*is it running%?", said[1][2])
    assert.matches("the engine is version 9.9.9 and this library is .*: their memory differs; install the same version", said[2][2])
    assert.matches("is not an engine of ours", said[3][2])
    assert.matches("the path of a socket has at most", said[4][2])
  end)
end)

describe("nginx with four workers", function()
  it("is one service of a running engine: counts and percentiles are those of wrk", function()
    local served = engine.start {}
    local env = environment()
    local front = nginx.start { lua = true, workers = 4, env = { LD_PRELOAD = env.LD_PRELOAD, ASAN_OPTIONS = env.ASAN_OPTIONS }, http = ([[
      lua_package_cpath '%s/?.so;;';
      init_worker_by_lua_block { require("perilune").nginx.init_worker "%s/perilune.sock" }
      log_by_lua_block { require("perilune").nginx.log() }
    ]]):format(LIBRARY, served.state), server = [[
      location /slow { content_by_lua_block { ngx.sleep(0.02) ngx.say("slow") } }
      location /fails { return 503; }
      location /users { return 200 "user"; }
    ]] }
    loop.run(function()
      local load = require "tests.support.load"
      local found = load.wrk { url = ("http://%s/slow"):format(front.address), connections = 16, seconds = 5, args = { "--latency" } }
      for i = 1, 20 do front:get("/users/" .. i) end
      for _ = 1, 5 do front:get "/fails" end
      local data
      local function route(name)
        for _, one in ipairs(data.routes) do if (one.route or one.name) == name then return one end end
        return { requests = 0 }
      end
      loop.wait_until(function()
        data = assert(served:admin_get "~/stats?window=all").json.data
        return route("/fails").requests == 5
      end, 5000, "the last request")
      local slow = route "/slow"
      -- wrk does not count what was under way when it ended.
      assert.is_true(slow.requests >= found.requests and slow.requests <= found.requests + 16, slow.requests .. " of " .. found.requests)
      assert.is_true(math.abs(slow.latency_ms.p50 / found.latency_ms.p50 - 1) < 0.05, slow.latency_ms.p50 .. " of " .. found.latency_ms.p50)
      assert.equal(20, route("/users/:id").requests)
      assert.equal(1, route("/fails").error_rate)
    end, 60000)
    front:stop()
    served:stop()
  end)

  -- The second way is that of an nginx whose functions are not to be seen.
  for way, before in pairs { ["from C"] = "", ["by the API of Lua"] = [[package.loaded["resty.core.base"] = nil package.preload["resty.core.base"] = error ]] } do
    it("records what nginx knows of a request, read " .. way, function()
      local served = engine.start { args = { "--set", "stats.slow_ms=20" } }
      local env = environment()
      local origin, other = nginx.free_port(), nginx.free_port()
      local front = nginx.start { lua = true, workers = 1, env = { LD_PRELOAD = env.LD_PRELOAD, ASAN_OPTIONS = env.ASAN_OPTIONS }, http = ([[
        lua_package_cpath '%s/?.so;;';
        init_worker_by_lua_block {
          %s
          require("perilune").nginx.init_worker("%s/perilune.sock", { route = function() return ngx.var.perilune_route end })
        }
        log_by_lua_block { require("perilune").nginx.log() }
        upstream two { server 127.0.0.1:%d; server 127.0.0.1:%d backup; }
        server { listen 127.0.0.1:%d; location / { content_by_lua_block { ngx.sleep(0.05) ngx.say(("x"):rep(2000)) } } log_by_lua_block { return } }
      ]]):format(LIBRARY, before, served.state, other, origin, origin), server = [[
        set $perilune_route "";
        location /proxied/ { proxy_pass http://two; proxy_next_upstream error; }
        location /named { set $perilune_route "/of/:my own"; return 201 "made"; }
        location /dropped { return 444; }
        location /gone { lua_check_client_abort on; content_by_lua_block { ngx.sleep(60) } }
        location / { return 200 "found"; }
      ]] }
      loop.run(function()
        local trace = ("0123456789abcdef"):rep(2)
        front:request { path = "/proxied/42", headers = { traceparent = "00-" .. trace .. "-0123456789abcdef-01" } }
        front:request { method = "GET", path = "/proxied/43", headers = { traceparent = "00-not a trace" }, body = ("b"):rep(5000) }
        front:request { method = "POST", path = "/named" }
        for _, id in ipairs { "7", "0b5d6f0e-4f4b-4d43-9f5e-1de3ab5f3c11", "user-0000000000001", "0123456789abcdef0123456789abcdef" } do front:get("/by/" .. id .. "/x?q=1") end
        for _, word in ipairs { "plain", "deadbeef", "a-word-that-is-long-but-has-none" } do front:get("/by/" .. word .. "/x") end
        pcall(front.get, front, "/dropped")
        pcall(front.request, front, { path = "/gone", timeout_ms = 100 })
        local data
        local function route(name)
          for _, one in ipairs(data.routes) do if (one.route or one.name) == name then return one end end
          return { requests = 0, phases_ms = {} }
        end
        loop.wait_until(function()
          data = assert(served:admin_get "~/stats?window=all").json.data
          return route("/gone").requests == 1
        end, 5000, "the last request")
        assert.equal(4, route("/by/:id/x").requests)
        for _, word in ipairs { "plain", "deadbeef", "a-word-that-is-long-but-has-none" } do assert.equal(1, route("/by/" .. word .. "/x").requests) end
        local proxied, named = route "/proxied/:id", route "/of/:my own"
        assert.equal(2, proxied.requests)
        assert.is_true(proxied.phases_ms.upstream_first_byte.mean >= 49, proxied.phases_ms.upstream_first_byte.mean)
        assert.is_true(proxied.bytes_out > 4000 and proxied.bytes_out < 5000, proxied.bytes_out)
        assert.equal("POST", named.method)
        assert.equal(1, data.aborted_total)
        assert.is_true(proxied.bytes_in > 5000 and proxied.bytes_in < 5500, proxied.bytes_in)
        local slow = {}
        for _, one in ipairs(data.slow_requests) do if one.route == "/proxied/:id" then slow[#slow + 1] = one.trace_id or "none" end end
        table.sort(slow)
        assert.same({ trace, "none" }, slow)
      end, 60000)
      front:stop()
      served:stop()
    end)
  end

  it("serves as if nothing were, when there is no engine", function()
    local env = environment()
    local front = nginx.start { lua = true, workers = 2, env = { LD_PRELOAD = env.LD_PRELOAD, ASAN_OPTIONS = env.ASAN_OPTIONS }, http = ([[
      lua_package_cpath '%s/?.so;;';
      init_worker_by_lua_block { require("perilune").nginx.init_worker "/nowhere/perilune.sock" }
      log_by_lua_block { require("perilune").nginx.log() }
    ]]):format(LIBRARY), server = [[location / { return 200 "here"; }]] }
    loop.run(function() assert.equal("here", front:get("/").body) end)
    assert.matches("no engine answers at /nowhere/perilune.sock", front.process:stderr())
    front:stop()
  end)

  it("compresses by the engine's settings", function()
    local env = environment()
    local front = nginx.start { lua = true, env = { LD_PRELOAD = env.LD_PRELOAD, ASAN_OPTIONS = env.ASAN_OPTIONS }, http = ([[
      lua_package_cpath '%s/?.so;;';
      header_filter_by_lua_block { require("perilune").nginx.header_filter() }
      body_filter_by_lua_block { require("perilune").nginx.body_filter() }
    ]]):format(LIBRARY), files = { ["page.html"] = ("<p>text</p>\n"):rep(1000), ["small.html"] = "x" }, server = [[types { text/html html; }]] }
    loop.run(function()
      local response = front:request { path = "/page.html", headers = { ["Accept-Encoding"] = "gzip" } }
      assert.equal("gzip", response.headers["content-encoding"])
      assert.equal("Accept-Encoding", response.headers.vary)
      assert.matches('^W/"', response.headers.etag)
      assert.is_true(#response.body < 1000)
      assert.is_nil(front:get("/page.html").headers["content-encoding"])
      assert.is_nil(front:request { path = "/small.html", headers = { ["Accept-Encoding"] = "gzip" } }.headers["content-encoding"])
    end)
    front:stop()
  end)
end)
