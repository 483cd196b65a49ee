--- The catalogue of suggestion rules: golden fixtures through `perilune rules`, and rules dropped into a running engine.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"

local function rules(...)
  return engine.run { args = { "rules", ... }, timeout_ms = 60000 }
end

local PROBE = [[
return { id = "%s", title = function() return "a probe" end, class = "resources", on = "host", issue = false,
  when = function() %s end, impact = function() end, advise = function() return "do it" end, effort = "low", risk = 1,
  explain = function() return "because" end%s }
]]

describe("the rules of suggestions", function()
  it("are raised where they must be, and nowhere else", function()
    loop.run(function()
      local code, out, err = rules("test")
      assert.equal(0, code, out .. err)
      local count = tonumber(out:match "(%d+) rules, 0 failed")
      assert.is_true(count and count >= 30, out)
      assert.is_nil(out:find("no fixture of its own", 1, true), out)
      local listed, list = rules("list")
      assert.equal(0, listed)
      assert.is_true(select(2, list:gsub("executable", "")) >= 20, list)
    end, 60000)
  end)

  it("are begun by a command, tested on a recorded snapshot, and refused with file and hint", function()
    loop.run(function()
      local folder = files.temporary "perilune-rules"
      local code, out = rules("new", "my_rule", "--class", "cache", "--on", "route", "--rules", folder)
      assert.equal(0, code, out)
      assert.equal(2, (rules("new", "my_rule", "--rules", folder)), "it is not written over")
      assert.equal(2, (rules("new", "Bad Name", "--rules", folder)))
      code, out = rules("test", "my_rule", "--rules", folder)
      assert.equal(0, code, out)
      local err
      code, out, err = rules("test", "my_rul", "--rules", folder)
      assert.equal(2, code, out)
      assert.matches("did you mean 'my_rule'", err)
      files.write(folder .. "/suggestions/eager.lua", PROBE:format("eager", "return true", ""))
      code, out = rules("test", "eager", "--rules", folder)
      assert.equal(1, code, out)
      assert.matches("healthy engine", out)
      files.write(folder .. "/suggestions/endless.lua", PROBE:format("endless", "while true do end", ""))
      code, out = rules("test", "endless", "--rules", folder)
      assert.equal(1, code, out)
      assert.matches("FAIL endless .*in 'when': .*endless.lua:2: .*more than the 50 ms of CPU time", out)
      files.write(folder .. "/suggestions/eager.lua", PROBE:format("eager", "return true", ", explian = 1"))
      code, out, err = rules("test", "--rules", folder)
      assert.equal(2, code, out)
      assert.matches("suggestions/eager.lua: unknown key 'explian', did you mean 'explain'", err)
    end, 60000)
  end)

  describe("of a running engine", function()
    local served

    setup(function()
      served = engine.start { rules = { ["routes/app.lua"] = "local p = require 'perilune'\nlocal app = p.app()\napp:get('/', function() return 'ok' end)\nreturn app\n" } }
    end)

    teardown(function() loop.run(function() served:stop() end) end)

    local function data() return served:admin_get("~/suggestions").json.data end

    local function has(rule)
      for _, sug in ipairs(data().suggestions) do
        if sug.rule == rule then return true end
      end
      return false
    end

    it("are asked for by what there is", function()
      loop.run(function()
        for _, query in ipairs { "state=OPENN", "priority=bogus", "class=bogus", "state=" } do
          local refused = served:admin_get("~/suggestions?" .. query)
          assert.same({ 400, "bad_" .. query:match "^%w+" }, { refused.status, refused.json.code })
        end
        for _, query in ipairs { "state=open", "state=all", "state=SUCCEEDED", "priority=P1", "class=database" } do
          assert.equal(200, served:admin_get("~/suggestions?" .. query).status, query)
        end
      end, 30000)
    end)

    it("are not needed for a trial, which is refused with each name that is wrong, and its bounds", function()
      loop.run(function()
        local function refused(changes)
          local got = served:admin_request { method = "POST", path = "/api/v1/performance-optimization/trials", json = { changes = changes } }
          assert.same({ 422, "invalid_fields" }, { got.status, got.json.code }, got.body)
          local list = {}
          for i, one in ipairs(got.json.errors) do list[i] = one.pointer .. ": " .. one.detail end
          return list
        end
        assert.same({ "/changes/compression.level: 'compression.level' is a whole number from 0 to 12" }, refused { ["compression.level"] = 50 })
        assert.same({ "/changes/compression.levle: 'compression.levle' is no setting that can be on trial, did you mean 'compression.level'?",
          "/changes/server.fields: 'server.fields' is no setting that can be on trial" }, refused { ["compression.levle"] = 5, ["server.fields"] = 50 })
        assert.same({ "/changes/compression.level: 'compression.level' is a whole number from 0 to 12" }, refused { ["compression.level"] = 5.5 })
        assert.same({ "/changes/compression.level: 'compression.level' is a whole number from 0 to 12" }, refused { ["compression.level"] = true })
        assert.same({ "/changes: 'changes' names at least one setting" }, refused(setmetatable({}, { __jsontype = "object" })))
      end, 30000)
    end)

    it("are live when they are dropped in, refused when they are wrong, and quarantined when they raise", function()
      loop.run(function()
        served:write_rule("suggestions/probe.lua", PROBE:format("probe", "return true", ""))
        loop.wait_until(function() return has "probe" end, 20000, "the suggestion of a new rule")
        served:write_rule("suggestions/wrong.lua", PROBE:format("wrong", "return true", ", efort = 1"))
        loop.wait_until(function() return served:log():find("unknown key 'efort', did you mean 'effort'", 1, true) end, 5000, "the refusal")
        assert.is_true(has "probe")
        served:write_rule("suggestions/wrong.lua", PROBE:format("wrong", "error 'broken'", ""))
        loop.wait_until(function()
          local q = data().quarantined
          return type(q) == "table" and q.wrong and q.wrong:find "broken"
        end, 20000, "the quarantine")
        assert.is_true(has "probe")
        local facts = files.temporary "perilune-facts" .. "/facts.json"
        files.write(facts, served:admin_get("~/suggestions/facts").body)
        local code, out, err = rules("test", "--facts", facts)
        assert.equal(0, code, out .. err)
        assert.matches("0 raised, 0 failed", out)
      end, 60000)
    end)

    it("cost less than 50 ms a look when there are a hundred, over two hundred routes", function()
      loop.run(function()
        local routes = { "local p = require 'perilune'\nlocal app = p.app()\n" }
        for i = 1, 200 do routes[#routes + 1] = ("app:get('/r%d', function() return 'ok' end)\n"):format(i) end
        served:write_rule("routes/app.lua", table.concat(routes) .. "return app\n")
        served:write_rule("suggestions/wrong.lua", PROBE:format("wrong", "return false", ""))
        for i = 1, 60 do
          local text = PROBE:format("many_" .. i, "return false", ""):gsub('on = "host"', 'on = "route"')
          served:write_rule(("suggestions/many_%d.lua"):format(i), text)
        end
        loop.wait_until(function() return served:get("/r200").status == 200 end, 10000, "the routes")
        for i = 1, 200 do assert.equal(200, served:get("/r" .. i).status) end
        local seen
        loop.wait_until(function()
          seen = served:admin_get("~/suggestions/analytics").json.data
          return seen.rules >= 100 and seen.looks >= 3
        end, 30000, "three looks of a hundred rules")
        print(("a look of %d rules over 200 routes takes %.1f ms"):format(seen.rules, seen.look_ms))
        assert.is_true(seen.look_ms < 50, tostring(seen.look_ms))
      end, 90000)
    end)
  end)

  it("are not said to be all there is while it is learnt what is usual", function()
    loop.run(function()
      local one = engine.start { args = { "--set", "analysis.window=10", "--set", "analysis.min_samples=10" },
        rules = { ["routes/app.lua"] = "local app = require('perilune').app()\napp:get('/', function() return 'ok' end)\nreturn app\n" } }
      local function learning() return one:admin_get("~/issues").json.data.learning end
      loop.wait_until(function() return learning().ready >= 1 end, 40000, "the host is known")
      one:get "/"
      loop.wait_until(function() return learning().things >= 2 end, 10000, "a route is seen")
      local answer = one:admin_get("~/suggestions").json.data.answer
      assert.same({ false, "NOT_ENOUGH_DATA" }, { learning().done, answer })
      one:stop()
    end, 60000)
  end)
end)
