---@meta
--- Work on task threads; the handler waits, the loop does not.
--
--     local tasks = require "perilune.tasks"
--     local total, message, code = tasks:run { module = "lib.report", fn = "total", rows, priority = "high", deadline_ms = 200 }
--     local digest = tasks:run { kernel = "sha256", req.body }
--     local results = tasks:all { { module = "lib.report", fn = "total", a }, { kernel = "gzip", text, level = 9 } }
--     local sizes = tasks:map(list, { module = "lib.report", fn = "size" })
--     local task = tasks:start { ... }   -- goes on meanwhile
--     task:await() or task:cancel()
--
-- A function of a module (rules/lib/name.lua) runs in a state of its thread, on the code of the handler's
-- generation. Arguments and results are copied: numbers, strings, booleans, json.null and tables of them. What it
-- cannot do is wait. A module's variables are per thread, so keep nothing in them.
--
-- A failure returns nil, a message and a code: "busy" (the queue is full), "timeout" (its deadline), "cancelled",
-- "script" (it raised an error), "interrupted" (too much CPU time or memory), "too_large", "invalid", "protocol", "no_memory".

---@class perilune.TaskSpec
---@field module? string   "lib.name"
---@field fn? string       a function of that module; the list part are its arguments
---@field kernel? string   or work in C by name; the first value of the list part is its data
---@field priority? "critical"|"high"|"normal"|"low"
---@field deadline_ms? number

---@class perilune.Task

---@class perilune.Task
local Task = {}

--- Waits for the task. Returns what it gave; or nil, message, code.
function Task:await() end

--- Gives the task up; returns whether it was still under way.
function Task:cancel() end

---@class perilune.tasks
local tasks = {}

--- Runs a task and waits for it.
---@param spec perilune.TaskSpec
function tasks.run(_, spec) end

--- Starts a task; the handler goes on.
---@param spec perilune.TaskSpec
---@return perilune.Task? task
---@return string? message
---@return string? code
function tasks.start(_, spec) end

--- Runs tasks side by side. Returns the list of their first values; or nil, message, code and which one failed, and
-- gives up the others.
---@param specs (perilune.TaskSpec|perilune.Task)[]
function tasks.all(_, specs) end

--- Calls fn(value, ...) for each value of a list, in a few tasks side by side. Returns the list of results in the same
-- order; or nil, message, code. `chunk` is how many values a task takes.
---@param list any[]
---@param spec perilune.TaskSpec|{chunk?: integer}
function tasks.map(_, list, spec) end
