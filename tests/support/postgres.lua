--- A PostgreSQL 15 of our own in a temporary folder, on a port the kernel picks
-- and a Unix socket; ended by its pid. It refuses to run as root, so root becomes
-- `postgres` or `nobody` for it.
local uv = require "luv"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local postgres = {}
postgres.__index = postgres

local BIN = "/usr/lib/postgresql/15/bin/"

-- setpriv becomes the program, so that its pid is the server's; it ends with the
-- test process, also when that breaks off.
local function as_user(command, args)
  if uv.getuid() ~= 0 then return "/usr/bin/setpriv", { "--pdeathsig=INT", "--", command, unpack(args) } end
  local user = files.read("/etc/passwd"):find("\npostgres:") and "postgres" or "nobody"
  local group = files.read("/etc/group"):find("\n" .. user .. ":") and user or "nogroup"
  return "/usr/bin/setpriv", { "--reuid=" .. user, "--regid=" .. group, "--clear-groups", "--pdeathsig=INT", "--", command, unpack(args) }
end

local function run(command, args)
  local name, all = as_user(command, args)
  local code, out, err = process.run { command = name, args = all, cwd = "/", timeout_ms = 60000 }
  assert(code == 0, ("%s ended with %d: %s%s"):format(command, code, out, err))
  return out
end

local function free_port()
  local tcp = uv.new_tcp()
  assert(tcp:bind("127.0.0.1", 0))
  local port = tcp:getsockname().port
  tcp:close()
  loop.settle()
  return port
end

-- A certificate of its own, readable by nobody but the server.
local function encrypt(self)
  run("/usr/bin/openssl", { "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-out",
    self.data .. "/server.crt", "-keyout", self.data .. "/server.key" })
end

--- Starts a server. options: settings (name = value), tls (true). The superuser's password is
-- "secret" over TCP, none over the socket. Fields: port, folder, url, socket_url.
function postgres.start(options)
  options = options or {}
  local self = setmetatable({ options = options, port = free_port() }, postgres)
  self.folder = files.temporary("perilune-pg")
  uv.fs_chmod(self.folder, tonumber("777", 8))
  self.data = self.folder .. "/data"
  files.write(self.folder .. "/password", "secret\n")
  uv.fs_chmod(self.folder .. "/password", tonumber("644", 8))
  run(BIN .. "initdb", { "-D", self.data, "-U", "app", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync",
    "--locale=C", "-E", "UTF8", "--pwfile=" .. self.folder .. "/password" })
  if options.tls then
    encrypt(self)
    options.settings = options.settings or {}
    options.settings.ssl = "on"
  end
  self.url = ("postgresql://app:secret@127.0.0.1:%d/postgres"):format(self.port)
  self.socket_url = ("host=%s port=%d dbname=postgres user=app"):format(self.folder, self.port)
  self:up()
  return self
end

local function is_ready(self)
  local code = process.run { command = BIN .. "pg_isready", args = { "-q", "-h", self.folder, "-p", tostring(self.port) } }
  return code == 0
end

--- Starts the server process on the same data and waits until it answers. What is
-- left of one that was killed can be in its way for a moment.
function postgres:up()
  local args = { "-D", self.data, "-p", tostring(self.port), "-k", self.folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
    "-c", "autovacuum=off", "-c", "log_min_messages=fatal", "-c", "shared_buffers=32MB" }
  for name, value in pairs(self.options.settings or {}) do
    args[#args + 1] = "-c"
    args[#args + 1] = name .. "=" .. tostring(value)
  end
  local name, all = as_user(BIN .. "postgres", args)
  loop.wait_until(function()
    if not self.process or self.process:exited() then
      self.process = assert(process.start { command = name, args = all, cwd = "/" })
    end
    return is_ready(self)
  end, 20000, "PostgreSQL")
  self.pid = self.process.pid
end

--- One statement by psql as the superuser; its output, unaligned.
function postgres:sql(text)
  local code, out, err = process.run { command = BIN .. "psql", timeout_ms = 60000, args = { "-XAtq", "-v", "ON_ERROR_STOP=1", "-d",
    self.socket_url, "-c", text } }
  assert(code == 0, err)
  return (out:gsub("\n$", ""))
end

--- Ends the server by a signal ("sigint": at once, "sigkill") and waits for its end.
function postgres:down(signal)
  self.process:kill(signal or "sigint")
  self.process:wait(20000)
end

function postgres:stop()
  if not self.process:exited() then self:down() end
  files.remove(self.folder)
end

return postgres
