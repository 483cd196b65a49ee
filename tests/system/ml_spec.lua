--- The kernels of perilune.ml, as handlers and tasks call them.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

-- Series with a known truth; the same numbers on every machine.
local MADE = [[
local made = {}
local state = 7
function made.unit()
  state = (state * 16807) % 2147483647
  return state / 2147483647
end
function made.normal() return math.sqrt(-2 * math.log(made.unit())) * math.cos(2 * math.pi * made.unit()) end
function made.series(n, fn)
  local out = {}
  for i = 1, n do out[i] = fn(i) end
  return out
end
function made.rows(n, cols)
  return made.series(n, function() return made.series(cols, made.normal) end)
end
function made.step() return made.series(300, function(i) return (i > 200 and 20 or 10) + made.normal() end) end
function made.changes(x) return #(require "perilune.ml").changepoints(x), (require "perilune.ml").level(x).n end
return made
]]

local RUN = [[
local p = require "perilune"
local ml = require "perilune.ml"
local tasks = require "perilune.tasks"
local made = require "lib.made"
local app = p.app()
app:post("/run", function(req)
  local fn, why = load("local ml, made, tasks, p = ... " .. req.body)
  if not fn then return 500, why end
  local function pack(...) return { n = select("#", ...), ... } end
  local got = pack(fn(ml, made, tasks, p))
  local out = p.json.array {}
  for i = 1, got.n do out[i] = got[i] == nil and p.null or got[i] end
  return 200, p.json.encode(out)
end)
return app
]]

describe("perilune.ml", function()
  local served
  setup(function()
    served = engine.start {
      workers = 1, args = { "--set", "script.cpu_ms=10000", "--set", "script.memory_bytes=33554432", "--set", "worker.hang_ms=20000" },
      rules = { ["routes/run.lua"] = RUN, ["lib/made.lua"] = MADE },
    }
  end)
  teardown(function() served:stop() end)

  --- What the Lua text returns in a handler, as a list; nil is json.null.
  local function run(text)
    local list
    loop.run(function()
      local response = assert(served:request { method = "POST", path = "/run", body = text })
      assert.equal(200, response.status, response.body)
      list = json.decode(response.body, 1, json.null)
    end)
    return list
  end

  --- The error that the Lua text raises in a handler.
  local function raises(text)
    local got = run("return pcall(function() " .. text .. " end)")
    assert.is_false(got[1])
    return got[2]
  end

  it("fits a line and says when it reaches a threshold", function()
    local t = run([[return ml.trend(made.series(200, function(i) return 100 + i / 2 + made.normal() end), { threshold = 250 })]])[1]
    assert.near(0.5, t.slope, 0.02)
    assert.is_true(t.lo < t.slope and t.slope < t.hi and t.p < 0.001)
    assert.is_true(t.crossing.crosses)
    assert.near(100, t.crossing.steps, 8)
    assert.is_true(t.crossing.soonest <= t.crossing.steps and t.crossing.steps <= t.crossing.latest)
    local falling = run([[return ml.trend(made.series(100, function(i) return 100 - i end), { threshold = -50, falling = true }).crossing]])[1]
    assert.near(50, falling.steps, 1e-6)
  end)

  it("forecasts a season with intervals, and says when it cannot", function()
    local got = run([[
      local x = made.series(400, function(i) return 50 + 20 * math.sin(2 * math.pi * i / 24) + made.normal() end)
      local f = ml.forecast(x, { steps = 24, threshold = 68 })
      return f, 50 + 20 * math.sin(2 * math.pi * 406 / 24)]])
    local f = got[1]
    assert.is_true(f.beats and f.mase < 0.9)
    assert.equal(24, f.period)
    assert.equal(24, #f.values)
    assert.near(got[2], f.values[6], 4)
    assert.is_true(f.lo[6] < f.values[6] and f.values[6] < f.hi[6])
    assert.is_true(f.crossing.crosses and f.crossing.expected > 10)
    local walk = run([[local level = 0
      return ml.forecast(made.series(300, function() level = level + made.normal() return level end), { steps = 10, period = 1 })]])[1]
    assert.is_false(walk.beats)
    assert.equal("seasonal naive", walk.method)
    local none = run([[return ml.forecast({ 0/0, 0/0 }, { steps = 3 })]])
    assert.equal(json.null, none[1])
    assert.matches("no recent numbers", none[2])
  end)

  it("finds change points, links, seasons and levels", function()
    local got = run([[return ml.changepoints(made.step())]])
    assert.equal(1, #got[1])
    assert.is_true(got[1][1].at >= 200 and got[1][1].at <= 202)
    assert.near(10, got[1][1].mean_after - got[1][1].mean_before, 0.5)
    assert.equal(300, got[2].used)
    local c = run([[
      local x = made.series(200, made.normal)
      local y = made.series(200, function(i) return i > 5 and 3 * x[i - 5] + made.normal() or 0 end)
      return ml.correlate(x, y, { lag = 10 }), ml.correlate(x, y, { ranks = true })]])
    assert.equal(5, c[1].lag)
    assert.is_true(c[1].r > 0.8 and c[1].p < 1e-6 and math.abs(c[2].r) < 0.3)
    assert.equal(12, run([[return ml.season(made.series(240, function(i) return (i % 12) ^ 2 end))]])[1])
    local figures = run([[local x = { 1, 2, 3, 0/0, 100 }
      return ml.level(x), ml.quantile(x, 0.5), ml.growth({ 1, 1, 2, 2 }, 2), ml.volatility({ 1, 2, 3, 4 }), ml.moving_average({ 1, 2, 3 }, 2),
        ml.autocorrelation({ 1, -1, 1, -1 }, 1), ml.quantile({}, 0.5)]])
    assert.same({ n = 4, median = 2.5, spread = 1.4826 }, figures[1])
    assert.same({ 2.5, 1, 0, { 1, 1.5, 2.5 }, -1, json.null }, { unpack(figures, 2) })
  end)

  it("learns from rows: forest, groups, residual, detector", function()
    local got = run([[
      local rows = made.rows(400, 3)
      local forest = ml.forest(rows, { seed = 3 })
      local scores, again = forest:score { { 0, 0, 0 }, { 9, 9, 9 } }, ml.forest(rows, { seed = 3 }):score { { 0, 0, 0 }, { 9, 9, 9 } }
      return scores, scores[1] == again[1] and scores[2] == again[2] ]])
    assert.is_true(got[1][1] < 0.5 and got[1][2] > 0.6 and got[2])
    got = run([[
      local rows = made.rows(300, 2)
      for i = 1, 300 do rows[i][1] = rows[i][1] + 20 * (i % 3) end
      local groups = ml.kmeans(ml.matrix(rows), { seed = 1 })
      local result = groups:result()
      return result.k, #result.groups, result.groups[1] == result.groups[4], result.groups[1] ~= result.groups[2], result.sizes, groups:group(rows[1]) == result.groups[1] ]])
    assert.same({ 3, 300, true, true, { 100, 100, 100 }, true }, got)
    got = run([[
      local rows = made.series(300, function() local a = made.normal() return { a, 2 * a + made.normal() / 10, made.normal() } end)
      local r = ml.residual(rows, { keep = 0.8 })
      local usual = r:of { 1, 2, 0 }
      local odd, far = r:of { 1, -2, 0 }
      return odd > 10 * usual, far > 50, r:kept()]])
    assert.same({ true, true, 2 }, got)
    got = run([[
      local detector = ml.detector(made.rows(400, 2), { alpha = 0.05 })
      local alarms = 0
      for _ = 1, 200 do alarms = alarms + (detector:next { made.normal(), made.normal() }.alarm and 1 or 0) end
      local last
      for _ = 1, 3 do last = detector:next { 40, -40 } end
      return alarms, last ]])
    assert.is_true(got[1] < 30 and got[2].alarm and got[2].p_all <= 0.05, json.encode(got))
    got = run([[
      local novel, ranks = ml.novel(), ml.conformal(100)
      local before, event = 0, 0
      for i = 1, 900 do before = math.max(before, select(2, novel:next(math.sin(i / 5)))) end
      for _ = 1, 5 do event = math.max(event, select(2, novel:next(30))) end
      for i = 1, 99 do ranks:add(i) end
      return event > 0, ranks:p(1000), ranks:p(0), ranks:count()]])
    assert.same({ true, 0.01, 1, 99 }, got)
  end)

  it("tells effects from noise, and guards", function()
    local got = run([[
      local e, verdict = ml.experiment()
      for _ = 1, 60 do e:before(made.normal() / 20, made.normal() / 20) end
      for _ = 1, 120 do verdict = e:add(made.normal() / 20 - 0.2, made.normal() / 20) end
      return verdict, e:result()]])
    assert.equal("better", got[1])
    assert.is_true(got[2].usable and got[2].lo < -0.2 and got[2].hi > -0.2 and got[2].lambda >= 20 and got[2].n >= 12)
    got = run([[
      local s, now, verdict = ml.switchback(1000, { seed = 4 }), 1000, "running"
      while verdict == "running" do
        now = now + 5000
        verdict = s:add(now, 5000, made.normal() / 50 + (s:at(now - 1).on and 0.3 or 0))
      end
      return verdict, s:result(), s:at(1e9).over]])
    assert.equal("worse", got[1])
    assert.near(0.3, got[2].estimate, 0.05)
    assert.is_true(got[3])
    got = run([[
      local errors, tail = ml.error_guard(), ml.tail_guard()
      for _ = 1, 20 do errors:before(1000, 2) end
      local calm = errors:add(100, 0, 900, 2)
      local loud, evidence = errors:add(100, 30, 900, 2)
      tail:add(200, 60, 100, 60) tail:add(200, 60, 100, 60)
      return calm, loud, evidence > 100, tail:add(200, 10, 100, 60), tail:add(200, 60, 100, 60)]])
    assert.same({ false, true, true, false, true }, got)
  end)

  it("adds, subtracts and asks sketches", function()
    local got = run([[
      local a, b = ml.sketch(), ml.sketch()
      for ms = 1, 1000 do a:record(ms) end
      b:record(5000, 10)
      local sum = a:copy():merge(b)
      local p50, bounds = sum:quantile(0.5)
      local back = sum:copy():subtract(b)
      local not_part, why = b:subtract(a)
      return sum:total(), p50, bounds.lower <= 505 and 505 <= bounds.upper and bounds.lo <= bounds.lower and bounds.hi >= bounds.upper, back:total(),
        a:share_above(900), not_part, why, (ml.sketch():quantile(0.5)) ]])
    assert.equal(1010, got[1])
    assert.near(505, got[2], 4)
    assert.is_true(got[3])
    assert.equal(1000, got[4])
    assert.near(0.1, got[5], 0.003)
    assert.equal(json.null, got[6])
    assert.matches("not part of this one", got[7])
    assert.equal(json.null, got[8])
  end)

  it("takes matrices, whose values it gives back", function()
    local got = run([[
      local m = ml.matrix { { 1, 2 }, { 3, 4 }, { 5, 7 } }
      return #m, m:get(2, 2), m:row(3), ml.level(m:column(2)).median, select(2, m:shape()), #ml.matrix(m), getmetatable(m)]])
    assert.same({ 3, 4, { 5, 7 }, 4, 2, 3, false }, got)
  end)

  it("works in tasks", function()
    assert.same({ 1, 300 }, run([[return tasks:run { module = "lib.made", fn = "changes", made.step() }]]))
  end)

  it("works in control's rules", function()
    local folder = files.temporary()
    files.write(folder .. "/issues/own.lua", [[
      local t = require "perilune.ml".trend { 1, 2, 3, 4, 5 }
      error(("the slope is %g"):format(t.slope))]])
    loop.run(function()
      local code, err = process.run { command = engine.program(), args = { "check", "--rules", folder } }
      assert.equal(2, code)
      assert.matches("issues/own.lua:2: the slope is 1", err, 1, true)
    end)
    files.remove(folder)
  end)

  it("survives what is constant, empty or not a number", function()
    local got = run([[
      local same, nothing, nan = made.series(100, function() return 5 end), {}, made.series(100, function() return 0/0 end)
      local out = p.json.array {}
      for _, x in ipairs { same, nothing, nan } do
        out[#out + 1] = { trend = ml.trend(x), level = ml.level(x), changes = #ml.changepoints(x), season = ml.season(x) or false,
          forecast = (ml.forecast(x, { steps = 5 })) or false, volatility = ml.volatility(x) or false, growth = ml.growth(x, 3) or false }
      end
      return out, ml.forest({ { 0/0, 1 }, { 0/0, 1 } }):score { { 1, 0/0 } }, ml.kmeans({ { 1 }, { 1 }, { 1 } }):result().k,
        ml.residual({ { 1, 0/0 }, { 1, 0/0 } }):of { 1, 1 } ]])
    assert.equal(0, got[1][1].trend.slope)
    assert.equal(5, got[1][1].forecast.values[5])
    for i = 1, 3 do
      assert.equal(0, got[1][i].changes)
      assert.equal(1, got[1][i].trend.p)
      assert.is_false(got[1][i].season)
    end
    assert.is_nil(got[1][2].trend.slope)
    assert.is_false(got[1][3].forecast)
    assert.equal(1, got[3])
  end)

  it("says what is wrong, where, and what is right", function()
    local cases = {
      { [[ml.trend(7)]], "ml.trend: a series is a list of numbers or a matrix of one column, not a number" },
      { [[ml.trend { 1, "2", 3 }]], "ml.trend: value 2 is a string, it must be a number %(0/0 stands" },
      { [[ml.trend({ 1 }, { treshold = 3 })]], "unknown key 'treshold', did you mean 'threshold'%?" },
      { [[ml.trend({ 1 }, { threshold = "3" })]], "key 'threshold' is a string, it must be a number" },
      { [[ml.trend({ 1 }, 5)]], "options are a table, not a number" },
      { [[ml.level(ml.matrix { { 1, 2 } })]], "a matrix of 2 columns is no series; take one of them with m:column%(j%)" },
      { [[ml.matrix { { 1, 2 }, { 3 } }]], "row 2 has 1 values, row 1 has 2; all rows need as many" },
      { [[ml.matrix { { 1, 2 }, { 3, {} } }]], "value 2 of row 2 is a table" },
      { [[ml.matrix { 1 }]], "row 1 is a number, it must be a list of numbers" },
      { [[ml.matrix {}]], "there are no rows" },
      { [[ml.matrix { {} }]], "there are no columns" },
      { [[ml.matrix { { 1 } }:get(1, 2)]], "matrix:get: the column is 2, it must be from 1 to 1" },
      { [[ml.forecast({ 1, 2 })]], "how many steps%?" },
      { [[ml.forecast({ 1, 2 }, { steps = 513 })]], "key 'steps' is 513, it must be a whole number from 1 to 512" },
      { [[ml.forecast({ 1, 2 }, { steps = 1.5 })]], "a whole number" },
      { [[ml.forecast({ 1, 2 }, { steps = 0/0 })]], "key 'steps' is" },
      { [[ml.correlate({ 1, 2 }, { 1 })]], "the series have 2 and 1 values; they need as many" },
      { [[ml.quantile({ 1 }, 2)]], "ml.quantile: q is 2, it must be from 0 to 1" },
      { [[ml.moving_average({ 1 })]], "the window is missing, it must be a number" },
      { [[ml.forest({ { 1, 2 } }):score { { 1 } }]], "the rows have 1 columns, the forest was made of 2" },
      { [[ml.forest({ { 1 } }, { trees = 0 })]], "key 'trees' is 0, it must be a whole number from 1 to 10000" },
      { [[ml.kmeans({ { 1 }, { 2 } }, { k = 3 })]], "3 groups of 2 rows" },
      { [[ml.residual({ { 1, 2 }, { 2, 3 } }):of { 1 }]], "the row has 1 values, it must have 2" },
      { [[ml.detector(made.rows(10, 2))]], "at least 64 rows, these are 10" },
      { [[ml.experiment():add(1)]], "the control's value is missing" },
      { [[ml.switchback(-1)]], "the start in ms is %-1" },
      { [[ml.switchback(0, { arms = 3 })]], "key 'arms' is 3, it must be a whole number from 1 to 2" },
      { [[ml.switchback(0, { block_ms = 100, washout_ms = 100 })]], "a wash%-out of 100 ms leaves nothing to measure of a block of 100 ms" },
      { [[ml.tail_guard { bad = 6 }]], "6 of 5 windows can never be bad" },
      { [[ml.error_guard():add(1, -1, 1, 1)]], "the canary's errors is %-1" },
      { [[ml.sketch():merge {}]], "perilune.ml.sketch expected" },
      { [[ml.sketch().record(ml.experiment(), 1)]], "perilune.ml.sketch expected" },
      { [[ml.forest(ml.sketch())]], "rows are a list of lists of numbers or a matrix, not a userdata" },
    }
    for _, case in ipairs(cases) do
      local message = raises(case[1])
      assert.matches(case[2], message)
      assert.matches("^%(load%):1: ", message) -- the user's line
    end
  end)

  it("keeps its memory within that of the script", function()
    run([[
      local rows = ml.matrix(made.rows(300, 4))
      for i = 1, 60 do ml.forest(rows, { seed = i }) ml.novel() ml.conformal(5000) end]])
    local got = run([[
      local m, all = ml.matrix(made.rows(100, 50)), {}
      local ok, why = pcall(function() for i = 1, 1e7 do all[i] = ml.matrix(m) end end)
      all = nil
      return ok, why]])
    assert.is_false(got[1])
    assert.matches("memory", got[2])
    assert.equal(1, run([[return #ml.changepoints(made.step())]])[1])
  end)
end)
