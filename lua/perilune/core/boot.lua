--- Runs first in every state: sets up the sandbox, the module loader and the
-- trampoline, and hands them to the C side.
--
-- `core` holds the functions of the engine; `trusted(path)` runs a Lua file that
-- is part of the program; `source(path)` gives text and name of a user's file.

local core, trusted, source = ...

local environment = trusted("lua/perilune/core/sandbox.lua", core)
local loaded = {}
local require, file_environment

local function is_ours(name)
  return name == "perilune" or (name:find("perilune.", 1, true) == 1 and not name:find("perilune.core", 1, true))
end

--- Finds "perilune", "perilune.name" (part of the program) or "lib.name"
-- (rules/lib/name.lua, sandboxed, run once per generation). The line to blame
-- is two calls up.
local function find(name)
  if type(name) ~= "string" then error("require takes a module name", 3) end
  local module = loaded[name]
  if module == "loading" then error("module '" .. name .. "' requires itself, directly or through others", 3) end
  if module ~= nil then return module end
  if is_ours(name) then
    local path = name == "perilune" and "lua/perilune/init.lua" or "lua/" .. name:gsub("%.", "/") .. ".lua"
    module = trusted(path, core, require)
    if module == nil then error("there is no module '" .. name .. "' in this version of perilune", 3) end
  else
    local path = name:gsub("%.", "/") .. ".lua"
    local text, chunk_name = source(path)
    if not text then
      error("there is no module '" .. name .. "': put it at " .. path .. " below the rules folder as lib/name.lua, " ..
        "and require it as 'lib.name'", 3)
    end
    loaded[name] = "loading"
    local fn, message = core.load_text(text, "@" .. chunk_name, file_environment())
    if not fn then
      loaded[name] = nil
      error(message, 0)
    end
    module = fn()
    if module == nil then module = true end
  end
  loaded[name] = module
  return module
end

function require(name)
  local module = find(name)
  return module
end

local function copy(value, levels)
  if type(value) ~= "table" or getmetatable(value) ~= nil or levels == 0 then return value end
  local to = {}
  for name, member in pairs(value) do to[name] = copy(member, levels - 1) end
  return to
end

--- An environment for one file. It gets its own copies of our modules, as of
-- the libraries, so no file can change what another one calls.
function file_environment()
  local own = {}
  return environment(function(name)
    local module = find(name)
    if is_ours(name) then
      own[name] = own[name] or copy(module, 2)
      return own[name]
    end
    return module
  end)
end

local app = trusted("lua/perilune/app.lua", core, require)
loaded["perilune.app"] = app

local policies = trusted("lua/perilune/core/policy.lua", core)

--- Checks what a policy file returns. Returns a function (method, pattern) ->
-- table or nil, one that lists overrides of routes that do not exist, and what
-- is wrong as a list of {line, text}.
local function policy(kind, chunk, text)
  local schema = trusted("lua/perilune/core/policies/" .. kind .. ".lua", core)
  return policies.new(kind, schema, chunk(), text)
end

local begin, finish, finish_stream, yield = core.begin, core.finish, core.finish_stream, coroutine.yield

--- The life of a recycled coroutine (see core/script/fiber.c): it is given a
-- handler that takes no request, or nothing.
local function trampoline(fiber)
  while true do
    local handler, request = yield()
    if not handler then handler, request = begin(fiber) end
    local stream, write = finish(fiber, handler(request))
    if stream then
      stream(write)
      finish_stream(fiber)
    end
  end
end

--- A user's chunk, ready to run in a fresh environment; or nil and why.
function core.prepare(text, name) return core.load_text(text, "@" .. name, file_environment()) end

return {
  trampoline = trampoline,
  prepare = core.prepare,
  --- The routes of what a route file returned; or nil and why.
  collect = app.collect,
  --- What a module returned, for tasks.
  module = function(name) return (find(name)) end,
  policy = policy,
}
