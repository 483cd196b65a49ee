--- The closed loop: a pool too small is found, its change tried by experiment, proven, and kept.
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"

local API = "/api/v1/performance-optimization/"

local APP = [[
local p = require "perilune"
local db = p.postgres("main")
local app = p.app()
app:get("/db", function() return db:one("select pg_sleep(0.015)::text || 'x' w").w and "ok" end)
return app
]]

describe("the closed loop", function()
  local pg, served, going, workers

  setup(function()
    pg = postgres.start {}
    served = engine.start {
      rules = { ["routes/app.lua"] = APP },
      config = ("return { postgres = { main = { dsn = %q, min = 1, max = 2 } } }"):format(pg.url),
      args = { "--set", "analysis.min_samples=15", "--set", "analysis.window=40", "--set", "trials.quiet_s=0" },
    }
    going, workers = true, {}
    loop.run(function()
      for i = 1, 8 do
        workers[i] = loop.spawn(function()
          local c = served:connect()
          while going do
            if not c:request "/db" then
              c:close()
              c = served:connect()
            end
          end
          c:close()
        end)
      end
    end)
  end)

  teardown(function()
    loop.run(function()
      going = false
      for _, one in ipairs(workers) do loop.join(one) end
      served:stop()
      pg:stop()
    end, 30000)
  end)

  local function post(path, body) return served:admin_request { method = "POST", path = API .. path, json = body or {} } end

  local function one(rule)
    for _, sug in ipairs(served:admin_get("~/suggestions").json.data.suggestions) do
      if sug.rule == rule then return sug end
    end
  end

  it("raises a suggestion with its impact, tries it, proves it and keeps it", function()
    loop.run(function()
      local sug
      loop.wait_until(function()
        sug = one "pool_undersized"
        return sug ~= nil
      end, 60000, "a suggestion")
      assert.same({ "OPEN", "approve", "database", "main" }, { sug.state, sug.apply_mode, sug.class, sug.target })
      assert.same({ "GET /db" }, sug.routes)
      assert.is_true(sug.impact.now > 3 * 15 and sug.impact.predicted < 30 and sug.impact.lo <= sug.impact.predicted and sug.impact.predicted <= sug.impact.hi)
      assert.same({ name = "pool.main.max", from = 2, to = 4, unit = "connections" }, sug.operations[1])
      local dry = post("suggestions/" .. sug.id .. "/dry-run", { pool_size_increase = 6 }).json.data
      assert.same({ true, 8 }, { dry.would_begin, dry.changes[1].to })
      for body, status in pairs { ['{"pool_size_increase": "x"}'] = 422, ['{"pool_size_increase": 1e9}'] = 422, ['{"pool.other.max": 3}'] = 422, ["[1"] = 400 } do
        local answer = served:admin_request { method = "POST", path = API .. "suggestions/" .. sug.id .. "/apply", body = body }
        assert.equal(status, answer.status, answer.body)
      end
      local got = post("suggestions/" .. sug.id .. "/apply", { pool_size_increase = 6 })
      assert.equal(202, got.status, got.body)
      assert.equal("RUNNING", got.json.data.state)
      assert.equal(409, post("suggestions/" .. sug.id .. "/apply").status)
      loop.wait_until(function()
        sug = served:admin_get("~/suggestions/" .. sug.id).json.data
        return sug.state ~= "RUNNING"
      end, 300000, "a verdict")
      assert.equal("SUCCEEDED", sug.state, sug.verdict and sug.verdict.why)
      assert.is_true(sug.measured.change < -0.4 and sug.measured.lo <= sug.measured.change and sug.measured.change <= sug.measured.hi)
      assert.is_true(math.abs(sug.prediction_error) < math.log(2))
      local trial = served:admin_get("~/trials/" .. sug.trial).json.data
      assert.same({ "VERIFIED", "better", "better" }, { trial.phase, trial.canary.verdict, trial.confirm.verdict })
      for _, pool in ipairs(served:admin_get("~/resources/pools").json.data.pools) do assert.equal(8, pool.max) end
      local journal = served:admin_get("~/config/journal").json.data.changes[1]
      assert.same({ trial.id, "pool.main.max", 2, 8 }, { journal.who, journal.changes[1].name, journal.changes[1].from, journal.changes[1].to })
      local numbers = served:admin_get("~/suggestions/analytics").json.data
      assert.same({ 1, 1 }, { numbers.by_rule.pool_undersized.raised, numbers.by_rule.pool_undersized.verified })
    end, 400000)
  end)
end)
