--- What a script can reach: an allow-list.
--
-- Each file gets its own environment with its own copies of the library
-- tables, so no file can change what another one calls. The string metatable
-- is private, bytecode cannot be loaded, and a global cannot be set by mistake.
-- It protects against accidents, not against an administrator who means harm.

local core = ...

local raw_yield, raw_resume, raw_create, raw_status = coroutine.yield, coroutine.resume, coroutine.create, coroutine.status
local raw_running = coroutine.running
local setmetatable, getmetatable, type, error, select, tostring = setmetatable, getmetatable, type, error, select, tostring
local rawset, concat, pcall = rawset, table.concat, pcall
local load_text = core.load_text
local WAIT = core.WAIT

-- Strings: our pattern functions are in `string` by now; dump makes bytecode.
string.dump, string.gfind = nil, nil
local string_metatable = getmetatable("")
string_metatable.__index = setmetatable({}, { __index = string })
for name, fn in pairs(string) do string_metatable.__index[name] = fn end
setmetatable(string_metatable.__index, nil)
string_metatable.__metatable = false

-- Coroutines: when code inside of a script's own coroutine waits (perilune.sleep,
-- a request), the wait goes out through every level to the engine and the
-- result comes back in through them. Meanwhile nobody else may resume it. The
-- engine's own coroutines stay out of reach.
local weak = { __mode = "k" }
local own, waiting = setmetatable({}, weak), setmetatable({}, weak)

local function back(co, ...)
  waiting[co] = nil
  return ...
end

local function relay(co, ok, tag, ...)
  if ok and tag == WAIT then
    waiting[co] = true
    return relay(co, raw_resume(co, back(co, raw_yield(WAIT))))
  end
  return ok, tag, ...
end

local function resume(co, ...)
  if waiting[co] then return false, "this coroutine waits in another request, so it cannot be resumed here" end
  return relay(co, raw_resume(co, ...))
end

local function create(fn)
  local co = raw_create(fn)
  own[co] = true
  return co
end

local function running()
  local co = raw_running()
  return own[co] and co or nil
end

local function unwrap(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

local function wrap(fn)
  local co = create(fn)
  return function(...) return unwrap(resume(co, ...)) end
end

-- The handler runs when the stack is unwound: a hook calls no hook, so a handler
-- called from within an interruption could loop for ever.
local function caught(handler, ok, ...)
  if ok then return true, ... end
  local _, result = pcall(handler, (...))
  return false, result
end

local function late_xpcall(fn, handler, ...)
  return caught(handler, pcall(fn, ...))
end

local function copy(from, ...)
  local to = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    to[name] = from[name]
  end
  return to
end

local function collectgarbage_count(what)
  if what ~= nil and what ~= "count" then
    error("collectgarbage takes only 'count' here: the engine runs the collector", 2)
  end
  return collectgarbage("count")
end

local function print_to_log(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  core.log("info", concat(parts, " "))
end

local libraries = {
  table = copy(table, "concat", "insert", "maxn", "remove", "sort", "move"),
  math = copy(math, "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp",
    "huge", "ldexp", "log", "log10", "max", "min", "modf", "pi", "pow", "rad", "random", "sin", "sinh", "sqrt", "tan", "tanh"),
  bit = copy(require "bit", "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit", "tohex"),
  os = copy(os, "time", "date", "clock", "difftime"),
  string = copy(string, "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper"),
  coroutine = {
    create = create, resume = resume, wrap = wrap, yield = raw_yield, status = raw_status,
    running = running, isyieldable = coroutine.isyieldable,
  },
}

local base = copy(_G, "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen",
  "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "unpack", "_VERSION")
base.xpcall = late_xpcall
base.collectgarbage = collectgarbage_count
base.print = print_to_log

local denied = {
  io = "files are out of reach of scripts", debug = "it breaks the sandbox", ffi = "it breaks the sandbox",
  jit = "it breaks the sandbox", package = "use require 'perilune...' or require 'lib.name'", loadfile = "use require 'lib.name'",
  dofile = "use require 'lib.name'", getfenv = "it breaks the sandbox", setfenv = "it breaks the sandbox",
  newproxy = "it breaks the sandbox", module = "return a table instead",
}

local guard = {
  __index = function(_, name)
    if denied[name] then
      error("'" .. tostring(name) .. "' is not available: " .. denied[name], 2)
    end
    error("unknown name '" .. tostring(name) .. "': declare it with 'local', or check its spelling", 2)
  end,
  __newindex = function(_, name)
    error("globals are not allowed: write 'local " .. tostring(name) .. " = ...'", 2)
  end,
  __metatable = false,
}

--- A fresh environment. `require` is the function that finds modules for it.
local function environment(require)
  local env = {}
  for name, value in pairs(base) do env[name] = value end
  for name, library in pairs(libraries) do
    local own = {}
    for key, value in pairs(library) do own[key] = value end
    env[name] = own
  end
  env._G = env
  env.require = require
  local function load(chunk, name, mode, chunk_env)
    if type(chunk) == "function" then
      local parts = {}
      for piece in chunk do
        if piece == "" then break end
        parts[#parts + 1] = piece
      end
      chunk = concat(parts)
    end
    if type(chunk) ~= "string" then error("load takes a string or a function, not a " .. type(chunk), 2) end
    if mode ~= nil and mode ~= "t" then return nil, "only text can be loaded (mode 't')" end
    return load_text(chunk, name or "=(load)", chunk_env or env)
  end
  env.load = load
  env.loadstring = function(text, name) return load(text, name) end
  rawset(env, "_G", env)
  return setmetatable(env, guard)
end

return environment
