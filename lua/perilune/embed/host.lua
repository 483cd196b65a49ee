--- The public module of the library, for programs that are not ours: local perilune = require "perilune"
--
--     local engine = perilune.new { rules = "rules", state = "/var/lib/myapp" }
--     local span = engine:start("GET", "/api/users/:id")
--     local rows = span:wrap("db", query, "select ...")
--     span:finish { status = 200, bytes = n }
--     engine:tick()                       -- a few times a second, unless thread = true
--
--     perilune.attach "/run/perilune/perilune.sock"    spans go to a running engine: one service in its statistics
--     perilune.attach("http://10.0.0.5:8001", { token = "..." })   the same of an engine on another machine
--     perilune.compress(body, { accept = "br, gzip" }) perilune.ml.forest(rows)
--     perilune.tasks { threads = 2 }                   task threads
--     perilune.pool.postgres { dsn = "...", max = 4 }  connections to PostgreSQL
--     perilune.middleware(engine)                      for function(req, next)
--     perilune.nginx                                   for nginx + Lua
--     perilune.testing                                 rules and routes under test, without a server
--
-- Names of routes are templates ("/api/users/:id"), never paths: each is a row in the statistics, and there is place for
-- routes_max of them. Times are milliseconds, sizes bytes.

local core = ...

local now = core.now
local Span, Engine = core.span, core.engine

---@class perilune
local M = { version = core.version, json = core.json, text = core.text }

local check_options = core.file("lua/perilune/embed/options.lua", core).check

-- ---- spans ----

---@class perilune.Span
---@field phase fun(self, name: string, ms: number): perilune.Span   more time in a phase: lua, pool_wait, db, redis, task, cache, compress, ...

local finish = Span.finish

--- Ends the span. `result`: status (200; 0: the client went away), bytes (of the answer), bytes_in, ms (since start() when absent),
-- trace_id. Numbers in the same order do as well. A span is finished once; one that is forgotten counts as aborted.
---@param result? {status?: integer, bytes?: integer, bytes_in?: integer, ms?: number, trace_id?: string}|integer
function Span:finish(result, ...)
  if type(result) == "table" then return finish(self, result.status, result.bytes, result.bytes_in, result.ms, result.trace_id) end
  return finish(self, result, ...)
end

local function wrapped(span, name, began, ok, ...)
  span:phase(name, (now() - began) * 1000)
  if not ok then error((...), 0) end
  return ...
end

--- Calls fn(...), counts its time as a phase, and returns what it returns; errors go on.
function Span:wrap(name, fn, ...)
  return wrapped(self, name, now(), pcall(fn, ...))
end

-- ---- engines ----

---@class perilune.Engine
---@field start fun(self, method: string, route: string): perilune.Span
---@field close fun(self)   open spans are lost

local function state(engine)
  local env = core.environment(engine)
  if not env.handlers then env.handlers, env.apply = {}, {} end
  return env
end

local function answer(_, value, why)
  if value == nil then return nil, why end
  return value
end

local function own_only(engine, what)
  local info = core.info(engine)
  if info.mode ~= "own" then error(("engine:%s(): an attached engine is asked at http://%s/"):format(what, info.admin), 3) end
end

local function dispatch(engine)
  local env = state(engine)
  for _, event in ipairs(core.call(engine, "events") or {}) do
    local fn = event.event == "set" and env.apply[event.name]
    if fn then
      local ok, why = pcall(fn, event.value, event.why)
      if not ok then core.log(("the setting '%s' could not be applied: %s"):format(event.name, tostring(why))) end
    end
    for _, name in ipairs { event.event, "*" } do
      for _, handler in ipairs(env.handlers[name] or {}) do
        local ok, why = pcall(handler, event)
        if not ok then core.log(("a handler of '%s' failed: %s"):format(name, tostring(why))) end
      end
    end
  end
end

--- Does what is due, and tells handlers and settings what has happened. A few times a second; with a thread of its own only
-- the telling is left. Attached, it looks whether the engine still lives, and for its successor when it does not: true; or nil and why.
function Engine:tick()
  local path = state(self).path
  if path then return core.attach_again(self, path) end
  core.tick(self)
  dispatch(self)
  return true
end

local kinds = { issue = true, suggestion = true, trial = true, set = true, ["*"] = true }

--- Calls fn(event) when something has happened, in tick(): "issue", "suggestion", "trial", "set" (a setting) or "*".
function Engine:on(kind, fn)
  own_only(self, "on")
  if not kinds[kind] then error("engine:on() takes \"issue\", \"suggestion\", \"trial\", \"set\" or \"*\", not " .. tostring(kind), 2) end
  if type(fn) ~= "function" then error("engine:on() takes a function of the event", 2) end
  local handlers = state(self).handlers
  handlers[kind] = handlers[kind] or {}
  table.insert(handlers[kind], fn)
end

--- Figures of the last window_s seconds (60; 0: since the start): total, routes, host, as GET stats of the engine has them.
function Engine:stats(window_s)
  own_only(self, "stats")
  return answer(self, core.call(self, "stats", window_s))
end

--- Looks now. Returns { issues, looked_at, learning }; of one route, if it is named.
function Engine:analyze(route)
  own_only(self, "analyze")
  return answer(self, core.call(self, "analyze", route))
end

--- Issues; state "open" or "closed", all without.
function Engine:issues(which)
  own_only(self, "issues")
  return answer(self, core.call(self, "issues", which))
end

--- Open suggestions, the best first; with options.all also those that have ended.
function Engine:suggestions(options)
  own_only(self, "suggestions")
  return answer(self, core.call(self, "suggestions", options and options.all or false))
end

function Engine:trials()
  own_only(self, "trials")
  return answer(self, core.call(self, "trials"))
end

--- Puts a suggestion to the trial: its state, or nil and why not.
function Engine:apply(id)
  own_only(self, "apply")
  local done, why = core.call(self, "apply", id)
  dispatch(self)
  return done, why
end

function Engine:dismiss(id, reason)
  own_only(self, "dismiss")
  return core.call(self, "dismiss", id, reason or "dismissed")
end

--- Takes a trial, or what it has kept, back.
function Engine:rollback(id)
  own_only(self, "rollback")
  local done, why = core.call(self, "rollback", id)
  dispatch(self)
  return done, why
end

local setting_options = { name = "string", type = "string", unit = "string", min = "number", max = "number", step = "number", settle_s = "number",
  group = "string", doc = "string", apply = "function" }

--- Declares a setting of the application, so that rules may turn it: name, type ("integer", "number" or "boolean"), default, min, max,
-- step, unit, settle_s (2: how long a change takes to show), group, doc, apply = function(value, why). Returns the value in force, for
-- which apply was called: the default, or what an earlier run has proven.
function Engine:setting(options)
  own_only(self, "setting")
  local default = options and options.default
  local known = {}
  for name, kind in pairs(setting_options) do known[name] = kind end
  known.default = type(default)
  check_options("engine:setting", options, known)
  local function need(name)
    if options[name] == nil then error(("engine:setting: '%s' is missing"):format(name), 3) end
  end
  need "name" need "apply" need "default"
  local kind = options.type or (type(default) == "boolean" and "boolean" or "number")
  if kind ~= "integer" and kind ~= "number" and kind ~= "boolean" then error("engine:setting: 'type' is integer, number or boolean", 2) end
  if kind ~= "boolean" then
    need "min" need "max"
    if type(default) ~= "number" or default < options.min or default > options.max then
      error(("engine:setting: 'default' of '%s' is a number from %s to %s"):format(options.name, options.min, options.max), 2)
    end
  elseif type(default) ~= "boolean" then
    error(("engine:setting: 'default' of '%s' is true or false"):format(options.name), 2)
  end
  if not options.name:find "^[%w_%-%.]+$" then error("engine:setting: 'name' has letters, digits, '_', '-' and '.', as in \"cache.entries\"", 2) end
  local value, why = core.call(self, "setting", { name = options.name, type = kind, unit = options.unit or "", min = options.min, max = options.max, step = options.step,
    default = default, settle_s = options.settle_s or 2, group = options.group or options.name, doc = options.doc or "" })
  if value == nil then error(why, 2) end
  state(self).apply[options.name] = options.apply
  options.apply(value, "start")
  return value
end

--- Sets a setting of the application: an operator's edit, which ends a trial of it. True; or nil and why not.
function Engine:set(name, value)
  own_only(self, "set")
  local done, why = core.call(self, "set", name, value)
  dispatch(self)
  return done, why
end

--- A setting's value in force: of the application, or of the engine that this is attached to.
function Engine:value(name)
  local info = core.info(self)
  if info.mode ~= "own" then return core.value(self, name) end
  local one = core.call(self, "settings")[name]
  return one and one.value
end

--- { mode = "own", generation, problems, lua_bytes, thread, lost } or { mode = "attached", admin, lost } and, on
-- the engine's machine, version and lane.
-- `problems`: what is wrong with the files of the rules folder as they are now; "" when they are in force.
function Engine:info() return core.info(self) end

-- ---- the module ----

local function check_routes(where, routes)
  if not routes or (routes >= 8 and routes <= 1024 and routes == math.floor(routes)) then return end
  error(("%s: 'routes_max' is a whole number from 8 to 1024"):format(where), 3)
end

local new_options = { rules = "string", state = "string", history_bytes = "number", routes_max = "number", thread = "boolean" }

--- An engine inside this program. Options: rules (folder; without it the built-in rules alone), state (folder for journals; without it
-- nothing outlives the process), thread (true: it ticks by itself), history_bytes (1 MiB), routes_max (64). Returns it; or nil and why.
---@return perilune.Engine?, string?
function M.new(options)
  options = options or {}
  check_options("perilune.new", options, new_options)
  check_routes("perilune.new", options.routes_max)
  local bytes = options.history_bytes or 0
  if bytes ~= 0 and (bytes < 65536 or bytes > 2 ^ 31) then error("perilune.new: 'history_bytes' is from 65536 to 2147483648", 2) end
  return core.own(options.rules, options.state, bytes, options.routes_max or 0, options.thread or false)
end

local attach_options = { token = "string", routes_max = "number", lazy = "boolean" }

--- Spans of this program go to a running engine. On its machine by the path of its socket, <state>/perilune.sock: they are written
-- into its memory. From another machine by the address of its control API, "http://10.0.0.5:8001": a thread sends once a second what
-- was measured. Options, of the latter: token (with the role operate), routes_max (64), lazy (true: nobody waits for its first answer; tick()
-- tells). Returns it; or nil and why.
---@param where string
---@param options? {token?: string, routes_max?: integer, lazy?: boolean}
---@return perilune.Engine?, string?
function M.attach(where, options)
  if type(where) ~= "string" then
    error("perilune.attach takes the path of the engine's socket, as in \"/run/perilune/perilune.sock\", or the address of its control API, as in \"http://10.0.0.5:8001\"", 2)
  end
  check_options("perilune.attach", options or {}, attach_options)
  options = options or {}
  local remote, path = where:find "^https?://" ~= nil, where
  if options.token and not options.token:find "^[%w%-%._~%+/=]+$" then error("perilune.attach: 'token' has letters, digits and -._~+/= only", 2) end
  check_routes("perilune.attach", options.routes_max)
  local engine, why
  if remote then engine, why = core.attach_remote(where, options.token, options.routes_max, options.lazy) else engine, why = core.attach(path) end
  if not engine then return nil, why end
  state(engine).path = path
  return engine
end

local LEVELS = { zstd = 3, br = 5, gzip = 6, deflate = 6 }
local ORDER = { "zstd", "br", "gzip", "deflate" }
local compress_options = { accept = "string", coding = "string", level = "number", min_bytes = "number", order = "table" }
local codec

--- The body as a client takes it. Options: accept (its Accept-Encoding) or coding ("br"), order (preference among equals), level, min_bytes
-- (1024: smaller ones stay). Returns the body and its Content-Encoding; the body as it is and nil when it stays.
function M.compress(body, options)
  if type(body) ~= "string" then error("perilune.compress takes a string and a table of options", 2) end
  check_options("perilune.compress", options or {}, compress_options)
  options = options or {}
  codec = codec or require "perilune.codec"
  if #body < (options.min_bytes or 1024) then return body end
  local coding = options.coding or codec.choose(options.accept or "", options.order or ORDER)
  if coding == "identity" then return body end
  local smaller, why, word = codec.compress(body, coding, options.level or LEVELS[coding], #body - 1)
  if smaller then return smaller, coding end
  if word ~= "too_large" then return body, nil, why end
  return body
end

--- The body without its coding; at most max_bytes (64 MiB) of it. nil, why and a word ("protocol", "too_large") when it cannot be.
function M.decompress(body, coding, max_bytes)
  codec = codec or require "perilune.codec"
  return codec.decompress(body, coding, max_bytes)
end

local makers = {}
local function made(file, options)
  makers[file] = makers[file] or core.file("lua/perilune/embed/" .. file .. ".lua", core)
  return makers[file](options)
end

---@class perilune.HostTasks
---@field run fun(self, spec: perilune.TaskSpec): any   waits for it: what it gave; or nil, message, code
---@field start fun(self, spec: perilune.TaskSpec): perilune.Task?, string?, string?
---@field all fun(self, specs: (perilune.TaskSpec|perilune.Task)[]): any[]?, string?, string?
---@field map fun(self, list: any[], spec: perilune.TaskSpec|{chunk?: integer}): any[]?, string?, string?
---@field stats fun(self): table   { width, threads, lost, max, queued, running, utilization, kinds }
---@field close fun(self)   tasks under way are told to stop; who waits for one gets "cancelled"
---@field fd fun(self): integer   readable when there is something to do
---@field timeout fun(self): integer   milliseconds until there is something to do anyway; -1: none
---@field step fun(self, wait?: boolean)   does what there is to do and resumes who waited; with true it waits for something first

---@class perilune.HostDatabase: perilune.Database
---@field stats fun(self): table   { health, reason, server, max, count, idle, used, pending_requests, statements, errors, wait_time_ms, use_time_ms, ... }
---@field close fun(self)   who waits for a statement gets nil, "the pool was closed", "57P01"
---@field fd fun(self): integer   readable when there is something to do
---@field timeout fun(self): integer   milliseconds until there is something to do anyway; -1: none
---@field step fun(self, wait?: boolean)   does what there is to do and resumes who waited; with true it waits for something first

--- Task threads inside this program, in the words that handlers have (perilune.tasks). Options: threads (2), max (50: queued or running;
-- above it "busy"), deadline_ms (30000), cpu_ms (2000: processor time of one task), copy_bytes (16 MiB), lost_ms, path and cpath (of
-- this program: where tasks find their modules), jit (false: tasks are interpreted, so that one can be ended), loop (require "luv", or
-- "step" when the program calls tasks:step() itself: calls in a coroutine yield; without it they wait). Besides: tasks:stats(),
-- tasks:close(); for any other loop tasks:fd(), tasks:timeout() and tasks:step(). Returns it; or nil and why.
---@param options? {threads?: integer, max?: integer, deadline_ms?: integer, cpu_ms?: integer, copy_bytes?: integer, lost_ms?: integer, path?: string, cpath?: string, jit?: boolean, loop?: table|"step"}
---@return perilune.HostTasks?, string?
function M.tasks(options)
  return made("host_tasks", options)
end

---@class perilune.pool
local pool = {}
M.pool = pool

--- A pool of connections to PostgreSQL, in the words that handlers have (perilune.postgres). Options: dsn, or host, port, dbname, user,
-- password, sslmode, sslrootcert, application_name; min (0), max (20), wait_ms, statement_ms, connect_ms, idle_ms, lifetime_ms (the
-- defaults of pool.db.*), pooler (true behind a transaction-mode pooler), name ("main", for messages), loop as of perilune.tasks.
-- Besides: db:stats(), db:close(), db:fd(), db:timeout(), db:step(). Returns it; or nil and why. A server that is away is no error
-- here: statements return nil, message, SQLSTATE until it is back.
---@param options string|{dsn?: string, host?: string, port?: integer|string, dbname?: string, user?: string, password?: string, sslmode?: string, sslrootcert?: string, application_name?: string, min?: integer, max?: integer, wait_ms?: integer, statement_ms?: integer, connect_ms?: integer, idle_ms?: integer, lifetime_ms?: integer, pooler?: boolean, name?: string, loop?: table|"step"}
---@return perilune.HostDatabase?, string?
function pool.postgres(options)
  return made("host_postgres", options)
end

-- What is not needed by everybody is loaded when it is first used.
local lazy = { ml = "lua/perilune/ml.lua", nginx = "lua/perilune/embed/nginx.lua", middleware = "lua/perilune/embed/middleware.lua",
  testing = "lua/perilune/embed/testing.lua" }

return setmetatable(M, { __index = function(self, name)
  local file = lazy[name]
  if not file then return nil end
  local module = core.file(file, core, self)
  rawset(self, name, module)
  return module
end })
