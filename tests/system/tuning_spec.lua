--- The closed loop: a pool too small is found, its change tried by experiment, proven, and kept.
local engine = require "tests.support.engine"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local uv = require "luv"
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
  local pg, served, clients

  setup(function()
    pg = postgres.start {}
    served = engine.start {
      rules = { ["routes/app.lua"] = APP },
      config = ("return { postgres = { main = { dsn = %q, min = 1, max = 2 } } }"):format(pg.url),
      args = { "--set", "analysis.min_samples=15", "--set", "analysis.window=40", "--set", "trials.quiet_s=0", "--set", "trials.cooldown_s=0" },
    }
    loop.run(function() clients = load.background(served, { request = "/db" }) end)
  end)

  teardown(function()
    loop.run(function()
      clients.stop()
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

  --- What the admin API says, also while control is being replaced.
  local function ask(path)
    local got = served:admin_get(path)
    return got and got.status == 200 and got.json.data or nil
  end

  local function max_of()
    local data = ask "~/resources/pools"
    return data and data.pools[1] and data.pools[1].max
  end

  local function wait_for(rule)
    local sug
    loop.wait_until(function()
      sug = one(rule)
      return sug ~= nil and sug.state == "OPEN"
    end, 60000, "a suggestion")
    return sug
  end

  --- Applies the suggestion and waits until its change is in force. Returns the trial's id.
  local function on_trial()
    local sug = wait_for "pool_undersized"
    local got = post("suggestions/" .. sug.id .. "/apply")
    assert.equal(202, got.status, got.body)
    local id
    loop.wait_until(function()
      id = (ask("~/suggestions/" .. sug.id) or {}).trial
      local trial = id and ask("~/trials/" .. id)
      return trial and trial.progress < 1 and max_of() == 4
    end, 30000, "the change in force")
    assert.is_true(ask("~/trials/" .. id).on)
    return id, sug.id
  end

  local function ended(id)
    local trial
    loop.wait_until(function()
      trial = ask("~/trials/" .. id)
      return trial and trial.progress == 1
    end, 150000, "the end of " .. id)
    return trial
  end

  it("begins by itself where a policy says so, and stops when it is frozen", function()
    loop.run(function()
      wait_for "pool_undersized"
      assert.same({}, ask "~/trials".trials)
      served:write_rule("policies/tuning.lua", 'return { rules = { pool_undersized = "auto" } }')
      loop.wait_until(function() return max_of() == 4 end, 30000, "the change in force")
      local trial = ask "~/trials".trials[1]
      assert.same({ "auto", "CANARY" }, { trial.by, trial.phase })
      assert.equal(200, post("tuning/freeze", { reason = "a test" }).status)
      trial = ended(trial.id)
      assert.same({ "ABORTED", 2 }, { trial.phase, max_of() })
      assert.matches("a test", trial.why)
      served:write_rule("policies/tuning.lua", 'return { mode = "off" }')
      loop.wait_until(function() return one "pool_undersized" == nil end, 60000, "no suggestion where the policy says off")
      served:write_rule("policies/tuning.lua", 'return { mode = "sugest" }')
      loop.wait_until(function() return served:log():find("rules/policies/tuning.lua: mode is", 1, true) end, 5000, "the policy refused")
      served:write_rule("policies/tuning.lua", 'return {}')
      assert.equal(200, post("tuning/resume").status)
    end, 150000)
  end)

  it("leaves the stable settings in force when control, or a worker, dies in the middle", function()
    loop.run(function()
      local id, sug = on_trial()
      for _, process in ipairs(served:processes()) do
        if process.role == "control" then uv.kill(process.pid, "sigkill") end
      end
      loop.wait_until(function() return max_of() == 2 end, 10000, "the stable setting")
      local trial = ask("~/trials/" .. id)
      assert.equal("ROLLED_BACK", trial.phase)
      assert.matches("control ended", trial.why)
      assert.equal("OPEN", ask("~/suggestions/" .. sug).state)
      id = on_trial()
      for _, process in ipairs(served:processes()) do
        if process.role == "worker" then uv.kill(process.pid, "sigkill") break end
      end
      trial = ended(id)
      assert.same({ "ROLLED_BACK", 2 }, { trial.phase, max_of() })
      assert.matches("worker", trial.why)
    end, 150000)
  end)

  it("gives way to an operator at once", function()
    loop.run(function()
      local id = on_trial()
      local pools = served:admin_request { method = "PATCH", path = API .. "resources/pools/main", json = { max_size = 3 } }
      assert.equal(200, pools.status, pools.body)
      assert.equal(3, max_of())
      local trial = ended(id)
      assert.same({ "SUPERSEDED", 3 }, { trial.phase, max_of() })
      assert.equal(200, served:admin_request { method = "PATCH", path = API .. "resources/pools/main", json = { max_size = 2 } }.status)
    end, 100000)
  end)

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
        local answer = served:admin_request { method = "POST", path = API .. "suggestions/" .. sug.id .. "/apply", body = body,
          headers = { ["Content-Type"] = "application/json" } }
        assert.equal(status, answer.status, answer.body)
      end
      local got = post("suggestions/" .. sug.id .. "/apply", { pool_size_increase = 6 })
      assert.equal(202, got.status, got.body)
      assert.equal("RUNNING", got.json.data.state, got.json.data.waits_for)
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
      assert.equal(1, numbers.by_rule.pool_undersized.verified)
      assert.is_true(numbers.by_rule.pool_undersized.raised >= 1 and numbers.saved.user_seconds >= 0)
    end, 400000)
  end)

  it("rolls back what does harm, keeps what it kept over a restart, and takes it back when asked to", function()
    loop.run(function()
      local got = post("trials", { changes = { ["pool.main.max"] = 1 }, metric = "mean_ms", route = "/db", reason = "a harmful change" })
      assert.equal(202, got.status, got.body)
      local trial = ended(got.json.data.id)
      assert.same({ "ROLLED_BACK", 8 }, { trial.phase, max_of() }, trial.why)
      for body, status in pairs { ['{"changes": {"pool.main.max": 0}}'] = 422, ['{"changes": {}}'] = 422, ['{"changes": {"server.head_bytes": 2000}}'] = 422,
        ['{"changes": {"pool.main.max": 9}, "route": "/none"}'] = 404, ["{}"] = 422 } do
        assert.equal(status, served:admin_request { method = "POST", path = API .. "trials", body = body,
          headers = { ["Content-Type"] = "application/json" } }.status, body)
      end
      served:restart()
      assert.equal(8, max_of())
      local kept
      for _, sug in ipairs(ask("~/suggestions?state=SUCCEEDED").suggestions) do kept = sug end
      assert.equal(412, served:admin_request { method = "POST", path = API .. "suggestions/" .. kept.id .. "/rollback", headers = { ["If-Match"] = '"0"' } }.status)
      got = served:admin_request { method = "POST", path = API .. "suggestions/" .. kept.id .. "/rollback", headers = { ["If-Match"] = kept.etag } }
      assert.equal(200, got.status, got.body)
      loop.wait_until(function() return max_of() == 2 end, 10000, "the value of before")
    end, 150000)
  end)
end)
