--- The load generator on the command line, and behind POST benchmark.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local json = require "dkjson"
local peer = require "tests.support.peer"
local process = require "tests.support.process"
local uv = require "luv"

local API = "/api/v1/performance-optimization/"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello", function() return "hello" end)
app:get("/slow", function() p.sleep(0.02) return "slow" end)
app:get("/broken", function() return 500 end)
app:get("/large", function() return ("all work and no play makes a dull service "):rep(8000) end)
local digits = {}
for i = 1, 60000 do digits[i] = ("%05d"):format(math.random(0, 99999)) end
digits = table.concat(digits)
app:get("/digits", function() return digits end)
app:get("/who/:id", function(req) return req.headers["x-who"] == req.params.id and req.headers.accept or 400 end)
app:post("/echo", function(req) return req.body end)
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
      local code, r = bench(url "/broken", "--iterations", "50")
      assert.same({ 3, 50, 50, false }, { code, r.unexpected, r.status["5xx"], r.valid })
      assert.matches("50 of 50 answers were not what was expected: .* 500$", r.reasons[1])
      local fine, expected = bench(url "/broken", "--iterations", "50", "--expect-status", "500")
      assert.same({ 0, 0, true }, { fine, expected.unexpected, expected.valid })
    end, 60000)
  end)

  it("takes some errors for an answer, unless it was told what to expect", function()
    loop.run(function()
      local script = served.folder .. "/some.lua"
      files.write(script, "return function(i) if i <= 4 then return { path = i == 1 and '/nowhere' or '/hello' } end end")
      local code, r = bench(url "/", "--script", script, "--iterations", "40")
      assert.same({ 0, true, 10 }, { code, r.valid, r.unexpected })
      code, r = bench(url "/", "--script", script, "--iterations", "40", "--expect-status", "200")
      assert.same({ 3, false }, { code, r.valid })
      assert.matches("10 of 40 answers were not what was expected: .* 404$", r.reasons[1])
      code, r = bench(url "/hello", "--iterations", "40", "--expect-body", "goodbye")
      assert.same({ 3, 40 }, { code, r.unmatched })
      assert.matches("40 of 40 answers were not what was expected: .*body", r.reasons[1])
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

  it("says when no connection was free, and shows no times of what was never answered", function()
    loop.run(function()
      local mute = peer.start { answer = function() loop.sleep(3000) return { body = "late" } end }
      local args = { "bench", "http://" .. mute.address .. "/", "--rate", "500", "--connections", "2", "--duration", "1", "--warmup", "0.5" }
      local code, out = engine.run { args = args, timeout_ms = 60000 }
      assert.equal(3, code)
      assert.matches("NOT VALID: 500 of 500 requests found no free connection: use more %-%-connections", out)
      assert.falsy(out:find("the generator was the limit", 1, true), out)
      assert.matches("response p50 +%-\n", out)
      local again, r = bench(unpack(args, 2))
      assert.same({ 3, 0, 500, 500, json.null }, { again, r.answered, r.dropped, r.starved, r.response_ms or json.null })
      mute:stop(true)
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
      assert.equal(r.valid and 0 or 3, code)
      assert.is_true(r.capacity.requests_per_second >= 50 and r.capacity.requests_per_second < 260, json.encode(r.capacity))
      assert.is_true(#r.capacity.steps >= 3)
      local law = r.capacity.law -- where the steps follow one, it allows what was measured
      if law and law ~= json.null then
        assert.is_true(law.sigma >= 0 and law.kappa >= 0 and law.lambda > 0 and law.r2 >= 0.7, json.encode(law))
        assert.is_true(law.most_per_second == 0 or law.most_per_second >= 0.99 * r.requests_per_second.median, json.encode(r.capacity))
      end
      assert.equal(r.capacity.requests_per_second, r.rate) -- the run that is shown is that of the result
      for _, step in ipairs(r.capacity.steps) do
        assert.equal(step.rate <= r.rate, step.borne, json.encode(r.capacity))
        assert.equal(step.borne, not step.reason)
        assert.is_true(step.requests_per_second > 0 and step.mean_ms >= 20)
        assert.truthy(step.borne or step.reason == "p99 is above 200 ms" or step.reason:match "^[%d.]+ %% failed: %d+ dropped", step.reason)
      end
    end, 120000)
  end)

  it("says why a service bears no rate at all", function()
    loop.run(function()
      local args = { "bench", url "/nowhere", "--find-capacity", "--duration", "1", "--warmup", "0" }
      local code, out = engine.run { args = args, timeout_ms = 60000 }
      assert.equal(3, code, out)
      assert.matches("50/s  p99 [%d.]+ ms  too much: 100.0 %% failed, the first unexpected status was 404\n", out)
      assert.matches("NOT VALID: the lowest rate was not borne: 100.0 %% failed", out)
      local again, r = bench(unpack(args, 2))
      assert.same({ 3, false, 0, false }, { again, r.valid, r.capacity.requests_per_second, r.capacity.steps[1].borne })
      assert.matches("404$", r.capacity.steps[1].reason)
    end, 60000)
  end)

  it("repeats, and tells the spread", function()
    loop.run(function()
      local _, r = bench(url "/hello", "--iterations", "100", "--repeats", "3")
      local rate = r.requests_per_second
      assert.equal(3, r.repeats)
      assert.is_true(rate.min <= rate.median and rate.median <= rate.max and rate.min > 0)
      assert.equal(json.null, rate.interval or json.null) -- a blink: nothing is known of how seconds differ
    end, 60000)
  end)

  it("says how sure it is, from how its seconds differ", function()
    loop.run(function()
      local _, r = bench(url "/hello", "--rate", "200", "--duration", "6", "--warmup", "0.2", "--repeats", "2") -- valid or not: the machine may be busy
      for _, name in ipairs { "requests_per_second", "p50_ms", "p95_ms", "p99_ms" } do
        local low, high = unpack(r[name].interval)
        assert.is_true(low > 0 and low <= high and r[name].min <= high and r[name].max >= low, name .. json.encode(r[name]))
      end
      assert.is_true(math.abs(r.requests_per_second.interval[1] - 200) < 10, json.encode(r.requests_per_second))
      local _, out = engine.run { args = { "bench", url "/hello", "--rate", "200", "--duration", "11", "--warmup", "0" }, timeout_ms = 60000 }
      assert.matches("response p99 +[%d.]+ ms +95 %%: [%d.]+ to [%d.]+\n", out)
    end, 90000)
  end)

  it("believes no repetition of which one run was wrong", function()
    loop.run(function()
      local asked = 0
      local improving = peer.start { answer = function()
        asked = asked + 1
        return { status = asked > 50 and 200 or 503, body = "x" }
      end }
      local code, r = bench(("http://%s/"):format(improving.address), "--iterations", "100", "--connections", "2", "--repeats", "3", "--expect-status", "200")
      improving:stop(true)
      assert.same({ 3, false, 1 }, { code, r.valid, #r.reasons })
      assert.matches("^run 1 of 3: 50 of 100 answers were not what was expected", r.reasons[1])
    end, 60000)
  end)

  it("takes a path of the engine that runs here", function()
    loop.run(function()
      local code, r = bench("/hello", "--state", served.state, "--iterations", "10")
      assert.same({ 0, 10 }, { code, r.status["2xx"] })
    end)
  end)

  it("sends what a script makes, by turns", function()
    loop.run(function()
      local script = served.folder .. "/requests.lua"
      files.write(script, [[
        return function(i)
          if i > 20 then return nil end
          if i % 2 == 0 then return { method = "POST", path = "/echo", body = ("x"):rep(i) } end
          return { path = "/who/" .. i, headers = { ["X-Who"] = i, Accept = "a/" .. i } }
        end]])
      local code, r = bench(url "/", "--script", script, "--iterations", "400", "--connections", "3", "--header", "X-All: yes")
      assert.same({ 0, 400, 0, 0 }, { code, r.status["2xx"], r.unexpected, r.differing })
      for words, lua in pairs {
        ["request 1 .*unknown key 'pth'"] = "return function() return { pth = '/x' } end",
        ["must be a table"] = "return function() return 'x' end",
        ["makes no request"] = "return function() end",
        ["must return function"] = "return {}",
        ["requests.lua:1:.*boom"] = "return function() error 'boom' end",
        ["begins with '/'"] = "return function() return { path = 'a b' } end",
        ["made from the body"] = "return function() return { headers = { ['Content-Length'] = 5 } } end",
        ["no header field"] = "return function() return { headers = { X = 'a\\r\\nB: c' } } end",
      } do
        files.write(script, lua)
        local refused, _, err = bench(url "/", "--script", script)
        assert.equal(2, refused, lua)
        assert.matches(words, err)
      end
    end, 60000)
  end)

  -- LuaJIT issue 827: what Debian 12 has leaves such a loop early once it has compiled it.
  it("does not lose what a script goes through", function()
    loop.run(function()
      local script = served.folder .. "/pairs.lua"
      files.write(script, [[
        local five = { 1, 2, 3, 4, 5 }
        local all = { a = five, b = five, c = five, d = five, e = five }
        local function interpreted(...) for _ = 1, 100 do end end
        for _ = 1, 100000 do
          interpreted()
          local n = 0
          for _, list in pairs(all) do
            for _ in pairs(list) do end
            n = n + 1
          end
          if n ~= 5 then error("pairs() of five ended after " .. n) end
        end
        return function(i) if i == 1 then return { path = "/hello" } end end]])
      local code, r, err = bench(url "/", "--script", script, "--iterations", "10")
      assert.same({ 0, 10 }, { code, r and r.answered }, err)
    end, 60000)
  end)

  it("looks for what a body should have in it", function()
    loop.run(function()
      local _, r = bench(url "/large", "--iterations", "50", "--expect-body", "dull service all work")
      assert.same({ 50, 0 }, { r.answered, r.unmatched })
      _, r = bench(url "/large", "--iterations", "50", "--expect-body", "dull service all play")
      assert.same({ 50, 50 }, { r.answered, r.unmatched })
      files.write(served.folder .. "/body", "aaaaaaab")
      _, r = bench(url "/echo", "--body", "@" .. served.folder .. "/body", "--iterations", "10", "--expect-body", "aaab")
      assert.same({ 10, 0 }, { r.status["2xx"], r.unmatched })
    end, 60000)
  end)

  it("says what is wrong with how it was asked", function()
    loop.run(function()
      for _, case in ipairs {
        { 2, "a URL", "" }, { 2, "a number from 0.1", url "/", "--rate", "fast" }, { 2, "whole number", url "/", "--connections", "1.5" },
        { 2, "plain address", "https://localhost/" }, { 2, "a %-%-rate", url "/", "--poisson" }, { 2, "Name: value", url "/", "--header", "x" }, { 2, "goes with %-%-compare", url "/", "--pairs", "5" },
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
      local got = served:admin_get(location)
      assert(got.status == 200, got.body)
      one = got.json.data
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

  it("leaves its requests out of all statistics", function()
    loop.run(function()
      local function requests(route)
        for _, one in ipairs(served:admin_get("~/stats?window=all").json.data.routes) do
          if one.route == route then return one.requests end
        end
        return 0
      end
      local before = requests "/hello"
      local one = ended(ask { iterations = 300, endpoint = "/hello" }.headers.location)
      assert.equal(300, one.result.status["2xx"])
      served:get "/hello"
      loop.wait_until(function() return requests "/hello" > before end, 10000, "a request that counts")
      assert.equal(before + 1, requests "/hello")
      assert.equal(200, served:get("/hello", { ["Perilune-Benchmark"] = ("0"):rep(32) }).status) -- nobody hides behind the header
      loop.wait_until(function() return requests "/hello" == before + 2 end, 10000, "the other one")
      local metrics = served:admin_get("/metrics").body
      assert.is_nil(metrics:find("(benchmark)", 1, true))
    end, 60000)
  end)

  it("compares two values of a setting by turns", function()
    loop.run(function()
      local function value() return served:admin_get("~/config/compression.enabled").json.data.value end
      local before = value()
      local got = ask { endpoint = "/digits", concurrent_requests = 1, headers = { ["Accept-Encoding"] = "gzip" },
        compare = { setting = "compression.enabled", a = false, b = true, pairs = 12, block_s = 0.5 } }
      assert.equal(202, got.status, got.body)
      local one = ended(got.headers.location)
      local r = one.result
      assert.same({ "done", 1, true }, { one.state, one.progress, r.valid }, json.encode(one))
      assert.is_true(r.pairs >= 4 and r.pairs <= 12 and #r.blocks == 2 * r.pairs, json.encode(one)) -- no longer than to a verdict
      assert.equal("b is worse", r.verdict, json.encode(r))
      assert.is_true(r.a.p95_ms < r.b.p95_ms and r.effect.low > 0 and r.effect.estimate >= r.effect.low and r.effect.high >= r.effect.estimate)
      local count = 0
      for _, block in ipairs(r.blocks) do count = count + (block.value and 1 or 0) end
      assert.equal(r.pairs, count)
      assert.equal(before, value())
    end, 120000)
  end)

  it("compares from the command line", function()
    loop.run(function()
      local function compare(...) return bench("/digits", "--state", served.state, "--connections", "1", "--header", "Accept-Encoding: gzip", "--block", "0.5", ...) end
      local code, r, err = compare("--compare", "compression.enabled=false,true", "--pairs", "4")
      assert.equal(0, code, err)
      assert.same({ "compression.enabled", false, true, true }, { r.setting, r.a.value, r.b.value, r.valid }, json.encode(r))
      assert.is_true(#r.blocks == 8 and r.a.p95_ms < r.b.p95_ms)
      for _, case in ipairs {
        { "is true or false", "--compare", "compression.enabled=1,2" }, { "takes NAME=A,B", "--compare", "compression.enabled=true" },
        { "is the name of a setting", "--compare", "compression.enable=true,false" }, { "does not go with", "--compare", "compression.level=1,2", "--duration", "3" },
        { "whole number from 4 to 20", "--compare", "compression.level=1,2", "--pairs", "many" },
      } do
        code, r, err = compare(unpack(case, 2))
        assert.same({ 2, nil }, { code, r }, case[1])
        assert.matches(case[1], err, 1, true)
      end
      code, r, err = bench(url "/digits", "--state", served.state, "--compare", "compression.level=1,2")
      assert.same({ 2, nil }, { code, r })
      assert.matches("takes a path", err)
    end, 120000)
  end)

  it("lets go of a setting when the command that compares is interrupted", function()
    loop.run(function()
      local function level() return served:admin_get("~/config/compression.level").json.data end
      local before = level().value
      local command = process.start { command = engine.program(), args = { "bench", "/hello", "--state", served.state, "--block", "20", "--compare",
        ("compression.level=%d,%d"):format(before + 1, before + 2) } }
      loop.wait_until(function() return level().on_trial end, 20000, "a value to be in force")
      command:kill "sigint"
      assert.equal(1, command:wait(10000))
      assert.matches("ended before its time; 'compression.level' is as it was", command:stderr())
      loop.wait_until(function() return not level().on_trial end, 10000, "the setting to be let go of")
      assert.equal(before, level().value)
    end, 60000)
  end)

  it("lets go of a setting when a comparison is cancelled", function()
    loop.run(function()
      local before = served:admin_get("~/config/compression.level").json.data.value
      local location = ask { endpoint = "/hello", compare = { setting = "compression.level", a = 2, b = 3, block_s = 30 } }.headers.location
      loop.wait_until(function() return served:admin_get("~/config/compression.level").json.data.value ~= before end, 20000, "a value on trial")
      assert.equal(202, served:admin_request { method = "DELETE", path = location }.status)
      assert.equal("cancelled", ended(location).state)
      assert.equal(before, served:admin_get("~/config/compression.level").json.data.value)
    end, 90000)
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
        { { endpoint = "/", headers = { ["A b"] = "x" } }, "/headers/A b" }, { { endpoint = "/", headers = { A = "b\r\nC: d" } }, "/headers/A" },
        { { endpoint = "/", headers = { ["Perilune-Benchmark"] = "x" } }, "/headers/Perilune-Benchmark" },
        { { endpoint = "/", compare = { setting = "nothing", a = 1, b = 2 } }, "/compare/setting" },
        { { endpoint = "/", compare = { setting = "script.cpu_ms", a = 1, b = 2 } }, "/compare/setting" },
        { { endpoint = "/", compare = { setting = "compression.level", a = 1, b = 1000 } }, "/compare/b" },
        { { endpoint = "/", compare = { setting = "compression.level", a = 1, b = 1 } }, "/compare/b" },
        { { endpoint = "/", compare = { setting = "compression.level", a = 1, b = 2, pears = 6 } }, "/compare/pears" },
        { { endpoint = "/", iterations = 5, compare = { setting = "compression.level", a = 1, b = 2 } }, "/iterations" },
        { { endpoint = "/", compare = { setting = "compression.level", a = 1, b = 2, pairs = 20, block_s = 30 } }, "/compare/pairs" },
      } do
        local got = ask(case[1])
        assert.equal(422, got.status, json.encode(case[1]))
        assert.equal(case[2], got.json.errors[1].pointer)
      end
    end, 60000)
  end)
end)
