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

local core = ...

local engine, nearest = core.tasks, core.nearest
local type, error, pairs, ipairs, pcall, unpack, setmetatable, maxn, floor, ceil, max, min, tostring =
  type, error, pairs, ipairs, pcall, unpack, setmetatable, table.maxn, math.floor, math.ceil, math.max, math.min, tostring

---@class perilune.TaskSpec
---@field module? string   "lib.name"
---@field fn? string       a function of that module; the list part are its arguments
---@field kernel? string   or work in C by name; the first value of the list part is its data
---@field priority? "critical"|"high"|"normal"|"low"
---@field deadline_ms? number

local kernels, kernel_names = {}, {}
for i, kernel in ipairs(engine.kernels()) do
  kernels[kernel.name], kernel_names[i] = kernel, kernel.name
end

local allowed = { module = "string", fn = "string", kernel = "string", priority = "string", deadline_ms = "number" }
local names = { "module", "fn", "kernel", "priority", "deadline_ms" }

local function hint(key, list)
  local near = nearest(tostring(key), list)
  return near and (", did you mean '%s'?"):format(near) or ""
end

local function check(spec, usage, level)
  if type(spec) ~= "table" then error("usage: " .. usage, level + 1) end
  local kernel = spec.kernel ~= nil and kernels[spec.kernel]
  if spec.kernel ~= nil and not kernel then
    error(("there is no kernel '%s'%s"):format(tostring(spec.kernel), hint(spec.kernel, kernel_names)), level + 1)
  end
  for key, value in pairs(spec) do
    if type(key) ~= "number" then
      local wanted = allowed[key]
      if kernel and key == kernel.text then wanted = "string" end
      if kernel and key == kernel.number then wanted = "number" end
      if not wanted then error(("unknown key '%s' in a task%s"):format(tostring(key), hint(key, names)), level + 1) end
      if type(value) ~= wanted then
        error(("key '%s' of a task is a %s, it must be a %s"):format(key, type(value), wanted), level + 1)
      end
    end
  end
  if kernel then
    if spec.module or spec.fn then error("a task has either a kernel, or a module and fn", level + 1) end
    if type(spec[1]) ~= kernel.takes then
      error(("kernel '%s' takes a %s, not a %s"):format(kernel.name, kernel.takes, type(spec[1])), level + 1)
    end
    if kernel.text_needed and not spec[kernel.text] then
      error(("kernel '%s' needs the key '%s'"):format(kernel.name, kernel.text), level + 1)
    end
  elseif not spec.module or not spec.fn then
    error("a task needs module and fn, or kernel: " .. usage, level + 1)
  end
  return kernel
end

-- Errors of the engine begin with no position: they get that of the user's line.
local function launched(level, ok, handle, message, code)
  if not ok then error(handle, level + 1) end
  return handle, message, code
end

local function launch(spec, usage, level)
  local kernel = check(spec, usage, level + 1)
  if kernel then
    return launched(level, pcall(engine.kernel, spec.kernel, spec[1], kernel.text and spec[kernel.text] or nil,
      kernel.number and spec[kernel.number] or nil, spec.priority, spec.deadline_ms))
  end
  return launched(level, pcall(engine.lua, spec.module, spec.fn, false, spec.priority, spec.deadline_ms, unpack(spec, 1, maxn(spec))))
end

---@class perilune.Task
local Task = {}
local task_metatable = { __index = Task, __metatable = false }
local handles = setmetatable({}, { __mode = "k" })

local function new_task(handle)
  local task = setmetatable({}, task_metatable)
  handles[task] = handle
  return task
end

local function handle_of(task, usage)
  return handles[task] or error("usage: " .. usage, 3)
end

--- Waits for the task. Returns what it gave; or nil, message, code.
function Task:await()
  return engine.await(handle_of(self, "task:await()"))
end

--- Gives the task up; returns whether it was still under way.
function Task:cancel()
  return engine.cancel(handle_of(self, "task:cancel()"))
end

local tasks = {}

local RUN = "tasks:run { module = \"lib.name\", fn = \"name\", ... } or tasks:run { kernel = \"sha256\", data }"

--- Runs a task and waits for it.
---@param spec perilune.TaskSpec
function tasks.run(_, spec)
  local handle, message, code = launch(spec, RUN, 2)
  if not handle then return nil, message, code end
  return engine.await(handle)
end

--- Starts a task; the handler goes on.
---@param spec perilune.TaskSpec
---@return perilune.Task? task
---@return string? message
---@return string? code
function tasks.start(_, spec)
  local handle, message, code = launch(spec, RUN, 2)
  if not handle then return nil, message, code end
  return new_task(handle)
end

local function cancel_all(list)
  for _, handle in pairs(list) do engine.cancel(handle) end
end

-- The first values of all handles in their order; after a failure the others are given up.
local function await_all(list, n)
  local results = {}
  for i = 1, n do
    local value, message, code = engine.await(list[i])
    if value == nil and code ~= nil then
      cancel_all(list)
      return nil, message, code, i
    end
    results[i] = value
  end
  return results
end

--- Runs tasks side by side. Returns the list of their first values; or nil, message, code and which one failed, and
-- gives up the others.
---@param specs (perilune.TaskSpec|perilune.Task)[]
function tasks.all(_, specs)
  if type(specs) ~= "table" then error("usage: tasks:all { { module = \"lib.name\", fn = \"name\", ... }, ... }", 2) end
  local list = {}
  for i, spec in ipairs(specs) do
    local handle, message, code = handles[spec]
    if not handle then handle, message, code = launch(spec, RUN, 2) end
    if not handle then
      cancel_all(list)
      return nil, message, code, i
    end
    list[i] = handle
  end
  return await_all(list, #specs)
end

local MAP = "tasks:map(list, { module = \"lib.name\", fn = \"name\", ... })"

local function slice(list, from, to)
  local part = {}
  for i = from, to do part[i - from + 1] = list[i] end
  return part
end

--- Calls fn(value, ...) for each value of a list, in a few tasks side by side. Returns the list of results in the same
-- order; or nil, message, code. `chunk` is how many values a task takes.
---@param list any[]
---@param spec perilune.TaskSpec|{chunk?: integer}
function tasks.map(_, list, spec)
  if type(list) ~= "table" or type(spec) ~= "table" then error("usage: " .. MAP, 2) end
  local own = {}
  for key, value in pairs(spec) do own[key] = value end
  local n, chunk = #list, own.chunk
  own.chunk = nil
  if check(own, MAP, 2) then error("tasks:map is for functions of modules, not for kernels", 2) end
  if chunk == nil then chunk = max(1, ceil(n / (4 * engine.threads()))) end
  if type(chunk) ~= "number" or chunk < 1 then error("chunk is a whole number of values, 1 or more", 2) end
  chunk = floor(chunk)
  local parts, count = {}, 0
  for from = 1, n, chunk do
    local handle, message, code = launched(2, pcall(engine.lua, own.module, own.fn, true, own.priority, own.deadline_ms,
      slice(list, from, min(from + chunk - 1, n)), unpack(own, 1, maxn(own))))
    if not handle then
      cancel_all(parts)
      return nil, message, code
    end
    count = count + 1
    parts[count] = handle
  end
  local given, message, code = await_all(parts, count)
  if not given then return nil, message, code end
  local results = {}
  for i = 1, count do
    local base = (i - 1) * chunk
    for j = 1, min(chunk, n - base) do results[base + j] = given[i][j] end
  end
  return results
end

return tasks
