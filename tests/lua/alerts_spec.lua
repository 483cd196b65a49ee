--- The state machine of alerts in simulated time: no clock, no sleep, no engine. Long, since all of it is driven by the one
-- simulated desk that the first part makes.
local json = require "dkjson"

-- ---- the program's modules, as the engine loads them ----

local function nearest(word, list)
  for _, one in ipairs(list) do
    if #one == #word and one ~= word then
      local different = 0
      for i = 1, #one do different = different + (one:byte(i) ~= word:byte(i) and 1 or 0) end
      if different <= 2 then return one end
    end
  end
end

local loaded, files = {}, {}
local core = {
  json = { encode = json.encode, decode = function(text) return (json.decode(text)) end, array = function(t) return t or {} end },
  nearest = nearest, bounded = require "tests.support.bounded",
  signals = function()
    return { { kind = "route", name = "p95_ms", unit = "ms" }, { kind = "route", name = "error_rate", unit = "ratio" }, { kind = "host", name = "cpu_share", unit = "ratio" },
      { kind = "pool", name = "wait_ms", unit = "ms" } }
  end,
  modules = function() return { "alerts.file" } end,
}
local function need(name)
  if name == "alerts.file" then return files.file end
  if not loaded[name] then loaded[name] = assert(loadfile("lua/" .. name:gsub("%.", "/") .. ".lua"))(core, need) end
  return loaded[name]
end

local alerts, burn, labels, machine = need "perilune.alerts", need "perilune.alerts.burn", need "perilune.alerts.labels", need "perilune.alerts.machine"
local outbox, payload, policy, replay = need "perilune.alerts.outbox", need "perilune.alerts.payload", need "perilune.alerts.policy", need "perilune.alerts.replay"
local slo = need "perilune.alerts.slo"

local T0 = 1700000000
local FLAP = { check_s = 30, enter = 0.2, leave = 0.1 }

local function settings(more)
  local s = { grace_s = 120, series_max = 1000, flap = FLAP, resend_s = 60, outbox = { most = 5, age_s = 3600, retry_s = 1, retry_most_s = 60 } }
  for name, value in pairs(more or {}) do s[name] = value end
  return s
end

local function slow(more)
  local p = { name = "Slow", severity = "warning", on = "route", signal = "p95_ms", above = 1000 }
  for name, value in pairs(more or {}) do p[name] = value end
  return p
end

local function compile(file) return policy.compile { { name = "rules/alerts/test.lua", value = file } } end

local function route(name, values)
  local thing = { name = "GET " .. name, route = name, method = "GET", requests = 100, labels = { route = name, method = "GET" } }
  for signal, value in pairs(values) do thing[signal] = value end
  return thing
end

-- A book with one policy, and what it says when p95 of /a is looked at.
local function lab(file, more)
  local self = { now = T0, events = {} }
  self.config = compile(file)
  self.settings = settings(more)
  local function hear(kind) self.events[#self.events + 1] = kind end
  self.book = alerts.new(self.config, self.settings, hear)
  function self.look(things, seconds)
    self.now = self.now + (seconds or 0)
    self.book:tick({ route = things }, {}, self.now)
    return self
  end
  function self.p95(value, seconds) return self.look(value and { route("/a", { p95_ms = value }) } or {}, seconds) end
  function self.state()
    local list = self.book:list(self.now)
    return list[1] and list[1].state or "inactive"
  end
  -- A dump goes through text, as on the disk.
  function self.restart(away, other)
    local text = json.encode(self.book:dump(self.now))
    self.now = self.now + away
    if other then self.config = compile(other) end
    self.book = alerts.new(self.config, self.settings, hear)
    self.book:restore(json.decode(text), self.now, away > 0)
    return self
  end
  --- What waits for a receiver: a list of { reason, alerts = { "firing NAME" } }; it is taken.
  function self.mail(endpoint)
    local out = {}
    while self.book.outbox:waiting(endpoint) > 0 do
      local entry = self.book.outbox.queues[endpoint][1]
      local words = {}
      for i, one in ipairs(entry.notification.alerts) do words[i] = one.status .. " " .. one.alert.labels.alertname .. " " .. (one.alert.labels.route or "") end
      out[#out + 1] = { reason = entry.notification.reason, alerts = words }
      self.book.outbox:done(endpoint, entry.id)
    end
    return out
  end
  return self
end

local OPS = { ops = { webhook = "http://127.0.0.1:9/" } }
local function told(policies, more)
  local file = { policies = policies, receivers = OPS, notify = { receiver = "ops" } }
  for name, value in pairs(more or {}) do file[name] = value end
  return file
end

describe("an alert", function()
  it("is pending for its time, then fires, and is resolved when it is over", function()
    local l = lab { policies = { slow { for_ = "1m" } } }
    assert.equal("pending", l.p95(1500).state())
    assert.equal("pending", l.p95(1500, 59).state())
    assert.equal("firing", l.p95(1500, 1).state())
    assert.equal("resolved", l.p95(900, 5).state())
    assert.same({ "pending", "firing", "resolved" }, l.events)
  end)

  it("that does not hold for its time never fires", function()
    local l = lab { policies = { slow { for_ = "1m" } } }
    l.p95(1500).p95(1500, 30).p95(900, 10)
    assert.equal("inactive", l.state())
    assert.equal("pending", l.p95(1500, 25).state()) -- the time before does not count
    assert.equal("pending", l.p95(1500, 59).state())
    assert.same({ "pending", "dropped", "pending" }, l.events)
  end)

  it("begins beyond one threshold and ends at another", function()
    local l = lab { policies = { slow { exit = 800 } } }
    assert.equal("inactive", l.p95(1000).state()) -- at it is not beyond it
    assert.equal("firing", l.p95(1001, 5).state())
    assert.equal("firing", l.p95(801, 5).state())
    assert.equal("resolved", l.p95(800, 5).state())
    assert.equal("resolved", l.p95(900, 5).state()) -- above exit, but it has ended
    local low = lab { policies = { { name = "Idle", severity = "info", on = "route", signal = "p95_ms", below = 10, exit = 20 } } }
    assert.equal("firing", low.p95(9).state())
    assert.equal("firing", low.p95(19, 5).state())
    assert.equal("resolved", low.p95(20, 5).state())
  end)

  it("keeps firing for its time, and as if nothing had been when it holds again", function()
    local l = lab { policies = { slow { keep_firing_for = "2m" } } }
    l.p95(1500).p95(500, 10)
    assert.equal("firing", l.p95(500, 119).state())
    assert.equal("firing", l.p95(1500, 0.5).state())
    assert.equal("firing", l.p95(500, 10).state()) -- counted anew from here
    assert.equal("firing", l.p95(500, 119).state())
    assert.equal("resolved", l.p95(500, 1).state())
    assert.same({ "firing", "resolved" }, l.events)
  end)

  it("without data does what no_data says, and too few events are no data", function()
    for no_data, states in pairs { ok = { "resolved", "inactive" }, keep = { "firing", "inactive" }, alert = { "firing", "firing" } } do
      local l = lab { policies = { slow { no_data = no_data, min_events = 20 } } }
      l.p95(1500)
      assert.equal(states[1], l.look({ { name = "GET /a", requests = 19, p95_ms = 10, labels = { route = "/a", method = "GET" } } }, 5).state(), no_data)
      local fresh = lab { policies = { slow { no_data = no_data, min_events = 20 } } }
      assert.equal(states[2], fresh.look({ { name = "GET /a", requests = 19, p95_ms = 1500, labels = { route = "/a", method = "GET" } } }).state(), no_data)
    end
    local gone = lab { policies = { slow() } }
    assert.equal("resolved", gone.p95(1500).p95(nil, 5).state()) -- nobody asks for the route any more
    local held = lab { policies = { slow { no_data = "keep", for_ = 60 } } }
    assert.equal("pending", held.p95(1500).p95(nil, 100).state()) -- what is not known does not fire
  end)

  it("is of the things that match, with their labels and its own", function()
    local l = lab { policies = { slow { match = { route = "/api/*" }, labels = { team = "api" }, annotations = { summary = "{{labels.route}}: {{value}} > {{threshold}}" } } } }
    l.look { route("/api/x", { p95_ms = 2500 }), route("/web", { p95_ms = 2500 }) }
    local list = l.book:list(l.now)
    assert.equal(1, #list)
    assert.same({ alertname = "Slow", severity = "warning", team = "api", route = "/api/x", method = "GET" }, list[1].labels)
    assert.equal("/api/x: 2.5 s > 1 s", list[1].annotations.summary)
    assert.equal(labels.fingerprint(list[1].labels), list[1].id)
  end)

  it("of a function that raises has no data, and that is said once", function()
    local l = lab { policies = { { name = "Broken", severity = "info", on = "route", value = function(s) return s.missing.field end, above = 1 } } }
    l.p95(1).p95(1, 5).p95(1, 5)
    assert.same({ "failed" }, l.events)
    assert.equal("inactive", l.state())
  end)

  it("is not begun where there are too many", function()
    local l = lab({ policies = { slow() } }, { series_max = 2 })
    l.look { route("/1", { p95_ms = 2000 }), route("/2", { p95_ms = 2000 }), route("/3", { p95_ms = 2000 }) }
    assert.equal(2, #l.book:list(l.now))
    assert.equal("full", l.events[#l.events])
  end)
end)

describe("an alert that flaps", function()
  it("is weighed as Nagios does: 0.75 the oldest of 20 changes, 1.25 the newest", function()
    local all, none = {}, {}
    for i = 1, 20 do all[i], none[i] = 1, 0 end
    assert.near(1, machine.flap_score(all), 1e-9)
    assert.equal(0, machine.flap_score(none))
    none[20] = 1
    assert.near(1.25 / 20, machine.flap_score(none), 1e-9)
    none[20], none[1] = 0, 1
    assert.near(0.75 / 20, machine.flap_score(none), 1e-9)
  end)

  it("says so once, is quiet meanwhile, and speaks again when it is steady", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 10 } }))
    local notices, steady_at = {}, nil
    local function collect()
      for _, one in ipairs(l.mail "ops:webhook") do notices[#notices + 1] = one.reason end
    end
    for i = 1, 20 do -- on, off, each 30 s: a change at every check
      l.p95(i % 2 == 1 and 1500 or 500, 30)
      collect()
    end
    local flapping = 0
    for _, reason in ipairs(notices) do flapping = flapping + (reason == "flapping" and 1 or 0) end
    assert.equal(1, flapping)
    assert.equal("flapping", notices[#notices])
    assert.is_true(#notices <= 5, table.concat(notices, " "))
    assert.is_true(l.book:list(l.now)[1].flapping)
    for i = 1, 30 do
      l.p95(500, 30)
      collect()
      if not steady_at and notices[#notices] == "resolved" then steady_at = i end
    end
    assert.equal("resolved", notices[#notices])
    assert.is_true(steady_at > 5, tostring(steady_at))
    assert.equal(0, l.book.count) -- and is forgotten
  end)

  it("does not when it changes now and then", function()
    local l = lab { policies = { slow() } }
    for _ = 1, 5 do
      l.p95(1500, 5)
      for _ = 1, 20 do l.p95(500, 30) end
    end
    for _, kind in ipairs(l.events) do assert.not_equal("flapping", kind) end
  end)
end)

describe("a group", function()
  local TWO = { slow(), { name = "Fails", severity = "critical", on = "route", signal = "error_rate", above = 0.05 } }

  it("waits, tells of what came together, then of changes each interval, and repeats", function()
    local l = lab(told(TWO, { notify = { receiver = "ops", group_by = { "alertname" } } }))
    l.look { route("/a", { p95_ms = 1500 }) }
    assert.same({}, l.mail "ops:webhook")
    l.look({ route("/a", { p95_ms = 1500 }), route("/b", { p95_ms = 1500 }) }, 29)
    assert.same({}, l.mail "ops:webhook")
    local both = { route("/a", { p95_ms = 1500 }), route("/b", { p95_ms = 1500 }) }
    l.look(both, 1)
    local mail = l.mail "ops:webhook"
    assert.equal(1, #mail)
    table.sort(mail[1].alerts)
    assert.same({ "firing Slow /a", "firing Slow /b" }, mail[1].alerts)
    l.look({ route("/b", { p95_ms = 1500 }) }, 10) -- /a has ended
    assert.same({}, l.mail "ops:webhook")
    l.look({ route("/b", { p95_ms = 1500 }) }, 289)
    assert.same({}, l.mail "ops:webhook")
    l.look({ route("/b", { p95_ms = 1500 }) }, 1)
    mail = l.mail "ops:webhook"
    table.sort(mail[1].alerts)
    assert.same({ "firing Slow /b", "resolved Slow /a" }, mail[1].alerts)
    local waited = 0
    repeat
      l.look({ route("/b", { p95_ms = 1500 }) }, 300)
      waited = waited + 300
      mail = l.mail "ops:webhook"
    until #mail > 0
    assert.equal(14400, waited)
    assert.same({ { reason = "repeat", alerts = { "firing Slow /b" } } }, mail)
  end)

  it("says nothing of what has come and gone before it was told of", function()
    local l = lab(told { slow() })
    l.p95(1500).p95(500, 10).p95(500, 30).p95(500, 400)
    assert.same({}, l.mail "ops:webhook")
    assert.same({}, l.book.groups.list)
  end)

  it("keeps its wait over a restart", function()
    local l = lab(told { slow() })
    l.p95(1500).restart(10)
    assert.same({}, l.p95(1500).mail "ops:webhook")
    assert.same({}, l.p95(1500, 19).mail "ops:webhook")
    assert.equal(1, #l.p95(1500, 1).mail "ops:webhook")
    l.restart(10)
    assert.same({}, l.p95(1500).p95(1500, 280).mail "ops:webhook") -- it was told of: no news
    assert.same({}, l.p95(1500, 600).mail "ops:webhook")
  end)

  it("goes to the first route that matches, and on where it says so", function()
    local l = lab(told(TWO, {
      receivers = { ops = OPS.ops, page = { webhook = "http://127.0.0.1:9/p", send_resolved = false }, all = { log = true } },
      notify = { receiver = "ops", group_wait = 0, group_interval = 5, routes = { { match = { severity = "*" }, receiver = "all", continue = true }, { match = { severity = "critical" }, receiver = "page" } } },
    }))
    l.look { route("/a", { p95_ms = 1500, error_rate = 1 }) }
    assert.same({ "firing Slow /a" }, l.mail "ops:webhook"[1].alerts)
    assert.same({ "firing Fails /a" }, l.mail "page:webhook"[1].alerts)
    assert.equal(2, #l.mail "all:log")
    l.look({ route("/a", { p95_ms = 1, error_rate = 0 }) }, 10)
    assert.same({ "resolved Slow /a" }, l.mail "ops:webhook"[1].alerts)
    assert.same({}, l.mail "page:webhook") -- it does not ask for those
  end)
end)

describe("what a trial has caused", function()
  local TRIAL = { id = "trial-1", routes = { "GET /a" }, began_s = T0 - 30, ended_s = T0 }

  local function make(policies)
    return lab(told(policies or { slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 5 } }))
  end
  local function said(l)
    local out = {}
    for _, one in ipairs(l.mail "ops:webhook") do
      for _, words in ipairs(one.alerts) do out[#out + 1] = words end
    end
    table.sort(out)
    return out
  end

  it("disturbs nobody while the change is taken back, is counted once, and is shown", function()
    local l = make()
    l.book:know_taken_back({ TRIAL }, l.now)
    l.look { route("/a", { p95_ms = 1500 }), route("/b", { p95_ms = 1500 }) }
    assert.same({ "firing Slow /b" }, said(l))
    l.look({ route("/a", { p95_ms = 1500 }), route("/b", { p95_ms = 100 }) }, 20)
    assert.same({ "resolved Slow /b" }, said(l))
    assert.equal("trial-1", l.book:list(l.now)[1].inhibited_by)
    assert.equal(1, l.book:figures().held_back)
    l.restart(0)
    l.look({ route("/a", { p95_ms = 100 }) }, 20)
    assert.same({}, said(l))
    assert.equal(1, l.book:figures().held_back)
  end)

  it("is told when it is still there a minute later", function()
    local l = make()
    l.book:know_taken_back({ TRIAL }, l.now)
    l.p95(1500).p95(1500, 30)
    assert.same({}, said(l))
    l.book:know_taken_back({ TRIAL }, l.now + 31)
    l.p95(1500, 31)
    assert.same({ "firing Slow /a" }, said(l))
    assert.is_nil(l.book:list(l.now)[1].inhibited_by)
  end)

  it("is not what was pending before the trial, though it fires while the change is taken back", function()
    local l = make { slow { for_ = "1m" } }
    l.now = T0 - 50
    l.p95(1500)
    l.book:know_taken_back({ TRIAL }, T0 + 10)
    l.p95(1500, 60)
    assert.same({ "firing Slow /a" }, said(l))
    assert.equal(0, l.book:figures().held_back)
  end)

  it("is not what was there before the trial, on another route, or of the machine", function()
    local l = make { slow(), { name = "Busy", severity = "warning", on = "host", signal = "cpu_share", above = 0.85 } }
    l.now = T0 - 60
    l.p95(1500)
    assert.same({ "firing Slow /a" }, said(l))
    l.book:know_taken_back({ { id = "trial-1", began_s = T0 - 30, ended_s = T0 } }, T0)
    l.now = T0
    l.book:tick({ route = { route("/a", { p95_ms = 1500 }) }, host = { { name = "host", labels = {}, cpu_share = 0.9 } } }, {}, l.now)
    assert.same({ "firing Busy " }, said(l))
    assert.equal(0, l.book:figures().held_back)
  end)
end)

describe("inhibition", function()
  local function make(equal)
    return lab(told({ slow(), { name = "Fails", severity = "critical", on = "route", signal = "error_rate", above = 0.05 } }, {
      notify = { receiver = "ops", group_wait = 0, group_interval = 5 },
      inhibit = { { source = { severity = "critical" }, target = { severity = "warning" }, equal = equal } },
    }))
  end

  it("keeps quiet what a worse alert of the same labels explains, until that is over", function()
    local l = make { "route" }
    l.look { route("/a", { p95_ms = 1500, error_rate = 1 }), route("/b", { p95_ms = 1500, error_rate = 0 }) }
    local said = {}
    for _, one in ipairs(l.mail "ops:webhook") do
      for _, words in ipairs(one.alerts) do said[#said + 1] = words end
    end
    table.sort(said)
    assert.same({ "firing Fails /a", "firing Slow /b" }, said)
    l.look({ route("/a", { p95_ms = 1500, error_rate = 0 }), route("/b", { p95_ms = 1500, error_rate = 0 }) }, 5)
    said = {}
    for _, one in ipairs(l.mail "ops:webhook") do
      for _, words in ipairs(one.alerts) do said[#said + 1] = words end
    end
    table.sort(said)
    assert.same({ "firing Slow /a", "firing Slow /b", "resolved Fails /a" }, said)
  end)

  it("needs the labels on both sides, and nobody inhibits itself", function()
    local rule = { source = { a = "1" }, target = { b = "1" }, equal = { "r" } }
    local function by(source, target)
      local one = labels.inhibition({ rule }, { { id = "s", labels = source } })("t", target)
      return one and one.id
    end
    assert.equal("s", by({ a = "1", r = "x" }, { b = "1", r = "x" }))
    assert.is_nil(by({ a = "1" }, { b = "1" }))
    assert.is_nil(by({ a = "1", r = "x" }, { b = "1", r = "y" }))
    assert.is_nil(by({ a = "2", r = "x" }, { b = "1", r = "x" }))
    local twins = labels.inhibition({ { source = { a = "1" }, target = { a = "1" }, equal = {} } }, { { id = "1", labels = { a = "1" } }, { id = "2", labels = { a = "1" } } })
    assert.same({ "2", "1" }, { twins("1", { a = "1" }).id, twins("2", { a = "1" }).id })
    local l = lab(told({ slow() }, { inhibit = { { source = { alertname = "Slow" }, target = { alertname = "Slow" }, equal = { "route" } } } }))
    l.p95(1500).p95(1500, 30)
    assert.equal(1, #l.mail "ops:webhook")
  end)
end)

describe("a silence", function()
  it("holds back what it matches until its time is over", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 10 } }))
    l.book:silence({ matchers = { alertname = "Slow", route = "/a" }, ttl_s = 60, author = "me", comment = "known" }, l.now)
    assert.same({}, l.p95(1500).mail "ops:webhook")
    assert.equal("silence-1", l.book:list(l.now)[1].silenced_by)
    assert.same({}, l.p95(1500, 50).mail "ops:webhook")
    l.restart(0) -- it is kept
    assert.same({}, l.p95(1500, 9).mail "ops:webhook")
    assert.equal(1, #l.p95(1500, 2).mail "ops:webhook" + #l.p95(1500, 10).mail "ops:webhook")
  end)

  it("ends at once when it is taken back, and what was told before is still resolved", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 10 } }))
    assert.equal(1, #l.p95(1500).mail "ops:webhook")
    local silence = l.book:silence({ matchers = { alertname = "S*" }, ttl_s = 3600, author = "me", comment = "x" }, l.now)
    assert.equal("resolved", l.p95(500, 10).mail "ops:webhook"[1].reason)
    assert.same({}, l.p95(1500, 10).mail "ops:webhook")
    l.book:unsilence(silence, l.now)
    assert.equal(1, #l.p95(1500, 10).mail "ops:webhook")
  end)

  it("matches texts, any part at a star, and the contrary after an exclamation mark", function()
    for _, case in ipairs { { "a", "a", true }, { "a", "b", false }, { "/api/*", "/api/x/y", true }, { "/api/*", "/apix", false }, { "*", "", true }, { "!a", "b", true },
      { "!a", "a", false }, { "a*b*c", "a1b2c", true }, { "a*b*c", "abc", true }, { "a*b*c", "ac", false }, { "*x", "axx", true }, { "a*a", "a", false } } do
      assert.equal(case[3], labels.matches({ l = case[1] }, { l = case[2] }), case[1] .. " on " .. case[2])
    end
    assert.is_true(labels.matches({ l = "!a" }, {}))
    assert.is_false(labels.matches({ l = "a" }, {}))
  end)
end)

describe("a restart", function()
  it("in the middle of pending counts the time before it, not the pause", function()
    local l = lab { policies = { slow { for_ = "1m" } } }
    l.p95(1500).p95(1500, 40).restart(600)
    assert.equal("pending", l.p95(1500).state())
    assert.equal("pending", l.p95(1500, 19).state())
    assert.equal("firing", l.p95(1500, 1).state())
  end)

  it("of a firing alert goes on, also while there is no data yet", function()
    local l = lab(told { slow() })
    l.p95(1500).p95(1500, 30)
    assert.equal(1, #l.mail "ops:webhook")
    l.restart(30)
    assert.equal("firing", l.p95(nil, 1).state())
    assert.equal("firing", l.p95(nil, 118).state())
    assert.equal("resolved", l.p95(nil, 2).state())
    l.p95(nil, 300)
    assert.equal("resolved", l.mail "ops:webhook"[1].reason)
  end)

  it("of one that keeps firing, and of one that is resolved", function()
    local l = lab(told { slow { keep_firing_for = 60 } })
    l.p95(1500).p95(1500, 30).p95(500, 1).p95(500, 50).restart(500)
    assert.equal("firing", l.p95(500, 9).state())
    assert.equal("resolved", l.p95(500, 1).state())
    l.restart(10)
    assert.equal("resolved", l.state())
    assert.equal(1, #l.p95(500).p95(500, 300).mail "ops:webhook" - 1) -- firing, from before, and resolved
  end)

  it("forgets no notification that nobody has taken", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 5 } }))
    l.p95(1500).p95(500, 10).restart(100)
    local mail = l.mail "ops:webhook"
    assert.same({ "firing", "resolved" }, { mail[1].reason, mail[2].reason })
  end)

  it("of an alert that flaps does not say it again", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 10 } }))
    for i = 1, 20 do l.p95(i % 2 == 1 and 1500 or 500, 30) end
    l.mail "ops:webhook"
    l.restart(60)
    for i = 1, 6 do l.p95(i % 2 == 1 and 1500 or 500, 30) end
    assert.same({}, l.mail "ops:webhook")
    assert.is_true(l.book:list(l.now)[1].flapping)
  end)
end)

describe("a reload", function()
  it("keeps an alert whose labels are the same, whatever else has changed", function()
    local l = lab { policies = { slow { for_ = "1m" } } }
    l.p95(1500).p95(1500, 40).restart(0, { policies = { slow { for_ = "45s", above = 900, annotations = { summary = "new" } } } })
    assert.equal("pending", l.p95(1500, 4).state())
    assert.equal("firing", l.p95(1500, 1).state())
    assert.equal("new", l.book:list(l.now)[1].annotations.summary)
  end)

  it("begins anew where the labels differ, and resolves what was told of", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0, group_interval = 5 } }))
    l.p95(1500).mail "ops:webhook"
    l.restart(0, told({ slow { severity = "critical", for_ = "1m" } }, { notify = { receiver = "ops", group_wait = 0, group_interval = 5 } }))
    assert.equal("pending", l.p95(1500, 5).state())
    assert.same({ "resolved Slow /a" }, l.mail "ops:webhook"[1].alerts)
  end)

  it("gives up what waits for a receiver that is no more", function()
    local l = lab(told({ slow() }, { notify = { receiver = "ops", group_wait = 0 } }))
    l.p95(1500).restart(0, { policies = { slow() } })
    assert.equal("lost", l.events[#l.events])
    assert.is_nil(l.book.outbox.queues["ops:webhook"])
  end)
end)

describe("an objective", function()
  local S = { route = "/api/*", objective = 0.999, latency_ms = 300 }

  it("becomes a page, a ticket and a low-traffic alert for each indicator, from one line", function()
    local config = compile { policies = { slo(S) } }
    local names = {}
    for i, p in ipairs(config.policies) do names[i] = p.labels.sli .. " " .. p.name .. " " .. p.severity end
    assert.same({ "availability SloBurnPage critical", "availability SloBurnTicket warning", "availability SloLowTraffic warning",
      "latency SloBurnPage critical", "latency SloBurnTicket warning", "latency SloLowTraffic warning" }, names)
    assert.same({ 300 }, config.bounds)
    assert.equal(1, #config.inhibit)
  end)

  -- 100 requests a second; 1 h at a failure rate, looked at every 15 s.
  local function run(counts, from, seconds, rps, share)
    for at = from + 15, from + seconds, 15 do counts:add(rps * 15, rps * 15 * share, at) end
    return from + seconds
  end

  it("burns at the share of bad events by the share that is allowed", function()
    local counts = burn.new()
    counts:add(0, 0, T0)
    local now = run(counts, T0, 3600, 100, 0.0144)
    local rate, total, bad = counts:rate(3600, 0.999, now)
    assert.near(14.4, rate, 1e-6) -- 0.0144 / 0.001
    assert.equal(360000, total)
    assert.near(5184, bad, 1e-6)
    assert.near(14.4, (counts:rate(300, 0.999, now)), 1e-6)
  end)

  it("pages at 14.4 over an hour and 5 minutes, and stops soon after it is over", function()
    local counts = burn.new()
    counts:add(0, 0, T0)
    local now = run(counts, T0, 6 * 3600, 100, 0)
    assert.equal(0, (counts:excess(burn.page, 0.999, 10, now)))
    -- 10 % fail: the hour holds 14.4 times the budget after 3600 * 0.0144 / 0.1 = 518.4 s.
    now = run(counts, now, 510, 100, 0.1)
    assert.is_true((counts:excess(burn.page, 0.999, 10, now)) < 1)
    now = run(counts, now, 30, 100, 0.1)
    local excess, what = counts:excess(burn.page, 0.999, 10, now)
    assert.is_true(excess > 1, tostring(excess))
    assert.equal(14.4, what.factor)
    now = run(counts, now, 330, 100, 0) -- the short window is clean
    assert.is_true((counts:excess(burn.page, 0.999, 10, now)) < 1)
  end)

  it("pages at 6 over 6 hours, and makes a ticket at 1 over 3 days", function()
    local counts = burn.new()
    counts:add(0, 0, T0)
    local now = run(counts, T0, 6 * 3600, 10, 0.007) -- burn 7
    local excess, what = counts:excess(burn.page, 0.999, 10, now)
    assert.near(7 / 6, excess, 0.01)
    assert.equal(6, what.factor)
    local slowly = burn.new()
    slowly:add(0, 0, T0)
    now = run(slowly, T0, 3 * 86400, 1, 0.0015) -- burn 1.5: no page, a ticket
    assert.is_true((slowly:excess(burn.page, 0.999, 10, now)) < 1)
    excess, what = slowly:excess(burn.ticket, 0.999, 3, now)
    assert.near(1.5, excess, 0.01)
    assert.equal(259200, what.long_s)
  end)

  it("with little traffic needs 10 bad events for a page, and says so of 10 in 6 hours", function()
    local config = compile { policies = { slo(S) } }
    local book = alerts.new(config, settings())
    local now = T0
    local function requests(n, bad, seconds)
      now = now + seconds
      book:tick({}, { { route = "/api/x", name = "GET /api/x", requests = n, errors = bad, slow = { 0 } }, { route = "/web", name = "GET /web", requests = 1000, errors = 1000, slow = { 1000 } } }, now)
    end
    local function firing()
      local names = {}
      for _, a in ipairs(book:list(now)) do
        if a.state == "firing" then names[#names + 1] = a.labels.alertname .. " " .. a.labels.sli end
      end
      table.sort(names)
      return names
    end
    requests(0, 0, 0)
    requests(10, 2, 15) -- 20 % of 10: a burn of 200, of two events
    assert.same({}, firing())
    for _ = 1, 7 do requests(1, 1, 1800) end -- one each half hour
    assert.same({ "SloBurnTicket availability" }, firing())
    requests(1, 1, 1800)
    requests(1, 1, 15)
    assert.same({ "SloBurnTicket availability", "SloLowTraffic availability" }, firing()) -- the tenth and eleventh in 6 h
    for _ = 1, 10 do requests(1, 1, 15) end
    assert.same({ "SloBurnPage availability", "SloBurnTicket availability", "SloLowTraffic availability" }, firing())
  end)

  it("counts slow answers for the latency, and keeps its sums over a restart", function()
    local config = compile { policies = { slo(S) } }
    local book = alerts.new(config, settings())
    book:tick({}, {}, T0)
    book:tick({}, { { route = "/api/x", name = "GET /api/x", requests = 100, errors = 0, slow = { 50 } } }, T0 + 15)
    local again = alerts.new(config, settings())
    again:restore_burns(json.decode(json.encode(book:dump_burns())))
    again:tick({}, {}, T0 + 30)
    local list = again:list(T0 + 30)
    assert.equal("SloBurnPage", list[1].labels.alertname .. (list[1].labels.sli == "latency" and "" or "?"))
    assert.near(500 / 14.4, again.burns["/api/*|300"]:excess(burn.page, 0.999, 10, T0 + 30) * (14.4 / 14.4), 500 / 6)
    local total, bad = again.burns["/api/*|300"]:over(300, T0 + 30)
    assert.same({ 100, 50 }, { total, bad })
  end)
end)

describe("the outbox", function()
  local function make(limits)
    local lost = {}
    local l = { most = 3, age_s = 100, retry_s = 1, retry_most_s = 8 }
    for name, value in pairs(limits or {}) do l[name] = value end
    return outbox.new(l, function(_, entry, why) lost[#lost + 1] = entry.notification.n .. ": " .. why end), lost
  end

  it("waits twice as long after each failure, up to a limit, with chance in the upper half", function()
    local box = make()
    box:put("a", { n = 1 }, T0)
    local now, pauses = T0, {}
    for i = 1, 6 do
      local entry = box:due("a", now)
      box:failed("a", entry.id, "no", now, 1)
      pauses[i] = box.queues.a[1].next_at - now
      now = box.queues.a[1].next_at
    end
    assert.same({ 1, 2, 4, 8, 8, 8 }, pauses)
    box:failed("a", 1, "no", now, 0)
    assert.equal(4, box.queues.a[1].next_at - now)
    box:failed("a", 1, "busy", now, 0, false, 6) -- Retry-After
    assert.equal(6, box.queues.a[1].next_at - now)
    box:failed("a", 1, "busy", now, 0, false, 1e9)
    assert.equal(8, box.queues.a[1].next_at - now)
    assert.is_nil(box:due("a", now))
  end)

  it("keeps the order of one receiver, and none waits for another", function()
    local box = make()
    box:put("dead", { n = 1 }, T0)
    box:put("dead", { n = 2 }, T0)
    box:put("good", { n = 3 }, T0)
    box:failed("dead", box:due("dead", T0).id, "no", T0, 1)
    assert.is_nil(box:due("dead", T0))
    assert.equal(3, box:due("good", T0).notification.n)
    assert.equal(1, box:due("dead", T0 + 1).notification.n)
    assert.is_true(box:done("dead", 1))
    assert.is_false(box:done("dead", 1))
    assert.equal(2, box:due("dead", T0 + 1).notification.n)
  end)

  it("gives up the oldest where too many wait, what is too old, and what is refused for good", function()
    local box, lost = make()
    for n = 1, 4 do box:put("a", { n = n }, T0) end
    assert.matches("^1: more than 3 wait", lost[1])
    box:failed("a", box:due("a", T0).id, "it answered 400", T0, 1, true)
    assert.equal("2: it answered 400", lost[2])
    assert.is_nil(box:due("a", T0 + 101))
    assert.equal(4, #lost)
    assert.equal(4, box.counts.a.lost)
  end)

  it("knows the newest word on each alert for those who only want that", function()
    local box = make()
    local function word(id, status) return { alerts = { { status = status, alert = { id = id } } } } end
    box:merge("a", word("x", "firing"), T0)
    box:merge("a", word("y", "firing"), T0)
    box:merge("a", word("x", "resolved"), T0)
    assert.equal(1, #box.queues.a)
    assert.same({ "resolved", "firing" }, { box.queues.a[1].notification.alerts[1].status, box.queues.a[1].notification.alerts[2].status })
    box.queues.a[1].sending = true
    box:merge("a", word("x", "firing"), T0)
    assert.equal(2, #box.queues.a)
  end)
end)

describe("an Alertmanager", function()
  it("is told at once, again while it fires, and of the end", function()
    local l = lab(told({ slow() }, { receivers = { ops = { alertmanager = "http://127.0.0.1:9" } } }))
    assert.same({ "firing Slow /a" }, l.p95(1500).mail "ops:alertmanager"[1].alerts)
    assert.same({}, l.p95(1500, 59).mail "ops:alertmanager")
    assert.equal(1, #l.p95(1500, 1).mail "ops:alertmanager")
    assert.same({ "resolved Slow /a" }, l.p95(500, 1).mail "ops:alertmanager"[1].alerts)
    assert.same({}, l.p95(500, 100).mail "ops:alertmanager")
  end)
end)

describe("what receivers are sent", function()
  local N = { receiver = "ops", key = "ops|alertname\31Slow|alertname", labels = { alertname = "Slow" }, reason = "firing", alerts = {
    { status = "firing", alert = { id = "0011", labels = { alertname = "Slow", severity = "warning", route = "/a" }, annotations = { summary = "a<b&c" }, starts_at = 1700000000.25 } },
    { status = "resolved", alert = { id = "0022", labels = { alertname = "Slow", severity = "warning", route = "/b" }, annotations = {}, starts_at = 1700000000, ends_at = 1700000060 } },
  } }

  it("is Alertmanager's webhook of version 4", function()
    local got = payload.webhook(N, "http://h/", 0)
    assert.same({ "4", "firing", "ops", 0, "ops|alertname=Slow|alertname" }, { got.version, got.status, got.receiver, got.truncatedAlerts, got.groupKey })
    assert.same({ alertname = "Slow", severity = "warning" }, got.commonLabels)
    assert.same({ status = "firing", labels = N.alerts[1].alert.labels, annotations = { summary = "a<b&c" }, startsAt = "2023-11-14T22:13:20.250Z",
      endsAt = "0001-01-01T00:00:00Z", generatorURL = "http://h/alerts/0011", fingerprint = "0011" }, got.alerts[1])
    assert.equal("2023-11-14T22:14:20.000Z", got.alerts[2].endsAt)
    assert.same({ 1, 1 }, { #payload.webhook(N, "", 1).alerts, payload.webhook(N, "", 1).truncatedAlerts })
  end)

  it("is a list for an Alertmanager, and escaped text for Slack", function()
    local list = payload.alertmanager(N, "http://h/", 1700000240)
    assert.same({ "2023-11-14T22:17:20.000Z", "2023-11-14T22:14:20.000Z" }, { list[1].endsAt, list[2].endsAt })
    local slack = payload.slack(N, "http://h/")
    assert.equal("FIRING Slow /a, RESOLVED Slow /b", slack.text)
    assert.matches("a&lt;b&amp;c", slack.blocks[1].text.text, 1, true)
  end)
end)

describe("a file of policies", function()
  local function refused(file, words)
    local ok, why = pcall(compile, file)
    assert.is_false(ok)
    assert.matches(words, why, 1, true)
    assert.matches("^rules/alerts/test.lua: ", why)
  end

  it("is refused with its mistake, its place and a way out", function()
    refused({ policies = { slow { signel = "x" } } }, "policy 1: unknown key 'signel', did you mean 'signal'?")
    refused({ policies = { slow { signal = "p96_ms" } } }, "there is no signal 'p96_ms' of a route, did you mean 'p95_ms'?")
    refused({ policies = { slow { exit = 1200 } } }, "'exit' (1200) lies beyond 'above' (1000)")
    refused({ policies = { slow { below = 3 } } }, "either 'above' or 'below'")
    refused({ policies = { slow { for_ = "1 minute" } } }, "'for_' is a duration")
    refused({ policies = { slow { no_data = "keeq" } } }, "'no_data' is one of \"ok\", \"keep\", \"alert\", did you mean 'keep'?")
    refused({ policies = { slow { severity = "fatal" } } }, "'severity' is one of")
    refused({ policies = { slow(), slow() } }, "another policy has the same name and labels")
    refused({ policies = { slow { labels = { severity = "x" } } } }, "the label 'severity'")
    refused({ policy = {} }, "unknown key 'policy'")
    refused({ receivers = { ops = { webhook = "127.0.0.1" } } }, "begins with http:// or https://")
    refused({ receivers = { ops = { webhok = "http://x" } } }, "unknown key 'webhok'")
    refused({ receivers = { ops = { command = { "page" } } } }, "the path of a program first")
    refused({ receivers = { ops = {} } }, "it says nowhere where to")
    refused({ receivers = { ops = { slack = { env = "A", file = "/b" } } } }, "'slack' is a text, { env")
    refused({ notify = { receiver = "opz" }, receivers = OPS }, "there is no receiver 'opz', did you mean 'ops'?")
    refused({ inhibit = { { source = {}, target = { a = "1" } } } }, "'source' and 'target' name at least one label")
    refused({ policies = { slo { route = "/a", objective = 99.9 } } }, "'objective' is a share between 0 and 1")
    refused({ policies = { slo { route = "/a", objective = 0.9, latency = 3 } } }, "unknown key 'latency'")
  end)

  it("takes durations as seconds and as text", function()
    local shape = need "perilune.alerts.shape"
    for text, seconds in pairs { ["30s"] = 30, ["5m"] = 300, ["4h"] = 14400, ["1d"] = 86400, ["1.5h"] = 5400 } do assert.equal(seconds, shape.seconds(text)) end
    assert.equal(7, shape.seconds(7))
    for _, wrong in ipairs { "5", "5min", "-1s", -1, 1e12, true } do assert.is_nil(shape.seconds(wrong)) end
  end)
end)

describe("the shipped policies of the engine", function()
  it("speak of files that were refused, and of those that were taken back", function()
    for _, one in ipairs(compile(assert(loadfile "rules/alerts/engine.lua")()).policies) do
      if one.name == "ReloadRefused" then
        assert.matches("which line is wrong, or why they were taken back$", one.annotations.summary)
        return
      end
    end
    error "there is no ReloadRefused"
  end)
end)

describe("a test over the history", function()
  it("says how often it would have fired, and flapped", function()
    local p = compile({ policies = { slow { for_ = 60 } } }).policies[1]
    local columns = { at_ms = {}, p95_ms = {}, requests = {} }
    for i = 1, 60 do
      columns.at_ms[i], columns.requests[i] = (T0 + i * 60) * 1000, 50
      columns.p95_ms[i] = (i % 20 >= 10) and 2000 or 100
    end
    local got = replay.run(p, replay.steps(columns, T0 + 60, T0 + 61 * 60, 60), replay.reader(p), 60, FLAP)
    assert.same({ 3, 0 }, { got.fired, got.flaps })
    assert.equal("would have fired 3 times, 0 flaps", replay.words(got))
    local nervous = compile({ policies = { slow() } }).policies[1]
    for i = 1, 60 do columns.p95_ms[i] = i % 2 == 0 and 2000 or 100 end
    got = replay.run(nervous, replay.steps(columns, T0 + 60, T0 + 61 * 60, 60), replay.reader(nervous), 60, FLAP)
    assert.same({ 30, 1 }, { got.fired, got.flaps })
    assert.equal("would have fired 30 times, 1 flap", replay.words(got))
  end)

  it("has no data where the history has a gap", function()
    local p = compile({ policies = { slow { no_data = "ok" } } }).policies[1]
    local columns = { at_ms = { T0 * 1000, (T0 + 300) * 1000 }, p95_ms = { 2000, 2000 }, requests = { 5, 5 } }
    T0 = T0 - T0 % 60
    local got = replay.run(p, replay.steps(columns, T0, T0 + 360, 60), replay.reader(p), 60, FLAP)
    assert.equal(2, got.fired)
  end)
end)
