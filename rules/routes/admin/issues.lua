-- Looks at every signal once a second and keeps the book of issues.
--
-- GET issues?state=open|closed&type=&route=  : what is wrong, or was
-- GET issues/:id
-- POST analyze { endpoint, priority, window } : the same now, and what was looked at
-- GET signals                                 : what is watched, with units, and what is usual
local activity = require "perilune.activity"
local admin = require "perilune.admin"
local links = require "perilune.links"
local p = require "perilune"
local setting_names = require "perilune.setting_names"
local analyzer = require "perilune.analyzer"
local rules = require "perilune.analyzer.rules"
local app = admin.app()

local KEPT = "analyzer"

local book = analyzer.new(rules.read(), admin.watch and admin.watch.signals() or {}, function(kind, issue)
  if kind == "failed" then
    p.log.error(("a rule of rules/issues fails: %s: %s"):format(issue.name, issue.message))
  else
    p.log.warn(("issue %s %s: %s %s (%s): %s; %s"):format(issue.id, kind, issue.type, issue.code, issue.target, issue.title or "", issue.cause_text or ""))
  end
end)

if admin.keep and admin.keep.get(KEPT) then book:restore(admin.decode(admin.keep.get(KEPT))) end

local function now_ms() return os.time() * 1000 end

-- What was changed: generations, settings, workers replaced.
local seen
-- A setting as it was: an upstream that has none of its own has that of all.
local function before(values, name)
  if values[name] ~= nil then return values[name] end
  return values[setting_names.of_upstreams(name) or name]
end

local function changed(name, from, to)
  if from == nil or from == to then return end
  book:mark { at_ms = now_ms(), kind = "setting", text = ("%s: %s > %s"):format(name, tostring(from), tostring(to)) }
end

local function notice()
  local generation, settings, restarts = admin.stats.generation().active, {}, admin.stats.restarts()
  for _, one in ipairs(admin.stats.settings()) do settings[one.name] = one.value end
  if seen then
    if generation ~= seen.generation then book:mark { at_ms = now_ms(), kind = "reload", text = ("generation %d"):format(generation) } end
    for name, value in pairs(settings) do
      changed(name, before(seen.settings, name), value)
    end
    for name in pairs(seen.settings) do
      if settings[name] == nil then changed(name, seen.settings[name], before(settings, name)) end
    end
    if restarts ~= seen.restarts then book:mark { at_ms = now_ms(), kind = "worker", text = "a worker was replaced" } end
  end
  seen = { generation = generation, settings = settings, restarts = restarts }
end

local function pools_with_types(things)
  local types, sessions = {}, activity.get(p.now())
  for _, pool in ipairs(admin.pools.list()) do types[pool.id] = pool.pool_type end
  for _, thing in ipairs(things) do
    if thing.kind == "pool" then thing.pool_type, thing.activity = types[thing.name], sessions[thing.name] end
  end
  return things
end

-- For others to know what is open.
local function tell()
  local list = {}
  for _, issue in ipairs(book:list()) do
    if issue.state == "open" then list[#list + 1] = { id = issue.id, target = issue.target, affected = issue.affected } end
  end
  links.tell("issues", list)
end

local ticks = -1
local function look()
  local cost = admin.watch.cost()
  if cost.ticks == ticks then return end
  ticks = cost.ticks
  notice()
  book:tick(pools_with_types(admin.watch.things()), now_ms())
  admin.keep.put(KEPT, p.json.encode(book:dump()))
  tell()
end

app:every(0.5, "looks for issues", look)

-- What was usual before a restart. A route is asked for once: what the disk does not have is learnt as time goes by.
local recalled = {}
app:every(1, "recalls what is usual", function()
  if not admin.store.state().open then return end
  for _, thing in ipairs(admin.watch.things()) do
    if thing.kind == "route" and not recalled[thing.name] then
      recalled[thing.name] = true
      if not thing.knows then admin.store.recall(thing.index) end
    end
  end
end)

local function time(ms) return ms and os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(ms / 1000)) or p.json.null end

local function show(issue)
  issue.opened_at, issue.since, issue.closed_at = time(issue.opened_ms), time(issue.since_ms), time(issue.closed_ms)
  local with = issue.state == "open" and links.of("issues", issue) or {}
  issue.alerts, issue.suggestions = with.alerts or p.json.array(), with.suggestions or p.json.array()
  return issue
end

local function touches(issue, route)
  for _, name in ipairs(issue.affected or {}) do
    if name == route or name:match "^%S+ (.*)$" == route then return true end
  end
  return issue.target == route
end

local function filtered(query)
  local out = p.json.array()
  for _, issue in ipairs(book:list()) do
    if (not query.state or issue.state == query.state) and (not query.type or issue.type == query.type) and
      (not query.route or touches(issue, query.route)) then out[#out + 1] = show(issue) end
  end
  return out
end

app:get(admin.path "issues", {
  summary = "What is wrong, or was",
  query = admin.paged({ state = { type = "string", values = { "open", "closed" }, hint = "'open' or 'closed'" }, type = { type = "string", most = 200, hint = "a type of issues" },
    route = { type = "string", hint = "a route as GET signals names it" } }, 500, 5000),
  answers = { [200] = { issues = { "Issue" }, learning = "Learning" } },
  errors = { [400] = "bad_state bad_limit bad_cursor" },
}, function(req)
  local issues, more, wrong = admin.page(req, filtered(req.asked), function(issue) return issue.id end)
  if not issues then return unpack(wrong) end
  return admin.envelope({ issues = issues, learning = book:learning() }, nil, more)
end)

app:get(admin.path "issues/:id", {
  summary = "One issue",
  answers = { [200] = "Issue" },
  errors = { [404] = "unknown_issue" },
}, function(req)
  for _, issue in ipairs(book:list()) do
    if issue.id == req.params.id then return admin.envelope(show(issue)) end
  end
  return admin.problem(404, "unknown_issue", "there is no issue of this id; see GET issues")
end)

app:post(admin.path "analyze", {
  summary = "What is wrong now, and what was looked at",
  body = {
    endpoint = { type = "string", pattern = "^/", hint = "a path, as in \"/api/users\"" },
    priority = { type = "string", values = { "critical", "high", "normal", "low" }, hint = "critical, high, normal or low" },
  },
  body_optional = true,
  answers = { [200] = { endpoint = "string|null", priority = "string", issues = { "Issue" }, looked_at = { "Thing" }, learning = "Learning", note = "string|null",
    cost = { memory_bytes = "integer", tick_ms = "number", mean_tick_ms = "number", companies = "integer", company_bytes = "integer", fits = "integer", longest_fit_ms = "number" } } },
}, function(req)
  local asked = req.input
  look()
  local looked, routes = p.json.array(), 0
  for _, thing in ipairs(book.things) do
    local here = not asked.endpoint or thing.kind ~= "route" or thing.route == asked.endpoint
    if here then
      routes = routes + (thing.kind == "route" and 1 or 0)
      looked[#looked + 1] = { kind = thing.kind, name = thing.name, samples = thing.samples, learnt = thing.learnt, needed = thing.needed,
        requests = thing.requests, now = thing.now, usual = thing.usual, moved = thing.moved, company = thing.company }
    end
  end
  local cost = admin.watch.cost()
  return admin.envelope {
    endpoint = asked.endpoint or p.json.null, priority = asked.priority or "normal",
    issues = filtered { state = "open", route = asked.endpoint }, looked_at = looked, learning = book:learning(),
    note = asked.endpoint and routes == 0 and "no request has come for this endpoint yet" or p.json.null,
    cost = { memory_bytes = cost.bytes, tick_ms = cost.tick_ms, mean_tick_ms = cost.mean_ms, companies = cost.companies, company_bytes = cost.company_bytes,
      fits = cost.fits, longest_fit_ms = cost.fit_ms },
  }
end)

app:get(admin.path "signals", {
  summary = "What is watched, with units, and what is usual",
  answers = { [200] = { signals = { "Signal" }, things = { "Thing" } } },
}, function()
  return admin.envelope { signals = admin.watch.signals(), things = admin.watch.things() }
end)

return app
