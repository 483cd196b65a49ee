--- Programs that load the library, as processes of their own: `perilune`, wait(), results() and say() are there.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local process = require "tests.support.process"

local programs = {}

programs.LIBRARY = engine.program():match "^(.*)/[^/]+$" .. "/lua"

--- Variables that find the library. Under AddressSanitizer the program that loads the library must have its runtime first.
function programs.environment()
  local env = { LUA_PATH = ";;", LUA_CPATH = programs.LIBRARY .. "/?.so;;" }
  if programs.LIBRARY:find("/asan/", 1, true) then
    local code, out = process.run { command = "/usr/bin/gcc", args = { "-print-file-name=libasan.so" } }
    assert(code == 0)
    env.LD_PRELOAD = out:gsub("%s+$", "")
    -- Where its leak check looks for thread-local memory of libraries that were loaded late, it finds nonsense now and then.
    env.ASAN_OPTIONS = "verify_asan_link_order=0:intercept_tls_get_addr=0:" .. (os.getenv "ASAN_OPTIONS" or "")
  end
  return env
end

--- What programs begin with.
programs.HEAD = [[
local perilune = require "perilune"
local function wait(seconds, fn)
  local until_s = os.time() + seconds
  repeat
    local value = fn and fn()
    if value then return value end
  until os.time() > until_s
end
local function results(first, ...) return { first == nil and "nil" or first, ... } end
local function say(value) io.write(perilune.json.encode(value), "\n") io.flush() end
]]

-- Writes a program and what belongs to it into a folder of its own, which is arg[1] of it.
local function prepare(text, options)
  local folder = files.temporary "perilune-host"
  files.write(folder .. "/main.lua", programs.HEAD .. text)
  for name, content in pairs(options.files or {}) do files.write(folder .. "/" .. name, content) end
  local env = programs.environment()
  for name, value in pairs(options.env or {}) do env[name] = value end
  return folder, { command = "/usr/bin/luajit", args = { folder .. "/main.lua", folder, unpack(options.args or {}) }, env = env,
    timeout_ms = options.timeout_ms or 60000 }
end

local function decode(out)
  local said = {}
  for line in out:gmatch "([^\n]+)\n" do said[#said + 1] = json.decode(line) or line end
  return said
end

--- Runs a program to its end. Returns what it said, decoded, line by line; its exit code; its stderr.
-- options: files (by name, in its folder), args, env, timeout_ms.
function programs.run(text, options)
  local folder, started = prepare(text, options or {})
  local code, out, err = process.run(started)
  files.remove(folder)
  return decode(out), code, err
end

--- The same, of a program that must end well.
function programs.good(text, options)
  local said, code, err = programs.run(text, options)
  assert(code == 0, err)
  return said, err
end

--- Starts a program. Returns it: said() is what it has said so far, finish() waits for its good end.
function programs.start(text, options)
  local folder, started = prepare(text, options or {})
  local running = assert(process.start(started))
  return {
    said = function() return decode(running:stdout()) end,
    finish = function()
      local code = running:wait(started.timeout_ms)
      files.remove(folder)
      assert(code == 0, running:stderr())
      return decode(running:stdout()), running:stderr()
    end,
  }
end

return programs
