-- What to change, what that would gain, and what became of it.
--
-- GET  suggestions?state=&class=&priority=&route=&order=rank|roi|newest&limit=&cursor=
-- GET  suggestions/:id            GET suggestions/analytics      GET suggestions/facts (what rules see now; a fixture for tests)
-- POST suggestions/:id/apply      { "pool_size_increase": 10 } or { "pool.main.max": 30 } overrides what it would set, within bounds
-- POST suggestions/:id/approve    the same without overrides     POST suggestions/:id/dry-run   what would happen, and what is in the way
-- POST suggestions/:id/rollback   takes a trial, or what it has kept, back
-- POST suggestions/:id/dismiss { reason, seconds }    /snooze { seconds }    /done { by }
--
-- This file also keeps the loop going: it asks the rules and goes on with trials (rules/routes/admin/trials.lua).
--
-- With If-Match a suggestion is only touched while its etag is still that.
local admin = require "perilune.admin"
local links = require "perilune.links"
local p = require "perilune"
local rules = require "perilune.suggestions.rules"
local tuning = require "perilune.tuning"
local app = admin.app()

local LIMIT, LIMIT_MOST = 50, 500
local SNOOZE_S = 86400

local known, policy = rules.read(), tuning.policy(require "policies.tuning") -- a reload is refused here
local t = admin.trials and tuning.new(known, policy, p.log.warn)

-- For others to know what is suggested.
local function tell()
  local list = {}
  for _, sug in ipairs(t.book:ranked()) do list[#list + 1] = { id = sug.id, issue = sug.issue } end
  links.tell("suggestions", list)
end

local function looked()
  t:look()
  tell()
end
app:every(2, "asks the rules for suggestions", looked)
app:every(0.25, "goes on with trials", function() t:tick() end)

-- ---- what is shown ----

local IF_MATCH = { ["If-Match"] = "the etag of what was read: refused (412) when it has changed since" }

local function time(ms) return ms and os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(ms / 1000)) or p.json.null end

local HIDDEN = { key = true, seen_ms = true, raised_ms = true, changed_ms = true, ended_ms = true, until_ms = true }

local function show(sug)
  local out = {}
  for name, value in pairs(sug) do
    if not HIDDEN[name] then out[name] = value end
  end
  out.raised_at, out.changed_at, out.ended_at = time(sug.raised_ms), time(sug.changed_ms), time(sug.ended_ms)
  out.etag = ('"%d"'):format(sug.etag)
  out.alerts = sug.ended_ms and p.json.array() or links.of("suggestions", sug).alerts
  local one = sug.trial and t.desk:find(sug.trial)
  if one and sug.state == "RUNNING" then out.phase, out.progress = one.phase, one:progress() end
  return out
end

local function answer(status, data, more)
  local headers = { ["Content-Type"] = "application/json" }
  for name, value in pairs(more or {}) do headers[name] = value end
  return status, p.json.encode(admin.envelope(data)), headers
end

local function shown(sug, status) return answer(status or 200, show(sug), { ETag = ('"%d"'):format(sug.etag) }) end

-- The suggestion that a request is about; or nil and the answer.
local function asked_for(req)
  local sug = t.book:find(req.params.id)
  if not sug then return nil, { admin.problem(404, "unknown_suggestion", "there is no suggestion of this id; see GET suggestions") } end
  if not admin.if_match(req, ('"%d"'):format(sug.etag)) then
    return nil, { admin.problem(412, "changed", "this suggestion has changed; read it again and decide") }
  end
  return sug
end

-- NOT_ENOUGH_DATA and OPTIMIZED are answers, too; NOT_LOOKING is none.
local function verdict(list)
  if t:trouble() then return "NOT_LOOKING" end
  local things = admin.watch.things()
  local learning = #things < 2 or not admin.keep.get "analyzer"
  for _, thing in ipairs(things) do learning = learning or not thing.knows end -- as GET issues has it
  for _, sug in ipairs(list) do
    if sug.state ~= "SNOOZED" then return "SUGGESTIONS" end
  end
  return learning and "NOT_ENOUGH_DATA" or "OPTIMIZED"
end

local orders = {
  rank = false,
  roi = function(a, b) return a.roi > b.roi or (a.roi == b.roi and a.id < b.id) end,
  newest = function(a, b) return a.raised_ms > b.raised_ms or (a.raised_ms == b.raised_ms and a.id > b.id) end,
}

local STATES = { "open", "all", "OPEN", "BLOCKED", "SNOOZED", "QUEUED", "RUNNING", "ACKNOWLEDGED", "SUCCEEDED", "FAILED",
  "DONE", "DISMISSED", "EXPIRED", "SUPERSEDED" }
local PRIORITIES = { "P1", "P2", "P3", "P4" }

local function one_of(values) return { type = "string", values = values, hint = "one of " .. table.concat(values, ", ") } end

local function touches(sug, route)
  for _, name in ipairs(sug.routes or {}) do
    if name == route or name:match "^%S+ (.*)$" == route then return true end
  end
  return sug.target == route
end

app:get(admin.path "suggestions", {
  summary = "What to change, what that would gain, and what became of it",
  query = admin.paged({ state = one_of(STATES), class = one_of(rules.classes), priority = one_of(PRIORITIES), route = { type = "string", hint = "a route as GET signals names it" },
    order = { type = "string", values = { "rank", "roi", "newest" }, hint = "rank, roi or newest" } }, LIMIT, LIMIT_MOST),
  answers = { [200] = { answer = "=SUGGESTIONS|NOT_ENOUGH_DATA|OPTIMIZED|NOT_LOOKING", trouble = "string|null", suggestions = { "Suggestion" }, total = "integer", next_cursor = "string|null", frozen = "object|null",
    quarantined = "object|null" } },
  errors = { [400] = "bad_limit bad_cursor bad_order bad_state bad_class bad_priority" },
}, function(req)
  local q, open, all = req.asked, t.book:ranked(), {}
  for _, sug in ipairs(open) do all[#all + 1] = sug end
  for _, sug in ipairs(t.book.ended) do all[#all + 1] = sug end
  local list = {}
  for _, sug in ipairs(all) do
    local is_open = sug.ended_ms == nil
    local state_fits = q.state == nil and is_open or q.state == "all" or q.state == sug.state or q.state == "open" and is_open
    if state_fits and (not q.class or q.class == sug.class) and (not q.priority or q.priority == sug.priority) and (not q.route or touches(sug, q.route)) then
      list[#list + 1] = sug
    end
  end
  if orders[q.order] then table.sort(list, orders[q.order]) end
  local out, more, wrong = admin.page(req, list, function(sug) return sug.id end)
  if not out then return unpack(wrong) end
  for i, sug in ipairs(out) do out[i] = show(sug) end
  return admin.envelope({ answer = verdict(open), trouble = t:trouble() or p.json.null, suggestions = out, total = #list, next_cursor = more or p.json.null,
    frozen = t.desk.frozen or p.json.null, quarantined = next(t.book.quarantined) and t.book.quarantined or p.json.null }, nil, more)
end)

app:get(admin.path "suggestions/facts", {
  summary = "What rules of suggestions see now: a fixture for their tests",
  answers = { [200] = "object" },
}, function() return answer(200, t:snapshot()) end)

local function sum(counts, rules, by)
  local out = {}
  for id, known in pairs(counts) do
    local key = by == "rule" and id or rules[id] and rules[id].class or "gone"
    local to = out[key] or { raised = 0, expired = 0, verified = 0, no_effect = 0, inconclusive = 0, rolled_back = 0, superseded = 0, aborted = 0,
      dismissed = 0, predicted_within_2x = 0, predicted_worse = 0 }
    for name, n in pairs(known) do to[name] = (to[name] or 0) + n end
    out[key] = to
  end
  return out
end

app:get(admin.path "suggestions/analytics", {
  summary = "How suggestions did, by rule and class, and how well their gains were predicted",
  answers = { [200] = "Analytics" },
}, function()
  local b = t.book
  local took, n, errors = 0, 0, {}
  for _, sug in ipairs(b.ended) do
    if sug.state == "SUCCEEDED" then
      took, n = took + (sug.took_ms or 0), n + 1
      if sug.prediction_error then errors[#errors + 1] = math.abs(sug.prediction_error) end
    end
  end
  table.sort(errors)
  local calibration = {}
  for id, known in pairs(b.calibration) do
    calibration[id] = { trials = known.ended, verified = known.verified, factor = math.exp(known.log_ratio), spread = known.spread }
  end
  return answer(200, { by_rule = sum(b.counts, b.by_id, "rule"), by_class = sum(b.counts, b.by_id, "class"), calibration = calibration,
    rules = #b.rules, looks = b.looks, look_ms = t.look_ms or 0, trials = #t.desk.ended + #t.desk.running,
    median_prediction_factor = #errors > 0 and math.exp(errors[math.floor((#errors + 1) / 2)]) or p.json.null,
    mean_time_to_verified_s = n > 0 and took / n / 1000 or p.json.null, saved = { user_seconds = b.saved_s, cpu_seconds = b.saved_cpu_s } })
end)

app:get(admin.path "suggestions/:id", {
  summary = "One suggestion",
  headers = IF_MATCH,
  answers = { [200] = "Suggestion" },
  errors = { [404] = "unknown_suggestion", [412] = "changed" },
}, function(req)
  local sug, refused = asked_for(req)
  if not sug then return unpack(refused) end
  return shown(sug)
end)

-- ---- what is done ----

-- The changes with what a body says instead. Returns them; or nil and the answer.
local function with_overrides(sug, given)
  local errors, wanted = p.json.array(), {}
  for _, one in ipairs(sug.operations) do wanted[one.name] = one.to end
  local single = #sug.operations == 1 and sug.operations[1]
  local names = {}
  for name in pairs(given) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = given[name]
    local function wrong(detail) errors[#errors + 1] = { pointer = "/" .. name:gsub("~", "~0"):gsub("/", "~1"), detail = detail } end
    if wanted[name] ~= nil then
      if type(value) ~= type(wanted[name]) then wrong(("'%s' is a %s"):format(name, type(wanted[name]))) else wanted[name] = value end
    elseif name:find "increase$" and single and type(single.from) == "number" then
      if type(value) ~= "number" or value ~= value or value == 0 then wrong(("'%s' is a number: what is added to %s"):format(name, single.name))
      else wanted[single.name] = single.from + value end
    elseif name == "value" and single then
      if type(value) ~= type(single.to) then wrong(("'value' is a %s"):format(type(single.to))) else wanted[single.name] = value end
    else
      local known = {}
      for key in pairs(wanted) do known[#known + 1] = key end
      table.sort(known)
      wrong(("this suggestion does not set '%s'; it sets %s"):format(name, table.concat(known, ", ")))
    end
  end
  for name, value in pairs(wanted) do
    local now = t.env.read(name)
    if now and type(value) == "number" and now.min and (value < now.min or value > now.max or (now.type == "integer" and value ~= math.floor(value))) then
      errors[#errors + 1] = { pointer = "/" .. name, detail = ("'%s' is %s from %s to %s"):format(name, now.type == "integer" and "a whole number" or "a number", now.min, now.max) }
    end
  end
  if #errors > 0 then return nil, { admin.problem(422, "invalid_fields", errors[1].detail, nil, { errors = errors }) } end
  local list, why = t.book:changes(wanted, true)
  if not list then return nil, { admin.problem(409, "nothing_to_do", why) } end
  return list
end

local function queue(req)
  local sug, refused = asked_for(req)
  if not sug then return unpack(refused) end
  if not sug.operations then
    return admin.problem(409, "advice", "this is advice for a person; when it is done, POST suggestions/" .. sug.id .. "/done")
  end
  if sug.state ~= "OPEN" and sug.state ~= "SNOOZED" and sug.state ~= "BLOCKED" then
    return admin.problem(409, "not_open", ("it is %s"):format(sug.state))
  end
  if sug.state == "BLOCKED" then
    return admin.problem(409, "blocked", ("it waits for %s"):format(#sug.blocked_by > 0 and table.concat(sug.blocked_by, ", ") or "the cause that " .. tostring(sug.inhibited_by) .. " found"))
  end
  local changes, bad = with_overrides(sug, req.input)
  if not changes then return unpack(bad) end
  sug.asked = changes
  local done, why = t.book:move(sug, "QUEUED", "operator", "applied", admin.trials.now_ms())
  if not done then return admin.problem(503, "not_journaled", why) end
  t:begin()
  t:persist()
  return shown(sug, 202)
end

app:post(admin.path "suggestions/:id/apply", {
  summary = "Puts a suggestion on trial; the body may set something else, within bounds",
  headers = IF_MATCH, body = { ["*"] = true }, body_optional = true,
  answers = { [202] = "Suggestion" },
  errors = { [404] = "unknown_suggestion", [412] = "changed", [409] = "advice not_open blocked nothing_to_do", [422] = "invalid_fields", [503] = "not_journaled" },
}, queue)
app:post(admin.path "suggestions/:id/approve", {
  summary = "Puts a suggestion on trial",
  headers = IF_MATCH, body = { ["*"] = true }, body_optional = true,
  answers = { [202] = "Suggestion" },
  errors = { [404] = "unknown_suggestion", [412] = "changed", [409] = "advice not_open blocked nothing_to_do", [422] = "invalid_fields", [503] = "not_journaled" },
}, queue)

app:post(admin.path "suggestions/:id/dry-run", {
  summary = "What applying it would do, and what is in the way",
  headers = IF_MATCH, body = { ["*"] = true }, body_optional = true,
  answers = { [200] = { changes = { { name = "string", from = "boolean|number", to = "boolean|number" } }, advice = "string?", would_begin = "boolean?", in_the_way = "string|null?" } },
  errors = { [404] = "unknown_suggestion", [412] = "changed", [409] = "nothing_to_do", [422] = "invalid_fields" },
}, function(req)
  local sug, refused = asked_for(req)
  if not sug then return unpack(refused) end
  if not sug.operations then return answer(200, { advice = sug.advice, changes = p.json.array() }) end
  local changes, bad = with_overrides(sug, req.input)
  if not changes then return unpack(bad) end
  local why = t.desk:refuses({ rule = sug.rule, target = sug.target, group = sug.coupling_group, changes = changes, by = "operator" }, admin.trials.now_ms(), t.env)
  return answer(200, { changes = changes, would_begin = why == nil and sug.state == "OPEN", in_the_way = why or sug.state ~= "OPEN" and "it is " .. sug.state or p.json.null,
    impact = sug.impact, verify = sug.verify })
end)

app:post(admin.path "suggestions/:id/rollback", {
  summary = "Takes a trial, or what it has kept, back",
  headers = IF_MATCH,
  answers = { [200] = "Suggestion" },
  errors = { [404] = "unknown_suggestion", [412] = "changed", [409] = "nothing_kept superseded", [503] = "not_kept" },
}, function(req)
  local sug, refused = asked_for(req)
  if not sug then return unpack(refused) end
  local at = admin.trials.now_ms()
  if sug.state == "RUNNING" then
    t.desk:stop(sug.trial, "ABORTED", "taken back by an operator", at, t.env)
    t:tick()
    return shown(sug)
  end
  if sug.state == "QUEUED" then
    t.book:move(sug, "OPEN", "operator", "taken back before its trial began", at)
    return shown(sug)
  end
  if sug.state ~= "SUCCEEDED" or sug.taken_back then return admin.problem(409, "nothing_kept", "nothing of it is in force") end
  local one, back = t.desk:find(sug.trial), {}
  for _, change in ipairs(one and one.changes or sug.operations) do
    local now = t.env.read(change.name)
    if not now or now.stable ~= change.to then
      return admin.problem(409, "superseded", ("'%s' was changed again since; change it by PATCH config"):format(change.name))
    end
    back[#back + 1] = { name = change.name, from = change.to, to = change.from }
  end
  local kept, why = t.env.keep { changes = back, id = "api", title = "takes back " .. sug.id }
  if not kept then return admin.problem(503, "not_kept", why) end
  sug.taken_back = true
  t.book:move(sug, "SUCCEEDED", "operator", "taken back", at)
  t:persist()
  return shown(sug)
end)

local function closer(state, apply)
  return function(req)
    local sug, refused = asked_for(req)
    if not sug then return unpack(refused) end
    local asked = req.input
    if sug.ended_ms or sug.state == "RUNNING" or sug.state == "QUEUED" then return admin.problem(409, "not_open", ("it is %s"):format(sug.state)) end
    local why, problem = apply(sug, asked)
    if problem then return unpack(problem) end
    local done, trouble = t.book:move(sug, state, "operator", why, admin.trials.now_ms())
    if not done then return admin.problem(503, "not_journaled", trouble) end
    if state == "DISMISSED" then t.book:count(sug.rule, "dismissed") end
    t:persist()
    return shown(sug)
  end
end

local seconds = { type = "integer", min = 1, max = 31536000, hint = "a whole number of seconds, up to a year" }

local CLOSED = { [404] = "unknown_suggestion", [412] = "changed", [409] = "not_open not_advice", [422] = "invalid_fields", [503] = "not_journaled" }

app:post(admin.path "suggestions/:id/dismiss", {
  summary = "Says no to a suggestion, for a while or for good",
  headers = IF_MATCH, body = { reason = { type = "string", required = true, hint = "a text: why" }, seconds = seconds }, body_optional = true,
  answers = { [200] = "Suggestion" }, errors = CLOSED,
}, closer("DISMISSED", function(sug, asked)
  sug.until_ms = asked.seconds and admin.trials.now_ms() + asked.seconds * 1000 or nil
  return asked.reason
end))

app:post(admin.path "suggestions/:id/snooze", {
  summary = "Asks again later",
  headers = IF_MATCH, body = { seconds = seconds, reason = { type = "string", hint = "a text: why" } }, body_optional = true,
  answers = { [200] = "Suggestion" }, errors = CLOSED,
}, closer("SNOOZED", function(sug, asked)
  sug.until_ms = admin.trials.now_ms() + (asked.seconds or SNOOZE_S) * 1000
  return asked.reason or "snoozed"
end))

app:post(admin.path "suggestions/:id/done", {
  summary = "Says that advice was followed",
  headers = IF_MATCH, body = { by = { type = "string", hint = "a name" }, note = { type = "string", hint = "a text" } }, body_optional = true,
  answers = { [200] = "Suggestion" }, errors = CLOSED,
}, closer("DONE", function(sug, asked)
  if not sug.advice then return nil, { admin.problem(409, "not_advice", "the engine does this one: POST suggestions/" .. sug.id .. "/apply") } end
  return asked.note or asked.by and "done by " .. asked.by or "done"
end))

return app
