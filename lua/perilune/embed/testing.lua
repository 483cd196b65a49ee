--- Rules and routes under test, in any test runner, without a server: perilune.testing
--
--     local testing = require("perilune").testing
--
--     local app = testing.app("rules/routes/api.lua", { clock = clock, postgres = { main = fake } })
--     local response = app:request { method = "GET", path = "/users/7", headers = { accept = "text/html" } }
--     assert.equal(200, response.status)  assert.same({ id = "7" }, response.json)
--
--     local snapshot = testing.healthy()              -- or testing.recorded "facts.json", which GET suggestions/facts gave
--     snapshot.a.now.db = 80                          -- the route of a golden fixture: its parts are named
--     local found = testing.rule("rules/suggestions/mine.lua", snapshot)
--     assert.equal("GET /a", found[1].target)
--
-- A route runs as it does in the server, as far as a handler can tell, but on the test's own stack: what waits there (sleep) moves the
-- clock here, and what would ask somebody else (http, postgres, redis) asks what the test puts into its place.

local core, perilune = ...

local M = {}

-- ---- the library's own files ----

local defaults = core.setting_defaults()

-- Without an engine nothing is taken back from a rule: it is yours, and so is the process.
local function bounded(_, fn, ...)
  local ok, answer = pcall(fn, ...)
  return ok, answer, 0, false
end

local inside = { bounded = bounded, json = core.json, text = core.text, nearest = core.nearest, forward = function(name, path) return { forwarded_to = name, path = path } end }
local loaded = {}
local function part(name)
  if not loaded[name] then loaded[name] = core.file("lua/" .. name:gsub("%.", "/") .. ".lua", inside, part) end
  return loaded[name]
end

-- ---- a clock ----

---@class perilune.testing.Clock
local Clock = {}
Clock.__index = Clock

--- A clock that stands until it is moved. `at` in seconds (1,000).
function M.clock(at) return setmetatable({ at = at or 1000 }, Clock) end
function Clock:now() return self.at end
function Clock:advance(seconds) self.at = self.at + seconds end

-- ---- routes ----

local function read(path)
  local file, why = io.open(path, "rb")
  if not file then error("testing: " .. why, 3) end
  local text = file:read "*a"
  file:close()
  return text
end

local function missing(kind)
  return function(name)
    error(("the handler asks for %s%s, which this test has not put into its place: give testing.app { %s = ... }"):format(kind, name and (" '%s'"):format(tostring(name)) or "", kind), 2)
  end
end

local function public(options, log)
  local function named(kind)
    return function(name)
      local one = (options[kind] or {})[name]
      if not one then missing(kind)(name) end
      return one
    end
  end
  local levels = {}
  for _, level in ipairs { "error", "warn", "info", "debug" } do
    levels[level] = function(text) log[#log + 1] = { level = level, text = tostring(text) } end
  end
  return {
    app = part "perilune.app".new, json = core.json, text = core.text, null = core.json.null, log = levels,
    now = function() return options.clock:now() end, sleep = function(seconds) options.clock:advance(seconds) end,
    forward = inside.forward, generation = 1, version = core.version,
    http = options.http or setmetatable({}, { __index = function() missing "http"() end }), postgres = named "postgres", redis = named "redis",
  }
end

local function environment(options, log)
  local p = public(options, log)
  local modules = { perilune = p, ["perilune.http"] = p.http }
  local env
  local function require(name)
    if (options.modules or {})[name] ~= nil then return options.modules[name] end
    if modules[name] ~= nil then return modules[name] end
    if name == "perilune.ml" then return perilune.ml end
    if name:find "^lib%." and options.rules then
      local path = options.rules .. "/" .. name:gsub("%.", "/") .. ".lua"
      local chunk = assert(loadstring(read(path), "@" .. path))
      modules[name] = setfenv(chunk, env)() or true
      return modules[name]
    end
    error(("require '%s': give testing.app { modules = { [\"%s\"] = ... } }"):format(name, name), 2)
  end
  env = setmetatable({ require = require, print = function(...) p.log.info(table.concat({ ... }, " ")) end }, { __index = function(_, name)
    local value = _G[name]
    if value == nil or name == "io" or name == "debug" or name == "ffi" or name == "package" then
      error(("'%s' is not available to scripts"):format(tostring(name)), 2)
    end
    return value
  end, __newindex = function(_, name) error(("globals are not allowed: write 'local %s = ...'"):format(tostring(name)), 2) end })
  return env
end

-- Which of two patterns is asked first: text before parameters before the rest.
local function rank(pattern)
  return (pattern:gsub("[^/]+", function(segment) return segment:find "^:" and "b" or segment:find "^%*" and "c" or "a" end))
end

local function match(pattern, path)
  local names = {}
  local expression = "^" .. pattern:gsub("[^/]+", function(segment)
    local kind, name = segment:match "^([:%*])([%w_]*)$"
    if not kind then return (segment:gsub("%p", "%%%0")) end
    names[#names + 1] = name
    return kind == ":" and "([^/]+)" or "(.*)"
  end) .. "$"
  local found = { path:match(expression) }
  if not found[1] then return end
  local params = {}
  for i, name in ipairs(names) do params[name] = found[i] end
  return params
end

local function decode(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function query_of(text)
  local out = {}
  for pair in (text or ""):gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=?(.*)$"
    name = decode(name)
    if out[name] == nil then out[name] = decode(value) end
  end
  return out
end

local function headers_of(given)
  local lower = {}
  for name, value in pairs(given or {}) do lower[name:lower()] = value end
  return setmetatable({}, { __index = function(_, name) return lower[name:lower()] end, __newindex = function() error "the headers of a request are read-only" end })
end

local function answer_of(first, second, third)
  if type(first) == "table" and first.forwarded_to then return { forwarded_to = first.forwarded_to, path = first.path, headers = {} } end
  local status, body, headers = 200, first, nil
  if type(first) == "number" then status, body, headers = first, second, third end
  local out = { status = status, headers = {} }
  for name, value in pairs(headers or {}) do out.headers[name:lower()] = value end
  if type(body) == "function" then
    local parts = {}
    body(function(bytes) parts[#parts + 1] = bytes return true end)
    out.body = table.concat(parts)
  elseif type(body) == "table" then
    out.body = core.json.encode(body)
    out.headers["content-type"] = out.headers["content-type"] or "application/json"
  else
    out.body = body and tostring(body) or ""
    if body then out.headers["content-type"] = out.headers["content-type"] or "text/plain; charset=utf-8" end
  end
  if (out.headers["content-type"] or ""):find "json" then out.json = core.json.decode(out.body) end
  return out
end

---@class perilune.testing.App
local App = {}
App.__index = App

--- Loads a route file. options: clock, http, postgres and redis (tables of fakes by name), modules (by the name that require takes), rules (its folder,
-- for lib/; taken from the path when that has "/routes/"). `app.log` has what was logged: { level, text } each.
function M.app(path, options)
  options = options or {}
  options.clock = options.clock or M.clock()
  options.rules = options.rules or path:match "^(.*)/routes/"
  local log = {}
  local chunk, why = loadstring(read(path), "@" .. path)
  if not chunk then error(why, 2) end
  setfenv(chunk, environment(options, log))
  local routes, trouble = part "perilune.app".collect(chunk(), chunk)
  if not routes then error(trouble, 2) end
  table.sort(routes, function(a, b) return rank(a.path) < rank(b.path) end)
  return setmetatable({ routes = routes, log = log, clock = options.clock }, App)
end

--- Asks a handler. request: method ("GET"), path (with "?query"), headers, body (a table is sent as JSON), host, remote_address. Returns { status, headers
-- (lower case), body, json } or { forwarded_to, path }; a handler that raises answers 500 with `error`, no route answers 404.
function App:request(request)
  if type(request) == "string" then request = { path = request } end
  local method = request.method or "GET"
  local path, query = request.path:match "^([^?]*)%??(.*)$"
  local body, headers = request.body, headers_of(request.headers)
  if type(body) == "table" then body = core.json.encode(body) end
  local other
  for _, route in ipairs(self.routes) do
    local params = not route.every_s and match(route.path, path)
    if params and (route.method == method or route.method == "*" or (method == "HEAD" and route.method == "GET")) then
      if route.upstream then return { forwarded_to = route.upstream, path = route.rest and "/" .. params[route.rest] or request.path, headers = {} } end
      local raw = {}
      for name, value in pairs(params) do raw[name], params[name] = value, decode((value:gsub("+", "%%2B"))) end
      local req = { method = method, path = path, query_string = query, host = request.host or "localhost", remote_address = request.remote_address or "127.0.0.1",
        trace_id = ("0"):rep(31) .. "1", generation = 1, params = params, raw_params = raw, query = query_of(query), headers = headers, body = body, route = route.path }
      local result = { pcall(route.handler, req) }
      if not result[1] then return { status = 500, headers = {}, body = "", error = tostring(result[2]) } end
      return answer_of(result[2], result[3], result[4])
    end
    other = other or params
  end
  return { status = other and 405 or 404, headers = {}, body = "" }
end

-- ---- rules ----

--- A snapshot of a healthy engine under load, in which no rule is raised: a route GET /a with the database and GET /b with an upstream, two pools, three
-- peers, a cache. Its parts are fields, too: host, a, b, main, redis, p1, p2, up, task, statement. Change what should be wrong.
function M.healthy()
  local settings = {}
  for name, one in pairs(defaults) do settings[name] = one.default end
  return part "perilune.suggestions.golden".base(settings)
end

--- A snapshot that GET suggestions/facts gave: a path or the decoded table.
function M.recorded(from)
  local snapshot = type(from) == "string" and core.json.decode(read(from)) or from
  snapshot = type(snapshot) == "table" and (snapshot.data or snapshot)
  if type(snapshot) ~= "table" or type(snapshot.things) ~= "table" then error("testing.recorded: this is no answer of GET suggestions/facts", 2) end
  return snapshot
end

local function reader(snapshot, settings)
  return function(name)
    local setting_names = part "perilune.setting_names"
    local values, whole = snapshot.settings or {}, setting_names.of_upstreams(name)
    local one, value = settings and settings[name] or defaults[name] or whole and defaults[whole], values[name]
    if value == nil and whole then value = values[whole] end
    local id, bound = setting_names.of_pool(name)
    for _, pool in ipairs(snapshot.pools or {}) do
      if pool.id == id then one, value = defaults[setting_names.of_pools(pool.pool_type, bound)], pool[bound] end
    end
    if not one then return end
    if value == nil then value = one.default end
    return { value = value, stable = value, min = one.min, max = one.max, type = one.type, unit = one.unit, scope = one.scope or "global", group = one.group or name, step = one.step, settle_s = one.settle_s or 2 }
  end
end

local function units_of(snapshot)
  local out = {}
  for _, thing in ipairs(snapshot.things) do
    local units = out[thing.kind] or {}
    for name in pairs(thing.now or {}) do
      units[name] = name:find "_ms$" and "ms" or (name:find "_share$" or name:find "_rat[ei]o?$") and "ratio" or name:find "bytes" and "bytes" or ""
    end
    out[thing.kind] = units
  end
  return out
end

--- What a rule says of a snapshot: a list of { target, title, operations or advice, impact, explanation }; empty when it is not raised. The rule is a path or
-- a table. settings: those of an application by name, as { default, min, max, type }. A rule that is malformed or raises is an error of the test.
function M.rule(rule, snapshot, settings)
  local rules = part "perilune.suggestions.rules"
  if type(rule) == "string" then
    local chunk, why = loadstring(read(rule), "@" .. rule)
    if not chunk then error(why, 2) end
    setfenv(chunk, setmetatable({ require = part }, { __index = _G }))
    rule = rules.check(chunk(), "suggestions." .. rule:match "([^/]+)%.lua$")
  else
    rule = rules.check(rule, "suggestions." .. tostring(rule.id))
  end
  for name, one in pairs(settings or {}) do
    if snapshot.settings[name] == nil then snapshot.settings[name] = one.default end
  end
  local thresholds = core.file("rules/thresholds.lua")
  local f = part "perilune.suggestions.facts".new(snapshot, units_of(snapshot), thresholds)
  local book = part "perilune.suggestions".new({ rule }, { note = function() return true end, mode = function() return "suggest" end,
    read = reader(snapshot, settings), log = function() end, rest_ms = function() return 0 end })
  function book.ask(_, one, what, ...)
    local ok, answer = pcall(one[what], ...)
    if not ok then error(("%s: in '%s': %s"):format(one.id, what, tostring(answer)), 0) end
    return answer
  end
  local list = {}
  for _, s in ipairs(f:of(rule.on)) do
    local known = true
    for _, name in ipairs(rule.needs or {}) do known = known and s.now[name] ~= nil end
    if known and book:ask(rule, "when", s, f) then
      local fields, why = book:compute(rule, s, f)
      if fields then
        fields.target = s.name
        list[#list + 1] = fields
      elseif why then list[#list + 1] = { target = s.name, why = why } end
    end
  end
  return list
end

return M
