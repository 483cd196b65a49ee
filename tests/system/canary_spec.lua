--- A change that is tried by one worker beside the others, seen by what each of them answers.
local engine = require "tests.support.engine"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local uv = require "luv"

local API = "/api/v1/performance-optimization/"

local APP = [[
local p = require "perilune"
local app = p.app()
local words, x = {}, 1
for i = 1, 800 do
  x = x * 16807 % 2147483647 -- Park and Miller, 1988: what levels compress differently
  words[i] = "word" .. x % 613
end
local page = table.concat(words, " ")
app:get("/page", function() return 200, page, { ["Content-Type"] = "text/plain" } end)
return app
]]

local CLIENTS = 24
local PAGE = { path = "/page", headers = { ["Accept-Encoding"] = "gzip" } }

describe("a canary worker", function()
  local served, clients, last

  setup(function()
    served = engine.start { workers = 4, rules = { ["routes/app.lua"] = APP, ["policies/compression.lua"] = "return { gzip = 9 }" }, config = 'return { settings = { ["compression.level"] = 9 } }' }
    last = {}
    loop.run(function()
      -- every fifty requests another worker has its turn
      clients = load.background(served, { clients = CLIENTS, request = PAGE, pause_ms = 20, per_connection = 50,
        heard = function(i, answer) last[i] = #answer.body end })
    end)
  end)

  teardown(function()
    loop.run(function()
      clients.stop()
      served:stop()
    end, 30000)
  end)

  local function the_trial(id) return served:admin_get("~/trials/" .. id).json.data end

  -- The id of a trial, asked for as soon as a request of the route is known, which has begun.
  local function begin(changes)
    local answer
    loop.wait_until(function()
      answer = served:admin_request { method = "POST", path = API .. "trials", json = { changes = changes, metric = "mean_ms", route = "/page" } }
      return answer.status ~= 404
    end, 10000, "a first request")
    assert.equal(202, answer.status, answer.body)
    local id = answer.json.data.id
    loop.wait_until(function() return the_trial(id).phase ~= "PRECHECK" end, 40000, "half a minute of traffic")
    assert.equal("CANARY", the_trial(id).phase, the_trial(id).why)
    return id
  end

  -- How many of the clients were last answered with so many bytes.
  local function sizes()
    for i = 1, CLIENTS do last[i] = nil end
    loop.wait_until(function()
      local known = 0
      for _ in pairs(last) do known = known + 1 end
      return known == CLIENTS
    end, 5000, "an answer for each client")
    local seen, count = {}, 0
    for _, size in pairs(last) do
      if not seen[size] then count = count + 1 end
      seen[size] = (seen[size] or 0) + 1
    end
    return seen, count
  end

  it("has the change alone, and not any more when control is killed", function()
    loop.run(function()
      local usual, count = sizes()
      assert.equal(1, count)
      local id = begin { ["compression.level"] = 1 }
      loop.wait_until(function()
        loop.sleep(200)
        return the_trial(id).on
      end, 100000, "the canary to begin")
      local trial = the_trial(id)
      assert.same({ "CANARY", "canary", 4 }, { trial.phase, trial.design, trial.workers })
      local seen
      loop.wait_until(function()
        seen, count = sizes()
        return count == 2
      end, 10000, "both sizes")
      local with, without = 0, 0
      for size, n in pairs(seen) do
        if usual[size] then without = without + n else with = with + n end
      end
      assert.is_true(with < without, ("%d of %d have the change"):format(with, with + without))
      local setting
      for _, one in ipairs(served:admin_get("~/config").json.data.settings) do
        if one.name == "compression.level" then setting = one end
      end
      assert.same({ 1, 9, true, true }, { setting.value, setting.stable, setting.on_trial, setting.canary_only })
      for _, process in ipairs(served:processes()) do
        if process.role == "control" then uv.kill(process.pid, 9) end
      end
      loop.wait_until(function()
        seen, count = sizes()
        return count == 1 and usual[next(seen)]
      end, 10000, "the stable value everywhere")
      loop.wait_until(function()
        local ok, now = pcall(the_trial, id)
        return ok and now and now.phase == "ROLLED_BACK"
      end, 20000, "the trial to be closed")
    end, 200000)
  end, 200000)

  it("is not for what all workers share", function()
    loop.run(function()
      local id = begin { ["upstream.hedge_share"] = 0.06 }
      loop.wait_until(function() return the_trial(id).on end, 40000, "the first block with the change")
      assert.equal("switchback", the_trial(id).design)
      served:admin_request { method = "POST", path = API .. "trials/" .. id .. "/stop", json = {} }
      assert.equal("ABORTED", the_trial(id).phase)
    end, 100000)
  end, 100000)
end)
