--- The load generator on the command line, and behind POST benchmark.
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"
local json = require "dkjson"
local peer = require "tests.support.peer"
local uv = require "luv"

local API = "/api/v1/performance-optimization/"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello", function() return "hello" end)
app:get("/slow", function() p.sleep(0.02) return "slow" end)
app:get("/broken", function() return 500 end)
app:proxy("/api/*rest", "service")
return app
]]

describe("perilune bench", function()
  local served, upstream

  setup(function()
    loop.run(function()
      upstream = engine.start { rules = { ["routes/app.lua"] = APP:gsub("app:proxy[^\n]*\n", "") } }
      served = engine.start { rules = { ["routes/app.lua"] = APP },
        config = ("return { upstreams = { service = %q } }"):format("http://" .. upstream.listen),
        args = { "--set", "trials.quiet_s=0" } }
    end)
  end)

  teardown(function()
    loop.run(function()
      served:stop()
      upstream:stop()
    end, 30000)
  end)

  --- Runs it; exit code, the decoded report (or nil), stderr.
  local function bench(...)
    local code, out, err = engine.run { args = { "bench", "-o", "json", ... }, timeout_ms = 60000 }
    return code, json.decode(out), err
  end

  local function url(path) return "http://" .. served.listen .. path end

  it("counts what it sent and what came back", function()
    loop.run(function()
      local code, r = bench(url "/hello", "--iterations", "500", "--connections", "8")
      assert.equal(0, code)
      assert.same({ 500, 500, 500, 500 }, { r.scheduled, r.sent, r.answered, r.status["2xx"] })
      assert.same({ 0, 0, 0, 0 }, { r.timeouts, r.broken, r.unexpected, r.differing })
      assert.equal("closed", r.mode)
      local sum = 0
      for _, bucket in ipairs(r.sketch.response) do sum = sum + bucket[2] end
      assert.equal(500, sum)
      assert.is_true(r.response_ms.p50 <= r.response_ms.p99 and r.response_ms.p99 <= r.response_ms.max)
    end, 60000)
  end)

  it("says that answers were errors", function()
    loop.run(function()
      local _, r = bench(url "/broken", "--iterations", "50")
      assert.same({ 50, 50 }, { r.unexpected, r.status["5xx"] })
      local _, expected = bench(url "/broken", "--iterations", "50", "--expect-status", "500")
      assert.equal(0, expected.unexpected)
    end, 60000)
  end)

  it("shows a stall to those who should have been sent meanwhile", function()
    loop.run(function()
      local stalled = false
      local slow = peer.start { answer = function()
        while stalled do loop.sleep(5) end
        return { body = "ok" }
      end }
      local timer = uv.new_timer()
      timer:start(1500, 0, function()
        stalled = true
        timer:start(1000, 0, function() stalled = false timer:close() end)
      end)
      -- one connection: while it waits, a closed loop would not even have asked
      local _, r = bench("http://" .. slow.address .. "/", "--rate", "100", "--duration", "5", "--warmup", "0", "--connections", "1")
      slow:stop(true)
      assert.equal(500, r.scheduled)
      assert.equal(r.scheduled, r.answered + r.dropped + r.timeouts + r.broken)
      assert.is_true(r.response_ms.p99 >= 800, "p99 from the intended start: " .. r.response_ms.p99)
      assert.is_true(r.service_ms.p95 < 500, "p95 of service: " .. r.service_ms.p95)
      assert.is_true(r.queued > 50 and r.late >= r.queued)
      local served = 0
      for _, bucket in ipairs(r.sketch.service) do served = served + bucket[2] end
      assert.equal(r.sent, served) -- what was never sent was not served
    end, 60000)
  end)

  it("sends the same arrivals for the same seed", function()
    loop.run(function()
      local function scheduled(seed)
        local _, r = bench(url "/hello", "--rate", "200", "--poisson", "--duration", "1", "--warmup", "0", "--seed", seed)
        return r.scheduled
      end
      assert.equal(scheduled "7", scheduled "7")
    end, 60000)
  end)

  it("finds the rate that a service bears", function()
    loop.run(function()
      -- 4 connections to a handler of 20 ms bear 200/s and no more
      local code, r = bench(url "/slow", "--find-capacity", "--slo", "200", "--connections", "4", "--duration", "1.5")
      assert.equal(0, code)
      assert.is_true(r.capacity.requests_per_second >= 50 and r.capacity.requests_per_second < 260, json.encode(r.capacity))
      assert.is_true(#r.capacity.steps >= 3)
    end, 120000)
  end)

  it("repeats, and tells the spread", function()
    loop.run(function()
      local _, r = bench(url "/hello", "--iterations", "100", "--repeats", "3")
      local rate = r.requests_per_second
      assert.equal(3, r.repeats)
      assert.is_true(rate.min <= rate.median and rate.median <= rate.max and rate.min > 0)
    end, 60000)
  end)

  it("takes a path of the engine that runs here", function()
    loop.run(function()
      local code, r = bench("/hello", "--state", served.state, "--iterations", "10")
      assert.same({ 0, 10 }, { code, r.status["2xx"] })
    end)
  end)

  it("says what is wrong with how it was asked", function()
    loop.run(function()
      for _, case in ipairs {
        { 2, "a URL", "" }, { 2, "a number from 0.1", url "/", "--rate", "fast" }, { 2, "whole number", url "/", "--connections", "1.5" },
        { 2, "plain address", "https://localhost/" }, { 2, "a %-%-rate", url "/", "--poisson" }, { 2, "Name: value", url "/", "--header", "x" },
        { 2, "no engine runs here", "/hello", "--state", served.folder }, { 1, "cannot be reached", "http://127.0.0.1:1/" },
      } do
        local args = { unpack(case, 3) }
        if args[1] == "" then args = {} end
        local code, _, err = bench(unpack(args))
        assert.equal(case[1], code, err)
        assert.matches(case[2], err)
      end
    end, 60000)
  end)

  -- ---- the control API ----

  local function ask(body)
    return served:admin_request { method = "POST", path = API .. "benchmark", json = body }
  end

  local function ended(location)
    local one
    loop.wait_until(function()
      one = served:admin_get(location).json.data
      return one.state ~= "queued" and one.state ~= "running"
    end, 60000, "the end of a benchmark")
    return one
  end

  it("runs behind the API, as an operation to look at", function()
    loop.run(function()
      local got = ask { iterations = 1000, concurrent_requests = 20, endpoint = "/hello" }
      assert.equal(202, got.status)
      local one = ended(got.headers.location)
      assert.same({ "done", 1, 1000, 0 }, { one.state, one.progress, one.result.answered, one.result.unexpected })
      assert.equal(one.id, served:admin_get("~/benchmark").json.data.benchmarks[1].id)
      one = ended(ask { iterations = 100, endpoint = "/nothing/here" }.headers.location)
      assert.same({ 100, 100 }, { one.result.unexpected, one.result.status["4xx"] })
      one = ended(ask { iterations = 50, endpoint = "/hello", upstream = "service" }.headers.location)
      assert.same({ "done", 50 }, { one.state, one.result.status["2xx"] })
      assert.matches(upstream.listen, one.target, 1, true)
    end, 120000)
  end)

  it("runs one at a time, holds trials, and ends when told to", function()
    loop.run(function()
      local location = ask { endpoint = "/slow", duration_s = 60 }.headers.location
      local second = ask { endpoint = "/slow" }
      assert.same({ 409, "busy" }, { second.status, second.json.code })
      loop.wait_until(function() return served:admin_get(location).json.data.state == "running" end)
      local trial = served:admin_request { method = "POST", path = API .. "trials", json = { changes = { ["tasks.threads"] = 3 }, reason = "meanwhile" } }
      assert.same({ 409, "cannot_begin" }, { trial.status, trial.json.code })
      assert.matches("benchmark is running", trial.json.detail)
      assert.equal(202, served:admin_request { method = "DELETE", path = location }.status)
      assert.equal("cancelled", ended(location).state)
      assert.equal(404, served:admin_get("~/benchmark/bench-999").status)
    end, 90000)
  end)

  it("asks nothing but this engine and its upstreams", function()
    loop.run(function()
      for _, case in ipairs {
        { {}, "/endpoint" }, { { endpoint = "http://169.254.169.254/" }, "/endpoint" }, { { endpoint = "hello" }, "/endpoint" },
        { { endpoint = "/a b\r\nX: y" }, "/endpoint" }, { { endpoint = "/", upstream = "elsewhere" }, "/upstream" },
        { { endpoint = "/", concurrent_requests = 100000 }, "/concurrent_requests" }, { { endpoint = "/", duration_s = 1e9 }, "/duration_s" },
        { { endpoint = "/", rate = -1 }, "/rate" }, { { endpoint = "/", duration_s = 60, repeats = 10 }, "/repeats" },
        { { endpoint = "/", find_capacity = true, duration_s = 60 }, "/duration_s" }, { { endpoint = "/", poisson = true }, "/poisson" }, { { endpoint = "/", url = "x" }, "/url" },
      } do
        local got = ask(case[1])
        assert.equal(422, got.status, json.encode(case[1]))
        assert.equal(case[2], got.json.errors[1].pointer)
      end
    end, 60000)
  end)
end)
