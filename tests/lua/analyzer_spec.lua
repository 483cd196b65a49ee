--- The book of issues in simulated time, and its last resort: no clock, no engine.
local need = require "tests.support.analyzer" { "issues.unusual", "issues.latency" }

local analyzer, rules = need "perilune.analyzer", need "perilune.analyzer.rules"

local T0, MINUTE = 1700000000000, 60000
local SIGNALS = {}
for kind, names in pairs { route = { rps = "1/s", mean_ms = "ms", p95_ms = "ms" }, host = { rps = "1/s", connections = "connections", cpu_share = "ratio" }, pool = { use_ms = "ms" } } do
  for name, unit in pairs(names) do SIGNALS[#SIGNALS + 1] = { kind = kind, name = name, unit = unit } end
end

local function company(since_ms, now_ms)
  return { severity = 3, p = 0.002, channel = "pattern", unusual = true, since_ms = since_ms, samples = math.floor((now_ms - since_ms) / 1000), learnt = 768, needed = 384,
    signals = { { name = "p95_ms", share = 0.6 }, { name = "rps", share = 0.4 } } }
end

local calm = { unusual = false, severity = 0, p = 0.5, channel = "edge", learnt = 768, needed = 384, signals = {} }

local function route(name, now_ms, together)
  return { kind = "route", name = name, requests = 100, at_ms = now_ms, now = { rps = 100, mean_ms = 5, p95_ms = 9 }, usual = { rps = 100, mean_ms = 5, p95_ms = 10 },
    moved = {}, company = together or calm }
end

describe("the last resort of the analyzer", function()
  local book, events, change

  before_each(function()
    events, change = {}, function() end
    book = analyzer.new(rules.read(), SIGNALS, function(kind, issue)
      assert.not_equal("failed", kind, issue.message)
      events[#events + 1] = { kind = kind, code = issue.code, id = issue.id }
    end)
  end)

  --- Looks each second; /a, /b and the host are unusual from the start of the span.
  local function pass(from_ms, to_ms)
    for now = from_ms, to_ms, 1000 do
      local together = company(from_ms, now)
      local things = { { kind = "host", name = "host", requests = 200, at_ms = now, now = { rps = 200, cpu_share = 0.2 }, usual = { rps = 200, cpu_share = 0.2 }, moved = {}, company = together },
        route("GET /a", now, together), route("GET /b", now, together), route("GET /c", now) }
      change(things, now)
      book:tick(things, now)
    end
  end

  it("opens one issue for all that is unusual together for long, and takes it back", function()
    pass(T0, T0 + 9 * MINUTE)
    assert.same({}, events)
    change = function(things, now) for i = 1, 3 do things[i].company.since_ms = T0 things[i].company.samples = (now - T0) / 1000 end end
    pass(T0 + 9 * MINUTE, T0 + 11 * MINUTE)
    assert.equal(1, #events)
    local issue = book:list()[1]
    assert.same({ "anomaly.unusual", "host", "SLOW_RESPONSE", "low", "the cause is unknown" }, { issue.code, issue.target, issue.type, issue.severity, issue.cause_text })
    assert.matches("GET /a .*p95_ms %(60 %%%), rps %(40 %%%)", issue.title)
    assert.same({}, issue.causes)
    table.sort(issue.affected)
    assert.same({ "GET /a", "GET /b" }, issue.affected)
    assert.same({ "p95_ms", 0.6, "ms", "down" }, { issue.signals[1].signal, issue.signals[1].share, issue.signals[1].unit, issue.signals[1].direction })
    assert.equal(3, #issue.evidence.company)
    change = function(things) for _, thing in ipairs(things) do thing.company = calm end end
    pass(T0 + 11 * MINUTE, T0 + 12 * MINUTE)
    assert.equal("closed", events[2].kind)
  end)

  local function silent_when(name, alter)
    it("says nothing when " .. name, function()
      change = alter
      pass(T0, T0 + 14 * MINUTE)
      for _, event in ipairs(events) do assert.not_equal("anomaly.unusual", event.code) end
    end)
  end

  silent_when("it is not strong", function(things) for i = 1, 3 do things[i].company.severity = 1.5 end end)
  silent_when("there are few samples of it", function(things, now) for i = 1, 3 do things[i].company.samples = math.floor((now - T0) / 10000) end end)
  silent_when("there is more to do than usual", function(things) things[1].moved.rps = { direction = "up", since_ms = T0, spreads = 5, p = 0.01 } end)
  silent_when("an experiment ran before", function(things) things[1].held_ms = T0 - 5 * MINUTE end)
  silent_when("nobody asks any more", function(things, now) for _, thing in ipairs(things) do thing.requests, thing.at_ms = 0, now - MINUTE end end)
  silent_when("only few have a company and they are calm", function(things) for i = 1, 3 do things[i].company = i > 1 and calm or nil end end)
  silent_when("something else is wrong, anywhere", function(things)
    things[4].now.mean_ms, things[4].now.p95_ms = 500, 2000
  end)

  it("says nothing after a change, and speaks when that was long ago", function()
    book:mark { at_ms = T0 - 5 * MINUTE, kind = "setting", text = "x" }
    pass(T0, T0 + 14 * MINUTE)
    assert.same({}, events)
    book.markers[1].at_ms = T0 - 11 * MINUTE
    pass(T0, T0 + 11 * MINUTE)
    assert.equal("anomaly.unusual", events[1].code)
  end)

  it("gives way to an issue that has a name, and stays away while that may echo", function()
    pass(T0, T0 + 11 * MINUTE)
    assert.equal("anomaly.unusual", events[1].code)
    change = function(things) things[4].now.p95_ms = 2000 end
    local function going_on(things, now)
      for i = 1, 3 do things[i].company.since_ms, things[i].company.samples = T0, (now - T0) / 1000 end
    end
    change = function(things, now) going_on(things, now) things[4].now.p95_ms = 2000 end
    pass(T0 + 11 * MINUTE, T0 + 12 * MINUTE)
    assert.equal("unknown", events[2].code)
    assert.same({ "closed", "anomaly.unusual" }, { events[3].kind, events[3].code })
    change = going_on
    pass(T0 + 12 * MINUTE, T0 + 16 * MINUTE)
    assert.equal(4, #events)
    assert.equal("closed", events[4].kind)
  end)

  it("is evidence of an issue that has a name", function()
    change = function(things) things[2].now.p95_ms = 2000 end
    pass(T0, T0 + MINUTE)
    local issue = book:list()[1]
    assert.equal("GET /a", issue.evidence.company[1].thing)
    assert.equal("pattern", issue.evidence.company[1].channel)
  end)

  it("survives a reload", function()
    pass(T0, T0 + 11 * MINUTE)
    local dump = book:dump()
    local after = analyzer.new(rules.read(), SIGNALS, function(kind, issue) assert.not_equal("failed", kind, issue.message) end)
    after:restore(dump)
    book, change = after, function(things, now) for i = 1, 3 do things[i].company.since_ms, things[i].company.samples = T0, (now - T0) / 1000 end end
    pass(T0 + 11 * MINUTE + 1000, T0 + 11 * MINUTE + 30000)
    assert.same({ "issue-1", "open" }, { book:list()[1].id, book:list()[1].state })
    assert.equal(1, #book:list())
  end)

  it("never leads to a suggestion", function()
    local found = io.popen "grep -l 'anomaly' rules/suggestions/*.lua lua/perilune/suggestions.lua lua/perilune/suggestions/*.lua lua/perilune/tuning.lua lua/perilune/trials.lua lua/perilune/trials/*.lua"
    assert.equal("", found:read "*a")
    found:close()
  end)
end)
