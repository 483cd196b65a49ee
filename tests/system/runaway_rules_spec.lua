--- Rules that do not end: each is taken back and not asked again, and all others are asked as before.
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"

local WAYS = {
  loops = "while true do end",
  catches = "for _ = 1, 1000 do pcall(function() while true do end end) end return true",
  grows = "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
  waits = "return require('perilune').sleep(60)",
}

local function suggestion(id, when)
  return ([[return { id = %q, title = function() return "a probe" end, class = "resources", on = "host", issue = false,
    when = function() %s end, impact = function() end, advise = function() return "do it" end, effort = "low", risk = 1, explain = function() return "because" end }]]):format(id, when)
end

local function issue(name, when)
  return ([[return { symptoms = { { name = %q, on = "host", type = "SLOW_RESPONSE", when = function() %s end, severity = function() return 1 end,
    title = function() return "probe: %s" end } } }]]):format(name, when, name)
end

local function policy(name, value)
  return ([[return { policies = { { name = %q, on = "host", value = function() %s end, above = 0, severity = "info" } } }]]):format(name, value)
end

describe("rules that do not end", function()
  local served

  setup(function()
    local rules = { ["routes/app.lua"] = "local app = require('perilune').app()\napp:get('/', function() return 'ok' end)\nreturn app\n",
      ["suggestions/z_probe.lua"] = suggestion("z_probe", "return true"), ["issues/z_probe.lua"] = issue("z_probe", "return true"),
      ["alerts/z_probe.lua"] = policy("ZProbe", "return 1") }
    for name, body in pairs(WAYS) do
      rules["suggestions/" .. name .. ".lua"] = suggestion(name, body)
      rules["issues/" .. name .. ".lua"] = issue(name, body)
      rules["alerts/" .. name .. ".lua"] = policy(name, body)
    end
    served = engine.start { rules = rules, args = { "--set", "analysis.window=10", "--set", "analysis.min_samples=10", "--set", "alerts.interval_s=1", "--set", "script.memory_bytes=33554432", "--set", "worker.hang_ms=10000" } }
  end)

  teardown(function() loop.run(function() served:stop() end) end)

  local function get(path)
    local got, why = served:admin_get(path)
    if not got then error(tostring(why) .. served:log()) end
    return got.json.data
  end
  local function logged(text) return select(2, served:log():gsub(text:gsub("%p", "%%%0"), "")) end

  it("are quarantined at the first look, and others suggest what they would", function()
    loop.run(function()
      local data
      loop.wait_until(function()
        data = get "~/suggestions"
        for _, one in ipairs(data.suggestions) do
          if one.rule == "z_probe" then return type(data.quarantined) == "table" and data.quarantined.waits end
        end
      end, 40000, "the suggestion of the rule that ends")
      local why = data.quarantined
      assert.matches("suggestions/loops.lua:2: .*more than the 50 ms of CPU time", why.loops)
      assert.matches("more than the 50 ms of CPU time", why.catches)
      assert.matches("the script was interrupted", why.grows) -- by the time or the memory that it used, whichever is first
      assert.matches("attempt to yield", why.waits, 1, true)
      assert.same({ 1, 1 }, { logged "rule loops is quarantined", logged "rule grows is quarantined" })
    end, 60000)
  end)

  it("raise no issue, and others raise theirs", function()
    loop.run(function()
      loop.wait_until(function()
        for _, one in ipairs(get "~/issues".issues) do
          if one.title:find("probe: z_probe", 1, true) then return true end
        end
      end, 60000, "the issue of the rule that ends")
      assert.same({ 1, 1, 1 }, { logged "loops.when", logged "catches.when", logged "grows.when" })
    end, 90000)
  end)

  it("fire no alert, and others fire theirs", function()
    loop.run(function()
      loop.wait_until(function()
        for _, one in ipairs(get "~/alerts".alerts) do
          if one.labels.alertname == "ZProbe" then return true end
        end
      end, 30000, "the alert of the policy that ends")
      local looks = get "~/suggestions/analytics".looks
      loop.wait_until(function() return get "~/suggestions/analytics".looks > looks + 2 end, 20000, "further looks")
      assert.equal(0, logged "script.cpu_ms")
    end, 60000)
  end)
end)
