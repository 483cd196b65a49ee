--- Task threads inside a program of yours; lua/perilune/tasks.lua over them, as handlers have it.

local core = ...

local options_of, loop_of = core.file("lua/perilune/embed/options.lua", core), core.file("lua/perilune/embed/loop.lua", core)
local pairs = pairs

local WHERE = "perilune.tasks"
local KNOWN = { threads = "tasks.threads", max = "tasks.max", deadline_ms = "tasks.deadline_ms", cpu_ms = "tasks.cpu_ms", copy_bytes = "tasks.copy_bytes",
  lost_ms = "tasks.lost_ms", jit = "boolean", loop = "loop", path = "string", cpath = "string" }

return function(options)
  if options == nil then options = {} end
  options_of.check(WHERE, options, KNOWN)
  local given = {}
  for name, value in pairs(options) do given[name] = value end
  local lib = options_of.library(WHERE, "perilune.tasks",
    "libuv1 libssl3 libisal2 libdeflate0 libzstd1 libbrotli1 zlib1g")
  given.path, given.cpath = given.path or package.path, given.cpath or package.cpath
  local raw, why = lib.new(given)
  if not raw then return nil, why end
  local waiter = loop_of(raw, lib.waits, options.loop)
  local threads = given.threads or core.setting_defaults()["tasks.threads"].default

  -- What lua/perilune/tasks.lua asks the engine for.
  local engine = { kernels = lib.kernels }
  function engine.lua(...)
    waiter.look()
    return raw:lua(...)
  end
  function engine.kernel(...)
    waiter.look()
    return raw:kernel(...)
  end
  function engine.cancel(handle) return raw:cancel(handle) end
  function engine.threads() return threads end
  function engine.await(handle)
    waiter.await(handle)
    return lib.result(handle)
  end

  local tasks = core.file("lua/perilune/tasks.lua", { tasks = engine, nearest = core.nearest })
  function tasks.stats() return raw:stats() end
  function tasks.close() waiter.close() end
  function tasks.fd() return waiter.fd() end
  function tasks.timeout() return waiter.timeout() end
  function tasks.step(_, wait) return waiter.step(wait) end
  return tasks
end
