--- What the shipped rules of rules/issues/ say of a thing, in simulated time: no clock, no engine.
local need = require "tests.support.analyzer" { "issues.errors", "issues.latency", "issues.overload", "issues.cpu", "issues.database", "issues.cache", "issues.memory" }

local analyzer, rules = need "perilune.analyzer", need "perilune.analyzer.rules"

local T0 = 1700000000000
local UNITS = {
  host = { rps = "1/s", mean_ms = "ms", connections = "connections", cpu_share = "ratio", worker_cpu = "cores", loop_lag_ms = "ms",
    steal_share = "ratio", cpu_wait = "cores", limited = "1/s" },
  route = { rps = "1/s", mean_ms = "ms", p95_ms = "ms", error_rate = "ratio", lua = "ms", queue = "ms", db = "ms", pool_wait = "ms", cache = "ms", upstream_first_byte = "ms" },
  pool = { calls = "1/s", opened = "1/s", use_ms = "ms", wait_ms = "ms" },
}
local SIGNALS = {}
for kind, names in pairs(UNITS) do
  for name, unit in pairs(names) do SIGNALS[#SIGNALS + 1] = { kind = kind, name = name, unit = unit } end
end

local function copy(t, more)
  local out = {}
  for k, v in pairs(t) do out[k] = v end
  for k, v in pairs(more or {}) do out[k] = v end
  return out
end

local HOST = { rps = 63, mean_ms = 0.8, connections = 4, cpu_share = 0.4, worker_cpu = 0.05, loop_lag_ms = 2, steal_share = 0, cpu_wait = 0.02, limited = 0 }
local ROUTE = { rps = 63, mean_ms = 0.8, p95_ms = 1, error_rate = 0, lua = 0.4, queue = 0.1 }

describe("the rules of issues", function()
  local book, events, now_ms, errors

  before_each(function()
    events, now_ms, errors = {}, T0, 0
    book = analyzer.new(rules.read(), SIGNALS, function(kind, issue)
      assert.not_equal("failed", kind, issue.message)
      events[#events + 1] = kind
    end)
  end)

  local requests = 200 -- of a sample

  --- Looks each second at a host and a route with other signals than `HOST` and `ROUTE`; what is usual may be another as well.
  -- A signal of `rose` has left what is usual.
  local function pass(seconds, host, route, usual, rose)
    for _ = 1, seconds do
      now_ms = now_ms + 1000
      local function thing(kind, name, healthy, more)
        local moved = {}
        for signal in pairs(more) do
          if rose ~= false then moved[signal] = { direction = "up", since_ms = now_ms, spreads = 9, p = 0.01 } end
        end
        return { kind = kind, name = name, requests = requests, errors = errors, at_ms = now_ms, moved = moved, now = copy(healthy, more),
          usual = usual and copy(healthy, usual) or {} }
      end
      errors = errors * math.exp(-1 / 30) + requests * (route.error_rate or 0)
      book:tick({ thing("host", "host", HOST, host), thing("route", "GET /x", ROUTE, route) }, now_ms)
    end
  end

  --- Looks for some seconds at a route whose time goes to the database, and at its pool, which were healthy before.
  local function query(seconds, route, pool, host, activity)
    local route_usual, pool_usual = copy(ROUTE, { db = 3, pool_wait = 0, mean_ms = 4, p95_ms = 6 }), { calls = 63, opened = 0, use_ms = 3, wait_ms = 0 }
    for _ = 1, seconds do
      now_ms = now_ms + 1000
      local function thing(kind, name, usual, more)
        local moved = {}
        for signal in pairs(more) do moved[signal] = { direction = "up", since_ms = now_ms, spreads = 9, p = 0.01 } end
        return { kind = kind, name = name, requests = requests, errors = 0, at_ms = now_ms, moved = moved, now = copy(usual, more), usual = usual, pool_type = kind == "pool" and "database" or nil }
      end
      local things = { thing("host", "host", HOST, host or {}), thing("route", "GET /x", route_usual, route), thing("pool", "main", pool_usual, pool) }
      things[3].activity = activity
      book:tick(things, now_ms)
    end
    return (book:list()[1] or {}).code
  end

  describe("of the database", function()
    local slow = { mean_ms = 34, p95_ms = 50, db = 8, pool_wait = 25 }

    it("see that there are too few connections while statements are as fast as ever", function()
      assert.equal("db.pool_wait", query(20, slow, { wait_ms = 25 }))
    end)

    it("see that connections are opened all the time, though new ones make statements slow", function()
      assert.equal("db.connect_churn", query(20, slow, { wait_ms = 25, use_ms = 8, opened = 9 }))
      assert.equal("main opens 9.0 connections a second for 63 statements: requests wait for new ones", book:list()[1].cause_text)
    end)

    it("know a statement that others keep from the processor from one that computes", function()
      local full, slow_db = { cpu_share = 0.99 }, { mean_ms = 14, p95_ms = 30, db = 13 }
      local function at(running, starved) return { looks = 5, active = 3, blocked = 0, blocked_s = 0, reading = 0, idle_in_tx = 0, idle_in_tx_s = 0, running = running, starved = starved, cores = 2 } end
      assert.equal("host.contention", query(20, slow_db, { use_ms = 13 }, full, at(0.4, 1.5)))
      assert.matches("as 1.5 sessions of the database do, which compute on 0.4 of 2 processors", book:list()[1].cause_text)
      book = analyzer.new(rules.read(), SIGNALS)
      assert.equal("db.slow_query", query(20, slow_db, { use_ms = 13 }, full, at(1.8, 3)))
      assert.matches("they compute, on 1.8 of 2 processors", book:list()[1].cause_text)
      book = analyzer.new(rules.read(), SIGNALS)
      local reading = at(0.1, 0)
      reading.reading = 2
      assert.equal("db.slow_query", query(20, slow_db, { use_ms = 13 }, nil, reading))
      assert.matches("67 %% of its active sessions wait for the disk", book:list()[1].cause_text)
    end)

    it("do not take a few opened ones for it", function()
      assert.equal("db.slow_query", query(20, slow, { wait_ms = 25, use_ms = 30, opened = 1 }))
    end)
  end)

  it("see a crowd that waits for one fetch, though more clients are connected meanwhile", function()
    pass(20, { connections = 24, rps = 80 }, { mean_ms = 36, p95_ms = 430, cache = 28, upstream_first_byte = 8 }, { cache = 0.01 })
    assert.equal("cache.stampede", book:list()[1].code)
    assert.matches("wait 28%.0 ms for an answer that another request fetches", book:list()[1].cause_text)
  end)

  it("take the course of a day for nothing, and more than that for overload", function()
    local usual = { mean_ms = 3, p95_ms = 4.1 }
    local noon = { connections = 10, rps = 130 }
    for _, one in ipairs { { mean_ms = 4.5, p95_ms = 9.2 }, { mean_ms = 6.5, p95_ms = 9 } } do
      pass(30, noon, one, usual)
      assert.same({}, events)
    end
    pass(30, noon, { mean_ms = 30, p95_ms = 60, queue = 25 }, usual)
    assert.same({ "opened" }, events)
    assert.equal("overload.queueing", book:list()[1].code)
    pass(30, {}, {}, usual)
    pass(30, {}, { mean_ms = 4.5, p95_ms = 9.2 }, usual) -- at night
    assert.same({ "opened", "closed", "opened" }, events)
  end)

  describe("of errors", function()
    it("keep an issue open while the route fails, though it has learnt nothing else", function()
      pass(20, {}, { error_rate = 1 }, nil, false)
      assert.equal("GET /x fails: 100 % of its answers are 5xx", book:list()[1].title)
      pass(600, {}, { error_rate = 1 }, { error_rate = 1 }, false)
      assert.same({ "opened" }, events)
      assert.equal("GET /x fails: 100 % of its answers are 5xx, usually 100 %", book:list()[1].title)
      pass(20, {}, { error_rate = 0 }, { error_rate = 1 }, false)
      assert.same({ "opened", "closed" }, events)
      pass(20, {}, { error_rate = 1 }, { error_rate = 1 }, false)
      assert.same({ "opened", "closed", "opened" }, events)
    end)

    it("add up where they are few a second, and do not take a single burst of few requests for many", function()
      requests = 60
      finally(function() requests = 200 end)
      pass(20, {}, { error_rate = 0.03 }, { error_rate = 0 })
      assert.same({ "opened" }, events)
      pass(60, {}, { error_rate = 0 }, { error_rate = 0 })
      assert.same({ "opened", "closed" }, events)
      requests = 20
      pass(1, {}, { error_rate = 0.2 }, { error_rate = 0 })
      pass(30, {}, { error_rate = 0 }, { error_rate = 0 })
      assert.same({ "opened", "closed" }, events)
    end)

    it("say nothing of the few that a route always has", function()
      for i = 1, 600 do pass(1, {}, { error_rate = 0.01 + i % 7 / 300 }, { error_rate = 0.02 }, false) end
      assert.same({}, events)
      for i = 1, 600 do pass(1, {}, { error_rate = 0.02 + i % 7 / 100 }, { error_rate = 0.045 }, false) end
      assert.same({}, events)
    end)

    it("open one issue of a route that fails about as often as the level says", function()
      for i = 1, 1200 do pass(1, {}, { error_rate = 0.035 + i % 7 / 200 }, { error_rate = 0.051 + 0.005 * math.sin(i / 100) }, false) end
      assert.same({ "opened" }, events)
    end)

    it("let go of a burst when the route is back at the few that it always has", function()
      pass(20, {}, { error_rate = 0.3 }, { error_rate = 0.03 })
      assert.same({ "opened" }, events)
      for i = 1, 30 do pass(1, {}, { error_rate = 0.02 + i % 7 / 200 }, { error_rate = 0.03 }, false) end
      assert.same({ "opened", "closed" }, events)
    end)
  end)

  describe("of overload", function()
    local SLOW = { mean_ms = 5, p95_ms = 6.5, queue = 4 }

    it("name those that have the processor, however long requests wait for it, when there is no more to do than usual", function()
      pass(30, { cpu_share = 0.99, loop_lag_ms = 60 }, SLOW, {})
      local issue = book:list()[1]
      assert.same({ "host.contention", "open" }, { issue.code, issue.state })
      assert.equal(1, #issue.causes)
      assert.same({ "opened" }, events)
    end)

    it("name those that have the processor where our threads stood ready for most of the time that is missing", function()
      pass(30, { cpu_wait = 0.4 }, { mean_ms = 12, p95_ms = 30, queue = 1, lua = 2, task = 8 }, {})
      local issue = book:list()[1]
      assert.equal("host.contention", issue.code)
      assert.matches("0.4 of their threads wait for a turn, usually 0.0", issue.cause_text)
    end)

    it("do not name them for a little waiting beside much more time", function()
      pass(30, { cpu_wait = 0.4 }, { mean_ms = 80, p95_ms = 130, upstream_first_byte = 78 }, {})
      assert.equal("upstream.slow", book:list()[1].code)
    end)

    it("do not name them for waiting that our own work makes", function()
      pass(30, { cpu_wait = 0.4, worker_cpu = 0.9 }, { mean_ms = 5, p95_ms = 9, lua = 4.5 }, {})
      assert.equal("cpu.handler", book:list()[1].code)
    end)

    it("do not speak of load that has not grown", function()
      pass(30, {}, { mean_ms = 20, p95_ms = 30, queue = 19 }, {})
      local issue = book:list()[1]
      assert.same({ "unknown", 0 }, { issue.code, #issue.causes })
    end)

    it("name more clients, before those whom they make wait", function()
      pass(30, { rps = 200, connections = 40, cpu_share = 0.99, loop_lag_ms = 20 }, { mean_ms = 20, p95_ms = 30, queue = 19 }, {})
      local issue = book:list()[1]
      assert.equal("overload.queueing", issue.code)
      assert.equal("40.0 connections (usually 4.0) ask 200 times a second (usually 63.0): requests wait for their turn", issue.cause_text)
      pass(2, {}, { mean_ms = 20, p95_ms = 30, queue = 19 }, {})
      assert.matches("before there were more", book:list()[1].cause_text)
    end)

    it("name more clients that are served slower, so that they ask no more in all", function()
      pass(30, { rps = 50, connections = 44, worker_cpu = 0.9 }, { mean_ms = 20, p95_ms = 30, queue = 19 }, {})
      local issue = book:list()[1]
      assert.equal("overload.queueing", issue.code)
      assert.equal("44.0 connections (usually 4.0) ask 50.0 times a second (usually 63.0): requests wait for their turn", issue.cause_text)
    end)

    it("say that limits refuse what is no more than usual", function()
      pass(30, { limited = 20 }, {}, {})
      local issue = book:list()[1]
      assert.equal("overload.queueing", issue.code)
      assert.equal("limits refuse requests or let them wait, and there are no more than usual", issue.cause_text)
    end)
  end)
end)
