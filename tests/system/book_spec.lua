--- The book of suggestions over made-up rules and facts: when one is raised, what holds it back, which comes first, what it learns.
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"


local BENCH = [[
local admin = require "perilune.admin"
local p = require "perilune"
local books = require "perilune.suggestions"
local rank = require "perilune.suggestions.rank"
local app = admin.app()

-- A book whose rules apply to what is in `on`; each saves `saves` of 100 ms on 10 requests a second.
local function bench(rules, o)
  o = o or {}
  local b = { on = {}, notes = {}, now = 0, modes = o.modes or {}, values = { x = 10, share = 0.2, flag = false } }
  local settings = {
    x = { type = "integer", min = 1, max = 1000, step = 2, group = "g", settle_s = 1, unit = "" },
    share = { type = "number", min = 0, max = 1, step = 5, group = "g", settle_s = 1, unit = "" },
    flag = { type = "boolean", group = "g", settle_s = 2, unit = "" },
    other = { type = "integer", min = 1, max = 9, step = 2, group = "h", settle_s = 1, unit = "" },
    locked = { type = "integer", min = 1, max = 9, unit = "" },
  }
  local list = {}
  for i, r in ipairs(rules) do
    local rule = { id = r.id, version = 1, class = "cache", on = "host", effort = "low", risk = 1, issue = false,
      when = function() if b.raises == r.id then error "broken" end return b.on[r.id] end, title = function() return r.id end, explain = function() return "because" end,
      impact = function() return { metric = "mean_ms", now = 100, predicted = 100 - (r.saves or 10), routes = { "GET /a" } } end }
    if r.set then rule.set = function() return r.set end end
    if not r.set then rule.advise = function() return "do this" end end
    for name, value in pairs(r) do if name ~= "saves" and name ~= "set" then rule[name] = value end end
    list[i] = rule
  end
  b.book = books.new(list, {
    note = function(sug, from, to) b.notes[#b.notes + 1] = sug.id .. ":" .. to return not b.full, "disk full" end,
    mode = function(rule) return b.modes[rule.id] or "suggest" end, log = function(text) b.logged = text end, rest_ms = function() return 60000 end,
    read = function(name) local s = settings[name] if not s then return nil end s.stable, s.value = b.values[name] or 1, b.values[name] or 1 return s end,
  })
  local host = { kind = "host", name = "host", now = { rps = 10 }, requests = 500 }
  local facts = { at_ms = 0, span_s = 30, issues = o.issues or {}, host = host, of = function() return { host } end, rps = function() return 10 end }
  function b.look(n)
    for _ = 1, n or 1 do
      b.now = b.now + 2000
      facts.at_ms = b.now
      b.book:look(facts, b.now)
    end
  end
  function b.state()
    local out = {}
    for _, sug in ipairs(b.book:ranked()) do out[#out + 1] = sug.rule .. ":" .. sug.state end
    return table.concat(out, " ")
  end
  function b.sug(rule) for _, sug in ipairs(b.book:ranked()) do if sug.rule == rule then return sug end end end
  return b
end

local tests = {}

function tests.raised_and_closed()
  local b, out = bench { { id = "a" } }, {}
  b.on.a = true
  b.look(2) out.two = b.state()
  b.look(1) out.three = b.state()
  b.on.a = false
  b.look(10) out.soon = b.state()
  b.look(15) out.late = b.state()
  out.ended, out.notes = b.book.ended[1].state, b.notes
  b.on.a = true
  b.look(4)
  out.again, out.revision = b.state(), b.sug("a").revision
  return out
end

function tests.held_back()
  local b = bench { { id = "cause", saves = 3, inhibits = { "symptom" } }, { id = "symptom", saves = 50 }, { id = "first", saves = 2 },
    { id = "second", saves = 60, depends_on = { "first" } }, { id = "good", saves = 40, xor = "w" }, { id = "better", saves = 45, xor = "w" } }
  for _, id in ipairs { "cause", "symptom", "first", "second", "good", "better" } do b.on[id] = true end
  b.look(4)
  local out = { state = b.state(), second = b.sug("second").blocked_by[1] == b.sug("first").id, symptom = b.sug "symptom" == nil, good = #b.sug("good").blocked_by }
  b.on.cause, b.on.first = false, false
  b.look(30)
  out.after = b.state()
  return out
end

function tests.bounded()
  local b = bench { { id = "a", set = { x = 500, share = 0.9, flag = true } }, { id = "b", set = { locked = 5 }, advise = false }, { id = "c", set = { none = 5 }, advise = false } }
  b.on.a, b.on.b, b.on.c = true, true, true
  b.look(4)
  local out = { state = b.state(), operations = b.sug("a").operations }
  local free = b.book:changes({ x = 500 }, true)
  out.free = free[1].to
  out.too_much = select(2, b.book:changes({ x = 10 }, true))
  out.mixed = select(2, b.book:changes({ x = 11, other = 2 }, true))
  return out
end

function tests.ranked()
  local b = bench({ { id = "cheap", saves = 15, effort = "very_low", risk = 0, issue = { "i" } }, { id = "dear", saves = 15, effort = "high", risk = 4, issue = { "i" } },
    { id = "small", saves = 1, effort = "very_low" }, { id = "urgent", saves = 30, effort = "high", issue = { "i" } } },
    { issues = { { code = "i", id = "issue-1", severity = "high", affected = {} } } })
  for _, id in ipairs { "cheap", "dear", "small", "urgent" } do b.on[id] = true end
  b.look(4)
  local out = { state = b.state(), priorities = {} }
  for _, sug in ipairs(b.book:ranked()) do out.priorities[sug.rule] = sug.priority end
  return out
end

function tests.acts()
  local b = bench({ { id = "a", saves = 30, set = { x = 12 } }, { id = "s", saves = 30, set = { flag = true }, semantic = true }, { id = "m", set = { share = 0.3 } } },
    { modes = { a = "auto", s = "auto", m = "suggest" } })
  b.on.a, b.on.s, b.on.m = true, true, true
  b.look(4)
  local out = { due = {}, modes = {} }
  for _, sug in ipairs(b.book:due()) do out.due[#out.due + 1] = sug.rule end
  for _, sug in ipairs(b.book:ranked()) do out.modes[sug.rule] = sug.apply_mode end
  for i = 1, 10 do b.book.calibration.a = rank.learn(b.book.calibration.a, i <= 4, -0.3, -0.1) end
  b.look(1)
  out.after = b.sug("a").apply_mode
  out.factor = math.exp(b.book.calibration.a.log_ratio)
  out.predicted = b.sug("a").impact.predicted
  return out
end

function tests.frozen_and_failed()
  local b = bench { { id = "a", saves = 30, set = { x = 12 } } }
  b.on.a = true
  b.look(4)
  local sug, out = b.sug "a", {}
  b.book:move(sug, "QUEUED", "operator", "applied", b.now)
  b.values.x = 11
  b.look(30)
  out.frozen = { sug.state, sug.operations[1].from }
  b.book:move(sug, "RUNNING", "engine", "trial-1", b.now)
  b.book:ended_trial(sug, { id = "trial-1", phase = "VERIFIED", why = "better", touched = true, metric = "mean_ms", reference = { value = 100 },
    confirm = { change = -0.15, change_lo = -0.2, change_hi = -0.1 } }, b.now)
  out.verified = { sug.state, sug.measured.change, math.floor(math.exp(sug.prediction_error) * 100 + 0.5) }
  b.book:save(10)
  out.saved = b.book.saved_s
  b.look(4)
  out.regressed = b.sug("a").regressed
  b.full = true
  out.unwritten = { b.book:move(b.sug "a", "DISMISSED", "operator", "no", b.now) or "refused", b.sug("a").state }
  b.full = false
  b.book:move(b.sug "a", "DISMISSED", "operator", "no", b.now)
  b.look(10)
  out.dismissed = b.state()
  return out
end

function tests.quarantined()
  local b = bench { { id = "a" }, { id = "b" } }
  b.on.a, b.on.b, b.raises = true, true, "b"
  b.look(4)
  return { state = b.state(), quarantined = b.book.quarantined, logged = b.logged }
end

function tests.restored()
  local b = bench { { id = "a", set = { x = 12 } } }
  b.on.a = true
  b.look(4)
  local copy = bench { { id = "a", set = { x = 12 } } }
  copy.book:restore(p.json.decode(p.json.encode(b.book:dump())))
  copy.on.a, copy.now = true, b.now
  copy.look(2)
  return { state = copy.state(), id = copy.sug("a").id, revision = copy.sug("a").revision }
end

app:get(admin.path "bench/:name", function(req) return admin.envelope(tests[req.params.name]()) end)

return app
]]

describe("the book of suggestions", function()
  local served
  setup(function() served = engine.start { rules = { ["routes/admin/bench.lua"] = BENCH } } end)
  teardown(function() served:stop() end)

  local function ask(name)
    local got
    loop.run(function()
      got = served:admin_get("~/bench/" .. name)
      assert.equal(200, got.status, got.body .. served:log())
    end)
    return got.json.data
  end

  it("raises what holds in 3 of 4 looks, and closes it when its evidence is gone", function()
    local got = ask "raised_and_closed"
    assert.same({ "", "a:OPEN", "a:OPEN", "", "EXPIRED" }, { got.two, got.three, got.soon, got.late, got.ended })
    assert.same({ "sug-1:OPEN", "sug-1:EXPIRED", "sug-2:OPEN" }, got.notes)
    assert.same({ "a:OPEN", 2 }, { got.again, got.revision })
  end)

  it("holds symptoms back for their causes, what depends for what it depends on, and the worse of two", function()
    local got = ask "held_back"
    assert.is_true(got.second and got.symptom)
    assert.equal(1, got.good)
    assert.equal("better:OPEN cause:OPEN first:OPEN good:BLOCKED second:BLOCKED", got.state)
    assert.equal("second:OPEN symptom:OPEN better:OPEN good:BLOCKED", got.after)
  end)

  it("stays within bounds and steps, and leaves alone what is an operator's", function()
    local got = ask "bounded"
    assert.equal("a:OPEN", got.state)
    local to = {}
    for _, one in ipairs(got.operations) do to[one.name] = one.to end
    assert.same({ x = 20, share = 0.9, flag = true }, to)
    assert.equal(500, got.free)
    assert.matches("there already", got.too_much)
    assert.matches("different coupling groups", got.mixed)
  end)

  it("ranks by priority, then by what it brings for its effort and risk", function()
    local got = ask "ranked"
    assert.same({ cheap = "P2", dear = "P2", small = "P4", urgent = "P1" }, got.priorities)
    assert.equal("urgent:OPEN cheap:OPEN dear:OPEN small:OPEN", got.state)
  end)

  it("acts by itself only where it may, and no longer when it was wrong too often", function()
    local got = ask "acts"
    assert.same({ "a" }, got.due)
    assert.same({ a = "auto", s = "approve", m = "approve" }, got.modes)
    assert.equal("approve", got.after)
    assert.is_true(math.abs(got.factor - 1 / 3) < 0.01 and math.abs(got.predicted - 90) < 0.5)
  end)

  it("freezes what is on trial, keeps score, and does not repeat what was dismissed", function()
    local got = ask "frozen_and_failed"
    assert.same({ "QUEUED", 10 }, got.frozen)
    assert.same({ "SUCCEEDED", -0.15, 50 }, got.verified)
    assert.is_true(got.saved > 0)
    assert.is_true(got.regressed)
    assert.same({ "refused", "OPEN" }, got.unwritten)
    assert.equal("", got.dismissed)
  end)

  it("asks a rule that raises no more, and goes on with the others", function()
    local got = ask "quarantined"
    assert.equal("a:OPEN", got.state)
    assert.matches("broken", got.quarantined.b)
    assert.matches("quarantined", got.logged)
  end)

  it("goes on after a reload", function()
    assert.same({ state = "a:OPEN", id = "sug-1", revision = 1 }, ask "restored")
  end)
end)
