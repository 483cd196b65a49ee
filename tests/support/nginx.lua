--- Debian's nginx on a free port, serving a tree of files from a temporary folder.
local uv = require "luv"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local nginx = {}
nginx.__index = nginx

local CONFIG = [[
MODULES
daemon off;
user root;
worker_processes WORKERS;
pid FOLDER/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log ACCESS;
  default_type text/plain;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  keepalive_requests 1000000;
  HTTP
  server {
    listen 127.0.0.1:PORT REUSEPORT;
    root FOLDER/files;
    SERVER
  }
}
]]

--- Where nginx is.
function nginx.binary()
  local unpacked = (os.getenv("BUILD") or "build") .. "/deps/nginx/usr/sbin/nginx"
  return uv.fs_stat(unpacked) and unpacked or "/usr/sbin/nginx"
end

--- A port that was free a moment ago, picked by the kernel.
function nginx.free_port()
  local tcp = uv.new_tcp()
  assert(tcp:bind("127.0.0.1", 0))
  local port = tcp:getsockname().port
  tcp:close()
  loop.settle()
  return port
end

local function peers(package) return (os.getenv("BUILD") or "build") .. "/deps/peers/" .. package end

-- Debian's Lua module with its own LuaJIT, unpacked like nginx itself.
local function lua_modules()
  return ("load_module %s/usr/lib/nginx/modules/ndk_http_module.so;\nload_module %s/usr/lib/nginx/modules/ngx_http_lua_module.so;"):format(
    peers "libnginx-mod-http-ndk", peers "libnginx-mod-http-lua")
end

--- For programs that start it themselves: paths of its modules, of its Lua files, of its libraries.
function nginx.lua_paths()
  return peers "libnginx-mod-http-ndk" .. "/usr/lib/nginx/modules/ndk_http_module.so " .. peers "libnginx-mod-http-lua" .. "/usr/lib/nginx/modules/ngx_http_lua_module.so",
    ("%s/usr/share/lua/5.1/?.lua;%s/usr/share/lua/5.1/?.lua"):format(peers "lua-resty-core", peers "lua-resty-lrucache"),
    peers "libluajit2-5.1-2" .. "/usr/lib/x86_64-linux-gnu"
end

local function start_once(self, options)
  self.port = nginx.free_port()
  self.address = "127.0.0.1:" .. self.port
  local workers = options.workers or 1
  local values = { WORKERS = workers, FOLDER = self.folder, PORT = self.port, SERVER = options.server or "",
    HTTP = options.http or "", MODULES = "", REUSEPORT = workers > 1 and "reuseport" or "",
    ACCESS = options.access_log and self.folder .. "/access.log" or "off" }
  local env
  if options.lua then
    values.MODULES, env = lua_modules(), { LUA_PATH = ";;", LUA_CPATH = ";;", LD_LIBRARY_PATH = peers "libluajit2-5.1-2" .. "/usr/lib/x86_64-linux-gnu" }
    values.HTTP = ("lua_package_path '%s/usr/share/lua/5.1/?.lua;%s/usr/share/lua/5.1/?.lua;;';\n"):format(peers "lua-resty-core", peers "lua-resty-lrucache") .. values.HTTP
    for name, value in pairs(options.env or {}) do env[name] = value end
  end
  files.write(self.folder .. "/nginx.conf", (CONFIG:gsub("%u%u%u%u+", function(name)
    return values[name] and tostring(values[name])
  end)))
  self.process = assert(process.start { command = nginx.binary(), env = env,
    args = { "-p", self.folder, "-c", self.folder .. "/nginx.conf", "-e", "stderr" } })
  loop.wait_until(function()
    if self.process:exited() then return true end
    local c = http.connect { port = self.port, timeout_ms = 500 }
    if c then c:close() end
    return c
  end, 5000, "nginx to listen")
  return not self.process:exited()
end

--- Starts nginx. options: files = {["index.html"] = "text"}, workers (1),
-- server (directives for the server block), http (for the http block),
-- lua (true: with the Lua module), env (then), access_log (false). Fields: port, address, folder, process.
function nginx.start(options)
  options = options or {}
  local self = setmetatable({ folder = files.temporary("perilune-nginx") }, nginx)
  uv.fs_chmod(self.folder, 493)
  files.write_tree(self.folder .. "/files", options.files or {})
  for _ = 1, 5 do -- somebody else may take the port in between
    if start_once(self, options) then return self end
    if not self.process:stderr():find("Address already in use", 1, true) then break end
  end
  local err = self.process:stderr()
  files.remove(self.folder)
  error("nginx did not start: " .. err, 2)
end

function nginx:request(options)
  options.address = self.address
  return http.request(options)
end

function nginx:get(path)
  return self:request { path = path }
end

--- Ends it and removes its folder. Returns exit code and signal.
function nginx:stop()
  local code, signal = self.process:stop(5000)
  files.remove(self.folder)
  return code, signal
end

return nginx
