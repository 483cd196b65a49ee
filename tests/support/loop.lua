--- One luv loop for the specs; a spec body is a coroutine on it.
--
-- Everything that waits goes through loop.await(), which yields inside a task
-- and turns the loop itself outside of one. So helpers like engine.start()
-- work in before_each as well as in a body.
local uv = require "luv"

local loop = {}

local tasks = setmetatable({}, { __mode = "k" }) -- coroutine -> task

local function pack(...)
  return { n = select("#", ...), ... }
end

--- Milliseconds on the monotonic clock.
function loop.now_ms()
  return uv.hrtime() / 1e6
end

local function after(ms, callback)
  local timer = uv.new_timer()
  uv.update_time()
  timer:start(math.max(0, math.ceil(ms)), 0, callback)
  return timer
end

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

local function turn_until(done)
  while not done() do
    if not uv.run("once") and not done() then error("waiting, but nothing is left on the loop", 3) end
  end
end

local function advance(task)
  local results = pack(coroutine.resume(task.co))
  if coroutine.status(task.co) ~= "dead" then return end
  task.done = true
  if results[1] then
    task.results = results
  else
    task.failed, task.err, task.trace = true, results[2], debug.traceback(task.co)
  end
  for _, resume in ipairs(task.waiters) do resume(true) end
end

--- Calls start(resume) and waits until `resume(...)` is called; returns its
-- arguments, or nil, "timeout".
function loop.await(start, timeout_ms)
  local co = coroutine.running()
  local task = co and tasks[co]
  local results, timer, waiting
  local function resume(...)
    if results then return end
    results = pack(...)
    if timer then close(timer) end
    if waiting then advance(task) end
  end
  if timeout_ms then
    timer = after(timeout_ms, function() resume(nil, "timeout") end)
  end
  start(resume)
  if not results and task then
    waiting = true
    coroutine.yield()
  else
    turn_until(function() return results end)
  end
  return unpack(results, 1, results.n)
end

--- Starts fn as a task; it runs up to its first wait at once.
function loop.spawn(fn)
  local task = { co = coroutine.create(fn), waiters = {}, done = false }
  tasks[task.co] = task
  advance(task)
  return task
end

local function raise(task)
  if type(task.err) == "string" then error(task.err .. "\n" .. task.trace, 0) end
  error(task.err, 0) -- an assertion of the test runner: keep the object
end

--- Waits for a task's end; returns what its function returned or raises its error.
function loop.join(task)
  if not task.done then
    loop.await(function(resume) table.insert(task.waiters, resume) end)
  end
  if task.failed then raise(task) end
  return unpack(task.results, 2, task.results.n)
end

--- Runs a list of functions side by side; returns the list of their first
-- results. Raises the first error after all have ended.
function loop.all(functions)
  local started, results = {}, {}
  for i, fn in ipairs(functions) do started[i] = loop.spawn(fn) end
  local failed
  for i, task in ipairs(started) do
    local ok, result = pcall(loop.join, task)
    if ok then results[i] = result else failed = failed or { result } end
  end
  if failed then error(failed[1], 0) end
  return results
end

--- Runs fn as a task to its end; fails after timeout_ms (10,000).
function loop.run(fn, timeout_ms)
  local co = coroutine.running()
  if co and tasks[co] then return fn() end
  timeout_ms = timeout_ms or 10000
  local task, late = loop.spawn(fn), false
  local timer = after(timeout_ms, function() late = true end)
  turn_until(function() return task.done or late end)
  close(timer)
  if not task.done then
    tasks[task.co] = nil
    error(("not finished after %d ms; it waits here:\n%s"):format(timeout_ms, debug.traceback(task.co)), 2)
  end
  return loop.join(task)
end

function loop.sleep(ms)
  loop.await(function(resume)
    local timer
    timer = after(ms, function()
      close(timer)
      resume(true)
    end)
  end)
end

--- Asks fn() every 5 ms until it returns something true, and returns that.
-- Raises after timeout_ms (5,000).
function loop.wait_until(fn, timeout_ms, what)
  timeout_ms = timeout_ms or 5000
  local deadline = loop.now_ms() + timeout_ms
  while true do
    local value = fn()
    if value then return value end
    if loop.now_ms() >= deadline then
      error(("waited %d ms for %s"):format(timeout_ms, what or "a condition"), 2)
    end
    loop.sleep(5)
  end
end

--- Lets pending callbacks run (closing handles among them).
function loop.settle()
  for _ = 1, 3 do uv.run("nowait") end
end

--- The handles that are still open, as a list of type names. For after_each.
function loop.open_handles()
  local names = {}
  loop.settle()
  uv.walk(function(handle)
    if not handle:is_closing() then names[#names + 1] = uv.handle_get_type(handle) end
  end)
  return names
end

return loop
