--- The files of rules/alerts/, read and checked.
--
-- A file returns a table of:
--
--   policies   a list; each makes alerts of the things that it is about:
--                name, severity ("critical", "warning", "info"), labels, annotations, runbook, enabled
--                on ("route", "host", "pool", "engine", "issue"), match { label = pattern }: which of them
--                signal, or value(s): a number, nil where there is none
--                above or below: where it begins; exit: where it ends (hysteresis)
--                for_, keep_firing_for: durations; min_events; no_data ("ok", "keep", "alert")
--              or slo { ... } (perilune.alerts.slo), which makes three policies for each indicator
--   receivers  by name: { log = true, webhook = URL, alertmanager = URL, slack = URL, command = { "program", ... },
--              headers, send_resolved, timeout_ms, max_alerts }. A URL or a header's value is a text, or
--              { env = "NAME" } or { file = "/path" }, which is read when it is needed and never shown
--   notify     who is told, in one file only: { receiver, group_by, group_wait, group_interval, repeat_interval,
--              routes = { { match, receiver, continue, and the same } } }; the first route that matches counts
--   inhibit    a list of { source, target, equal }: an alert that matches `target` is not told of while one that
--              matches `source` fires and both have the same labels of `equal`
-- SPDX-License-Identifier: MIT

local core, require = ...

local burn = require "perilune.alerts.burn"
local labels = require "perilune.alerts.labels"
local shape = require "perilune.alerts.shape"

local M = {}

M.severities = { "critical", "warning", "info" }
M.endpoints = { "log", "webhook", "alertmanager", "slack", "command" }

local own_signals = {
  engine = { reload_refused = "", quarantined = "routes", store_trouble = "" },
  issue = { level = "" },
  route = { requests = "requests" },
}

local shapes = {
  file = { policies = "table?", receivers = "table?", notify = "table?", inhibit = "table?" },
  policy = {
    name = "string", on = { "route", "host", "pool", "engine", "issue" }, signal = "string?", value = "function?", unit = "string?",
    above = "number?", below = "number?", exit = "number?", for_ = "duration?", keep_firing_for = "duration?", min_events = "count?",
    no_data = { "ok", "keep", "alert", optional = true }, severity = { "critical", "warning", "info" }, labels = "labels?",
    annotations = "labels?", runbook = "string?", match = "labels?", enabled = "boolean?",
  },
  slo = {
    route = "string", objective = "share", latency_ms = "number?", latency_objective = "share?", name = "string?", labels = "labels?",
    runbook = "string?", page_events = "count?", ticket_events = "count?", low_traffic_rps = "number?", low_traffic_events = "count?",
  },
  receiver = {
    log = "boolean?", webhook = "any?", alertmanager = "any?", slack = "any?", command = "texts?", headers = "table?",
    send_resolved = "boolean?", timeout_ms = "count?", max_alerts = "count?",
  },
  notify = {
    receiver = "string", group_by = "texts?", group_wait = "duration?", group_interval = "duration?", repeat_interval = "duration?",
    routes = "table?",
  },
  route = {
    match = "labels", receiver = "string", continue = "boolean?", group_by = "texts?", group_wait = "duration?",
    group_interval = "duration?", repeat_interval = "duration?",
  },
  inhibit = { source = "labels", target = "labels", equal = "texts?" },
}

local function copied(from, ...)
  local out = {}
  for name, value in pairs(from or {}) do out[name] = value end
  for _, more in ipairs { ... } do
    for name, value in pairs(more) do out[name] = value end
  end
  return out
end

local function units()
  local all = { route = {}, host = {}, pool = {}, engine = {}, issue = {} }
  for _, one in ipairs(core.signals()) do all[one.kind][one.name] = one.unit end
  for kind, signals in pairs(own_signals) do
    for name, unit in pairs(signals) do all[kind][name] = unit end
  end
  return all
end

-- ---- policies ----

local function add(all, policy, where)
  policy.id = labels.fingerprint(policy.labels)
  if all.by_id[policy.id] then
    error(("%s: another policy has the same name and labels (%s); give one of them a label of its own"):format(where, all.by_id[policy.id].file), 0)
  end
  all.by_id[policy.id] = policy
  all.policies[#all.policies + 1] = policy
end

local function threshold(where, p)
  if (p.above == nil) == (p.below == nil) then error(where .. ": either 'above' or 'below' says where the alert begins", 0) end
  local direction, enter = p.above and "above" or "below", p.above or p.below
  local exit = p.exit == nil and enter or p.exit
  if (direction == "above" and exit > enter) or (direction == "below" and exit < enter) then
    error(("%s: 'exit' (%s) lies beyond '%s' (%s): it would end where it begins"):format(where, exit, direction, enter), 0)
  end
  return direction, enter, exit
end

local function read_policy(all, p, where, file)
  shape.check(where, p, shapes.policy)
  where = ("%s (%s)"):format(where, p.name)
  if (p.signal == nil) == (p.value == nil) then error(where .. ": either 'signal' (a name) or 'value' (a function) says what is looked at", 0) end
  local known = all.units[p.on]
  if p.signal and not known[p.signal] then
    local names = labels.names(known)
    error(("%s: there is no signal '%s' of a %s%s; there are %s"):format(where, p.signal, p.on, shape.hint(p.signal, names), table.concat(names, ", ")), 0)
  end
  if p.min_events and p.on ~= "route" then error(where .. ": 'min_events' is about requests, so it is for policies on a route", 0) end
  for _, name in ipairs { "alertname", "severity" } do
    if p.labels and p.labels[name] then error(("%s: the label '%s' is made of 'name' and 'severity'"):format(where, name), 0) end
  end
  if p.enabled == false then return end
  local direction, enter, exit = threshold(where, p)
  add(all, {
    name = p.name, file = file, on = p.on, signal = p.signal, value = p.value, unit = p.unit or p.signal and known[p.signal] or "",
    direction = direction, enter = enter, exit = exit, for_s = shape.seconds(p.for_ or 0), keep_firing_s = shape.seconds(p.keep_firing_for or 0),
    min_events = p.min_events or 0, no_data = p.no_data or "ok", severity = p.severity, match = p.match,
    labels = copied(p.labels, { alertname = p.name, severity = p.severity }), annotations = copied(p.annotations, p.runbook and { runbook_url = p.runbook }),
  }, where)
end

-- ---- objectives ----

local function period(seconds)
  return seconds % 86400 == 0 and seconds / 86400 .. " d" or seconds % 3600 == 0 and seconds / 3600 .. " h" or seconds / 60 .. " min"
end

local function windows(pairs_of)
  local parts = {}
  for i, one in ipairs(pairs_of) do parts[i] = ("%g over %s and %s"):format(one.factor, period(one.long), period(one.short)) end
  return table.concat(parts, ", or ")
end

-- The policies of one indicator of an objective.
local function indicator(all, s, sli, objective, where, file)
  local name = s.name or s.route
  local key = s.route .. "|" .. (sli == "latency" and s.latency_ms or "")
  local promise = sli == "latency" and ("%g %% of %s answer within %g ms"):format(objective * 100, s.route, s.latency_ms)
    or ("%g %% of %s do not fail"):format(objective * 100, s.route)
  all.slis[key] = { key = key, route = s.route, sli = sli, latency_ms = sli == "latency" and s.latency_ms or nil, objective = objective, name = name }
  local function policy(what, alertname, severity, enter, keep, summary)
    add(all, {
      name = alertname, file = file, on = "slo", sli = key, burn = what, unit = "", direction = "above", enter = enter, exit = enter, for_s = 0,
      keep_firing_s = keep, min_events = 0, no_data = "ok", severity = severity, objective = objective, slo = s,
      latency_ms = sli == "latency" and s.latency_ms or nil,
      labels = copied(s.labels, { alertname = alertname, severity = severity, slo = name, sli = sli }),
      annotations = copied({ summary = summary, objective = promise }, s.runbook and { runbook_url = s.runbook }),
    }, where)
  end
  policy("page", "SloBurnPage", "critical", 1, 120, ("the error budget burns too fast (a page at %s): {{value}} times that"):format(windows(burn.page)))
  policy("ticket", "SloBurnTicket", "warning", 1, 600, ("the error budget burns (a ticket at %s): {{value}} times that"):format(windows(burn.ticket)))
  policy("low", "SloLowTraffic", "warning", (s.low_traffic_events or 10) - 0.5, 600,
    "{{value}} bad requests in 6 h, of a route with so little traffic that burn rates do not tell")
end

local function read_slo(all, s, where, file)
  shape.check(where, s, shapes.slo)
  where = ("%s (slo %s)"):format(where, s.name or s.route)
  if s.latency_ms and s.latency_ms <= 0 then error(where .. ": 'latency_ms' is above 0", 0) end
  if s.latency_objective and not s.latency_ms then error(where .. ": 'latency_objective' needs 'latency_ms'", 0) end
  indicator(all, s, "availability", s.objective, where, file)
  if s.latency_ms then indicator(all, s, "latency", s.latency_objective or s.objective, where, file) end
  if not all.has_slo then
    all.has_slo = true
    all.inhibit[#all.inhibit + 1] = { source = { alertname = "SloBurnPage" }, target = { alertname = "SloBurnTicket" }, equal = { "slo", "sli" } }
  end
end

-- ---- who is told ----

-- { text = }, { env = } or { file = }.
local function secret(where, name, value)
  if type(value) == "string" and value ~= "" then return { text = value } end
  if type(value) == "table" then
    shape.check(("%s: '%s'"):format(where, name), value, { env = "string?", file = "string?" })
    if (value.env == nil) ~= (value.file == nil) then return { env = value.env, file = value.file } end
  end
  error(("%s: '%s' is a text, { env = \"NAME\" } or { file = \"/path\" }"):format(where, name), 0)
end

local function url(where, name, value)
  local out = secret(where, name, value)
  if out.text and not out.text:find "^https?://[^/%s]+" then error(("%s: '%s' is a URL that begins with http:// or https://"):format(where, name), 0) end
  return out
end

local function read_receiver(all, name, r, where)
  local known = labels.names(shapes.receiver)
  if type(r) ~= "table" then error(where .. " is a table, as { webhook = \"http://127.0.0.1:9000/\" }", 0) end
  for key in pairs(r) do
    if not shapes.receiver[key] then error(("%s: unknown key '%s'%s"):format(where, tostring(key), shape.hint(key, known)), 0) end
  end
  shape.check(where, { log = r.log, command = r.command, headers = r.headers, send_resolved = r.send_resolved, timeout_ms = r.timeout_ms, max_alerts = r.max_alerts },
    { log = "boolean?", command = "texts?", headers = "table?", send_resolved = "boolean?", timeout_ms = "count?", max_alerts = "count?" })
  local headers = {}
  for header, value in pairs(r.headers or {}) do
    if type(header) ~= "string" or not header:find "^[%w%-]+$" then error(where .. ": 'headers' is a table of texts by header name", 0) end
    headers[header] = secret(where, "headers." .. header, value)
  end
  if r.command and not (r.command[1] or ""):find "^/" then error(where .. ": 'command' is a list of texts, the path of a program first, like /usr/local/bin/page", 0) end
  all.receivers[name] = { name = name, endpoints = {} }
  for _, kind in ipairs(M.endpoints) do
    if r[kind] then
      local endpoint = { id = name .. ":" .. kind, receiver = name, kind = kind, headers = headers, timeout_ms = r.timeout_ms,
        send_resolved = r.send_resolved ~= false, max_alerts = r.max_alerts or 0 }
      if kind == "command" then endpoint.command = r.command elseif kind ~= "log" then endpoint.url = url(where, kind, r[kind]) end
      table.insert(all.receivers[name].endpoints, endpoint)
      all.endpoints[#all.endpoints + 1] = endpoint
    end
  end
  if #all.receivers[name].endpoints == 0 then error(("%s: it says nowhere where to: give it one of %s"):format(where, table.concat(M.endpoints, ", ")), 0) end
end

local function grouping(from, defaults)
  return {
    group_by = from.group_by or defaults.group_by, group_wait_s = shape.seconds(from.group_wait or defaults.group_wait),
    group_interval_s = shape.seconds(from.group_interval or defaults.group_interval),
    repeat_interval_s = shape.seconds(from.repeat_interval or defaults.repeat_interval),
  }
end

local DEFAULTS = { group_by = { "alertname" }, group_wait = 30, group_interval = 300, repeat_interval = 14400 }

local function read_notify(all, n, where)
  shape.check(where, n, shapes.notify)
  local defaults = copied(DEFAULTS, n)
  all.routes = {}
  for i, route in ipairs(n.routes or {}) do
    shape.check(("%s: route %d"):format(where, i), route, shapes.route)
    all.routes[i] = { match = route.match, receiver = route.receiver, continue = route.continue or false, grouping = grouping(route, defaults),
      where = ("%s: route %d"):format(where, i) }
  end
  all.routes[#all.routes + 1] = { match = {}, receiver = n.receiver, continue = false, grouping = grouping({}, defaults), where = where }
end

-- ---- files ----

local function read_file(all, file, value)
  shape.check(file, value, shapes.file)
  for i, p in ipairs(value.policies or {}) do
    local where = ("%s: policy %d"):format(file, i)
    if type(p) == "table" and p.slo then
      shape.check(where, p, { slo = "table" })
      read_slo(all, p.slo, where, file)
    else
      read_policy(all, p, where, file)
    end
  end
  for _, name in ipairs(labels.names(value.receivers or {})) do
    local where = ("%s: receiver '%s'"):format(file, tostring(name))
    if type(name) ~= "string" or not name:find "^[%w_%-]+$" then error(file .. ": receivers have names of letters, digits, - and _", 0) end
    if all.receivers[name] then error(where .. " is there twice", 0) end
    read_receiver(all, name, value.receivers[name], where)
  end
  if value.notify then
    if all.notify_file then error(("%s: 'notify' is in %s already; a file of the same path replaces the program's"):format(file, all.notify_file), 0) end
    all.notify_file = file
    read_notify(all, value.notify, file .. ": notify")
  end
  for i, rule in ipairs(value.inhibit or {}) do
    local where = ("%s: inhibit %d"):format(file, i)
    shape.check(where, rule, shapes.inhibit)
    if next(rule.source) == nil or next(rule.target) == nil then error(where .. ": 'source' and 'target' name at least one label each", 0) end
    all.inhibit[#all.inhibit + 1] = { source = rule.source, target = rule.target, equal = rule.equal or {} }
  end
end

--- Compiles a list of { name, value }: what files are called and what they return. Raises the first mistake.
function M.compile(files)
  local all = { units = units(), policies = {}, by_id = {}, slis = {}, receivers = {}, endpoints = {}, inhibit = {} }
  for _, file in ipairs(files) do read_file(all, file.name, file.value) end
  if not all.receivers.log then read_receiver(all, "log", { log = true }, "the receiver 'log'") end
  if not all.routes then read_notify(all, { receiver = "log" }, "notify") end
  for _, route in ipairs(all.routes) do
    if not all.receivers[route.receiver] then
      error(("%s: there is no receiver '%s'%s"):format(route.where, route.receiver, shape.hint(route.receiver, labels.names(all.receivers))), 0)
    end
  end
  local bounds, seen = {}, {}
  for _, key in ipairs(labels.names(all.slis)) do
    local ms = all.slis[key].latency_ms
    if ms and not seen[ms] then bounds[#bounds + 1], seen[ms] = ms, #bounds + 1 end
    all.slis[key].bound = ms and seen[ms]
  end
  all.bounds = bounds
  return all
end

--- Compiles the text of one file, which is not in force.
function M.compile_text(text, name)
  local fn, why = core.prepare(text, name)
  if not fn then error(why, 0) end
  return M.compile { { name = name, value = fn() } }
end

M.glob, M.matches = labels.glob, labels.matches

--- Reads the folder.
function M.read()
  local names, files = core.modules "alerts", {}
  table.sort(names)
  for i, name in ipairs(names) do files[i] = { name = ("rules/%s.lua"):format(name:gsub("%.", "/")), value = require(name) } end
  return M.compile(files)
end

return M
