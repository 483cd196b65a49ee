--- Alerts through the real interface: a webhook that listens, one that is dead, control killed, files changed under way.
local alertmanager = require "tests.support.alertmanager"
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"
local uv = require "luv"

local API = "/api/v1/performance-optimization/"

local APP = [[
local app = require "perilune".app()
app:get("/ok", function() return "ok" end)
app:get("/bad", function() return 500, "bad" end)
app:get("/slow", function() require("perilune").sleep(0.05) return "slow" end)
return app
]]

-- Fast enough for a test: looked at twice a second, over the last two seconds.
local FAST = { "--set", "alerts.interval_s=0.5", "--set", "alerts.window_s=2", "--set", "alerts.retry_ms=100", "--set", "alerts.retry_most_ms=200",
  "--set", "alerts.timeout_ms=1000" }

local BAD = [[
return { policies = { { name = "Bad", severity = "critical", on = "route", signal = "error_rate", above = 0.05, min_events = 3, for_ = %s,
  keep_firing_for = %s, labels = { team = "web" }, annotations = { summary = "{{labels.route}} fails: {{value}}%s" } } } }
]]

local function bad(for_, keep, more) return BAD:format(for_ or 0, keep or 0, more or "") end

local function notify(receivers, route)
  return ("return { receivers = { %s }, notify = { receiver = %q, group_wait = 0, group_interval = 1 } }"):format(receivers, route)
end

-- Only these files, so that nothing but what a test is about fires.
local EMPTY = "return {}"
local function rules(more)
  local all = { ["routes/app.lua"] = APP }
  for _, name in ipairs { "latency", "errors", "resources", "pools", "cache", "slo", "issues", "engine" } do all["alerts/" .. name .. ".lua"] = EMPTY end
  for name, text in pairs(more) do all["alerts/" .. name .. ".lua"] = text end
  return all
end

describe("alerts", function()
  local served, receivers, going, workers

  local function start(policies, options)
    options = options or {}
    options.rules = rules(policies)
    options.args = options.args or FAST
    served = engine.start(options)
  end

  -- A receiver that remembers what it is told; options.answer decides.
  local function receiver(answer)
    local self = { got = {} }
    self.peer = peer.start { answer = function(request)
      local status = answer and answer(#self.got + 1) or 200
      self.got[#self.got + 1] = { path = request.target, headers = request.headers, body = json.decode(request.body), status = status }
      return { status = status, body = "ok" }
    end }
    self.url = "http://" .. self.peer.address
    receivers[#receivers + 1] = self.peer
    function self.wait(n, what) loop.wait_until(function() return #self.got >= n end, 8000, what or (n .. " notifications")) end
    return self
  end

  -- Asks for a path over and over until the test is over, or fn() says so.
  local function ask(path, is_over)
    workers[#workers + 1] = loop.spawn(function()
      local conn = served:connect()
      while going and not (is_over and is_over()) do
        if not conn:request { path = path } then
          conn:close()
          conn = served:connect()
        end
        loop.sleep(20)
      end
      conn:close()
    end)
  end

  local function get(path)
    local got = served:admin_get("~/" .. path)
    assert.equal(200, got.status, got.body)
    return got.json.data
  end

  local function alert(state, name)
    for _, one in ipairs(get("alerts?state=" .. state).alerts) do
      if one.labels.alertname == (name or "Bad") then return one end
    end
  end

  local function wait_alert(state, name)
    return loop.wait_until(function() return alert(state, name) end, 8000, ("%s to be %s"):format(name or "Bad", state))
  end

  local function send(method, path, body) return served:admin_request { method = method, path = API .. path, json = body } end

  before_each(function() receivers, workers, going = {}, {}, true end)

  after_each(function()
    going = false
    loop.run(function()
      for _, task in ipairs(workers) do pcall(loop.join, task) end
      if served then served:stop() end
      served = nil
    end, 15000)
    for _, one in ipairs(receivers) do one:stop(true) end
  end)

  local function run(name, fn) it(name, function() loop.run(fn, 45000) end) end

  run("fire, are told to a webhook as Alertmanager would, and are resolved", function()
    local ops = receiver()
    start { mine = bad(), notify = notify(("ops = { webhook = %q, headers = { Authorization = { env = 'OPS_TOKEN' } } }"):format(ops.url .. "/hook"), "ops") }
    served:stop { keep = true }
    served = engine.start { folder = served.folder, rules = served.options.rules, args = FAST, env = { OPS_TOKEN = "Bearer s3cret" } }
    local over = false
    ask("/bad", function() return over end)
    ask("/ok")
    local firing = wait_alert "firing"
    assert.same({ "/bad", "GET", "web", "critical" }, { firing.labels.route, firing.labels.method, firing.labels.team, firing.severity })
    assert.equal("/bad fails: 100 %", firing.annotations.summary)
    ops.wait(1)
    local first = ops.got[1]
    assert.same({ "/hook", "application/json", "Bearer s3cret" }, { first.path, first.headers["content-type"], first.headers.authorization })
    assert.same({ "4", "firing", "ops", "Bad" }, { first.body.version, first.body.status, first.body.receiver, first.body.groupLabels.alertname })
    assert.equal(firing.id, first.body.alerts[1].fingerprint)
    assert.equal(firing.id, get("alerts/" .. firing.id).id)
    local metrics = served:admin_get("/metrics").body
    assert.matches('perilune_alerts{severity="critical",state="firing"} 1', metrics, 1, true)
    assert.matches('perilune_alert_notifications_sent_total{receiver="ops",kind="webhook"} 1', metrics, 1, true)
    over = true
    ops.wait(2, "the end to be told")
    assert.same({ "resolved", "resolved" }, { ops.got[2].body.status, ops.got[2].body.alerts[1].status })
    assert.is_nil(alert "firing")
    assert.is_truthy(alert "resolved")
    local text = json.encode(get "alerts/policies") .. served:log() .. (files.read(served.state .. "/alerts.json") or "")
    assert.is_nil(text:find("s3cret", 1, true))
  end)

  run("reach others while a receiver is dead, and that one when it is back, in order", function()
    local ops, later = receiver(), receiver()
    local port = later.peer.port
    later.peer:stop(true) -- nobody listens there
    start { mine = bad(), notify = ([[return { receivers = { ops = { webhook = %q }, later = { webhook = "http://127.0.0.1:%d/" } },
      notify = { receiver = "ops", group_wait = 0, group_interval = 1, routes = { { match = {}, receiver = "later", continue = true } } } }]]):format(ops.url, port) }
    local over = false
    ask("/bad", function() return over end)
    ops.wait(1)
    over = true
    ops.wait(2)
    local function figures()
      for _, one in ipairs(get("alerts/policies").receivers) do
        if one.receiver == "later" then return one end
      end
    end
    loop.wait_until(function() return figures().failed >= 2 end, 5000, "attempts at the dead one")
    assert.same({ 2, 0 }, { figures().waiting, figures().sent })
    served:restart() -- what waits is on the disk
    assert.equal(2, figures().waiting)
    local got = {}
    local back = peer.start { port = port, answer = function(request)
      got[#got + 1] = json.decode(request.body).status
      return { status = #got == 1 and 500 or 200 }
    end }
    receivers[#receivers + 1] = back
    loop.wait_until(function() return #got >= 3 end, 8000, "what was kept for it")
    assert.same({ "firing", "firing", "resolved" }, got) -- the first was answered 500
    loop.wait_until(function() return figures().waiting == 0 end, 3000, "nothing to wait")
    assert.equal(2, #ops.got)
  end)

  run("are not told of twice when control is killed, and not forgotten", function()
    local ops = receiver()
    start { mine = bad(0, 60), notify = notify(("ops = { webhook = %q }"):format(ops.url), "ops") }
    local over = false
    ask("/bad", function() return over end)
    ops.wait(1)
    over = true
    local before = wait_alert "firing"
    local function control()
      for _, one in ipairs(served:processes()) do
        if one.role == "control" then return one.pid end
      end
    end
    local victim = control()
    uv.kill(victim, "sigkill")
    loop.wait_until(function()
      local ok, pid = pcall(control)
      return ok and pid and pid ~= victim
    end, 8000, "another control")
    local after = wait_alert "firing"
    assert.same({ before.id, before.fired_at }, { after.id, after.fired_at })
    loop.wait_until(function() return get("alerts/policies").cost.looks >= 5 end, 8000, "looks of the new one")
    assert.equal(1, #ops.got)
  end)

  run("are told of once when files change while a receiver takes its time", function()
    local ops
    ops = receiver(function()
      loop.sleep(700)
      return 200
    end)
    start({ mine = bad(0, 60), notify = notify(("ops = { webhook = %q }"):format(ops.url), "ops") })
    local over = false
    ask("/bad", function() return over end)
    loop.wait_until(function() return ops.peer.seen >= 1 end, 8000, "the receiver to be asked")
    over = true
    local active = get("generations").active
    served:write_rule("alerts/mine.lua", bad(0, 61))
    loop.wait_until(function() return get("generations").active > active end, 8000, "the reload")
    ops.wait(1)
    loop.wait_until(function()
      local now = get "alerts/policies"
      return now.cost.looks >= 3 and now.receivers[1].waiting == 0 and now.receivers[2].waiting == 0
    end, 8000, "the new generation to know of it")
    assert.equal(1, #ops.got)
    assert.equal(1, ops.peer.seen)
  end)

  run("go on over a reload in the middle of pending, and begin anew with other labels", function()
    start { mine = bad(4) }
    ask "/bad"
    local before = wait_alert "pending"
    served:write_rule("alerts/mine.lua", bad(5, 0, " still"))
    loop.wait_until(function()
      local one = alert "pending" or alert "firing"
      return one and one.annotations.summary:find "still"
    end, 8000, "the new file to be in force")
    local after = wait_alert "firing"
    assert.same({ before.id, before.since }, { after.id, after.since })
    local waited = tonumber(after.fired_at:match ":(%d+%.%d+)Z$") - tonumber(before.since:match ":(%d+%.%d+)Z$")
    assert.is_true(waited % 60 >= 5 and waited % 60 < 9, tostring(waited))
    served:write_rule("alerts/mine.lua", (bad(0):gsub('"web"', '"api"')))
    loop.wait_until(function()
      local one = alert "firing"
      return one and one.labels.team == "api"
    end, 8000, "the alert of the new labels")
    assert.not_equal(before.id, alert("firing").id)
  end)

  run("begin anew where what was kept is damaged, and keep that aside", function()
    start { mine = bad() }
    served:stop { keep = true }
    files.write(served.state .. "/alerts.json", '{"version":1,"alerts":[')
    files.write(served.state .. "/alerts-budgets.json", "[]]")
    served = engine.start { folder = served.folder, rules = served.options.rules, args = FAST }
    ask "/bad"
    wait_alert "firing"
    served:wait_log "alerts.json in the state folder is damaged"
    assert.equal('{"version":1,"alerts":[', files.read(served.state .. "/alerts-damaged.json"))
  end)

  run("are not begun by a file with a mistake, which says where it is", function()
    start { mine = bad() }
    local active = get("generations").active
    served:write_rule("alerts/mine.lua", (bad():gsub("above", "abovee")))
    local got = send("POST", "reload")
    assert.equal(422, got.status)
    assert.matches("rules/alerts/mine.lua: policy 1: unknown key 'abovee', did you mean 'above'?", got.body, 1, true)
    assert.equal(active, get("generations").active)
    assert.equal("Bad", get("alerts/policies").policies[1].name)
  end)

  run("are silenced and told of when that is over, and silences are kept", function()
    local ops = receiver()
    start { mine = bad(), notify = notify(("ops = { webhook = %q }"):format(ops.url), "ops") }
    local function silence(body) return send("POST", "alerts/silences", body) end
    for pointer, body in pairs {
      ["/matchers"] = { matchers = {}, ttl = "1h", author = "me", comment = "x" }, ["/ttl"] = { matchers = { a = "b" }, ttl = "1 hour", author = "me", comment = "x" },
      ["/author"] = { matchers = { a = "b" }, ttl = "1h", comment = "x" }, ["/coment"] = { matchers = { a = "b" }, ttl = "1h", author = "me", comment = "x", coment = "y" },
    } do
      local got = silence(body)
      assert.same({ 422, "invalid_fields", pointer }, { got.status, got.json.code, got.json.errors[1].pointer }, got.body)
    end
    local made = silence { matchers = { alertname = "Bad", route = "/b*" }, ttl = "1h", author = "me", comment = "being repaired" }
    assert.equal(201, made.status, made.body)
    ask "/bad"
    local firing = wait_alert "firing"
    assert.equal(made.json.data.id, firing.silenced_by)
    served:restart()
    assert.equal("active", get("alerts/silences").silences[1].state)
    assert.same({ 1, 0 }, { #get("alerts/silences?active=true").silences, #get("alerts/silences?active=false").silences })
    wait_alert "firing"
    loop.wait_until(function() return get("alerts/policies").cost.looks >= 4 end, 8000, "some looks")
    assert.equal(0, #ops.got)
    local ended = send("DELETE", "alerts/silences/" .. made.json.data.id)
    assert.same({ 200, "expired" }, { ended.status, ended.json.data.state })
    assert.equal(404, send("DELETE", "alerts/silences/silence-99").status)
    ops.wait(1)
  end)

  run("go to an Alertmanager, a Slack hook and a command", function()
    local am, slack = receiver(), receiver()
    local folder = files.temporary "alerts"
    files.write(folder .. "/url", slack.url .. "/services/T0/B0/key\n")
    start { mine = bad(), notify = ([[return { receivers = { am = { alertmanager = %q }, chat = { slack = { file = %q } },
      pager = { command = { "/bin/sh", "-c", "cat > %s/page.new && mv %s/page.new %s/page" } } },
      notify = { receiver = "pager", group_wait = 0, group_interval = 1, routes = { { match = {}, receiver = "am", continue = true },
        { match = { team = "web" }, receiver = "chat", continue = true } } } }]]):format(am.url, folder .. "/url", folder, folder, folder) }
    ask "/bad"
    am.wait(1)
    assert.equal("/api/v2/alerts", am.got[1].path)
    local first = am.got[1].body[1]
    assert.equal("Bad", first.labels.alertname)
    assert.matches("^%d+%-%d+%-%d+T[%d:.]+Z$", first.startsAt)
    assert.is_true(first.endsAt > first.startsAt)
    slack.wait(1)
    assert.equal("/services/T0/B0/key", slack.got[1].path)
    assert.equal("FIRING Bad /bad", slack.got[1].body.text)
    local page = json.decode(loop.wait_until(function() return files.read(folder .. "/page") end, 5000, "the command"))
    assert.equal("Bad", page.alerts[1].labels.alertname)
    assert.is_nil(json.encode(get "alerts/policies"):find("/services/", 1, true))
    files.remove(folder)
  end)

  run("are understood by a real Alertmanager, whose own notifications look like ours", function()
    local theirs, ours = receiver(), receiver()
    local am = alertmanager.start(theirs.url)
    start { mine = bad(), notify = ([[return { receivers = { am = { alertmanager = %q }, ops = { webhook = %q } },
      notify = { receiver = "ops", group_wait = 0, group_interval = 1, routes = { { match = {}, receiver = "am", continue = true } } } }]]):format(am.url, ours.url) }
    local over = false
    ask("/bad", function() return over end)
    local firing = wait_alert "firing"
    local known = loop.wait_until(function() return am:alerts()[1] end, 8000, "the Alertmanager to know")
    assert.same(firing.labels, known.labels)
    assert.same({ "active", "/bad fails: 100 %" }, { known.status.state, known.annotations.summary })
    assert.matches("Bad .*/bad fails: 100 %% +active", am:amtool("alert", "query", "team=web"))
    ours.wait(1)
    theirs.wait(1)
    local function keys(t)
      local list = {}
      for name in pairs(t) do list[#list + 1] = name end
      table.sort(list)
      return list
    end
    ours.got[1].body.notification_reason = nil
    assert.same(keys(theirs.got[1].body), keys(ours.got[1].body))
    assert.same(keys(theirs.got[1].body.alerts[1]), keys(ours.got[1].body.alerts[1]))
    assert.same({ theirs.got[1].body.commonLabels, theirs.got[1].body.alerts[1].endsAt }, { ours.got[1].body.commonLabels, ours.got[1].body.alerts[1].endsAt })
    over = true
    theirs.wait(2, "the end, from the Alertmanager")
    assert.equal("resolved", theirs.got[2].body.status)
    am:stop()
  end)

  run("of a command that hangs or fails are tried again, and others are not held up", function()
    local ops = receiver()
    start { mine = bad(), notify = [[return { receivers = { hang = { command = { "/bin/sleep", "60" }, timeout_ms = 300 }, fails = { command = { "/bin/false" } },
      ops = { webhook = "]] .. ops.url .. [[" }, gone = { command = { "/nonexistent/program" } } },
      notify = { receiver = "ops", group_wait = 0, routes = { { match = {}, receiver = "hang", continue = true }, { match = {}, receiver = "fails", continue = true },
        { match = {}, receiver = "gone", continue = true } } } }]] }
    ask "/bad"
    ops.wait(1)
    loop.wait_until(function()
      local failed = {}
      for _, one in ipairs(get("alerts/policies").receivers) do failed[one.receiver] = one.failed end
      return failed.hang >= 2 and failed.fails >= 2 and failed.gone >= 2
    end, 8000, "several attempts of each")
    served:wait_log "took too long and was killed"
    served:wait_log "it ended with 1"
    served:wait_log "/nonexistent/program cannot be started"
  end)

  run("watch the engine itself: refused files, a folder that cannot be written, budgets that burn", function()
    local ops = receiver()
    local own = rules {}
    own["alerts/engine.lua"] = nil
    own["alerts/mine.lua"] = 'local slo = require "perilune.alerts.slo"\nreturn { policies = { slo { route = "/bad", objective = 0.99, latency_ms = 300 } } }'
    own["alerts/notify.lua"] = notify(("ops = { webhook = %q }"):format(ops.url), "ops")
    served = engine.start { rules = own, args = FAST }
    local over = false
    ask("/bad", function() return over end)
    local burns = wait_alert("firing", "SloBurnPage")
    over = true
    assert.same({ "/bad", "availability" }, { burns.labels.slo, burns.labels.sli })
    assert.is_truthy(alert("firing", "SloBurnTicket").inhibited_by)
    served:write_rule("alerts/mine.lua", "return {")
    wait_alert("firing", "ReloadRefused")
    served:write_rule("alerts/mine.lua", "return {}")
    wait_alert("resolved", "ReloadRefused")
    assert.equal(0, uv.fs_rename(served.state .. "/alerts.json", served.state .. "/before.json") and 0 or 1)
    assert.is_true(uv.fs_mkdir(served.state .. "/alerts.json", 448))
    send("POST", "alerts/silences", { matchers = { a = "b" }, ttl = "1h", author = "me", comment = "x" })
    wait_alert("firing", "StoreTrouble")
    loop.wait_until(function()
      for _, one in ipairs(ops.got) do
        if one.body.groupLabels.alertname == "StoreTrouble" then return true end
      end
    end, 8000, "the trouble to be told, though it cannot be kept")
  end)

  run("of 50 policies over 100 routes cost less than a hundredth of a core", function()
    local routes, policies = { 'local app = require "perilune".app()' }, { "return { policies = {" }
    for i = 1, 100 do routes[#routes + 1] = ('app:get("/r%d", function() return "ok" end)'):format(i) end
    for i = 1, 50 do policies[#policies + 1] = ('{ name = "P%d", severity = "info", on = "route", signal = "p95_ms", above = %d, min_events = 1 },'):format(i, 100000 + i) end
    routes[#routes + 1], policies[#policies + 1] = "return app", "} }"
    local own = rules { mine = table.concat(policies, "\n") }
    own["routes/app.lua"] = table.concat(routes, "\n")
    served = engine.start { rules = own, args = { "--set", "alerts.interval_s=0.5" } }
    local conn = served:connect()
    for i = 1, 100 do assert.equal(200, conn:request({ path = "/r" .. i }).status) end
    conn:close()
    local before = get("alerts/policies").cost.looks
    local cost = loop.wait_until(function()
      local now = get("alerts/policies").cost
      return now.looks >= before + 6 and now
    end, 10000, "some looks")
    assert.is_true(cost.last_ms > 0 and cost.last_ms < 0.01 * 5000, cost.last_ms) -- of the default interval, 5 s
  end)

  run("are tried on the history before they are in force", function()
    start { mine = bad() }
    local over = false
    ask("/bad", function() return over end)
    wait_alert "firing"
    over = true
    wait_alert "resolved"
    local got = send("POST", "alerts/test", { step = 1, from = -60 })
    assert.equal(200, got.status, got.body)
    assert.matches("^would have fired %d+ times?, %d+ flaps?$", got.json.data.text)
    assert.is_true(got.json.data.fired >= 1)
    assert.equal("GET /bad", got.json.data.policies[1].things[1].thing)
    files.write(served.folder .. "/try.lua", (bad():gsub("0.05", "0.9")))
    files.write(served.folder .. "/never.lua", (bad():gsub("0.05", "2")))
    files.write(served.folder .. "/wrong.lua", (bad():gsub("signal", "signel")))
    local function try(file, ...)
      return engine.run { args = { "alerts", "test", "--state", served.state, "--policy", served.folder .. "/" .. file, ... }, timeout_ms = 10000 }
    end
    local code, out = try("never.lua", "--from", "-60")
    assert.equal(0, code)
    assert.matches("would have fired 0 times, 0 flaps", out, 1, true)
    code, out = try "try.lua"
    assert.equal(0, code)
    assert.matches("^Bad +critical +would have fired", out)
    local _, err
    code, _, err = try "wrong.lua"
    assert.equal(2, code)
    assert.matches("wrong.lua: policy 1: unknown key 'signel', did you mean 'signal'?", err, 1, true)
    code, _, err = try("try.lua", "--from", "yesterday")
    assert.equal(2, code)
    assert.matches("--from takes seconds", err, 1, true)
    for body, want in pairs { [{ policy = "Baad" }] = { 404, "unknown_policy" }, [{ from = 0, to = -10 }] = { 400, "bad_range" }, [{ text = "return 1" }] = { 422, "bad_policy" },
      [{ steps = 3 }] = { 422, "invalid_fields" } } do
      local refused = send("POST", "alerts/test", body)
      assert.same(want, { refused.status, refused.json.code }, refused.body)
    end
    for from, want in pairs { [-1e9] = 200, [5] = 200, [-1e10] = 400 } do -- what is before all history is left out
      local long = send("POST", "alerts/test", { from = from })
      assert.equal(want, long.status, long.body)
      if want == 200 then assert.is_true(long.json.data.from > os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - 90000), long.json.data.from) end
    end
    local once = 'return { policies = { { name = "X", on = "route", value = function() while true do end end, above = 1, severity = "warning" } } }'
    for _, text in ipairs { "while true do end", once } do
      local endless = send("POST", "alerts/test", { text = text })
      assert.same({ 422, "bad_policy" }, { endless.status, endless.json.code }, endless.body)
      assert.matches("script.cpu_ms", endless.json.detail, 1, true)
    end
    assert.equal(200, send("POST", "alerts/test", {}).status)
    assert.equal(400, served:admin_get("~/alerts?state=on").status)
    assert.equal(400, served:admin_get("~/alerts?limit=0").status)
    local listed = get "alerts?limit=1"
    assert.same({ 1, true }, { #listed.alerts, listed.total >= 1 })
    assert.equal(400, served:admin_get("~/alerts?sev=critical").status)
    assert.equal(404, served:admin_get("~/alerts/none").status)
  end)
end)
