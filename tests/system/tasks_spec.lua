--- Tasks of handlers: on threads, by priority, bounded, given up when nobody waits.
local engine = require "tests.support.engine"
local json = require "dkjson"
local loop = require "tests.support.loop"

-- What tasks run.
local WORK = [[
local p = require "perilune"
local work = {}
local calls = 0
function work.add(a, b) return a + b end
function work.same(...) return ... end
function work.count() calls = calls + 1 return calls end
function work.spin(seconds)
  local until_s = p.now() + seconds
  while p.now() < until_s do end
  return "spun"
end
function work.forever() while true do end end
function work.forever_caught() while true do pcall(function() while true do end end) end end
function work.grow() local t = {} while true do t[#t + 1] = ("x"):rep(1e5) .. #t end end
function work.recurse() local function f() return (("a"):gsub("a", f)) end return f() end
function work.fail(text) error(text) end
function work.bad() return { list = { 1, print } } end
function work.sleep() p.sleep(0.01) end
function work.nothing() end
function work.large(n) return ("x"):rep(n) end
function work.global() leaked = 1 end
function work.version() return "one" end
return work
]]

-- Runs Lua that a test sends, in a handler: `return run(tasks, p, req)`.
local RUN = [[
local p = require "perilune"
local tasks = require "perilune.tasks"
local app = p.app()
local kept = {}
app:post("/run", function(req)
  local fn, why = load("local tasks, p, req, kept = ... " .. req.body)
  if not fn then return 500, why end
  local function pack(...) return { n = select("#", ...), ... } end
  local got = pack(fn(tasks, p, req, kept))
  local out = p.json.array {}
  for i = 1, got.n do out[i] = got[i] == nil and p.null or got[i] end
  return 200, p.json.encode(out)
end)
app:get("/alive", function() return "yes" end)
app:get("/spin", function() return tasks:run { module = "lib.work", fn = "spin", 0.3 } end)
return app
]]

local RULES = { ["routes/run.lua"] = RUN, ["lib/work.lua"] = WORK }

local function start(settings, options)
  options = options or {}
  options.rules = options.rules or RULES
  options.args = options.args or {}
  for name, value in pairs(settings or {}) do
    table.insert(options.args, "--set")
    table.insert(options.args, name .. "=" .. tostring(value))
  end
  return engine.start(options)
end

--- What the Lua text returns in a handler, as a list; nil is json.null.
local function run(served, text)
  local response = assert(served:request { method = "POST", path = "/run", body = text })
  assert.equal(200, response.status, response.body)
  return (json.decode(response.body, 1, json.null))
end

--- The error that the Lua text raises in a handler.
local function raises(served, text)
  local got = run(served, "return pcall(function() " .. text .. " end)")
  assert.is_false(got[1])
  return got[2]
end

local function stats(served)
  return assert(served:admin_get("~/resources/tasks").json).data
end

--- The figures of a kind and priority.
local function lane(served, kind, priority)
  for _, one in ipairs(stats(served).kinds) do
    if one.kind == kind and one.priority == priority then return one end
  end
  return { queued = 0, running = 0, done = 0, failed = 0, cancelled = 0, expired = 0, refused = 0 }
end

--- Waits until a figure of normal Lua tasks is as wanted.
local function wait_lane(served, name, value, priority)
  loop.wait_until(function() return lane(served, "lua", priority or "normal")[name] == value end, 5000, name .. " = " .. value)
end

describe("a task", function()
  local served
  setup(function() served = start { ["tasks.copy_bytes"] = 1048576 } end)
  teardown(function() served:stop() end)

  it("runs a function of a module on a thread and gives what it returns", function()
    loop.run(function()
      assert.same({ 5 }, run(served, [[return tasks:run { module = "lib.work", fn = "add", 2, 3 }]]))
      assert.same({ 1, json.null, "x", false }, run(served, [[return tasks:run { module = "lib.work", fn = "same", 1, nil, "x", false }]]))
      assert.same({}, run(served, [[return tasks:run { module = "lib.work", fn = "nothing" }]]))
    end)
  end)

  it("gets copies of plain data and gives copies back", function()
    loop.run(function()
      local got = run(served, [[
        local shared = { 1 }
        local data = { a = { 1, 2, { b = "\0\255" } }, [3.5] = true, [true] = "t", null = p.null, empty = p.json.array {}, x = shared, y = shared }
        local back = tasks:run { module = "lib.work", fn = "same", data }
        return back ~= data, back.a[3].b == "\0\255", back[3.5], back[true], back.null == p.null, p.json.encode(back.empty),
          back.x[1], back.x ~= back.y, #back.a]])
      assert.same({ true, true, true, "t", true, "[]", 1, true, 3 }, got)
    end)
  end)

  it("refuses what is not plain data, and says where it stands", function()
    loop.run(function()
      assert.matches("a function at argument 2.users%[1%].f; tasks take", raises(served,
        [[tasks:run { module = "lib.work", fn = "same", 1, { users = { { f = print } } } }]]))
      assert.matches("a userdata at argument 1", raises(served, [[tasks:run { module = "lib.work", fn = "same", req }]]))
      assert.matches("a thread at argument 1.co", raises(served,
        [[tasks:run { module = "lib.work", fn = "same", { co = coroutine.create(print) } }]]))
      assert.matches("inside of itself at argument 1.a.b", raises(served,
        [[local t = { a = {} } t.a.b = t tasks:run { module = "lib.work", fn = "same", t }]]))
      assert.matches("metatable is not plain data, at argument 1%[\"with space\"%]", raises(served,
        [[tasks:run { module = "lib.work", fn = "same", { ["with space"] = setmetatable({}, {}) } }]]))
      assert.matches("nest too deeply", raises(served,
        [[local t = {} for _ = 1, 1000 do t = { t } end tasks:run { module = "lib.work", fn = "same", t }]]))
      local got = run(served, [[return tasks:run { module = "lib.work", fn = "bad" }]])
      assert.matches("a function at result 1.list%[2%]", got[2])
      assert.equal("script", got[3])
      got = run(served, [[local a = {1} for _ = 1, 60 do a = { a, a } end return tasks:run { module = "lib.work", fn = "same", a }]])
      assert.equal("too_large", got[3])
    end)
  end)

  it("names what is wrong with its description", function()
    loop.run(function()
      assert.matches("unknown key 'priorty' in a task, did you mean 'priority'", raises(served,
        [[tasks:run { module = "lib.work", fn = "add", priorty = "low" }]]))
      assert.matches("there is no priority 'urgent'", raises(served, [[tasks:run { module = "lib.work", fn = "add", priority = "urgent" }]]))
      assert.matches("there is no module 'lib.wrok'", raises(served, [[tasks:run { module = "lib.wrok", fn = "add" }]]))
      assert.matches("has no function 'ad'", run(served, [[return tasks:run { module = "lib.work", fn = "ad" }]])[2])
      assert.matches("needs module and fn", raises(served, [[tasks:run { module = "lib.work" }]]))
      assert.matches("there is no kernel 'sha255', did you mean 'sha256'", raises(served, [[tasks:run { kernel = "sha255", "x" }]]))
      assert.matches("takes a string, not a nil", raises(served, [[tasks:run { kernel = "sha256" }]]))
      assert.matches("needs the key 'key'", raises(served, [[tasks:run { kernel = "hmac_sha256", "x" }]]))
      assert.matches("deadline_ms is above 0", raises(served, [[tasks:run { module = "lib.work", fn = "add", deadline_ms = 0 }]]))
    end)
  end)

  it("fails with the script's own error, its file and line", function()
    loop.run(function()
      local got = run(served, [[return tasks:run { module = "lib.work", fn = "fail", "boom" }]])
      assert.matches("lib/work.lua:%d+: boom", got[2])
      assert.equal("script", got[3])
      assert.matches("globals are not allowed", run(served, [[return tasks:run { module = "lib.work", fn = "global" }]])[2])
      assert.matches("a task cannot do", run(served, [[return tasks:run { module = "lib.work", fn = "sleep" }]])[2])
    end)
  end)

  it("does not hold up the loop", function()
    loop.run(function()
      local slow = loop.spawn(function() return run(served, [[return tasks:run { module = "lib.work", fn = "spin", 0.4 }]]) end)
      wait_lane(served, "running", 1)
      for _ = 1, 5 do assert.equal("yes", served:get("/alive").body) end
      assert.is_false(slow.done)
      assert.same({ "spun" }, loop.join(slow))
    end)
  end)

  it("can be started, awaited later, and cancelled", function()
    loop.run(function()
      assert.same({ 3, 7 }, run(served, [[
        local a, b = tasks:start { module = "lib.work", fn = "add", 1, 2 }, tasks:start { module = "lib.work", fn = "add", 3, 4 }
        return a:await(), b:await()]]))
      local before = lane(served, "lua", "normal").cancelled
      local got = run(served, [[local t = tasks:start { module = "lib.work", fn = "forever" } p.sleep(0.05)
        local first, again = t:cancel(), t:cancel() return first, again, select(3, t:await())]])
      assert.same({ true, false, "cancelled" }, got)
      wait_lane(served, "cancelled", before + 1)
      wait_lane(served, "running", 0)
      assert.matches("awaited before", raises(served, [[local t = tasks:start { module = "lib.work", fn = "add", 1, 2 } t:await() t:await()]]))
    end)
  end)

  it("can be awaited in a coroutine of the handler", function()
    loop.run(function()
      assert.same({ 9 }, run(served, [[return coroutine.wrap(function() return (tasks:run { module = "lib.work", fn = "add", 4, 5 }) end)()]]))
    end)
  end)

  it("belongs to its request", function()
    loop.run(function()
      run(served, [[kept.task = tasks:start { module = "lib.work", fn = "forever" }]])
      wait_lane(served, "running", 0) -- it went with its request
      assert.matches("belongs to the request that started it", raises(served, [[kept.task:await()]]))
    end)
  end)

  it("all runs side by side, gives the first values, and gives up the others after a failure", function()
    loop.run(function()
      assert.same({ { 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 7 } }, run(served, [[return tasks:all {
        { module = "lib.work", fn = "add", 1, 2 }, { kernel = "sha256", "abc" }, tasks:start { module = "lib.work", fn = "add", 3, 4 } }]]))
      local got = run(served, [[return tasks:all { { module = "lib.work", fn = "fail", "no" }, { module = "lib.work", fn = "forever" } }]])
      assert.matches("no", got[2])
      assert.same({ "script", 1 }, { got[3], got[4] })
      wait_lane(served, "running", 0)
    end)
  end)

  it("map calls a function for each value, in order, with more arguments", function()
    loop.run(function()
      local got = run(served, [[local list = {} for i = 1, 1000 do list[i] = i end
        local out = tasks:map(list, { module = "lib.work", fn = "add", 10 })
        local sum = 0 for i = 1, 1000 do sum = sum + out[i] end
        return #out, out[1], out[1000], sum, #tasks:map({}, { module = "lib.work", fn = "add", 1 }),
          tasks:map({ 1, 2, 3 }, { module = "lib.work", fn = "add", 1, chunk = 1 })]])
      assert.same({ 1000, 11, 1010, 510500, 0, { 2, 3, 4 } }, got)
      assert.equal("script", run(served, [[return tasks:map({ 1, "x" }, { module = "lib.work", fn = "add", 1 })]])[3] or "script")
      assert.matches("arithmetic", run(served, [[return tasks:map({ 1, {} }, { module = "lib.work", fn = "add", 1 })]])[2])
    end)
  end)

  it("does work in C by name", function()
    loop.run(function()
      local got = run(served, [[
        local function k(name, data, more) more = more or {} more.kernel, more[1] = name, data return tasks:run(more) end
        local text = ("perilune "):rep(1000)
        local sorted = k("sort", { 3, 1, 2, -5.5 })
        local out = { k("sha512", ""):sub(1, 16), k("sha1", "abc"), k("md5", ""), k("hmac_sha256", "what do ya want for nothing?", { key = "Jefe" }),
          k("crc32", "123456789"), k("xxh3", ""), sorted[1], sorted[4] }
        for _, coding in ipairs { "gzip", "deflate", "zstd", "br" } do
          local packed = k(coding, text, { level = 4 })
          out[#out + 1] = #packed < #text and k("decode_" .. coding, packed) == text
        end
        return unpack(out)]])
      assert.same({ "cf83e1357eefb8bd", "a9993e364706816aba3e25717850c26c9cd0d89d", "d41d8cd98f00b204e9800998ecf8427e",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "cbf43926", "2d06800538d394c2", -5.5, 3, true, true, true, true }, got)
      assert.equal("protocol", run(served, [[return tasks:run { kernel = "decode_gzip", "not gzip at all" }]])[3])
    end)
  end)

  it("has its waiting time in the phases of its request", function()
    loop.run(function()
      assert.equal("spun", served:get("/spin").body)
      local found
      loop.wait_until(function()
        for _, route in ipairs(served:admin_get("~/stats?window=all").json.data.routes) do
          if route.route == "/spin" then found = route.phases_ms.task end
        end
        return found
      end)
      assert.is_true(found.mean >= 150 and found.count == 1)
    end)
  end)

  it("is counted by kind and priority, also for Prometheus", function()
    loop.run(function()
      local before = lane(served, "kernel", "high").done
      run(served, [[for _ = 1, 3 do tasks:run { kernel = "sha256", "x", priority = "high" } end]])
      local now = lane(served, "kernel", "high")
      assert.equal(before + 3, now.done)
      assert.equal(now.done, now.wait_time_ms.count)
      assert.is_true(now.run_time_ms.p99 > 0 and stats(served).max == 50)
      local text = served:admin_get("/metrics").body
      assert.matches('perilune_tasks_done_total{kind="kernel",priority="high"} ' .. now.done, text, 1, true)
      assert.matches('perilune_task_run_seconds_count{kind="kernel",priority="high"} ' .. now.done, text, 1, true)
      assert.matches("perilune_task_utilization_ratio", text, 1, true)
    end)
  end)
end)

describe("the task queue", function()
  local served
  after_each(function() served:stop() end)

  it("is bounded", function()
    served = start { ["tasks.max"] = 3, ["tasks.threads"] = 1 }
    loop.run(function()
      local got = run(served, [[local list = {}
        for i = 1, 3 do list[i] = tasks:start { module = "lib.work", fn = "spin", 0.02 } end
        local none, message, code = tasks:start { module = "lib.work", fn = "add", 1, 2 }
        for i = 1, 3 do list[i] = list[i]:await() end
        return list, none, message, code, tasks:run { module = "lib.work", fn = "add", 1, 2 }]])
      assert.same({ { "spun", "spun", "spun" }, json.null, "task queue full", "busy", 3 }, got)
      assert.equal(1, lane(served, "lua", "normal").refused)
    end)
  end)

  it("goes by priority", function()
    served = start { ["tasks.threads"] = 1, ["tasks.aging_ms"] = 60000 }
    loop.run(function()
      local got = run(served, [[
        local block = tasks:start { module = "lib.work", fn = "spin", 0.3 }
        local order = {}
        for i, priority in ipairs { "low", "normal", "high", "critical" } do
          order[i] = tasks:start { module = "lib.work", fn = "count", priority = priority }
        end
        block:await()
        for i = 1, 4 do order[i] = order[i]:await() end
        return order]])
      assert.same({ { 4, 3, 2, 1 } }, got)
    end)
  end)

  it("gives tasks up at their deadline, waiting or running", function()
    served = start { ["tasks.threads"] = 1 }
    loop.run(function()
      local got = run(served, [[local t = p.now()
        local block = tasks:start { module = "lib.work", fn = "forever", deadline_ms = 300 }
        local _, message, code = tasks:run { module = "lib.work", fn = "add", 1, 2, deadline_ms = 30 }
        local early = p.now() - t
        local _, _, second = block:await()
        return message, code, early < 0.25, second, p.now() - t < 1.5]])
      assert.same({ "the task was not done by its deadline", "timeout", true, "timeout", true }, got)
      wait_lane(served, "expired", 2)
      assert.same({ 3 }, run(served, [[return tasks:run { module = "lib.work", fn = "add", 1, 2 }]]))
    end)
  end)

  it("forgets what a client that has gone was waiting for", function()
    -- A client that closed its sending side counts as gone after half_close_ms: long before tasks.cpu_ms ends the task.
    served = start { ["tasks.threads"] = 1, ["server.half_close_ms"] = 100, ["tasks.cpu_ms"] = 60000 }
    loop.run(function()
      local conns = {}
      for i = 1, 4 do
        conns[i] = served:connect()
        local body = [[return tasks:run { module = "lib.work", fn = "forever" }]]
        conns[i]:send(("POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
      end
      wait_lane(served, "running", 1)
      wait_lane(served, "queued", 3)
      for i = 1, 4 do conns[i]:close() end
      wait_lane(served, "cancelled", 4)
      assert.same({ 3 }, run(served, [[return tasks:run { module = "lib.work", fn = "add", 1, 2 }]]))
    end)
  end)

  it("forgets what only a dead coroutine knew", function()
    served = start { ["tasks.threads"] = 1 }
    loop.run(function()
      local got = run(served, [[
        local block = tasks:start { module = "lib.work", fn = "spin", 0.3 }
        coroutine.wrap(function() tasks:start { module = "lib.work", fn = "forever" } end)()
        for _ = 1, 2000 do local t = {} for i = 1, 100 do t[i] = {} end end
        return block:await()]])
      assert.same({ "spun" }, got)
      wait_lane(served, "cancelled", 1)
    end)
  end)

  it("changes its width and bound while it runs", function()
    served = start(nil, { config = 'return { settings = { ["tasks.threads"] = 1, ["tasks.max"] = 5 } }' })
    loop.run(function()
      run(served, [[return tasks:run { module = "lib.work", fn = "add", 1, 2 }]])
      loop.wait_until(function() return stats(served).threads == 1 and stats(served).max == 5 end)
      local files = require "tests.support.files"
      files.write(served.folder .. "/perilune.lua", 'return { settings = { ["tasks.threads"] = 3, ["tasks.max"] = 7 } }')
      loop.wait_until(function() return stats(served).width == 3 and stats(served).max == 7 end)
      run(served, [[local l = {} for i = 1, 6 do l[i] = { module = "lib.work", fn = "spin", 0.02 } end return tasks:all(l)]])
      assert.equal(3, stats(served).threads)
      files.write(served.folder .. "/perilune.lua", 'return { settings = { ["tasks.enabled"] = false } }')
      loop.wait_until(function() return stats(served).width == 0 and stats(served).threads == 0 end)
      assert.same({ 3 }, run(served, [[return tasks:run { module = "lib.work", fn = "add", 1, 2 }]]))
    end)
  end)

  it("takes its settings from the environment", function()
    served = start(nil, { env = { PERFORMANCE_MAX_CONCURRENT_TASKS = "9", PERFORMANCE_ASYNC_POOL_ENABLED = "false" } })
    loop.run(function()
      assert.same({ 3 }, run(served, [[return tasks:run { module = "lib.work", fn = "add", 1, 2 }]]))
      local now = stats(served)
      assert.same({ 9, 0, 0 }, { now.max, now.width, now.threads })
    end)
  end)
end)

describe("a task that runs away", function()
  local served
  setup(function()
    served = start { ["tasks.cpu_ms"] = 250, ["tasks.threads"] = 2, ["script.memory_bytes"] = 16777216 }
  end)
  teardown(function() served:stop() end)

  for fn, wanted in pairs {
    forever = "used more than 250 ms of CPU time.*tasks.cpu_ms", forever_caught = "used more than 250 ms of CPU time",
    grow = "script.memory_bytes", recurse = "stack overflow",
  } do
    it("is interrupted: " .. fn, function()
      loop.run(function()
        local got = run(served, ([[return tasks:run { module = "lib.work", fn = %q }]]):format(fn))
        assert.matches(wanted, got[2])
        assert.equal(fn == "recurse" and "script" or "interrupted", got[3])
        assert.equal("yes", served:get("/alive").body)
        assert.same({ 3 }, run(served, [[return tasks:run { module = "lib.work", fn = "add", 1, 2 }]]))
      end)
    end)
  end

  it("costs no worker", function()
    loop.run(function()
      for _ = 1, 6 do
        run(served, [[return tasks:all { { module = "lib.work", fn = "forever" }, { module = "lib.work", fn = "grow" } }]])
      end
      for _, process in ipairs(served:processes()) do assert.equal(0, process.restarts) end
    end)
  end)
end)

describe("tasks over a reload", function()
  it("run the code of their handler's generation", function()
    local served = start({ ["tasks.threads"] = 1 })
    loop.run(function()
      assert.same({ "one" }, run(served, [[return tasks:run { module = "lib.work", fn = "version" }]]))
      local old = loop.spawn(function()
        return run(served, [[local first = tasks:start { module = "lib.work", fn = "spin", 0.4 }
          return first:await(), tasks:run { module = "lib.work", fn = "version" }]])
      end)
      wait_lane(served, "running", 1)
      served:write_rule("lib/work.lua", (WORK:gsub('"one"', '"two"')))
      loop.wait_until(function()
        return run(served, [[local t = tasks:start { module = "lib.work", fn = "version", priority = "critical" } return p.generation]])[1] == 2
      end)
      assert.same({ "two" }, run(served, [[return tasks:run { module = "lib.work", fn = "version" }]]))
      assert.same({ "spun", "one" }, loop.join(old))
    end)
    assert.equal(0, (served:stop()))
  end)

  it("ends at once with a task that would run on", function()
    local served = start()
    loop.run(function()
      local conn = served:connect()
      local body = [[tasks:start { module = "lib.work", fn = "forever" } return tasks:run { module = "lib.work", fn = "forever" }]]
      conn:send(("POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
      wait_lane(served, "running", 2)
      conn:close()
    end)
    assert.equal(0, (served:stop()))
  end)
end)
