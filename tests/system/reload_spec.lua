--- Generations: good scripts go live everywhere without losing a request, bad
-- ones are refused with file, line and reason while the old ones serve on.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local API = "/api/v1/performance-optimization"
local SWAPS = 40
local REQUESTS = 200000
local LIVE_MS = 1000

local function routes(version)
  return ([[
local p = require "perilune"
local app = p.app()
local born
app:get("/", function() return "v%d" end)
app:get("/who", function()
  born = born or ("%%.9f"):format(p.now())
  return born
end)
app:get("/slow", function() p.sleep(2) return "v%d" end)
return app
]]):format(version, version)
end

-- What can be wrong, on which line, and what is said about it.
local BROKEN = {
  { text = "local p = require \"perilune\"\nlocal app = = p.app()\nreturn app\n", line = 2, says = "unexpected symbol" },
  { text = "local p = require \"perilune\"\n\nerror(\"not today\")\n", line = 3, says = "not today" },
  { text = "local n = 0\nwhile true do n = n + 1 end\n", line = 2, says = "script.load_ms" },
  { text = "local p = require \"perilune\"\nreturn \"app\"\n", line = 2, says = "not a string" },
  { text = "local p = require \"perilune\"\nlocal app = p.app { prefx = \"/a\" }\nreturn app\n", line = 2,
    says = "unknown key 'prefx' in perilune.app, did you mean 'prefix'?" },
  { config = "return {\n  upstream = \"\",\n  worker = 2,\n}\n", line = 3, says = "unknown key 'worker', did you mean 'workers'?" },
}
local GOOD_CONFIG = "return {}\n"

local WRK_SCRIPT = [[
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
function init() bad, first = 0, "" end
function response(status, _, body)
  if status ~= 200 or not body:find("^v%d+$") then
    bad = bad + 1
    if first == "" then first = status .. " " .. body end
  end
end
function done()
  local sum, example = 0, ""
  for _, thread in ipairs(threads) do
    sum = sum + thread:get("bad")
    example = example .. thread:get("first")
  end
  io.write(("bad answers: %d %s\n"):format(sum, example))
end
]]

--- Runs fn(engine) and ends the engine whatever happens.
local function with_engine(options, fn, timeout_ms)
  loop.run(function()
    options.rules = options.rules or { ["routes/app.lua"] = routes(1) }
    options.workers = options.workers or 2
    local e = engine.start(options)
    local ok, why = pcall(fn, e)
    if not ok then why = tostring(why) .. "\n" .. e:log():sub(-3000) end
    e:stop()
    if not ok then error(why, 0) end
  end, timeout_ms or 30000)
end

--- One kept-alive connection to each of the two workers.
local function one_to_each(e)
  local known, list = {}, {}
  loop.wait_until(function()
    local c = assert(e:connect())
    local who = assert(c:request("/who")).body
    if known[who] then
      c:close()
    else
      known[who] = true
      list[#list + 1] = c
    end
    return #list == 2
  end, 5000, "both workers to answer")
  return list
end

local function version_of(conn)
  local answer = assert(conn:request("/"))
  assert.equal(200, answer.status)
  return tonumber(answer.body:match("^v(%d+)$"))
end

local function generations(e)
  return assert(e:admin_get("~/generations")).json.data
end

local function reload(e)
  return assert(e:admin_request { method = "POST", path = API .. "/reload", timeout_ms = 10000 })
end

local function counter(e, result)
  local text = e:admin_get("/metrics").body
  return tonumber(text:match('perilune_reloads_total{result="' .. result .. '"} (%d+)'))
end

local function start_wrk(e, script)
  return assert(process.start { command = "wrk", args = { "--latency", "-t", "1", "-c", "16", "-d", "300s", "-s", script,
    "http://" .. e.listen .. "/" } })
end

local function swap_good(e, conns, version)
  local began = loop.now_ms()
  if files.read(e.folder .. "/perilune.lua") ~= GOOD_CONFIG then files.write(e.folder .. "/perilune.lua", GOOD_CONFIG) end
  e:write_rule("routes/app.lua", routes(version))
  for _, conn in ipairs(conns) do
    loop.wait_until(function() return version_of(conn) == version end, 5000, "version " .. version)
  end
  return loop.now_ms() - began
end

local function swap_broken(e, conns, broken, version)
  local refused = counter(e, "refused")
  if broken.config then files.write(e.folder .. "/perilune.lua", broken.config) end
  if broken.text then e:write_rule("routes/app.lua", broken.text) end
  loop.wait_until(function() return counter(e, "refused") == refused + 1 end, 5000, "the refusal")
  local answer = reload(e)
  assert.equal(422, answer.status)
  assert.equal("application/problem+json", answer.headers["content-type"])
  assert.equal("reload_refused", answer.json.code)
  assert.equal(1, #answer.json.errors)
  local wrong = answer.json.errors[1]
  local path = e.folder .. (broken.config and "/perilune.lua" or "/rules/routes/app.lua")
  assert.equal(path, wrong.file)
  assert.equal(broken.line, wrong.line)
  assert.truthy(wrong.message:find(broken.says, 1, true), wrong.message)
  assert.equal(refused + 2, counter(e, "refused"))
  local now = generations(e)
  assert.equal("refused", now.history[1].result)
  assert.equal("api", now.history[1].cause)
  assert.same(answer.json.errors, now.history[1].problems)
  assert.equal("refused", now.history[2].result)
  assert.equal("file", now.history[2].cause)
  assert.equal(now.workers.total, now.workers.current)
  assert.truthy(e:log():find(("reload refused: %s:%d: "):format(path, broken.line), 1, true))
  for _, conn in ipairs(conns) do assert.equal(version, version_of(conn)) end
end

describe("an edited route file", function()
  it("is live on every worker within a second", function()
    with_engine({ config = GOOD_CONFIG }, function(e)
      local conns = one_to_each(e)
      local took = swap_good(e, conns, 2)
      assert.is_true(took <= LIVE_MS, ("it took %.0f ms"):format(took))
      local now = generations(e)
      assert.equal(2, now.active)
      assert.same({ "active", "file" }, { now.history[1].result, now.history[1].cause })
      assert.equal(1, counter(e, "ok"))
    end)
  end)

  it("can be a new file or a removed one", function()
    with_engine({}, function(e)
      assert.equal(404, e:get("/more").status)
      e:write_rule("routes/more/deep.lua", "local app = require(\"perilune\").app()\napp:get(\"/more\", function() return \"m\" end)\nreturn app\n")
      loop.wait_until(function() return e:get("/more").status == 200 end, LIVE_MS, "the new file")
      e:remove_rule("routes/more/deep.lua")
      loop.wait_until(function() return e:get("/more").status == 404 end, LIVE_MS, "the file to be gone")
    end)
  end)

  it("is not tried again while it stays the same", function()
    with_engine({}, function(e)
      e:write_rule("routes/app.lua", BROKEN[1].text)
      loop.wait_until(function() return counter(e, "refused") == 1 end)
      e:write_rule("routes/app.lua", BROKEN[1].text)
      e:write_rule("notes.txt", "no script")
      e:write_rule("routes/other.lua", BROKEN[2].text)
      loop.wait_until(function() return counter(e, "refused") >= 2 end)
      assert.equal(2, #generations(e).history)
      assert.equal(2, #generations(e).history[1].problems)
    end)
  end)
end)

describe("forty swaps, every second one broken, under load", function()
  it("lose no request and never show an older generation", function()
    with_engine({ config = GOOD_CONFIG, args = { "--set", "script.load_ms=100" } }, function(e)
      local script = e.folder .. "/check.lua"
      files.write(script, WRK_SCRIPT)
      local wrk = start_wrk(e, script)
      local conns, version, swaps, slowest = one_to_each(e), 1, 0, {}
      local ok, why = pcall(function()
        while swaps < SWAPS or e:admin_get("~/stats?window=all").json.data.requests_total < REQUESTS * 1.05 do
          swaps = swaps + 1
          if swaps % 2 == 1 then
            version = version + 1
            slowest[#slowest + 1] = swap_good(e, conns, version)
          else
            swap_broken(e, conns, BROKEN[swaps / 2 % #BROKEN + 1], version)
          end
          for _, conn in ipairs(conns) do assert.equal(version, version_of(conn)) end
        end
      end)
      wrk:kill("sigint")
      wrk:wait()
      if not ok then error(why, 0) end
      local result = assert(load.parse_wrk(wrk:stdout()))
      assert.is_true(result.requests >= REQUESTS, result.requests .. " requests")
      assert.same({ connect = 0, read = 0, write = 0, timeout = 0, status = 0 }, result.errors)
      assert.truthy(wrk:stdout():find("bad answers: 0 \n", 1, true), wrk:stdout())
      table.sort(slowest)
      local median = slowest[math.ceil(#slowest / 2)]
      assert.is_true(median <= LIVE_MS, ("half of the swaps took more than %.0f ms"):format(median))
      local data = e:admin_get("~/stats?window=all").json.data
      assert.equal(0, data.aborted_total)
      assert.equal(0, data.error_rate)
      for _, one in ipairs(data.processes) do assert.equal(0, one.restarts) end
      assert.equal(version - 1, counter(e, "ok"))
      assert.equal(0, counter(e, "rolled_back"))
    end, 180000)
  end)
end)

describe("a request in flight during a swap", function()
  it("ends on the generation it began with", function()
    with_engine({ config = GOOD_CONFIG }, function(e)
      local conns, slow = one_to_each(e), {}
      for i = 1, 10 do slow[i] = loop.spawn(function() return e:get("/slow") end) end
      loop.wait_until(function() return e:admin_get("~/stats").json.data.in_flight == 10 end, 1500, "ten requests in flight")
      swap_good(e, conns, 2)
      assert.is_false(slow[1].done)
      assert.equal("v2", e:get("/").body)
      for _, task in ipairs(slow) do assert.equal("v1", assert(loop.join(task)).body) end
      assert.equal("v2", e:get("/slow").body)
    end)
  end)
end)

describe("a generation whose handlers fail", function()
  it("is rolled back by itself and not tried again", function()
    with_engine({ config = GOOD_CONFIG, args = { "--set", "reload.guard_errors=5" } }, function(e)
      local conns = one_to_each(e)
      for _ = 1, 50 do version_of(conns[1]) end
      e:write_rule("routes/app.lua", (routes(2):gsub('return "v2"', 'error "broken"')))
      local errors = 0
      loop.wait_until(function()
        if e:get("/").status == 500 then errors = errors + 1 end
        return counter(e, "rolled_back") == 1
      end, 5000, "the rollback")
      assert.is_true(errors >= 5)
      for _, conn in ipairs(conns) do
        loop.wait_until(function() return assert(conn:request("/")).body == "v1" end, 1000, "v1 again")
      end
      local now = generations(e)
      assert.equal(1, now.active)
      assert.same({ "rolled_back", "errors", 1 }, { now.history[1].result, now.history[1].cause, now.history[1].generation })
      assert.equal("active", now.history[2].result)
      assert.truthy(e:log():find("generation 2 is rolled back: its error rate is higher than before the swap", 1, true))
      swap_good(e, conns, 3)
      assert.equal(3, generations(e).active)
    end)
  end)

  it("stays when the errors were there before", function()
    local broken = routes(1):gsub('return "v1"', 'error "broken"', 1)
    with_engine({ rules = { ["routes/app.lua"] = broken }, args = { "--set", "reload.guard_errors=5" } }, function(e)
      for _ = 1, 20 do assert.equal(500, e:get("/").status) end
      e:write_rule("routes/app.lua", broken .. "-- edited\n")
      loop.wait_until(function() return generations(e).active == 2 end)
      for _ = 1, 40 do assert.equal(500, e:get("/").status) end
      assert.equal(200, e:get("/who").status)
      assert.equal(2, generations(e).active)
      assert.equal(0, counter(e, "rolled_back"))
    end)
  end)
end)

describe("a generation that changes nothing", function()
  it("stays when good answers had hidden the errors before", function()
    local app = routes(1):gsub('return "v1"', 'error "broken"', 1)
    with_engine({ config = GOOD_CONFIG, rules = { ["routes/app.lua"] = app }, args = { "--set", "reload.guard_errors=50" } }, function(e)
      local function fail(times)
        for _ = 1, times do
          assert.equal(500, e:get("/").status)
          loop.sleep(10)
        end
      end
      fail(100)
      local c = e:connect()
      for _ = 1, 2000 do c:request("/who") end
      e:write_rule("routes/app.lua", app .. "-- edited\n")
      loop.wait_until(function() return generations(e).active == 2 end)
      fail(80)
      assert.equal(2, generations(e).active)
      assert.equal(0, counter(e, "rolled_back"))
    end)
  end)
end)

describe("an older generation", function()
  it("is put in force again by command", function()
    with_engine({ config = GOOD_CONFIG }, function(e)
      local conns = one_to_each(e)
      swap_good(e, conns, 2)
      swap_good(e, conns, 3)
      assert.same({ 3, 2, 1 }, generations(e).restorable)
      local answer = e:admin_request { method = "POST", path = API .. "/generations/1/restore" }
      assert.equal(200, answer.status)
      assert.same({ generation = 1, workers_switched = true }, answer.json.data)
      for _, conn in ipairs(conns) do assert.equal(1, version_of(conn)) end
      local now = generations(e)
      assert.equal(1, now.active)
      assert.equal("restored", now.history[1].result)
      assert.equal(404, e:admin_request({ method = "POST", path = API .. "/generations/77/restore" }).status)
      for _, id in ipairs { "x", "0", "-1", "1.5", "1e99" } do
        local status = e:admin_request({ method = "POST", path = API .. "/generations/" .. id .. "/restore" }).status
        assert.is_true(status == 400 or status == 404)
      end
      assert.equal("v1", e:get("/").body)
    end)
  end)
end)

describe("reload by the API", function()
  it("answers when every worker serves what is in the folder", function()
    with_engine({ args = { "--set", "reload.watch=false" } }, function(e)
      local conns = one_to_each(e)
      for version = 2, 6 do
        e:write_rule("routes/app.lua", routes(version))
        local answer = reload(e)
        assert.equal(200, answer.status)
        assert.same({ "active", "api", version, true }, { answer.json.data.result, answer.json.data.cause,
          answer.json.data.generation, answer.json.data.workers_switched })
        for _, conn in ipairs(conns) do assert.equal(version, version_of(conn)) end
      end
    end)
  end)

  it("tells all that is wrong at once", function()
    with_engine({ args = { "--set", "reload.watch=false" } }, function(e)
      e:write_rule("routes/app.lua", BROKEN[1].text)
      e:write_rule("routes/b.lua", BROKEN[2].text)
      e:write_rule("routes/c.lua", BROKEN[5].text)
      local answer = reload(e)
      assert.equal(422, answer.status)
      local found = {}
      for _, wrong in ipairs(answer.json.errors) do
        found[wrong.file:match("[^/]+$")] = wrong.line
      end
      assert.same({ ["app.lua"] = 2, ["b.lua"] = 3, ["c.lua"] = 2 }, found)
      assert.equal("v1", e:get("/").body)
    end)
  end)
end)

describe("perilune check", function()
  local function check(tree, config)
    local folder = files.temporary("perilune")
    files.write_tree(folder .. "/rules", tree)
    local args = { "check", "--rules", folder .. "/rules" }
    if config then
      files.write(folder .. "/perilune.lua", config)
      args[4], args[5] = "--config", folder .. "/perilune.lua"
    end
    local code, out, err = engine.run { args = args }
    files.remove(folder)
    return code, (out:gsub(folder:gsub("%p", "%%%0") .. "/", "")), err
  end

  it("says ok with exit code 0", function()
    loop.run(function()
      local code, out = check({ ["routes/app.lua"] = routes(1) }, GOOD_CONFIG)
      assert.equal(0, code)
      assert.matches("^ok: 2 files, %d+ routes\n$", out)
    end)
  end)

  it("names file and line of every error of every file with exit code 2", function()
    loop.run(function()
      local tree, expected = {}, {}
      for i, broken in ipairs(BROKEN) do
        if broken.text then
          tree[("routes/%d.lua"):format(i)] = broken.text
          expected[#expected + 1] = ("rules/routes/%d.lua:%d: "):format(i, broken.line)
        end
      end
      expected[#expected + 1] = "perilune.lua:3: "
      local code, out = check(tree, BROKEN[6].config)
      assert.equal(2, code)
      for i, prefix in ipairs(expected) do
        local line = ("\n" .. out):match("\n(" .. prefix:gsub("%p", "%%%0") .. "[^\n]*)")
        assert.truthy(line, prefix .. " is missing in:\n" .. out)
        local broken = i == #expected and BROKEN[6] or BROKEN[i]
        assert.truthy(line:find(broken.says, 1, true), line)
      end
      assert.equal(#expected, select(2, out:gsub("\n", "\n")))
    end)
  end)

  it("names the whole file however deep its folder is", function()
    loop.run(function()
      local deep = "routes/" .. ("a_rather_long_name/"):rep(6)
      local code, out = check { [deep .. "x.lua"] = BROKEN[1].text, [deep .. "y.lua"] = BROKEN[2].text }
      assert.equal(2, code)
      assert.truthy(("\n" .. out):find("\nrules/" .. deep .. "x.lua:2: ", 1, true), out)
      assert.truthy(("\n" .. out):find("\nrules/" .. deep .. "y.lua:3: ", 1, true), out)
    end)
  end)
end)
