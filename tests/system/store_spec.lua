--- The history on disk: what it outlives, and what it does not get in the way of.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local uv = require "luv"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello", function() return "hi" end)
app:get("/bad", function() return 500, "no" end)
return app
]]

local function start(options)
  options = options or {}
  options.rules = { ["routes/app.lua"] = options.app or APP }
  return engine.start(options)
end

local function ask(served, n, path)
  for _ = 1, n do assert.truthy(served:get(path or "/hello")) end
end

--- How many requests the trends of a route have, in steps of so many seconds, for a time that memory does not reach back to.
local function requests(served, route, step, from)
  local got = served:admin_get(("~/trends?from=%d&step=%d%s"):format(from or -600, step, route and "&route=" .. route:gsub(" ", "%%20") or ""))
  assert.equal(200, got.status, got.body)
  local sum = 0
  for _, n in ipairs(got.json.data.columns.requests) do sum = sum + n end
  return sum, got.json.data.columns
end

local function state(served) return served:admin_get("~/stats").json.data.store end

local function with(options, fn)
  loop.run(function()
    local served = start(options)
    local ok, why = pcall(fn, served)
    served:stop()
    if not ok then error(why, 0) end
  end, 60000)
end

describe("history on disk", function()
  it("is there after a restart, in steps of any length, and what comes then is added to it", function()
    with({}, function(served)
      ask(served, 30)
      ask(served, 5, "/bad")
      served:restart()
      for _, step in ipairs { 1, 7, 10, 60, 3600 } do
        local from = step == 3600 and -7200 or -600
        assert.equal(30, requests(served, "GET /hello", step, from), ("steps of %d s"):format(step))
        assert.equal(35, requests(served, nil, step, from))
      end
      local _, columns = requests(served, "GET /bad", 60)
      local errors = 0
      for _, n in ipairs(columns.errors) do errors = errors + n end
      assert.equal(5, errors)
      ask(served, 20)
      loop.wait_until(function() return requests(served, "GET /hello", 3600, -7200) == 50 end, 10000, "both lives in one step")
      assert.equal(50, requests(served, "GET /hello", 1))
      served:restart()
      assert.equal(50, requests(served, "GET /hello", 1))
      assert.equal(50, requests(served, "GET /hello", 60))
    end)
  end)

  it("knows routes by name that nobody has asked for since, or that are gone", function()
    with({}, function(served)
      ask(served, 12)
      served:write_rule("routes/app.lua", APP:gsub("/hello", "/other"))
      served:restart()
      assert.equal(12, requests(served, "GET /hello", 60))
      assert.equal(12, requests(served, "/hello", 60))
      assert.equal(404, served:admin_get("~/trends?route=GET%20/never&from=-600").status)
    end)
  end)

  it("loses nothing when the control process is killed", function()
    with({}, function(served)
      ask(served, 25)
      local control
      for _, one in ipairs(served:processes()) do control = one.role == "control" and one.pid or control end
      loop.wait_until(function() return requests(served, "GET /hello", 1, -60) == 25 end, 10000, "the windows")
      uv.kill(control, "sigkill")
      loop.wait_until(function()
        local ok, list = pcall(served.processes, served)
        for _, one in ipairs(ok and list or {}) do
          if one.role == "control" and one.pid ~= control and one.pid > 0 then return true end
        end
      end, 15000, "its successor")
      loop.wait_until(function() return state(served).open end, 10000, "the file")
      served:restart()
      assert.equal(25, requests(served, "GET /hello", 1))
    end)
  end)

  it("costs what was not written yet when everything is killed, and no more", function()
    with({ config = 'return { settings = { ["history.store_interval_s"] = 1 } }' }, function(served)
      ask(served, 40)
      loop.wait_until(function() return requests(served, "GET /hello", 1, -60) == 40 end, 10000, "the windows")
      local at_ms = os.time() * 1000
      loop.wait_until(function() return state(served).written_ms >= at_ms end, 15000, "the file to have them")
      local pids = {}
      for _, one in ipairs(served:processes()) do pids[#pids + 1] = one.pid end
      served.process:kill "sigkill"
      for _, pid in ipairs(pids) do uv.kill(pid, "sigkill") end
      loop.wait_until(function() return served.process:exited() end, 10000, "its end")
      served:restart()
      assert.equal(40, requests(served, "GET /hello", 10))
    end)
  end)

  it("tells what is usual for a route at once after a restart", function()
    with({ args = { "--set", "analysis.min_samples=10", "--set", "analysis.sample_s=1", "--set", "analysis.sample_requests=1" } }, function(served)
      local function thing()
        for _, one in ipairs(served:admin_get("~/signals").json.data.things) do
          if one.name == "GET /hello" then return one end
        end
      end
      loop.wait_until(function()
        ask(served, 1)
        local one = thing()
        return one and one.learnt >= 12
      end, 40000, "what is usual to be learnt")
      served:restart()
      ask(served, 1)
      local one
      loop.wait_until(function()
        one = thing()
        return one and one.knows
      end, 10000, "it to be recalled")
      assert.is_true(one.samples < 10, "it has learnt anew instead")
      assert.truthy(one.usual.mean_ms)
    end)
  end)

  it("replays alert policies over what was before a restart", function()
    with({}, function(served)
      ask(served, 10, "/bad")
      served:restart()
      ask(served, 1, "/bad")
      loop.wait_until(function() return requests(served, "GET /bad", 1) == 11 end, 10000, "the windows")
      local got = served:admin_request { method = "POST", path = "/api/v1/performance-optimization/alerts/test", json = {
        text = 'return { policies = { { name = "Any", severity = "warning", on = "route", signal = "error_rate", above = 0.5 } } }',
        from = -86400 * 7 } }
      assert.equal(200, got.status, got.body)
      assert.is_true(got.json.data.fired >= 1, got.body)
    end)
  end)
end)

describe("history on disk in trouble", function()
  it("does not stop traffic, is told, and goes on once the trouble is over", function()
    with({}, function(served)
      ask(served, 10)
      served:stop { keep = true }
      for _, name in ipairs { "", "-wal", "-shm" } do uv.fs_unlink(served.state .. "/history.db" .. name) end
      assert(uv.fs_mkdir(served.state .. "/history.db", 448)) -- nothing that SQLite can open, nor move away from
      files.write(served.state .. "/history.db/x", "x")
      served:restart()
      ask(served, 10)
      loop.wait_until(function() return state(served).trouble end, 10000, "the trouble")
      served:wait_log("history cannot be written", 5000)
      local resources = served:admin_get("~/resources").json.data
      assert.equal("warning", resources.health_of.store)
      loop.wait_until(function()
        for _, one in ipairs(served:admin_get("~/alerts").json.data.alerts) do
          if one.policy == "StoreTrouble" then return one.state == "firing" end
        end
      end, 15000, "the alert")
      assert.truthy(served:admin_get("/metrics").body:find("perilune_history_write_failures_total [1-9]"))
      assert.equal(200, served:get("/hello").status)
      local _, times = served:log():gsub("history cannot be written", "")
      assert.equal(1, times)
      files.remove(served.state .. "/history.db")
      loop.wait_until(function() return not state(served).trouble end, 20000, "the end of it")
      served:restart()
      assert.equal(11, requests(served, "GET /hello", 1))
    end)
  end)

  it("sets a damaged file aside and begins anew", function()
    with({}, function(served)
      ask(served, 10)
      served:stop { keep = true }
      files.write(served.state .. "/history.db", ("this is no database "):rep(1000))
      served:restart()
      served:wait_log("history.db is damaged: set aside as", 10000)
      assert.truthy(files.read(served.state .. "/history.db.damaged"):find("this is no database", 1, true))
      ask(served, 3)
      served:restart()
      assert.equal(3, requests(served, "GET /hello", 1))
    end)
  end)

  it("writes nothing where its budget is 0", function()
    with({ config = 'return { settings = { ["history.store_bytes"] = 0 } }' }, function(served)
      ask(served, 10)
      served:restart()
      assert.falsy(files.read(served.state .. "/history.db"))
      assert.is_false(state(served).enabled)
      assert.equal(404, served:admin_get("~/trends?route=GET%20/never").status)
    end)
  end)
end)
