--- From signals to issues: symptoms are found, their cause is weighed, and what belongs together is one issue.
--
--     things of the second > views > symptoms that hold > causes weighed > issue opened, kept, closed
--
-- A symptom must hold for some looks in a row before it counts and be gone for some before it ends, so that nothing
-- flaps. While it holds, every cause that names it is scored, and scores are averaged over looks; the cause that leads
-- by a margin names the issue, else it is "unknown". Symptoms of the same cause and target are one issue, whichever
-- routes they are seen on. A cause that changes its mind must do so for some looks before the issue is another one.
--
-- What no cause names is "unknown", or of the symptom's own code if that has one: then it is the last resort, which looks at
-- what signals do together (core/watch/company.h) and gives way to whatever else is known. Where a thing of another issue is
-- unusual in that way, it is that issue's evidence.
--
-- The rules are Lua files (perilune.analyzer.rules); this module only keeps the book. It knows no clock: the time is
-- given, so that a test, or a log, can be faster than time.

local core, require = ...

local asker = require "perilune.asker"
local view = require "perilune.analyzer.view"
local trend = require "perilune.analyzer.trend"
local rules = require "perilune.analyzer.rules"

local M = {}

local SMOOTH = 0.3        -- weight of the newest look in a cause's score
local INHIBITS_FROM, INHIBITED = 0.5, 0.3
local SWITCH_AFTER = 4    -- looks in a row with another cause
local STALE_MS = 30000    -- a route that had no sample for so long has no symptom
local TOGETHER_MS = 20000 -- issues that began so close to each other are related
local AFTER_MS = 90000    -- what was changed so long before is worth mentioning
local CLOSED_KEPT = 200
local SIGNALS_SHOWN = 8

local analyzer = {}
analyzer.__index = analyzer

--- `rules` as rules.read() gives them, `signals` as watch.signals() does. Optional `on_event(kind, issue)` hears of
-- "opened", "closed" and "changed".
function M.new(rules, signals, on_event)
  local units = { host = {}, route = {}, pool = {} }
  for _, signal in ipairs(signals) do units[signal.kind][signal.name] = signal.unit end
  return setmetatable({
    rules = rules, units = units, on_event = on_event or function() end,
    symptoms = {}, open = {}, closed = {}, markers = {}, next_id = 1,
    memory = trend.new { "lua_bytes", "rss_bytes" }, looks = 0, things = {}, failing = {}, asker = asker.new(),
  }, analyzer)
end

--- Something was changed: { at_ms, kind, text }. Issues that begin soon after refer to it.
function analyzer:mark(marker)
  self.markers[#self.markers + 1] = marker
  if #self.markers > 100 then table.remove(self.markers, 1) end
end

-- A rule that raises is heard of once, and answers nothing.
function analyzer:ask(rule, what, ...)
  local ok, answer = self.asker:ask(rule, rule[what], ...)
  if ok or answer == nil then return answer end
  local name = (rule.name or rule.code) .. "." .. what
  if not self.failing[name] then
    self.failing[name] = tostring(answer)
    self.on_event("failed", { name = name, message = tostring(answer) })
  end
end

-- ---- views ----

local function hottest(routes)
  local best, most = nil, 0
  for _, route in ipairs(routes) do
    local cost = (route.now.lua or 0) * (route.now.rps or 0)
    if cost > most then best, most = route, cost end
  end
  return best
end

function analyzer:views(things, now_ms)
  local host, routes, pools = nil, {}, {}
  for _, thing in ipairs(things) do
    local s = view.new(thing, self.units[thing.kind])
    if s.kind == "host" then host = s
    elseif s.kind == "pool" then pools[#pools + 1] = s
    else
      if now_ms - s.at_ms > STALE_MS then s.requests = 0 end
      s.is_proxied = (s.now.upstream_first_byte or 0) + (s.now.upstream_connect or 0) > 0
      routes[#routes + 1] = s
    end
  end
  if not host then return {} end
  self.memory.add(host.now)
  host.trend, host.pools, host.hottest, host.book = self.memory.tau, pools, hottest(routes), self
  local all = { host }
  for _, route in ipairs(routes) do
    route.host, route.pools, route.hottest, route.book = host, pools, host.hottest, self
    all[#all + 1] = route
  end
  return all
end

-- ---- symptoms ----

local function target_of(cause, s)
  if cause.target == "route" or cause.target == "host" then return cause.target == "route" and s.name or "host" end
  if cause.target == "hottest" then return s.hottest and s.hottest.name or "host" end
  if cause.target == "database" or cause.target == "redis" then
    local best, most
    for _, pool in ipairs(s.pools) do
      local weight = (pool.now.use_ms or 0) * (pool.now.calls or 0) * pool:ratio "use_ms" * pool:ratio "wait_ms"
      if pool.pool_type == nil or pool.pool_type == cause.target then
        if not best or weight > most then best, most = pool.name, weight end
      end
    end
    return best and "pool " .. best or cause.target
  end
  return cause.target
end

local function names(cause, symptom)
  for _, name in ipairs(cause.of) do
    if name == symptom then return true end
  end
end

-- Consequences of a cause that explains enough give way to it.
local function inhibit(scores)
  local weak = {}
  for _, one in pairs(scores) do
    if one.score >= INHIBITS_FROM then
      for _, code in ipairs(one.cause.inhibits or {}) do weak[code] = one end
    end
  end
  for _, one in pairs(scores) do
    local by = weak[one.cause.code]
    if by and by.cause.code ~= one.cause.code then one.score = one.score * INHIBITED end
  end
end

-- Scores every cause of a symptom; several causes of one code and target are one, by the best of them.
function analyzer:weigh(entry, symptom, s)
  local scores = {}
  for _, cause in ipairs(self.rules.causes) do
    if names(cause, symptom.name) then
      local score = tonumber(self:ask(cause, "score", s, self.rules.thresholds)) or 0
      if score == score and score > 0 then
        local key = cause.code .. "|" .. target_of(cause, s)
        if not scores[key] or scores[key].score < score then scores[key] = { score = math.min(1, score), cause = cause } end
      end
    end
  end
  inhibit(scores)
  local old = entry.scores
  for key, one in pairs(old) do
    local new = scores[key]
    one.score = one.score + SMOOTH * ((new and new.score or 0) - one.score)
    if new then one.cause = new.cause end
    if one.score < 0.01 then old[key] = nil end
  end
  for key, one in pairs(scores) do
    if not old[key] then old[key] = { score = entry.looks == 1 and one.score or SMOOTH * one.score, cause = one.cause } end
  end
end

-- The causes of a symptom, best first, and by how much the first leads.
local function ranked(entry)
  local list = {}
  for key, one in pairs(entry.scores) do list[#list + 1] = { key = key, score = one.score, cause = one.cause } end
  table.sort(list, function(a, b)
    if a.score ~= b.score then return a.score > b.score end
    return a.key < b.key
  end)
  return list, #list > 0 and list[1].score - (list[2] and list[2].score or 0) or 0
end

local function type_of(self, entry, symptom)
  local name = symptom.type_of and entry.view and self:ask(symptom, "type_of", entry.view)
  for _, known in ipairs(rules.types) do
    if known == name then return name end
  end
  return symptom.type
end

function analyzer:verdict(entry, symptom)
  local t = self.rules.thresholds
  local list, margin = ranked(entry)
  local first, second = list[1], list[2]
  if first and first.score >= t.cause_least and margin >= t.cause_margin then
    return first.key, first.cause.code, first.cause.type, first.cause
  end
  if symptom.code and not first then return symptom.code .. "|host", symptom.code, type_of(self, entry, symptom), nil end
  local agreed = first and first.score >= t.cause_least and (not second or second.cause.type == first.cause.type)
  return "unknown|" .. symptom.name, "unknown", agreed and first.cause.type or symptom.type, nil
end

function analyzer:look(symptom, s, now_ms)
  local key = symptom.name .. "|" .. s.name
  local entry = self.symptoms[key]
  local holds = self:ask(symptom, "when", s, self.rules.thresholds, entry ~= nil and entry.issue ~= nil)
  if not holds then
    if not entry then return end
    entry.misses = entry.misses + 1
    if entry.misses >= self.rules.thresholds.close_after or not entry.issue then self.symptoms[key] = nil end
    return
  end
  if not entry then
    entry = { key = key, symptom = symptom.name, thing = s.name, looks = 0, misses = 0, switch = 0, scores = {}, since_ms = now_ms }
    for name, moved in pairs(s.moved) do
      if s.units[name] and moved.since_ms < entry.since_ms and now_ms - moved.since_ms < 60000 then entry.since_ms = moved.since_ms end
    end
    self.symptoms[key] = entry
  end
  entry.looks, entry.misses, entry.view, entry.rule = entry.looks + 1, 0, s, symptom
  self:weigh(entry, symptom, s)
end

-- ---- issues ----

local function level(score)
  return score >= 0.75 and "critical" or score >= 0.5 and "high" or score >= 0.25 and "medium" or "low"
end

-- Errors of a route that became slow first are that issue's.
function analyzer:followed(entry)
  local name = entry.rule.follows and self:ask(entry.rule, "follows", entry.view)
  local other = name and self.symptoms[name .. "|" .. entry.thing]
  if other and other.issue and other.since_ms <= entry.since_ms + 3000 then return other.issue end
end

function analyzer:attach(entry, now_ms)
  local key, code, type_, cause = self:verdict(entry, entry.rule)
  local issue = self.open[key]
  local followed = self:followed(entry)
  if followed and self.open[followed] then key, issue = followed, self.open[followed] end
  if entry.issue == key and issue then
    entry.switch = 0
    return
  end
  if entry.issue and self.open[entry.issue] then
    entry.switch = entry.switch + 1
    if entry.switch < SWITCH_AFTER then return end
  end
  entry.switch = 0
  if not issue then
    issue = { id = ("issue-%d"):format(self.next_id), key = key, code = code, type = type_, target = key:match "|(.*)$", state = "open",
      opened_ms = now_ms, since_ms = entry.since_ms }
    self.next_id = self.next_id + 1
    issue.cause = cause
    self.open[key] = issue
    for i = #self.markers, 1, -1 do
      local marker = self.markers[i]
      if marker.at_ms <= issue.since_ms + 5000 and issue.since_ms - marker.at_ms <= AFTER_MS then
        issue.after = marker
        break
      end
    end
    issue.is_new = true
  end
  local before = entry.issue and self.open[entry.issue]
  if before then before.became = issue.id end
  entry.issue = key
end

-- Those that stand out in their company, the first ones most.
local function company_signals_of(s)
  local list = {}
  for i, one in ipairs(s.company and s.company.signals or {}) do
    local moved, ratio = s.moved[one.name], s:ratio(one.name)
    list[i] = { thing = s.name, signal = one.name, unit = s.units[one.name], now = s.now[one.name], usual = s.usual[one.name], share = one.share,
      direction = ratio >= 1 and "up" or "down", spreads = moved and moved.spreads or 0, since_ms = s.company.since_ms }
  end
  return list
end

local function signals_of(s)
  local list = {}
  for name, moved in pairs(s.moved) do
    if s.units[name] and moved.spreads == moved.spreads then
      list[#list + 1] = { thing = s.name, signal = name, unit = s.units[name], now = s.now[name], usual = s.usual[name],
        direction = moved.direction, spreads = moved.spreads, since_ms = moved.since_ms }
    end
  end
  if #list > 0 then return list end
  for name, now in pairs(s.now) do -- it is too early to be certain of any
    local ratio = s:ratio(name)
    if ratio >= 2 or ratio <= 0.5 then
      list[#list + 1] = { thing = s.name, signal = name, unit = s.units[name], now = now, usual = s.usual[name],
        direction = ratio > 1 and "up" or "down", spreads = 0, since_ms = s.at_ms }
    end
  end
  return list
end

-- Evidence: a thing of the issue whose signals together are unusual.
local function note_company(list, s)
  local c = s.company
  if c and c.unusual then
    list[#list + 1] = { thing = s.name, severity = c.severity, p = c.p, channel = c.channel, since_ms = c.since_ms, samples = c.samples, signals = c.signals }
  end
end

-- What an issue says, anew, from the symptoms attached to it.
function analyzer:describe(issue, entries, now_ms)
  table.sort(entries, function(a, b)
    if a.weight ~= b.weight then return a.weight > b.weight end
    return a.key < b.key
  end)
  local worst = entries[1]
  local s = worst.view
  issue.title = tostring(self:ask(worst.rule, "title", s) or worst.rule.name)
  local cause = worst.scores[issue.key] and worst.scores[issue.key].cause or issue.cause
  issue.cause_text = cause and tostring(self:ask(cause, "says", s, self.rules.thresholds) or "") or worst.rule.code and "the cause is unknown" or "no cause leads the others by a margin"
  local list, margin = ranked(worst)
  issue.causes, issue.margin = core.json.array(), margin
  for i = 1, math.min(5, #list) do issue.causes[i] = { code = list[i].cause.code, target = list[i].key:match "|(.*)$", score = list[i].score } end
  issue.affected, issue.symptoms = core.json.array(), core.json.array()
  local company, signals, seen, host = core.json.array(), {}, {}, s.kind == "host" and s or s.host
  local severity = 0
  for _, entry in ipairs(entries) do
    issue.symptoms[#issue.symptoms + 1] = { symptom = entry.symptom, thing = entry.thing, since_ms = entry.since_ms }
    if entry.since_ms < issue.since_ms then issue.since_ms = entry.since_ms end
    severity = math.max(severity, math.min(1, entry.severity))
    if not seen[entry.thing] then
      seen[entry.thing] = true
      if entry.view.kind == "route" then issue.affected[#issue.affected + 1] = entry.thing end
      for _, signal in ipairs((worst.rule.code and company_signals_of or signals_of)(entry.view)) do signals[#signals + 1] = signal end
      note_company(company, entry.view)
    end
  end
  for _, pool in ipairs(s.pools or {}) do
    if issue.target == "pool " .. pool.name then
      for _, signal in ipairs(signals_of(pool)) do signals[#signals + 1] = signal end
      note_company(company, pool)
    end
  end
  if host and not seen.host and not worst.rule.code then
    for _, signal in ipairs(signals_of(host)) do signals[#signals + 1] = signal end
    note_company(company, host)
  end
  table.sort(signals, function(a, b)
    local x, y = a.share or math.abs(a.spreads), b.share or math.abs(b.spreads)
    if x ~= y then return x > y end
    return a.thing .. a.signal < b.thing .. b.signal
  end)
  issue.signals = core.json.array()
  for i = 1, math.min(SIGNALS_SHOWN, #signals) do issue.signals[i] = signals[i] end
  issue.severity_score, issue.severity = severity, level(severity)
  issue.evidence = { from_ms = issue.since_ms, to_ms = now_ms, samples = worst.looks, company = company }
end

function analyzer:relate()
  for _, issue in pairs(self.open) do
    issue.related = core.json.array()
    for _, other in pairs(self.open) do
      if other ~= issue and math.abs(other.since_ms - issue.since_ms) <= TOGETHER_MS then issue.related[#issue.related + 1] = other.id end
    end
    table.sort(issue.related)
  end
end

function analyzer:settle(now_ms)
  local attached = {}
  for _, entry in pairs(self.symptoms) do
    if entry.looks >= self.rules.thresholds.open_after and entry.misses == 0 and entry.rule then self:attach(entry, now_ms) end
    if entry.issue and self.open[entry.issue] then
      local list = attached[entry.issue] or {}
      attached[entry.issue] = list
      if entry.view then
        entry.severity = tonumber(self:ask(entry.rule, "severity", entry.view, self.rules.thresholds)) or 0
        entry.weight = entry.severity * math.max(1, entry.view.requests or 1)
      end
      list[#list + 1] = entry
    end
  end
  for key, issue in pairs(self.open) do
    local list, fresh = attached[key], {}
    for _, entry in ipairs(list or {}) do
      if entry.view and entry.misses == 0 then fresh[#fresh + 1] = entry end
    end
    if #fresh > 0 then self:describe(issue, fresh, now_ms) end
    if issue.is_new then
      issue.is_new = nil
      self.on_event("opened", issue)
    end
    if not list then
      self.open[key] = nil
      issue.state, issue.closed_ms, issue.cause = "closed", now_ms, nil
      table.insert(self.closed, 1, issue)
      self.closed[CLOSED_KEPT + 1] = nil
      self.on_event("closed", issue)
    end
  end
  self:relate()
end

--- One look at all things. `now_ms` is unix time.
function analyzer:tick(things, now_ms)
  self.asker:begin()
  self.looks, self.things = self.looks + 1, things
  for _, s in ipairs(self:views(things, now_ms)) do
    for _, symptom in ipairs(self.rules.symptoms) do
      if symptom.on == s.kind then self:look(symptom, s, now_ms) end
    end
  end
  self:settle(now_ms)
end

-- ---- what is shown ----

local HIDDEN = { key = true, cause = true, is_new = true }

local function shown(issue)
  local out = {}
  for name, value in pairs(issue) do
    if not HIDDEN[name] then out[name] = value end
  end
  return out
end

local order = { critical = 1, high = 2, medium = 3, low = 4 }

--- Open issues, the most severe first, then closed ones, the newest first.
function analyzer:list()
  local open, all = {}, core.json.array()
  for _, issue in pairs(self.open) do open[#open + 1] = issue end
  table.sort(open, function(a, b)
    local x, y = order[a.severity] or 5, order[b.severity] or 5
    if x ~= y then return x < y end
    return a.opened_ms < b.opened_ms or (a.opened_ms == b.opened_ms and a.id < b.id)
  end)
  for _, issue in ipairs(open) do all[#all + 1] = shown(issue) end
  for _, issue in ipairs(self.closed) do all[#all + 1] = shown(issue) end
  return all
end

--- How far it has learnt: { things, ready, least, needed, text }.
function analyzer:learning()
  local things, ready, least, needed = 0, 0, math.huge, 0
  for _, thing in ipairs(self.things) do
    things, needed = things + 1, thing.needed
    if thing.knows then ready = ready + 1 else least = math.min(least, thing.learnt) end
  end
  if least == math.huge then least = needed end
  local all = things > 0 and ready == things
  return { things = things, ready = ready, least = least, needed = needed, done = all,
    text = all and "what is usual is known" or things == 0 and "there was nothing to learn from yet"
      or ("still learning, %d of %d samples (%d of %d things are known)"):format(least, needed, ready, things) }
end

--- What must outlive a reload, as a table of plain values.
function analyzer:dump()
  local open, symptoms = {}, {}
  for key, issue in pairs(self.open) do open[key] = shown(issue) end
  for key, entry in pairs(self.symptoms) do
    if entry.issue then
      symptoms[key] = { symptom = entry.symptom, thing = entry.thing, issue = entry.issue, since_ms = entry.since_ms, looks = entry.looks, misses = 0 }
    end
  end
  return { open = open, closed = self.closed, symptoms = symptoms, next_id = self.next_id, markers = self.markers }
end

--- Goes on from a dump. Symptoms whose rule is gone end by themselves.
function analyzer:restore(dump)
  self.next_id, self.markers = dump.next_id or 1, dump.markers or {}
  for key, issue in pairs(dump.open or {}) do
    issue.key = key
    self.open[key] = issue
  end
  for _, issue in ipairs(dump.closed or {}) do self.closed[#self.closed + 1] = issue end
  local rules = {}
  for _, symptom in ipairs(self.rules.symptoms) do rules[symptom.name] = symptom end
  for key, entry in pairs(dump.symptoms or {}) do
    if rules[entry.symptom] then
      entry.key, entry.switch, entry.scores, entry.rule = key, 0, {}, rules[entry.symptom]
      self.symptoms[key] = entry
    end
  end
end

return M
