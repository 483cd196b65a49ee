--- GET resources and what hangs below it: the machine, and what is out of line.
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"

local ROUTES = [[
local p = require "perilune"
local tasks = require "perilune.tasks"
local app = p.app()
app:get("/garbage", function()
  for _ = 1, 2000 do local t = {} for i = 1, 100 do t[i] = {} end end
  return "done"
end)
app:get("/busy", function()
  local list = {}
  for i = 1, 4 do list[i] = { module = "lib.work", fn = "spin", 0.6 } end
  return tasks:all(list) and "done"
end)
app:get("/late", function() local t = p.now() + 0.15 while p.now() < t do end return "done" end)
return app
]]

local WORK = [[
local p = require "perilune"
return { spin = function(seconds) local t = p.now() + seconds while p.now() < t do end return true end }
]]

local function finding(served, part, text)
  local data = served:admin_get("~/resources").json.data
  for _, one in ipairs(data.findings) do
    if one.part == part and one.message:find(text, 1, true) then return one, data end
  end
end

describe("the machine", function()
  local served
  setup(function() served = engine.start { rules = { ["routes/app.lua"] = ROUTES, ["lib/work.lua"] = WORK }, args = { "--set", "tasks.max=4" } } end)
  teardown(function() served:stop() end)

  it("shows each figure with a value, or the reason why there is none", function()
    loop.run(function()
      local data
      loop.wait_until(function() -- rates take two samples
        data = served:admin_get("~/resources/machine").json.data
        return data.cpu and data.cpu.share
      end)
      assert.is_true(data.cpu.share >= 0 and data.cpu.share <= 1)
      assert.is_true(data.cpu.usable_cpus > 0 and data.memory.limit_bytes > 0)
      assert.is_true(data.memory.working_set_bytes <= data.memory.used_bytes)
      assert.is_true(data.disk.free_bytes <= data.disk.total_bytes)
      assert.same({ 1, 30 }, { data.sampled_every_s, data.recorded_every_s })
      local count = 0
      for _, section in ipairs { "cpu", "memory", "pressure", "disk", "io", "network", "descriptors" } do
        for _, value in pairs(data[section] or {}) do
          assert.equal("number", type(value))
          count = count + 1
        end
      end
      for name, why in pairs(data.not_available) do
        assert.is_true(#why > 5, name)
        count = count + 1
      end
      assert.equal(48, count) -- none is left out
    end)
  end)

  it("shows memory, descriptors, lag, heap and collections of each process", function()
    loop.run(function()
      local function worker()
        for _, process in ipairs(served:admin_get("~/resources/machine").json.data.processes) do
          if process.name == "worker 0" then return process end
        end
      end
      local before = worker()
      assert.is_true(before.rss_bytes > 1e6 and before.open_fds > 3 and before.lua_heap_bytes > 1e5)
      for _ = 1, 5 do assert.equal("done", served:get("/garbage").body) end
      loop.wait_until(function()
        local now = worker()
        return now.gc_cycles > before.gc_cycles and now.gc_pause_ms > 0
      end)
    end)
  end)

  it("is in /metrics", function()
    loop.run(function()
      loop.wait_until(function() return served:admin_get("/metrics").body:find("perilune_resource_cpu_share ", 1, true) end)
      local text = served:admin_get("/metrics").body
      assert.matches('perilune_worker_lua_heap_bytes{process="worker 0"} %d+', text)
      assert.matches('perilune_worker_gc_cycles_total{process="worker 0"} %d+', text)
      assert.matches("perilune_resource_memory_working_set_bytes %d+", text)
    end)
  end)
end)

describe("GET resources", function()
  local served
  setup(function() served = engine.start { rules = { ["routes/app.lua"] = ROUTES, ["lib/work.lua"] = WORK }, args = { "--set", "tasks.max=4" } } end)
  teardown(function() served:stop() end)

  it("has pools, task threads, caches and the machine with their health", function()
    loop.run(function()
      local data = served:admin_get("~/resources").json.data
      assert.is_true(data.health == "ok" or data.health == "warning" or data.health == "critical")
      for _, part in ipairs { "machine", "pools", "tasks", "cache" } do assert.equal("string", type(data.health_of[part]), part) end
      assert.same({}, data.pools)
      assert.equal(1, #data.tasks.processes)
      assert.is_true(data.cache.available and data.cache.limit_bytes > 0)
      assert.is_true(data.machine.memory.limit_bytes > 0)
    end)
  end)

  it("says in a sentence that the task queue fills up", function()
    loop.run(function()
      local busy = loop.spawn(function() return served:get("/busy").body end)
      local one, data
      loop.wait_until(function()
        one, data = finding(served, "tasks", "4 tasks of worker 0 wait or run, of at most 4")
        return one
      end)
      assert.equal("warning", one.severity)
      assert.equal("warning", data.health_of.tasks)
      assert.equal("done", loop.join(busy))
      loop.wait_until(function() return served:admin_get("~/resources").json.data.health_of.tasks == "ok" end)
    end)
  end)

  it("says in a sentence that a loop is held up", function()
    loop.run(function()
      served:get("/late")
      loop.wait_until(function() return finding(served, "machine", "the loop of worker 0 was late by") end)
    end)
  end)
end)
