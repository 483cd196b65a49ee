--- Trials in a simulated service: what is called an effect, what is rolled back, and how fast, over thousands of hours.
local engine = require "tests.support.engine"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"

local API = "/api/v1/performance-optimization/"

-- A service in whose seconds everything is known. Its latency wanders (an autoregressive logarithm), its traffic too.
local SIMULATOR = [[
local admin = require "perilune.admin"
local p = require "perilune"
local trial = require "perilune.trials.trial"
local desks = require "perilune.trials"
local app = admin.app()

-- Two generators combined (P. L'Ecuyer, 1988), so that a seed gives the same world everywhere.
local a, b = 1, 1
local function seed(n) a, b = n % 2147483562 + 1, (n * 7 + 13) % 2147483398 + 1 end
local function random()
  a, b = a * 40014 % 2147483563, b * 40692 % 2147483399
  return (a - b) % 2147483562 / 2147483563
end
local function normal() return math.sqrt(-2 * math.log(1 - random())) * math.cos(2 * math.pi * random()) end

-- o: effect, tail, errors, others (of the change; factors, errors a share), noise, ar, rps, at (what happens when), workers (that
-- act on the value by themselves), own and own_ar (how their latencies wander apart), idle (worker 0 has no requests),
-- known_s (how long there was traffic before)
local function world(o)
  local w = { now = 1e12, value = 10, stable = 10, seconds = {}, walk = 0, notes = {}, restarts = 0, on_since = nil, with = {}, apart = { 0, 0 }, most_with = 0 }
  local workers = o.workers or 1
  -- What requests of a part of the workers did in a second; `on` is the share of it that has the change.
  local function part(rps, on, apart)
    local n = math.max(0, math.floor(rps + math.sqrt(rps) * normal() + 0.5))
    local mean = 20 * math.exp(w.walk + apart) * (1 + on * ((o.effect or 1) - 1)) * math.exp(0.02 * normal())
    local rate = 0.002 + on * (o.errors or 0)
    local errors = 0
    for _ = 1, n do if random() < rate then errors = errors + 1 end end
    return { n = w.silent and 0 or n, mean = mean, p99 = mean * 4 * (1 + on * ((o.tail or 1) - 1)) * math.exp(0.1 * normal()), errors = errors,
      others = 15 * math.exp(w.walk * 0.7) * (1 + on * ((o.others or 1) - 1)) * math.exp(0.02 * normal()) }
  end
  local function second(from)
    local got = w.seconds[from]
    if got then return got end
    w.walk = (o.ar or 0.9) * w.walk + (o.noise or 0.05) * normal()
    local on = w.value ~= w.stable and from - (w.on_since or from) >= 500
    local rps = (o.rps or 200) * (w.traffic or 1)
    if workers == 1 then
      got = part(rps, on and 1 or 0, 0)
    else
      local others = 0
      for i = 1, workers - 1 do others = others + (on and w.with[i] and 1 or 0) end
      for i = 1, 2 do w.apart[i] = (o.own_ar or 0.3) * w.apart[i] + (o.own or 0.03) * normal() end
      local a = part(o.idle and 0 or rps / workers, on and w.with[0] and 1 or 0, 0.1 + w.apart[1])
      local b = part(rps * (workers - 1) / workers, others / (workers - 1), w.apart[2] / math.sqrt(workers - 1))
      local n = math.max(1, a.n + b.n)
      got = { n = a.n + b.n, errors = a.errors + b.errors, canary = a, control = b }
      for _, name in ipairs { "mean", "p99", "others" } do got[name] = (a.n * a[name] + b.n * b[name]) / n end
    end
    w.seconds[from] = got
    return got
  end
  local env = {}
  function env.workers() return workers, 0 end
  function env.arms(list) w.arms = list ~= nil return true end
  function env.span(routes, from, to, arm)
    local out = { span_s = (to - from) / 1000, requests = 0, errors = 0, mean_ms = 0, p99_ms = 0 }
    local sum, tail = 0, 0
    if arm and not w.arms then return nil end
    for at = from, to - 1, 1000 do
      local s = w.seconds[at]
      s = arm and s and s[arm] or s
      if s then
        out.requests, out.errors = out.requests + s.n, out.errors + s.errors
        sum, tail = sum + s.n * s.mean, tail + s.n * s.p99
        if not routes then out.requests, sum = out.requests + s.n, sum + s.n * s.others end
      end
    end
    if out.requests == 0 then return { requests = 0, errors = 0, span_s = out.span_s } end
    out.mean_ms, out.p99_ms, out.p95_ms = sum / out.requests, tail / out.requests, sum / out.requests * 2
    return out
  end
  function env.read() return { value = w.value, stable = w.stable, on_trial = w.value ~= w.stable, type = "integer", group = "g" } end
  function env.apply(_, on, list)
    if on and w.value == w.stable then w.on_since = w.now end
    w.value = on and 20 or w.stable
    w.with = {}
    for i = 0, on and not list and workers - 1 or -1 do w.with[i] = true end
    for _, i in ipairs(on and list or {}) do w.with[i] = true end
    if on then w.most_with = math.max(w.most_with, list and #list or workers) end
    if not on then w.off_at = w.now end
    return true
  end
  function env.keep() w.stable, w.value = 20, 20 return true end
  function env.restarts() return w.restarts end
  function env.frozen() return w.frozen end
  function env.note(one, from, to, why) w.notes[#w.notes + 1] = to return not w.full, "disk full" end
  function env.renew() end
  w.env = env
  function w.run(one, seconds)
    for _ = 1, seconds * 2 do
      w.now = w.now + 500
      if w.now % 1000 == 0 then second(w.now - 1000) end
      if o.at and one then o.at(w, one) end
      if one and trial.ended[one:tick(w.now, env)] then return one.phase end
    end
    return one and one.phase
  end
  return w
end

local events = {
  edit = function(w, one) if one.phase == "CANARY" and one.on then w.stable = 11 end end,
  edit_confirm = function(w, one) if one.phase == "CONFIRM" and one.on then w.stable = 11 end end,
  lease = function(w, one) if one.on and one.phase == "EXPAND" then w.value = w.stable end end,
  crash = function(w, one) if one.on then w.restarts = 1 end end,
  traffic = function(w, one) if one.phase == "CANARY" and one.experiment.block > 2 then w.traffic = 4 end end,
  silent = function(w, one) if one.phase == "CANARY" and one.on then w.silent = true end end,
  freeze = function(w, one) if one.phase == "EXPAND" then w.frozen = "frozen by the test" end end,
  disk = function(w, one) if one.phase == "CANARY" then w.full = true end end,
}

app:post(admin.path "simulate", function(req)
  local o = p.json.decode(req.body)
  seed(o.seed or 1)
  o.at = o.event and events[o.event]
  local out = { phases = {}, designs = {}, most_with = 0, measured_apart = 0, canary_wrong = 0, wrong = 0, took = 0, slowest_s = 0, harm_s = 0, left_on = 0, why = {}, estimates = p.json.array() }
  for i = 1, o.runs or 1 do
    local w = world(o)
    w.run(nil, o.known_s or 35)
    local one = trial.new { id = "t" .. i, changes = { { name = "x", from = 10, to = 20 } }, metric = "mean_ms", routes = { 1 }, settle_s = 1, seed = math.floor(random() * 2 ^ 31),
      pairs = o.pairs or 10, mde = 0.03, price = o.price }
    one.since_ms = w.now
    local began = w.now
    local phase = w.run(one, 3600)
    out.phases[phase] = (out.phases[phase] or 0) + 1
    local design = one.design or "none"
    out.designs[design] = (out.designs[design] or 0) + 1
    out.most_with = math.max(out.most_with, w.most_with)
    if w.arms then out.measured_apart = out.measured_apart + 1 end
    out.took = out.took + (w.now - began) / 1000
    out.why[phase] = one.why
    if w.on_since and phase ~= "VERIFIED" and phase ~= "SUPERSEDED" then out.harm_s = math.max(out.harm_s, ((one.ended_ms or w.now) - w.on_since) / 1000) end
    if phase ~= "VERIFIED" and w.value ~= w.stable then out.left_on = out.left_on + 1 end
    if one.confirm and phase == "VERIFIED" then out.estimates[#out.estimates + 1] = one.confirm.change end
    local canary = one.canary and one.canary.verdict
    if canary == "better" or phase == "ROLLED_BACK" then out.canary_wrong = out.canary_wrong + 1 end
    if i % 4 == 0 then p.sleep(0.001) end -- control has not hung
  end
  out.took = out.took / (o.runs or 1)
  return admin.envelope(out)
end)

-- The same trial, with its state taken through JSON at each tick, must end the same way.
app:post(admin.path "simulate/reloads", function()
  local function go(reloads, workers)
    seed(5)
    local w = world { effect = 0.7, workers = workers }
    w.run(nil, 35)
    local one = trial.new { id = "t", changes = { { name = "x", from = 10, to = 20 } }, metric = "mean_ms", routes = { 1 }, settle_s = 1, seed = 77, pairs = 10 }
    one.since_ms = w.now
    repeat
      w.run(one, 1)
      if reloads then one = trial.restore(p.json.decode(p.json.encode(one:dump()))) end
    until trial.ended[one.phase]
    return { phase = one.phase, change = one.confirm.change, at = one.ended_ms, notes = w.notes, design = one.design }
  end
  return admin.envelope { once = go(false), reloaded = go(true), apart = go(false, 8), apart_reloaded = go(true, 8) }
end)

app:post(admin.path "simulate/desk", function()
  local out = { refusals = {} }
  seed(9)
  local w = world { effect = 1.5 }
  local clock = { auto = 0 }
  local desk = desks.new { cooldown_s = 600, on_end = function() end }
  local function spec(by, extra)
    local s = { rule = "r", target = "t", suggestion = "sug-1", by = by, group = "g", route_names = { "GET /a" }, changes = { { name = "x", from = 10, to = 20 } },
      metric = "mean_ms", routes = { 1 }, settle_s = 1, seed = 3, pairs = 10 }
    for name, value in pairs(extra or {}) do s[name] = value end
    return s
  end
  local function run(seconds)
    for _ = 1, seconds * 2 do
      w.run(nil, 0.5)
      desk:tick(w.now, w.env)
      if #desk.running == 0 then return end
    end
  end
  local function try(name, s) local _, why = desk:start(s, w.now, w.env) out.refusals[name] = why or "began" end
  w.run(nil, 40)
  try("first", spec "operator")
  try("same_group", spec("operator", { changes = { { name = "y", from = 10, to = 20 } } }))
  try("same_route", spec("operator", { group = "h" }))
  run(600)
  out.first = desk.ended[1].phase
  try("rests", spec "auto")
  w.now = w.now + 700000
  try("harm", spec "auto")
  try("stale", spec("operator", { changes = { { name = "x", from = 9, to = 20 } } }))
  try("operator_may", spec "operator")
  desk:freeze("by the test", "test")
  desk:tick(w.now, w.env)
  out.frozen_phase = desk.ended[1].phase
  try("frozen", spec "operator")
  desk:resume()
  desk:restore(p.json.decode(p.json.encode(desk:dump())))
  return admin.envelope(out)
end)

return app
]]

describe("trials", function()
  local served
  setup(function() served = engine.start { rules = { ["routes/admin/simulator.lua"] = SIMULATOR }, args = { "--set", "script.cpu_ms=60000" } } end)
  teardown(function() served:stop() end)

  local function simulate(o, path)
    local got
    loop.run(function()
      got = served:admin_request { method = "POST", path = API .. (path or "simulate"), json = o, timeout_ms = 300000 }
      assert.equal(200, got.status, served:log())
    end, 300000)
    if os.getenv "TALK" then print(require("dkjson").encode(o), got.body) end
    return got.json.data
  end

  it("call a change without effect one in at most 5 % of the canaries, and keep it in at most 1 %", function()
    for _, ar in ipairs { 0.5, 0.9, 0.97 } do
      local got = simulate { runs = 700, effect = 1, ar = ar, noise = 0.05 * math.sqrt(1 - ar * ar) / math.sqrt(1 - 0.9 * 0.9) }
      assert.is_true(got.canary_wrong <= 0.05 * 700, ("%d of 700 at %.2f"):format(got.canary_wrong, ar))
      assert.is_true((got.phases.VERIFIED or 0) <= 0.01 * 700, ("%d of 700 at %.2f"):format(got.phases.VERIFIED or 0, ar))
      assert.equal(0, got.left_on)
    end
  end)

  it("keep what helps, and say by how much", function()
    local got = simulate { runs = 50, effect = 0.6 }
    assert.is_true((got.phases.VERIFIED or 0) >= 45, require("dkjson").encode(got.phases))
    table.sort(got.estimates)
    assert.is_true(math.abs(got.estimates[math.floor(#got.estimates / 2)] + 0.4) < 0.05)
  end)

  it("keep what helps though others have a hundredth of it to bear, and what costs no more than it may", function()
    for _, o in ipairs { { effect = 0.6, others = 1.02 }, { effect = 0.6, tail = 2, price = 2 } } do
      o.runs = 20
      local got = simulate(o)
      assert.is_true((got.phases.VERIFIED or 0) >= 18, require("dkjson").encode(got))
      o.workers, o.rps = 8, 1000
      got = simulate(o)
      assert.is_true((got.phases.VERIFIED or 0) >= 18, require("dkjson").encode(got))
    end
    assert.same({ ROLLED_BACK = 20 }, simulate({ runs = 20, effect = 0.6, tail = 4, price = 0.5 }).phases)
  end)

  it("wait until there is half a minute of traffic to compare with", function()
    local got = simulate { runs = 20, effect = 0.6, known_s = 3 }
    assert.is_true((got.phases.VERIFIED or 0) >= 18, require("dkjson").encode(got))
  end)

  it("roll back every harm, the gross within seconds", function()
    for name, o in pairs { slower = { effect = 1.6 }, tail = { effect = 0.9, tail = 2.5 }, errors = { effect = 0.7, errors = 0.08 }, others = { effect = 0.7, others = 1.5 } } do
      o.runs = 40
      local got = simulate(o)
      assert.same({ 0, 40 }, { got.left_on, got.phases.ROLLED_BACK }, name .. " " .. require("dkjson").encode(got))
    end
    for name, o in pairs { broken = { errors = 0.5 }, stuck = { effect = 60, tail = 3 } } do
      o.runs = 40
      local got = simulate(o)
      assert.same({ 0, 40 }, { got.left_on, got.phases.ROLLED_BACK }, name .. " " .. require("dkjson").encode(got))
      assert.is_true(got.harm_s <= 3, name .. ": " .. got.harm_s)
    end
  end)

  it("leave the stable settings in force whatever happens", function()
    for event, phase in pairs { edit = "SUPERSEDED", edit_confirm = "SUPERSEDED", lease = "ROLLED_BACK", crash = "ROLLED_BACK", traffic = "ABORTED",
      silent = "ROLLED_BACK", freeze = "ABORTED", disk = "ABORTED" } do
      local got = simulate { runs = 10, effect = 0.5, event = event }
      assert.same({ [phase] = 10 }, got.phases, event .. " " .. require("dkjson").encode(got.why))
      if event ~= "edit" and event ~= "edit_confirm" then assert.equal(0, got.left_on, event) end
    end
    assert.same({ ABORTED = 5 }, simulate({ runs = 5, effect = 0.5, rps = 0.5 }).phases) -- too little traffic to tell
  end)

  it("go on over reloads as if nothing had been", function()
    local got = simulate({}, "simulate/reloads")
    assert.equal("VERIFIED", got.once.phase)
    assert.same(got.once, got.reloaded)
    assert.same({ "VERIFIED", "canary" }, { got.apart.phase, got.apart.design })
    assert.same(got.apart, got.apart_reloaded)
  end)

  describe("with a canary worker", function()
    it("call a change without effect one in at most 5 %, and keep it in at most 1 %", function()
      for _, o in ipairs { { workers = 4, own_ar = 0.3 }, { workers = 16, own_ar = 0.6, rps = 800 } } do
        o.runs, o.effect, o.own = 500, 1, 0.03
        local got = simulate(o)
        local says = require("dkjson").encode(got)
        assert.is_true(got.canary_wrong <= 0.05 * o.runs, says)
        assert.is_true((got.phases.VERIFIED or 0) <= 0.01 * o.runs, says)
        assert.is_true(got.designs.canary >= 0.95 * o.runs, says)
        assert.same({ 0, 0 }, { got.left_on, got.measured_apart })
      end
    end)

    it("keep what helps, and say by how much", function()
      local got = simulate { runs = 50, effect = 0.6, workers = 8, rps = 1000 }
      assert.is_true((got.phases.VERIFIED or 0) >= 45, require("dkjson").encode(got.phases))
      assert.equal(50, got.designs.canary)
      table.sort(got.estimates)
      assert.is_true(math.abs(got.estimates[math.floor(#got.estimates / 2)] + 0.4) < 0.05)
    end)

    it("roll back every harm while one worker of eight has it, the gross within seconds", function()
      for name, o in pairs { slower = { effect = 1.6 }, tail = { effect = 0.9, tail = 2.5 }, errors = { effect = 0.7, errors = 0.08 }, others = { effect = 0.7, others = 1.5 },
        broken = { errors = 0.5 }, stuck = { effect = 60, tail = 3 } } do
        o.runs, o.workers, o.rps = 40, 8, 1000
        local got = simulate(o)
        local says = name .. " " .. require("dkjson").encode(got)
        assert.same({ 0, 40, 1 }, { got.left_on, got.phases.ROLLED_BACK, got.most_with }, says)
        if name == "broken" or name == "stuck" then assert.is_true(got.harm_s <= 3, says) end
      end
    end)

    it("leave the stable settings in force whatever happens", function()
      for event, phase in pairs { edit = "SUPERSEDED", edit_confirm = "SUPERSEDED", lease = "ROLLED_BACK", crash = "ROLLED_BACK", silent = "ROLLED_BACK", freeze = "ABORTED",
        disk = "ABORTED" } do
        local got = simulate { runs = 10, effect = 0.5, event = event, workers = 4, rps = 400 }
        assert.same({ [phase] = 10 }, got.phases, event .. " " .. require("dkjson").encode(got.why))
        if event ~= "edit" and event ~= "edit_confirm" then assert.equal(0, got.left_on, event) end
        assert.equal(0, got.measured_apart, event)
      end
    end)

    it("take turns where workers cannot be compared", function()
      for name, o in pairs { few = { workers = 3 }, idle = { workers = 4, idle = true }, wandering = { workers = 4, own_ar = 0.995, own = 0.1 }, slow = { workers = 64, rps = 100 } } do
        o.runs, o.effect = 10, 0.6
        local got = simulate(o)
        assert.is_true(got.designs.switchback >= 9, name .. " " .. require("dkjson").encode(got))
        assert.is_true(got.phases.VERIFIED >= 8, name .. " " .. require("dkjson").encode(got))
        assert.equal(0, got.measured_apart, name)
      end
    end)
  end)

  it("wait for each other, for a rest after harm, and for whoever froze them", function()
    local got = simulate({}, "simulate/desk")
    assert.same({ "began", "ROLLED_BACK", "ABORTED", "began" }, { got.refusals.first, got.first, got.frozen_phase, got.refusals.operator_may })
    assert.matches("same group", got.refusals.same_group)
    assert.matches("GET /a", got.refusals.same_route)
    assert.matches("rests for", got.refusals.rests)
    assert.matches("did harm 1 times", got.refusals.harm)
    assert.matches("is 10 by now, not 9", got.refusals.stale)
    assert.matches("frozen", got.refusals.frozen)
  end)
end)

describe("a trial", function()
  it("of what an upstream has for itself reaches that one alone, and harm is taken back", function()
    loop.run(function()
      local behind = peer.start { answer = function()
        loop.sleep(30)
        return peer.response(200, {}, "fine")
      end }
      local served = engine.start {
        config = ("return { upstreams = { one = %q, other = %q } }"):format("http://" .. behind.address, "http://" .. behind.address),
        rules = { ["routes/app.lua"] = [[
local app = require "perilune".app()
app:proxy("/one/*rest", "one")
app:proxy("/other/*rest", "other")
return app]] } }
      local failed = { one = 0, other = 0 }
      local clients = {}
      for name in pairs(failed) do
        clients[#clients + 1] = load.background(served, { clients = 4, request = "/" .. name .. "/x", pause_ms = 20, heard = function(_, answer)
          if answer.status ~= 200 then failed[name] = failed[name] + 1 end
        end })
      end
      local got
      loop.wait_until(function()
        got = served:admin_request { method = "POST", path = API .. "trials", json = { changes = { ["upstream.one.first_byte_timeout_ms"] = 10 }, route = "GET /one/*rest" } }
        return got.status ~= 404
      end, 10000, "a first request")
      assert.equal(202, got.status, got.body)
      local trial
      loop.wait_until(function()
        loop.sleep(200)
        trial = served:admin_get("~/trials/" .. got.json.data.id).json.data
        return trial.progress == 1
      end, 100000, "the end of the trial")
      assert.equal("ROLLED_BACK", trial.phase, trial.why)
      assert.is_true(failed.one > 0)
      assert.equal(0, failed.other)
      assert.equal(60000, served:admin_get("~/config/upstream.one.first_byte_timeout_ms").json.data.value)
      for _, some in ipairs(clients) do some.stop() end
      assert.equal(200, served:get("/one/x").status)
      served:stop()
      behind:stop(true)
    end, 120000)
  end, 120000)
end)
