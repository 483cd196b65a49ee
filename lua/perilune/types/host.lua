---@meta
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

---@class perilune

---@class perilune.Span
---@field phase fun(self, name: string, ms: number): perilune.Span   more time in a phase: lua, pool_wait, db, redis, task, cache, compress, ...

---@class perilune.Span
local Span = {}

--- Ends the span. `result`: status (200; 0: the client went away), bytes (of the answer), bytes_in, ms (since start() when absent),
-- trace_id. Numbers in the same order do as well. A span is finished once; one that is forgotten counts as aborted.
---@param result? {status?: integer, bytes?: integer, bytes_in?: integer, ms?: number, trace_id?: string}|integer
function Span:finish(result, ...) end

--- Calls fn(...), counts its time as a phase, and returns what it returns; errors go on.
function Span:wrap(name, fn, ...) end

---@class perilune.Engine
---@field start fun(self, method: string, route: string): perilune.Span
---@field close fun(self)   open spans are lost

---@class perilune.Engine
local Engine = {}

--- Does what is due, and tells handlers and settings what has happened. A few times a second; with a thread of its own only
-- the telling is left. Attached, it looks whether the engine still lives, and for its successor when it does not: true; or nil and why.
function Engine:tick() end

--- Calls fn(event) when something has happened, in tick(): "issue", "suggestion", "trial", "set" (a setting) or "*".
function Engine:on(kind, fn) end

--- Figures of the last window_s seconds (60; 0: since the start): total, routes, host, as GET stats of the engine has them.
function Engine:stats(window_s) end

--- Looks now. Returns { issues, looked_at, learning }; of one route, if it is named.
function Engine:analyze(route) end

--- Issues; state "open" or "closed", all without.
function Engine:issues(which) end

--- Open suggestions, the best first; with options.all also those that have ended.
function Engine:suggestions(options) end

--- Puts a suggestion to the trial: its state, or nil and why not.
function Engine:apply(id) end

--- Takes a trial, or what it has kept, back.
function Engine:rollback(id) end

--- Declares a setting of the application, so that rules may turn it: name, type ("integer", "number" or "boolean"), default, min, max,
-- step, unit, settle_s (2: how long a change takes to show), group, doc, apply = function(value, why). Returns the value in force, for
-- which apply was called: the default, or what an earlier run has proven.
function Engine:setting(options) end

--- Sets a setting of the application: an operator's edit, which ends a trial of it. True; or nil and why not.
function Engine:set(name, value) end

--- A setting's value in force: of the application, or of the engine that this is attached to.
function Engine:value(name) end

--- { mode = "own", generation, problems, lua_bytes, thread, lost } or { mode = "attached", admin, lost } and, on
-- the engine's machine, version and lane.
-- `problems`: what is wrong with the files of the rules folder as they are now; "" when they are in force.
function Engine:info() end

---@class perilune
local M = {}

--- An engine inside this program. Options: rules (folder; without it the built-in rules alone), state (folder for journals; without it
-- nothing outlives the process), thread (true: it ticks by itself), history_bytes (1 MiB), routes_max (64). Returns it; or nil and why.
---@return perilune.Engine?, string?
function M.new(options) end

--- Spans of this program go to a running engine. On its machine by the path of its socket, <state>/perilune.sock: they are written
-- into its memory. From another machine by the address of its control API, "http://10.0.0.5:8001": a thread sends once a second what
-- was measured. Options, of the latter: token (with the role operate), routes_max (64), lazy (true: nobody waits for its first answer; tick()
-- tells). Returns it; or nil and why.
---@param where string
---@param options? {token?: string, routes_max?: integer, lazy?: boolean}
---@return perilune.Engine?, string?
function M.attach(where, options) end

--- The body as a client takes it. Options: accept (its Accept-Encoding) or coding ("br"), order (preference among equals), level, min_bytes
-- (1024: smaller ones stay). Returns the body and its Content-Encoding; the body as it is and nil when it stays.
function M.compress(body, options) end

--- The body without its coding; at most max_bytes (64 MiB) of it. nil, why and a word ("protocol", "too_large") when it cannot be.
function M.decompress(body, coding, max_bytes) end

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
function M.tasks(options) end

---@class perilune.pool

---@class perilune.pool
local pool = {}

--- A pool of connections to PostgreSQL, in the words that handlers have (perilune.postgres). Options: dsn, or host, port, dbname, user,
-- password, sslmode, sslrootcert, application_name; min (0), max (20), wait_ms, statement_ms, connect_ms, idle_ms, lifetime_ms (the
-- defaults of pool.db.*), pooler (true behind a transaction-mode pooler), name ("main", for messages), loop as of perilune.tasks.
-- Besides: db:stats(), db:close(), db:fd(), db:timeout(), db:step(). Returns it; or nil and why. A server that is away is no error
-- here: statements return nil, message, SQLSTATE until it is back.
---@param options string|{dsn?: string, host?: string, port?: integer|string, dbname?: string, user?: string, password?: string, sslmode?: string, sslrootcert?: string, application_name?: string, min?: integer, max?: integer, wait_ms?: integer, statement_ms?: integer, connect_ms?: integer, idle_ms?: integer, lifetime_ms?: integer, pooler?: boolean, name?: string, loop?: table|"step"}
---@return perilune.HostDatabase?, string?
function pool.postgres(options) end
