--- Limits: how many requests are let in, by the policy in rules/policies/limits.lua.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local APP = [[
local app = require("perilune").app()
app:get("/a", function() return "a" end)
app:get("/b", function() return "b" end)
app:get("/free", function() return "free" end)
return app
]]

local function with(policy, test, workers)
  return function()
    loop.run(function()
      local served = engine.start {
        rules = { ["routes/app.lua"] = APP, ["policies/limits.lua"] = policy }, workers = workers,
      }
      test(served)
      served:stop()
    end, 20000)
  end
end

local function statuses(served, count, options)
  local seen = {}
  for i = 1, count do
    local response = served:request(options(i))
    seen[response.status] = (seen[response.status] or 0) + 1
  end
  return seen
end

describe("a rate limit", function()
  it("lets a burst in, then refuses with Retry-After and a reason", with([[
return { rate = 0.1, burst = 3, routes = { ["/free"] = false } }]], function(served)
    local seen = statuses(served, 10, function() return { path = "/a" } end)
    assert.same({ [200] = 3, [429] = 7 }, seen)
    local refused = served:get("/a")
    assert.equal("application/problem+json", refused.headers["content-type"])
    local wait = tonumber(refused.headers["retry-after"])
    assert.is_true(wait >= 1 and wait <= 10, "Retry-After: " .. tostring(wait))
    assert.matches('"code":"rate_limited"', refused.body, 1, true)
    assert.equal(200, served:get("/b").status) -- a limit of its own
    for _ = 1, 20 do assert.equal(200, served:get("/free").status) end
    assert.equal(8, served:admin_get("~/stats?window=all").json.data.counters.rate_refused)
    assert.matches("\nperilune_rate_refused_total 8\n", served:admin_get("/metrics").body)
  end))

  it("comes back at its rate", with([[return { rate = 50, burst = 1 }]], function(served)
    assert.equal(200, served:get("/a").status)
    local began, answered = loop.now_ms(), 0
    loop.wait_until(function()
      if served:get("/a").status == 200 then answered = answered + 1 end
      return answered == 10
    end)
    assert.is_true(loop.now_ms() - began >= 180, "ten requests at 50/s took " .. loop.now_ms() - began)
  end))

  it("is one for all workers", with([[return { rate = 0.01, burst = 20, key = "all" }]], function(served)
    local by_worker, seen = {}, { [200] = 0, [429] = 0 }
    for _ = 1, 60 do
      local response = served:get("/a") -- each on a new connection
      seen[response.status] = seen[response.status] + 1
    end
    assert.same({ [200] = 20, [429] = 40 }, seen)
    for _, one in ipairs(served:processes()) do
      if one.role == "worker" and one.requests > 0 then by_worker[#by_worker + 1] = one.requests end
    end
    assert.is_true(#by_worker > 1, "only one worker answered")
  end, 3))

  it("counts by a header, and routes with one name together", with([[
return { rate = 0.01, burst = 2, key = "header:X-Api-Key", name = "all" }]], function(served)
    for i, key in ipairs { "x", "y" } do
      assert.equal(200, served:request({ path = "/a", headers = { ["X-Api-Key"] = key } }).status, i)
      assert.equal(200, served:request({ path = "/b", headers = { ["x-api-key"] = key } }).status, i)
      assert.equal(429, served:request({ path = "/a", headers = { ["X-Api-Key"] = key } }).status, i)
    end
  end))

  it("that observes refuses nobody and counts", with([[return { rate = 0.01, burst = 1, mode = "observe" }]], function(served)
    for _ = 1, 5 do assert.equal(200, served:get("/a").status) end
    local counters = served:admin_get("~/stats?window=all").json.data.counters
    assert.equal(4, counters.rate_observed)
    assert.equal(0, counters.rate_refused)
  end))

  it("changes under way with its file", with([[return { rate = 0.01, burst = 1 }]], function(served)
    assert.equal(200, served:get("/a").status)
    assert.equal(429, served:get("/a").status)
    files.write(served.rules .. "/policies/limits.lua", "return {}")
    loop.wait_until(function() return served:get("/a").status == 200 end)
  end))
end)

describe("a policy file", function()
  it("is refused with every mistake, its line and the way out", function()
    loop.run(function()
      local folder = files.temporary()
      files.write(folder .. "/routes/app.lua", APP)
      files.write(folder .. "/policies/limits.lua", [[
return {
  rat = 5,
  burst = 0.5,
  key = "cookie",
  routes = {
    ["/nowhere"] = { rate = 1 },
    ["/a"] = { rate = "many" },
    ["GET /b"] = 7,
    b = {},
  },
}]])
      local code, err = process.run { command = engine.program(), args = { "check", "--rules", folder } }
      assert.equal(2, code)
      for _, expected in ipairs {
        "policies/limits.lua:2: unknown key 'rat', did you mean 'rate'?",
        "policies/limits.lua:3: 'burst' is a whole number, not 0.5",
        "policies/limits.lua:4: 'key' is",
        "policies/limits.lua:7: 'rate' is a number, not a string of route '/a'",
        "policies/limits.lua:8: an override is a table, or false for none of route 'GET /b'",
        "policies/limits.lua:9: an override is named like its route",
      } do
        assert.is_true(err:find(expected, 1, true) ~= nil, expected .. "\nis not in\n" .. err)
      end
      files.write(folder .. "/policies/limits.lua", 'return {\n  routes = { ["/nowhere"] = { rate = 1 } },\n}')
      code, err = process.run { command = engine.program(), args = { "check", "--rules", folder } }
      assert.equal(2, code)
      assert.matches("policies/limits.lua:2: there is no route '/nowhere'", err, 1, true)
      files.remove(folder)
    end)
  end)
end)
