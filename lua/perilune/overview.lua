--- The service at a glance: what the first view of the dashboard needs, as one document, and the small one of each second.
--
--     overview.document(window_s)   findings, tiles, routes, resources, suggestions, trials, alerts, generation
--     overview.tick()               the figures of it that move: findings, tiles, the second's traffic, routes
--     overview.changes(seen)        what was opened, moved on or ended since `seen`, as events
--
-- Nothing is measured here: issues, suggestions, trials, alerts and health are asked from whoever keeps them.
-- SPDX-License-Identifier: MIT

local core, require = ...

local admin = require "perilune.admin"
local alerts = require "perilune.alerts.desk"
local health = require "perilune.health"
local tuning = require "perilune.tuning"

local M = {}

local ROUTES, FINDINGS, SUGGESTIONS, TRIALS, ALERTS, RECORDS = 50, 12, 20, 10, 50, 20
local TICK_WINDOW_S = 10
local CLOSED_ISSUES = 10
local ERRORS_AMBER, ERRORS_RED = 0.01, 0.05
local CPU_AMBER, CPU_RED, MEMORY_AMBER, MEMORY_RED = 0.85, 0.97, 0.85, 0.95
local LEVEL = { red = 1, amber = 2, green = 3 }

local array, null = core.json.array, core.json.null

local function or_null(value)
  if value == nil then return null end
  return value
end

local function time(ms) return ms and os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(ms / 1000)) or null end

-- ---- what others keep ----

local known = { text = false, issues = { open = {}, closed = {}, markers = {} } }

-- The book of issues as its file keeps it for its successor.
local function book()
  local text = admin.keep.get "analyzer"
  if text and text ~= known.text then known.text, known.issues = text, core.json.decode(text) end
  return known.issues
end

local SEVERITY = { critical = 1, high = 2, medium = 3, low = 4 }

local function open_issues()
  local list = array()
  for _, issue in pairs(book().open or {}) do list[#list + 1] = issue end
  table.sort(list, function(a, b)
    local x, y = SEVERITY[a.severity] or 5, SEVERITY[b.severity] or 5
    if x ~= y then return x < y end
    return a.id < b.id
  end)
  return list
end

local function show_issue(issue)
  return { id = issue.id, type = issue.type, code = issue.code, severity = issue.severity, state = issue.state, title = issue.title, cause = issue.cause_text,
    target = issue.target, affected = issue.affected, after = issue.after, since = time(issue.since_ms), since_ms = issue.since_ms, closed_ms = issue.closed_ms }
end

local function show_suggestion(sug)
  return { id = sug.id, title = sug.title, explanation = sug.explanation, rule = sug.rule, class = sug.class, target = sug.target, priority = sug.priority,
    state = sug.state, rank = sug.rank, roi = sug.roi, confidence = sug.confidence, difficulty = sug.difficulty, risk = sug.risk, impact = sug.impact,
    operations = sug.operations, advice = sug.advice, routes = sug.routes, evidence = sug.evidence, blocked_by = sug.blocked_by, waits_for = sug.waits_for,
    issue = sug.issue, trial = sug.trial, apply_mode = sug.apply_mode, measured = sug.measured, taken_back = sug.taken_back,
    verdict = sug.verdict and { phase = sug.verdict.phase, why = sug.verdict.why }, etag = ('"%d"'):format(sug.etag), raised_at = time(sug.raised_ms),
    changed_at = time(sug.changed_ms), ended_at = time(sug.ended_ms) }
end

local function show_trial(one)
  local e = one.experiment
  return { id = one.id, suggestion = one.suggestion, title = one.title, by = one.by, changes = one.changes, metric = one.metric, direction = one.direction,
    mde = one.mde, phase = one.phase, why = one.why, on = one.on, progress = one:progress(), reference = one.reference and { value = one.reference.value },
    canary = one.canary, confirm = one.confirm, intervals = e and e.intervals or array(), design = one.design, workers = one.who,
    started_at = time(one.started_ms), ended_at = time(one.ended_ms) }
end

local function suggestions_and_trials()
  local t = tuning.current()
  local open, ended, trials = array(), array(), array()
  if not t then return open, ended, trials end
  for i, sug in ipairs(t.book:ranked()) do
    if i <= SUGGESTIONS then open[i] = show_suggestion(sug) end
  end
  for i = 1, math.min(SUGGESTIONS, #t.book.ended) do ended[i] = show_suggestion(t.book.ended[i]) end
  for _, list in ipairs { t.desk.running, t.desk.ended } do
    for _, one in ipairs(list) do
      if #trials < TRIALS then trials[#trials + 1] = show_trial(one) end
    end
  end
  return open, ended, trials, t.desk.frozen
end

local function show_alerts()
  local out, counts = array(), { firing = 0, pending = 0, flapping = 0, resolved = 0 }
  for _, a in ipairs(alerts.list() or {}) do
    counts[a.state] = (counts[a.state] or 0) + 1
    if #out < ALERTS then
      out[#out + 1] = { id = a.id, state = a.state, name = a.labels.alertname, severity = a.severity, labels = a.labels, value = a.value, unit = a.unit,
        summary = a.annotations and a.annotations.summary, silenced_by = a.silenced_by, inhibited_by = a.inhibited_by, since = time(a.since and a.since * 1000),
        ended_at = time(a.ended_at and a.ended_at * 1000) }
    end
  end
  return { counts = counts, list = out }
end

-- ---- findings: a sentence each ----

local function add(list, level, text, link, of) list[#list + 1] = { level = level, text = text, link = link, of = of } end

local function of_issues(list)
  for _, issue in ipairs(open_issues()) do
    local red = issue.severity == "critical" or issue.severity == "high"
    add(list, red and "red" or "amber", ("%s: %s."):format(issue.title or issue.code, issue.cause_text or ""), "#" .. issue.id, "issue")
  end
end

local function of_alerts(list, firing)
  for _, a in ipairs(firing.list) do
    if a.state == "firing" and not a.silenced_by and not a.inhibited_by and not a.labels.issue then
      add(list, a.severity == "critical" and "red" or "amber", ("Alert %s: %s."):format(a.name or "", a.summary or "it fires"), "#alert-" .. a.id, "alert")
    end
  end
end

local function of_generation(list, records)
  local newest = records[1]
  if newest and newest.result == "refused" then
    local problem = newest.problems[1]
    add(list, "amber", ("The newest files are not in force, generation %d keeps serving: %s."):format(admin.stats.generation().active,
      problem and ("%s:%d: %s"):format(problem.file, problem.line, problem.message) or "they were refused"), "#generations", "reload")
  end
  local total, _, alive = admin.control.workers()
  if alive < total then add(list, alive == 0 and "red" or "amber", ("%d of %d workers answer."):format(alive, total), "#resources", "worker") end
  if admin.control.draining() then add(list, "amber", "The engine is draining: it ends when requests in flight have been answered.", "#resources", "worker") end
end

local function of_tuning(list, open, trials)
  local t = tuning.current()
  local trouble = t and t:trouble()
  if trouble then add(list, "red", ("Nothing is suggested, the rules cannot be asked: %s."):format(trouble), "#suggestions", "suggestion") end
  for _, one in ipairs(trials) do
    if one.ended_at == null then
      local change = one.changes[1]
      add(list, "green", ("%s is on trial (%s, %d %%): %s %s instead of %s."):format(one.title or one.id, one.phase:lower(), one.progress * 100, change.name,
        tostring(change.to), tostring(change.from)), "#" .. one.id, "trial")
    end
  end
  for _, sug in ipairs(open) do
    if sug.state == "OPEN" then
      local impact, gain = sug.impact, ""
      if impact and impact.change then
        local metric, is_ms = impact.metric:gsub("_ms$", "")
        gain = (": the %s would go from %.1f to %.1f%s"):format((metric:gsub("_", " ")), impact.now, impact.predicted, is_ms > 0 and " ms" or "")
      end
      add(list, "amber", ("Suggested: %s%s."):format(sug.title, gain), "#" .. sug.id, "suggestion")
    end
  end
end

-- How far what is usual is known; nil before there is anything.
local function learning()
  local things, ready, least, needed = 0, 0, math.huge, 0
  for _, thing in ipairs(admin.watch.things()) do
    things, needed = things + 1, thing.needed
    if thing.knows then ready = ready + 1 else least = math.min(least, thing.learnt) end
  end
  return { things = things, ready = ready, least = least == math.huge and needed or least, needed = needed, done = things > 1 and ready == things }
end

local function findings(requests, parts)
  local list = array()
  of_generation(list, parts.records)
  of_issues(list)
  of_alerts(list, parts.alerts)
  for _, one in ipairs(parts.resources.findings) do
    local text = one.message:sub(1, 1):upper() .. one.message:sub(2) .. "."
    add(list, one.severity == "critical" and "red" or "amber", text, "#resources", "resource")
  end
  of_tuning(list, parts.suggestions, parts.trials)
  if requests == 0 then add(list, "amber", "No request has come yet.", "#traffic", "traffic") end
  if #list == 0 or list[1].of == "trial" then
    local l = parts.learning
    add(list, "green", l.done and "Nothing is wrong: no issue is open, and what is usual is known for all that is watched."
      or ("No issue is open. Still learning what is usual: %d of %d things are known, the newest has %d of %d samples."):format(l.ready, l.things, l.least, l.needed),
      "#traffic", "learning")
  end
  for i, one in ipairs(list) do one.order = i end
  table.sort(list, function(a, b)
    if a.level ~= b.level then return LEVEL[a.level] < LEVEL[b.level] end
    return a.order < b.order
  end)
  local more = #list - FINDINGS
  for i = #list, FINDINGS + 1, -1 do list[i] = nil end
  for _, one in ipairs(list) do one.order = nil end
  if more > 0 then add(list, "amber", ("And %d more."):format(more), "#suggestions", "more") end
  return list
end

-- ---- figures ----

local function tile(name, label, value, unit, detail, level)
  return { name = name, label = label, value = or_null(value), unit = unit, detail = detail, level = level or "green" }
end

local function level_of(value, amber, red) return value and (value >= red and "red" or value >= amber and "amber") or "green" end

-- How many requests the window has, and how many of them were answered with 5xx: the totals are of all time.
local function sums(stats)
  local requests, failed = 0, 0
  for _, route in ipairs(stats.routes) do requests, failed = requests + route.requests, failed + route.status["5xx"] end
  return requests, failed
end

local function tiles(stats, machine, trouble)
  local latency, cpu, memory = stats.latency_ms, machine.cpu and machine.cpu.share, machine.memory and machine.memory.share
  local requests, failed = sums(stats)
  local some = requests > 0
  return array {
    tile("traffic", "Requests", stats.requests_per_second, "/s", ("%d in the last %.0f s"):format(requests, stats.span_s)),
    tile("p95", "Latency p95", some and latency.p95 or nil, "ms", some and ("p50 %.1f, p99 %.1f ms"):format(latency.p50, latency.p99) or "nothing measured", trouble),
    tile("errors", "Errors", some and stats.error_rate * 100 or nil, "%", some and ("%d answers of 5xx"):format(failed) or "nothing measured", level_of(stats.error_rate, ERRORS_AMBER, ERRORS_RED)),
    tile("in_flight", "In flight", stats.in_flight, "", ("%d aborted by clients since the start"):format(stats.aborted_total)),
    tile("cpu", "CPU", cpu and cpu * 100, "%", machine.cpu and machine.cpu.usable_cpus and ("%.1f of %.0f CPUs"):format(machine.cpu.used_cpus or 0, machine.cpu.usable_cpus) or "",
      level_of(cpu, CPU_AMBER, CPU_RED)),
    tile("memory", "Memory", memory and memory * 100, "%", machine.memory and machine.memory.used_bytes and
      ("%.1f of %.1f GiB"):format(machine.memory.used_bytes / 2 ^ 30, (machine.memory.limit_bytes or 0) / 2 ^ 30) or "", level_of(memory, MEMORY_AMBER, MEMORY_RED)),
  }
end

local function routes_of(stats)
  local list, out = {}, array()
  for _, route in ipairs(stats.routes) do
    if route.requests > 0 then list[#list + 1] = route end
  end
  table.sort(list, function(a, b)
    if a.share ~= b.share then return a.share > b.share end
    return a.method .. a.route < b.method .. b.route
  end)
  for i = 1, math.min(ROUTES, #list) do
    local route, phases = list[i], {}
    for name, phase in pairs(route.phases_ms or {}) do
      if phase.share and phase.share >= 0.001 then phases[name] = phase.share end
    end
    out[i] = { name = route.method .. " " .. route.route, share = route.share, rps = route.requests_per_second, p50_ms = route.latency_ms.p50,
      p95_ms = route.latency_ms.p95, p99_ms = route.latency_ms.p99, error_rate = route.error_rate, phases = phases }
  end
  return out, #list
end

local function is_slow()
  for _, issue in pairs(book().open or {}) do
    for _, symptom in ipairs(issue.symptoms or {}) do
      if symptom.symptom ~= "errors" then return "amber" end
    end
  end
end

-- Deploys, reloads, changes of settings and workers replaced; and when something unusual began.
function M.markers()
  local list = array()
  for _, one in ipairs(book().markers or {}) do list[#list + 1] = { at_ms = one.at_ms, kind = one.kind, text = one.text } end
  local function anomaly(issue)
    if issue.since_ms then list[#list + 1] = { at_ms = issue.since_ms, kind = "anomaly", text = issue.title or issue.code, link = "#" .. issue.id } end
  end
  for _, issue in pairs(book().open or {}) do anomaly(issue) end
  for _, issue in ipairs(book().closed or {}) do anomaly(issue) end
  for _, record in ipairs(admin.control.records()) do
    if record.result == "refused" then list[#list + 1] = { at_ms = record.at_unix_ms, kind = "refused", text = "a reload was refused", link = "#generations" } end
  end
  table.sort(list, function(a, b) return a.at_ms < b.at_ms end)
  return list
end

local function parts_of()
  local resources = health.look()
  local open, ended, trials, frozen = suggestions_and_trials()
  return { resources = resources, suggestions = open, ended = ended, trials = trials, frozen = frozen, alerts = show_alerts(), records = admin.control.records(),
    learning = learning() }
end

-- ---- documents ----

local function generation(records)
  local total, ready, alive, current = admin.control.workers()
  local g, history = admin.stats.generation(), array()
  for i = 1, math.min(RECORDS, #records) do
    history[i] = records[i]
    history[i].at = time(records[i].at_unix_ms)
  end
  return { active = g.active, counters = g, workers = { total = total, ready = ready, alive = alive, current = current }, restorable = admin.control.kept(), history = history }
end

function M.document(window_s)
  local stats, parts = admin.stats.stats(window_s), parts_of()
  local routes, total = routes_of(stats)
  local issues, closed = array(), book().closed or {}
  for i, issue in ipairs(open_issues()) do issues[i] = show_issue(issue) end
  for i = 1, math.min(CLOSED_ISSUES, #closed) do issues[#issues + 1] = show_issue(closed[i]) end
  return {
    findings = findings(stats.requests_total, parts), tiles = tiles(stats, parts.resources.machine, is_slow()), routes = routes, routes_total = total,
    issues = issues, resources = parts.resources, suggestions = { open = parts.suggestions, ended = parts.ended }, trials = parts.trials, frozen = or_null(parts.frozen),
    alerts = parts.alerts, generation = generation(parts.records), learning = parts.learning, markers = M.markers(), data_address = admin.control.data_address,
  }, stats.span_s
end

-- The newest whole second of a series, or nil.
local function last(columns)
  local n = #columns.at_ms
  if n == 0 then return nil end
  local out = {}
  for _, name in ipairs { "at_ms", "rps", "p50_ms", "p95_ms", "p99_ms", "error_rate", "errors", "in_flight", "cpu_share" } do out[name] = columns[name][n] end
  return out
end

--- The second that ended last. `bounds_ms` are those of the heatmap.
function M.tick(bounds_ms)
  local at_ms = os.time() * 1000
  local stats, parts = admin.stats.stats(TICK_WINDOW_S), parts_of()
  local second = last(admin.watch.series(nil, at_ms - 2000, at_ms, 1))
  local heat = admin.watch.latencies(nil, at_ms - 2000, at_ms, 1, bounds_ms)
  return { at_ms = at_ms, second = or_null(second), latencies = or_null(heat.counts[#heat.counts]), findings = findings(stats.requests_total, parts),
    tiles = tiles(stats, parts.resources.machine, is_slow()), routes = routes_of(stats) }
end

-- ---- events ----

-- What there is of each kind: { kind = { id = { state text, what is told } } }.
local function state()
  local out = { issue = {}, suggestion = {}, trial = {}, alert = {}, reload = {} }
  for _, issue in pairs(book().open or {}) do out.issue[issue.id] = { "open " .. tostring(issue.severity), show_issue(issue) } end
  for i = 1, math.min(CLOSED_ISSUES, #(book().closed or {})) do out.issue[book().closed[i].id] = { "closed", show_issue(book().closed[i]) } end
  local open, ended, trials = suggestions_and_trials()
  for _, list in ipairs { open, ended } do
    for _, sug in ipairs(list) do
      out.suggestion[sug.id] = { sug.state .. " " .. sug.etag .. (sug.taken_back and " taken back" or ""), { id = sug.id, state = sug.state, title = sug.title, trial = sug.trial } }
    end
  end
  for _, one in ipairs(trials) do out.trial[one.id] = { ("%s %s %s"):format(one.phase, tostring(one.block), tostring(one.on)), one } end
  for _, a in ipairs(show_alerts().list) do out.alert[a.id .. a.state] = { a.state .. (a.silenced_by and " silenced" or ""), a } end
  for i, record in ipairs(admin.control.records()) do
    if i <= RECORDS then out.reload[("%d %d"):format(record.at_unix_ms, record.generation)] = { record.result, record } end
  end
  return out
end

--- What has changed since `seen`, which an earlier call gave (nil: nothing is told): a list of { kind, what }, and the new `seen`,
-- which is plain data.
function M.changes(seen)
  local list, now = {}, {}
  for kind, things in pairs(state()) do
    now[kind] = {}
    for id, thing in pairs(things) do
      now[kind][id] = thing[1]
      if seen and (seen[kind] or {})[id] ~= thing[1] then list[#list + 1] = { kind, thing[2] } end
    end
  end
  return list, now
end

return M
