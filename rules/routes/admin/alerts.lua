-- Looks at the policies of rules/alerts/, tells receivers, and answers what fires.
--
-- GET alerts?state=&severity=&policy=&label.route=&limit= : what fires, is pending, or was resolved
-- GET alerts/:id
-- GET alerts/policies           : what is looked at, who is told, how many notifications wait
-- GET alerts/silences?active=true
-- POST alerts/silences          : { "matchers": { "alertname": "HighLatency", "route": "/api/*" }, "ttl": "2h", "author": "...", "comment": "..." }
-- DELETE alerts/silences/:id    : ends it now
-- POST alerts/test              : { "policy": "HighLatency" or absent, "text": a file's text, "from": -3600, "to": 0, "step": 60 }
local admin = require "perilune.admin"
local desks = require "perilune.alerts.desk"
local links = require "perilune.links"
local p = require "perilune"
local payload = require "perilune.alerts.payload"
local replay = require "perilune.alerts.replay"
local policies = require "perilune.alerts.policy"
local sender = require "perilune.alerts.sender"
local shape = require "perilune.alerts.shape"
require "perilune.alerts.slo" -- for files that are tested
local app = admin.app()

local LIMIT, LIMIT_MOST = 500, 5000
local TTL_MOST, SILENCES_MOST, STEPS, STEPS_MOST, TEXT_MOST = 366 * 86400, 1000, 720, 20000, 256 * 1024

local START_S = 10 -- how long a test waits for those before it
local INTERRUPTED = "its run was interrupted: it used more CPU time (script.cpu_ms) or memory (script.memory_bytes) than a script may"

local desk = desks.open()
desks.set(desk)

app:every(0.25, "looks at alert policies", function() desk:tick() end)
for _, endpoint in ipairs(desk.config.endpoints) do
  app:every(0.2, "notifies " .. endpoint.id, function() desk:deliver(endpoint) end)
end

-- The book, once this generation has taken it over.
local function book()
  desk:ready()
  return desk.book
end

local function time(seconds) return seconds and payload.time(seconds) or p.json.null end

-- ---- alerts ----

local function show(a)
  a.since, a.fired_at, a.ended_at = time(a.since), time(a.fired_at), time(a.ended_at)
  if a.value == nil then a.value = p.json.null end
  local with = a.ended_at == p.json.null and links.of("alerts", a) or {}
  a.issues, a.suggestions = with.issues or p.json.array(), with.suggestions or p.json.array()
  return a
end

local STATES = { "firing", "pending", "flapping", "resolved" }

local function fits(a, query)
  if query.state and a.state ~= query.state or query.severity and a.severity ~= query.severity or query.policy and a.policy ~= query.policy then return false end
  for name, value in pairs(query) do
    local label = name:match "^label%.(.*)$"
    if label and a.labels[label] ~= value then return false end
  end
  return true
end

app:get(admin.path "alerts", {
  summary = "What fires, is pending, or was resolved",
  query = admin.paged({ state = { type = "string", values = STATES, hint = "one of " .. table.concat(STATES, ", ") },
    severity = { type = "string", values = policies.severities, hint = "one of " .. table.concat(policies.severities, ", ") },
    policy = { type = "string", most = 200, hint = "the name of a policy" },
    ["label.*"] = { type = "string", most = 1000, hint = "the text of that label" } }, LIMIT, LIMIT_MOST),
  answers = { [200] = { alerts = { "Alert" }, total = "integer", counts = { firing = "integer", pending = "integer", flapping = "integer", resolved = "integer" } } },
  errors = { [400] = "bad_limit bad_cursor bad_state bad_severity unknown_parameter" },
}, function(req)
  local list, counts = {}, { firing = 0, pending = 0, flapping = 0, resolved = 0 }
  for _, a in ipairs(book():list(desks.now(), desks.pauses())) do
    counts[a.state] = counts[a.state] + 1
    if fits(a, req.asked) then list[#list + 1] = a end
  end
  local out, more, wrong = admin.page(req, list, function(a) return a.id end)
  if not out then return unpack(wrong) end
  for _, a in ipairs(out) do show(a) end
  return admin.envelope({ alerts = out, total = #list, counts = counts }, nil, more)
end)

app:get(admin.path "alerts/policies", {
  summary = "What is looked at, who is told, how many notifications wait",
  answers = { [200] = { policies = { "AlertPolicy" }, receivers = { "Receiver" }, inhibit = { "object" },
    cost = { looks = "integer", last_ms = "number", mean_ms = "number", interval_s = "number", alerts = "integer" } } },
}, function()
  local list, receivers = p.json.array(), p.json.array()
  for _, one in ipairs(desk.config.policies) do
    list[#list + 1] = { name = one.name, file = one.file, on = one.on, signal = one.signal or (one.value and "(a function)") or one.burn, unit = one.unit,
      [one.direction] = one.enter, exit = one.exit, for_s = one.for_s, keep_firing_for_s = one.keep_firing_s, min_events = one.min_events, no_data = one.no_data,
      severity = one.severity, labels = one.labels, annotations = one.annotations, match = one.match, failing = book().failing[one.id] }
  end
  local figures = book():figures()
  for i, endpoint in ipairs(desk.config.endpoints) do
    local n = figures.endpoints[i]
    receivers[i] = { receiver = endpoint.receiver, kind = endpoint.kind, where = sender.where(endpoint), sent = n.sent, failed = n.failed, lost = n.lost, waiting = n.waiting }
  end
  local cost = desk.cost or { looks = 0, last_ms = 0, sum_ms = 0 }
  return admin.envelope { policies = list, receivers = receivers, inhibit = p.json.array(desk.config.inhibit),
    cost = { looks = cost.looks, last_ms = cost.last_ms, mean_ms = cost.looks > 0 and cost.sum_ms / cost.looks or 0, interval_s = desk.settings.interval_s,
      alerts = book().count } }
end)

-- ---- silences ----

local function show_silence(s, now)
  return { id = s.id, matchers = s.matchers, author = s.author, comment = s.comment, created_at = time(s.created_at), starts_at = time(s.starts_at),
    ends_at = time(s.ends_at), state = now >= s.ends_at and "expired" or now < s.starts_at and "pending" or "active" }
end

app:get(admin.path "alerts/silences", {
  summary = "What is not told to anybody, and until when",
  query = { active = { type = "boolean", hint = "true or false" } },
  answers = { [200] = { silences = { "Silence" } } },
  errors = { [400] = "bad_active" },
}, function(req)
  local out, now, active = p.json.array(), desks.now(), req.asked.active
  for _, silence in ipairs(book().silences) do
    local shown = show_silence(silence, now)
    if active == nil or (shown.state == "active") == active then out[#out + 1] = shown end
  end
  return admin.envelope { silences = out }
end)

local function invalid(pointer, detail)
  return admin.problem(422, "invalid_fields", detail, nil, { errors = p.json.array { { pointer = pointer, detail = detail } } })
end

app:post(admin.path "alerts/silences", {
  summary = "Silences alerts for a while",
  body = {
    matchers = { type = "object", required = true, hint = "an object of texts by label, as in {\"alertname\": \"HighLatency\"}; '*' takes any text, '!' in front turns it round" },
    ttl = { type = "string", required = true, hint = "a duration like \"30m\", \"2h\" or \"1d\"" },
    author = { type = "string", required = true, pattern = "%S", hint = "a name: whom to ask" },
    comment = { type = "string", required = true, pattern = "%S", hint = "a text: why" },
  },
  answers = { [201] = "Silence" },
  errors = { [409] = "too_many_silences", [422] = "invalid_fields", [503] = "not_kept" },
}, function(req)
  local asked = req.input
  local ttl_s = shape.seconds(asked.ttl)
  if not ttl_s or ttl_s < 1 or ttl_s > TTL_MOST then return invalid("/ttl", "'ttl' is a duration like \"30m\", \"2h\" or \"1d\", 1 s to 366 d") end
  local ok, why = pcall(shape.check, "the body", { matchers = asked.matchers }, { matchers = "labels" })
  if not ok then return invalid("/matchers", why) end
  if next(asked.matchers) == nil then return invalid("/matchers", "'matchers' names at least one label: without one it would silence everything") end
  if #asked.author > 200 or #asked.comment > 2000 then return invalid("/comment", "'author' is of at most 200 bytes, 'comment' of 2000") end
  local now, active = desks.now(), 0
  for _, one in ipairs(book().silences) do active = active + (one.ends_at > now and 1 or 0) end
  if active >= SILENCES_MOST then return admin.problem(409, "too_many_silences", ("there are %d silences; end some first"):format(active)) end
  local silence = book():silence({ matchers = asked.matchers, ttl_s = ttl_s, author = asked.author, comment = asked.comment }, now)
  desk:save()
  if desk.trouble then
    book():unsilence(silence, now)
    return admin.problem(503, "not_kept", "nothing was silenced: " .. desk.trouble)
  end
  return 201, p.json.encode(admin.envelope(show_silence(silence, now))), { ["Content-Type"] = "application/json", Location = admin.path "alerts/silences/" .. silence.id }
end)

app:delete(admin.path "alerts/silences/:id", {
  summary = "Ends a silence now",
  answers = { [200] = "Silence" },
  errors = { [404] = "unknown_silence" },
}, function(req)
  local silence = book():find_silence(req.params.id)
  if not silence then return admin.problem(404, "unknown_silence", "there is no silence of this id; see GET alerts/silences") end
  book():unsilence(silence, desks.now())
  desk:save()
  return admin.envelope(show_silence(silence, desks.now()))
end)

app:get(admin.path "alerts/:id", {
  summary = "One alert",
  answers = { [200] = "Alert" },
  errors = { [404] = "unknown_alert" },
}, function(req)
  for _, a in ipairs(book():list(desks.now(), desks.pauses())) do
    if a.id == req.params.id then return admin.envelope(show(a)) end
  end
  return admin.problem(404, "unknown_alert", "there is no alert of this id; see GET alerts")
end)

-- ---- test ----

-- The routes of the history that a policy is about: { name, route, method, index }.
local function routes_for(policy, things)
  local out = {}
  for _, thing in ipairs(things) do
    if thing.kind == "route" then
      local fits_slo = policy.slo and (policies.glob(policy.slo.route, thing.route) or policies.glob(policy.slo.route, thing.name))
      local fits_match = not policy.slo and policies.matches(policy.match or {}, { route = thing.route, method = thing.method })
      if fits_slo or fits_match then out[#out + 1] = thing end
    end
  end
  return out
end

local function history(span, index, slow_ms)
  return replay.steps(admin.watch.series(index, span.from * 1000, span.to * 1000, span.step, slow_ms), span.from, span.to, span.step, p.json.null)
end

-- How a policy would have done, for each thing that it is about.
local function try(policy, span, things)
  local out = { policy = policy.name, severity = policy.severity, file = policy.file, fired = 0, flaps = 0, firing_s = 0, things = p.json.array() }
  local function add(name, steps, reader)
    local r = replay.run(policy, steps, reader, span.step, desk.settings.flap)
    out.fired, out.flaps, out.firing_s = out.fired + r.fired, out.flaps + r.flaps, out.firing_s + r.firing_s
    for _, one in ipairs(r.spans) do one.from, one.to = time(one.from), time(one.to) end
    out.things[#out.things + 1] = { thing = name, fired = r.fired, flaps = r.flaps, pending = r.pending, firing_s = r.firing_s, spans = p.json.array(r.spans) }
    p.sleep(0) -- others' turn
  end
  local lacks = replay.lacks(policy, span.columns, desk.config.units[policy.on])
  if lacks then
    out.not_replayed = lacks
  elseif policy.on == "host" then
    add("host", history(span), replay.reader(policy))
  elseif policy.on == "slo" then
    local lists = {}
    for i, thing in ipairs(routes_for(policy, things)) do lists[i] = history(span, thing.index, policy.latency_ms) end
    add(policy.labels.slo .. " " .. policy.labels.sli, replay.sum(lists), replay.burn_reader(policy))
  else
    for _, thing in ipairs(routes_for(policy, things)) do add(thing.name, history(span, thing.index), replay.reader(policy)) end
  end
  out.text = lacks and "not replayed: " .. lacks or replay.words(out)
  return out
end

-- The policies to test; or nil and the answer.
local function chosen(asked)
  local list = desk.config.policies
  if asked.text then
    if #asked.text > TEXT_MOST then return nil, { invalid("/text", "'text' is of at most 256 KiB") } end
    local ok, got = pcall(policies.compile_text, asked.text, asked.name or "policy.lua")
    if not ok then return nil, { admin.problem(422, "bad_policy", tostring(got)) } end
    list = got.policies
  end
  if not asked.policy then return list end
  local out, names = {}, {}
  for _, one in ipairs(list) do
    names[#names + 1] = one.name
    if one.name == asked.policy then out[#out + 1] = one end
  end
  if #out == 0 then
    return nil, { admin.problem(404, "unknown_policy", ("there is no policy '%s'%s; see GET alerts/policies"):format(asked.policy, shape.hint(asked.policy, names))) }
  end
  return out
end

-- When the history begins, s: an hour ago where it is shorter.
local function oldest(now)
  local days = admin.watch.series(nil, 0, now * 1000, 86400).at_ms
  return math.min(now - 3600, days[1] and math.floor(days[1] / 1000) or now)
end

-- From when to when, in which steps; or nil and the answer.
local function span_of(asked)
  local now = math.floor(desks.now())
  local from, to = asked.from or -3600, asked.to or 0
  from, to = from <= 0 and now + from or from, to <= 0 and now + to or to
  if from >= 0 and from < to then from = math.min(math.max(from, oldest(now)), math.max(from, to - 1)) end -- before that there is nothing
  if not (from >= 0 and from < to and to <= now + 86400) then
    return nil, { admin.problem(400, "bad_range", "from and to are unix seconds, or seconds before now as in from=-3600, the earlier first") }
  end
  local step = asked.step or admin.default_step(to - from, STEPS, desk.settings.window_s)
  if (to - from) / step > STEPS_MOST then
    return nil, { admin.problem(400, "too_many_steps", ("that are more than %d steps: ask for a shorter time or a longer step"):format(STEPS_MOST)) }
  end
  return { from = from, to = to, step = step }
end

-- What a test answers.
local function test(asked)
  local list, wrong = chosen(asked)
  if not list then return unpack(wrong) end
  local span, bad = span_of(asked)
  if not span then return unpack(bad) end
  span.columns = admin.watch.series(nil, span.to * 1000, span.to * 1000, span.step)
  local things, total = admin.watch.things(), { fired = 0, flaps = 0 }
  local results = p.json.array()
  for i, policy in ipairs(list) do
    results[i] = try(policy, span, things)
    p.sleep(0) -- the limit of CPU time is for one of them
    total.fired, total.flaps = total.fired + results[i].fired, total.flaps + results[i].flaps
  end
  return admin.envelope { from = time(span.from), to = time(span.to), step_s = span.step, fired = total.fired, flaps = total.flaps, text = replay.words(total),
    policies = results }
end

-- What a file's text does is done in a run of its own, for one that is interrupted takes all of its run with it.
local waiting = {}
local working

app:every(0.1, "tests alert policies", function()
  if working then working.interrupted, working = true, nil end -- the run before this one has not come to its end
  while waiting[1] do
    working = table.remove(waiting, 1)
    working.began = true
    working.results = { pcall(working.fn) }
    working = nil
    p.sleep(0) -- each has the limit of CPU time for itself
  end
end)

-- fn(), where it may be interrupted: its results as pcall has them; or false and why.
local function apart(fn)
  local job, until_s = { fn = fn }, p.now() + START_S
  waiting[#waiting + 1] = job
  while not job.results and not job.interrupted do
    p.sleep(0.01)
    if not job.began and p.now() > until_s then
      for i, one in ipairs(waiting) do
        if one == job then table.remove(waiting, i) end
      end
      return nil
    end
  end
  if job.interrupted then return false, INTERRUPTED end
  return unpack(job.results, 1, 4)
end

app:post(admin.path "alerts/test", {
  summary = "How often policies would have fired, by the history",
  body = {
    policy = { type = "string", hint = "the name of a policy" }, text = { type = "string", hint = "the text of a file like those of rules/alerts/" },
    name = { type = "string", pattern = "^[%w%._%-/]+$", hint = "what that file is called, for messages" },
    from = { type = "number", hint = "unix seconds, or seconds before now, as -3600" }, to = { type = "number", hint = "unix seconds, or seconds before now" },
    step = { type = "integer", min = 1, max = 86400, hint = "a whole number of seconds, 1 to 86400" },
  },
  body_optional = true,
  answers = { [200] = { from = "time|null", to = "time|null", step_s = "integer", fired = "integer", flaps = "integer", text = "string", policies = { "PolicyTest" } } },
  errors = { [400] = "bad_range too_many_steps", [404] = "unknown_policy", [422] = "invalid_fields bad_policy", [429] = "not_tested" },
}, function(req)
  local asked = req.input
  book()
  if not asked.text then return test(asked) end
  local done, first, second, third = apart(function() return test(asked) end)
  if done == nil then return admin.problem(429, "not_tested", "others are tested; ask again", { ["Retry-After"] = "5" }) end
  if not done and first == INTERRUPTED then return admin.problem(422, "bad_policy", first) end
  if not done then error(first, 0) end
  return first, second, third
end)

return app
