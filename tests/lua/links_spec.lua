--- Which alerts, issues and suggestions belong together.
local json = require "dkjson"

local keep = {}
local core = { json = { encode = json.encode, decode = function(text) return (json.decode(text)) end, array = function(t) return t or {} end },
  keep = { get = function(name) return keep[name] end, put = function(name, text) keep[name] = text end } }

--- The module as each file of rules has it: for itself.
local function links() return assert(loadfile "lua/perilune/links.lua")(core, require) end

describe("links", function()
  local alerts, issues, suggestions
  before_each(function()
    keep = {}
    alerts, issues, suggestions = links(), links(), links()
  end)

  local SLOW = { id = "a1", labels = { alertname = "Slow", route = "/users/:id", method = "GET" }, on = "route" }
  local POOL = { id = "a2", labels = { alertname = "PoolWait", pool = "main" }, on = "pool" }
  local CPU = { id = "a3", labels = { alertname = "Cpu" }, on = "host" }
  local NAMED = { id = "a4", labels = { alertname = "Anomaly", issue = "i-2", route = "/users/:id" }, on = "issue" }
  local ENGINE = { id = "a5", labels = { alertname = "ReloadRefused" }, on = "engine" }

  local function tell()
    alerts.tell("alerts", { SLOW, POOL, CPU, NAMED, ENGINE })
    issues.tell("issues", { { id = "i-1", target = "main", affected = { "GET /users/:id" } }, { id = "i-2", target = "host", affected = {} } })
    suggestions.tell("suggestions", { { id = "s-1", issue = "i-1" }, { id = "s-2", issue = "i-1" }, { id = "s-3", issue = "i-2" }, { id = "s-4" } })
  end

  it("go from an alert by its route, pool, host or issue", function()
    tell()
    assert.same({ issues = { "i-1" }, suggestions = { "s-1", "s-2" } }, alerts.of("alerts", SLOW))
    assert.same({ issues = { "i-1" }, suggestions = { "s-1", "s-2" } }, alerts.of("alerts", POOL))
    assert.same({ issues = { "i-2" }, suggestions = { "s-3" } }, alerts.of("alerts", CPU))
    assert.same({ issues = { "i-2" }, suggestions = { "s-3" } }, alerts.of("alerts", NAMED))
    assert.same({ issues = {}, suggestions = {} }, alerts.of("alerts", ENGINE))
    assert.same({ issues = {}, suggestions = {} }, alerts.of("alerts", { id = "x", labels = { route = "/users/:id", method = "POST" }, on = "route" }))
  end)

  it("go back from an issue and from a suggestion", function()
    tell()
    assert.same({ alerts = { "a1", "a2" }, suggestions = { "s-1", "s-2" } }, issues.of("issues", { id = "i-1" }))
    assert.same({ alerts = { "a3", "a4" } }, suggestions.of("suggestions", { id = "s-3", issue = "i-2" }))
    assert.same({ alerts = {} }, suggestions.of("suggestions", { id = "s-4" }))
  end)

  it("end with what they lead to, and are not there before anybody has told", function()
    assert.same({ issues = {}, suggestions = {} }, alerts.of("alerts", SLOW))
    tell()
    issues.tell("issues", {})
    assert.same({ issues = {}, suggestions = {} }, alerts.of("alerts", SLOW))
    assert.same({ alerts = {} }, suggestions.of("suggestions", { id = "s-1", issue = "i-1" }))
  end)

  it("are bounded", function()
    local many = {}
    for i = 1, 1000 do many[i] = { id = "i-" .. i, target = "t" .. i } end
    issues.tell("issues", many)
    assert.is_true(#keep["links.issues"] < 20000)
  end)
end)
