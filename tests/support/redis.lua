--- A Redis 7 of our own in a temporary folder, on a port the kernel picks and a
-- Unix socket; ended by its pid.
--
-- Debian's redis-server package is a link to the program in redis-tools and a
-- service; the tests take the program and make the link themselves, so that
-- nothing is started on the machine.
local uv = require "luv"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local redis = {}
redis.__index = redis

local PROGRAM = "/usr/bin/redis-check-rdb"

local function free_port()
  local tcp = uv.new_tcp()
  assert(tcp:bind("127.0.0.1", 0))
  local port = tcp:getsockname().port
  tcp:close()
  loop.settle()
  return port
end

--- Starts a server. options: settings (name = value), password. Fields: port, folder,
-- socket, url, socket_url.
function redis.start(options)
  options = options or {}
  local self = setmetatable({ options = options, port = free_port() }, redis)
  self.folder = files.temporary("perilune-redis")
  self.socket = self.folder .. "/socket"
  self.program = self.folder .. "/redis-server"
  assert(uv.fs_symlink(PROGRAM, self.program))
  local secret = options.password and (":" .. options.password .. "@") or ""
  self.url = ("redis://%s127.0.0.1:%d"):format(secret, self.port)
  self.socket_url = ("unix://%s%s"):format(secret, self.socket)
  self:up()
  return self
end

--- One command by redis-cli; its output.
function redis:cli(...)
  local args = { "-s", self.socket, "--no-auth-warning" }
  if self.options.password then
    args[#args + 1] = "-a"
    args[#args + 1] = self.options.password
  end
  for _, word in ipairs { ... } do args[#args + 1] = tostring(word) end
  local _, out = process.run { command = "/usr/bin/redis-cli", args = args, timeout_ms = 20000 }
  return (out:gsub("%s+$", ""))
end

--- Starts the server process on the same data and waits until it answers.
function redis:up()
  local args = { "--port", self.port, "--bind", "127.0.0.1", "--unixsocket", self.socket, "--dir", self.folder, "--save", "",
    "--appendonly", self.options.durable and "yes" or "no", "--appendfsync", "always", "--daemonize", "no" }
  if self.options.password then
    args[#args + 1] = "--requirepass"
    args[#args + 1] = self.options.password
  end
  for name, value in pairs(self.options.settings or {}) do
    args[#args + 1] = "--" .. name
    args[#args + 1] = value
  end
  for i, arg in ipairs(args) do args[i] = tostring(arg) end
  uv.fs_unlink(self.socket) -- of one that was killed
  -- setpriv becomes the program, and ends it with the test process.
  self.process = assert(process.start { command = "/usr/bin/setpriv",
    args = { "--pdeathsig=KILL", "--", self.program, unpack(args) } })
  loop.wait_until(function()
    assert(not self.process:exited(), self.process:stdout())
    return self:cli("ping"):match "PONG"
  end, 10000, "Redis")
  self.pid = self.process.pid
end

--- Ends the server by a signal ("sigterm", "sigkill") and waits for its end.
function redis:down(signal)
  self.process:kill(signal or "sigterm")
  self.process:wait(20000)
end

function redis:stop()
  if not self.process:exited() then self:down "sigkill" end
  files.remove(self.folder)
end

return redis
