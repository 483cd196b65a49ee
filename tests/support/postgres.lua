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

local BOUNCER = [[
[databases]
postgres = host=%s port=%d dbname=postgres user=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 200
server_idle_timeout = 1
logfile = %s/log
pidfile = %s/pid
]]

--- Starts Debian's pgbouncer in transaction mode before it, with so many connections of its own. Fields: url, process.
function postgres:bouncer(size)
  local folder, port = self.folder .. "/bouncer", free_port()
  local peers = os.getenv "BUILD" .. "/deps/peers"
  uv.fs_mkdir(folder, tonumber("777", 8))
  uv.fs_chmod(folder, tonumber("777", 8))
  files.write(folder .. "/ini", BOUNCER:format(self.folder, self.port, port, size, folder, folder))
  local name, args = as_user(peers .. "/pgbouncer/usr/sbin/pgbouncer", { "-q", folder .. "/ini" })
  local bouncer = { url = ("postgresql://app@127.0.0.1:%d/postgres"):format(port) }
  bouncer.process = assert(process.start { command = name, args = args, cwd = "/",
    env = { LD_LIBRARY_PATH = peers .. "/libevent-2.1-7/usr/lib/x86_64-linux-gnu" } })
  loop.wait_until(function()
    assert(not bouncer.process:exited(), bouncer.process:stderr())
    return process.run { command = BIN .. "pg_isready", args = { "-q", "-h", "127.0.0.1", "-p", tostring(port) } } == 0
  end, 10000, "pgbouncer")
  function bouncer.stop()
    bouncer.process:kill "sigint"
    bouncer.process:wait(10000)
  end
  return bouncer
end

return postgres
