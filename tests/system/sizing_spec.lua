--- The advised size of a pool follows the load that a real server sees.
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"

local APP = [[
local p = require "perilune"
local db = p.postgres("main")
local app = p.app()
app:get("/slow", function() return tostring(db:transaction(function(tx) return tx:one("select 1 n, pg_sleep(0.05)").n end)) end)
app:get("/quick", function() return tostring(db:one("select 1 n").n) end)
return app
]]

local function policy(text) return ("return { server_cores = 8, %s }"):format(text) end

local function start(pg, text)
  return engine.start { rules = { ["routes/app.lua"] = APP, ["policies/pools.lua"] = policy(text) },
    config = ("return { postgres = { main = { dsn = %q, min = 0, max = 2 } } }"):format(pg.url), args = { "--set", "pool.sizing.window_s=1" } }
end

--- Keeps `width` requests under way until told to stop.
local function load(served, path, width)
  local going, workers = true, {}
  for i = 1, width do
    workers[i] = loop.spawn(function()
      local c = served:connect()
      while going do assert.equal(200, assert(c:request(path)).status) end
      c:close()
    end)
  end
  return function()
    going = false
    for _, worker in ipairs(workers) do loop.join(worker) end
  end
end

local function sizing(served) return served:admin_get("~/resources/pools/main/sizing").json.data end
local function max(served) return served:admin_get("~/resources/pools/main").json.data.max end

describe("the size of a pool", function()
  local pg
  setup(function() loop.run(function() pg = postgres.start { settings = { max_connections = 20, superuser_reserved_connections = 3 } } end, 60000) end)
  teardown(function() loop.run(function() pg:stop() end) end)

  it("is advised from waiting and service time, and never above what the server bears", function()
    loop.run(function()
      local served = start(pg, 'wait_ms = 2, server_share = 0.5')
      assert.equal("suggest", sizing(served).mode)
      local stop = load(served, "/slow", 12)
      local s -- of one window: another may end before the next look
      loop.wait_until(function()
        s = sizing(served)
        return type(s.advice) == "table" and s.advice.max > 2 and s.why:find("requests wait", 1, true) ~= nil
      end, 15000, "advice to grow")
      assert.equal(8, s.advice.most) -- half of 17
      assert.is_true(s.advice.max <= 8 and s.advice.wait_ms > 2)
      assert.equal(2, max(served))
      served:admin_request { method = "PATCH", path = "/api/v1/performance-optimization/resources/pools/main", json = { max_size = 8 } }
      loop.wait_until(function()
        local now = sizing(served)
        return type(now.advice) == "table" and now.why:find("bears no more", 1, true)
      end, 15000, "the server's bound")
      stop()
      assert.equal(404, served:admin_get("~/resources/pools/none/sizing").status)
      served:stop()
    end, 60000)
  end)

  it("is set where the policy says so, up and down again", function()
    loop.run(function()
      local served = start(pg, 'mode = "on", wait_ms = 2')
      local stop = load(served, "/slow", 6)
      loop.wait_until(function() return max(served) >= 6 end, 30000, "more connections")
      stop()
      served:wait_log("pool main: max 2 > ")
      local grown = max(served)
      assert.is_true(grown <= 13)
      stop = load(served, "/quick", 1)
      loop.wait_until(function() return max(served) <= grown * 0.7 end, 30000, "fewer connections")
      stop()
      served:stop()
    end, 90000)
  end)

  it("is left alone where the policy is off, and a policy is refused with its mistake", function()
    loop.run(function()
      local served = start(pg, 'mode = "off"')
      assert.same({ "off", "it is off" }, { sizing(served).mode, sizing(served).why })
      for text, message in pairs { ['mode = "auto"'] = "'mode' is \"off\", \"suggest\" or \"on\"", ["utilisation = 0.5"] = "did you mean 'utilization'?",
        ["pools = { main = { wait_ms = -1 } }"] = "'wait_ms' is a number from 0.01 to 60000 of pool 'main'" } do
        served:write_rule("policies/pools.lua", policy(text))
        served:wait_log(message)
      end
      served:stop()
    end, 60000)
  end)
end)
