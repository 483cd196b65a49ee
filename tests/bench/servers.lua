--- The servers of the benchmark, each with one worker, keep-alive and no access
-- log, started on ports that were free a moment ago.
local servers = {}

local program, build = os.getenv "PERILUNE" or "build/release/perilune", os.getenv "BUILD" or "build"
local peers = build .. "/deps/peers"
local started = {}

local function capture(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  return text
end
servers.capture = capture

servers.folder = capture "mktemp -d":gsub("%s", "")
local folder = servers.folder

function servers.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function start(command)
  local pid = tonumber((capture(("%s >>%s/log 2>&1 & echo $!"):format(command, folder))))
  started[#started + 1] = pid
  return pid
end

local function free_port()
  return tonumber((capture [[luajit -e 'local uv = require "luv"; local t = uv.new_tcp(); t:bind("127.0.0.1", 0); print(t:getsockname().port)']]))
end

--- user + system time in seconds of a process and its children.
function servers.cpu(pid)
  local total, ticks = 0, tonumber((capture "getconf CLK_TCK"))
  for line in capture(("cat /proc/%d/stat $(pgrep -P %d | sed 's#.*#/proc/&/stat#') 2>/dev/null"):format(pid, pid)):gmatch "[^\n]+" do
    local rest = line:match "%) %S (.*)"
    local fields = {}
    for field in rest:gmatch "%S+" do fields[#fields + 1] = field end
    total = total + (tonumber(fields[11]) + tonumber(fields[12])) / ticks
  end
  return total
end

--- The processes that serve: ours by name, of a peer its children, or itself.
function servers.workers(server)
  local ours, all = {}, {}
  for pid in capture(("pgrep -P %d"):format(server.pid)):gmatch "%d+" do
    all[#all + 1] = pid
    if capture(("cat /proc/%s/comm"):format(pid)):find "worker" then ours[#ours + 1] = pid end
  end
  return #ours > 0 and ours or #all > 0 and all or { server.pid }
end

local function await(name, port, path)
  for _ = 1, 500 do
    if os.execute(("curl -s -o /dev/null http://127.0.0.1:%d%s"):format(port, path)) == 0 then return end
    os.execute "sleep 0.02"
  end
  error(("%s did not start: %s"):format(name, capture(("tail -5 %s/log"):format(folder))), 0)
end

--- Ours, with further options of `perilune run`. `prefix` runs it under a tool,
-- `other` is another build's program.
function servers.engine(name, options, other, prefix)
  local state = ("%s/%s-%d"):format(folder, name, #started)
  local pid = start(("%s %s run --listen 127.0.0.1:0 --admin 127.0.0.1:0 --workers 1 --state %s %s"):format(prefix or "exec", other or program, state, options))
  for _ = 1, 3000 do
    local file = io.open(state .. "/ports.json")
    if file then
      local text = file:read "*a"
      file:close()
      return { name = "perilune", state = state, pid = pid, address = text:match '"listen": "([^"]+)"', admin = text:match '"admin": "([^"]+)"' }
    end
    os.execute "sleep 0.01"
  end
  error("the engine did not start: " .. capture(("tail -5 %s/log"):format(folder)), 0)
end

local NGINX = [[
%s
user USER; daemon off; master_process on; worker_processes 1; pid %s/pid; error_log %s/error.log;
events { worker_connections 12000; }
http {
  access_log off; keepalive_requests 1000000000; client_body_temp_path %s/tmp; proxy_temp_path %s/tmp;
  fastcgi_temp_path %s/tmp; uwsgi_temp_path %s/tmp; scgi_temp_path %s/tmp;
  %s
}]]

--- Debian's nginx; `http` is put into the http block, PORT replaced.
function servers.nginx(name, http, head, environment, prefix)
  local port, home = free_port(), ("%s/%s-%d"):format(folder, name:gsub("%W", "-"), #started)
  os.execute(("mkdir -p %s/logs %s/tmp"):format(home, home))
  servers.write(home .. "/nginx.conf", NGINX:format(head or "", home, home, home, home, home, home, home, (http:gsub("PORT", tostring(port)))):gsub("USER", capture "id -un":gsub("%s", "")))
  local pid = start(("%s %s %s/deps/nginx/usr/sbin/nginx -p %s -c %s/nginx.conf"):format(environment or "", prefix or "exec", build, home, home))
  await(name, port, "/hello")
  return { name = name, pid = pid, address = "127.0.0.1:" .. port }
end

local function modules(package, name)
  return ("load_module %s/%s/usr/lib/nginx/modules/%s;"):format(peers, package, name)
end

--- nginx with Debian's Lua module, lua-resty-core and its own LuaJIT.
function servers.nginx_lua(name, http, prefix)
  local head = modules("libnginx-mod-http-ndk", "ndk_http_module.so") .. modules("libnginx-mod-http-lua", "ngx_http_lua_module.so")
  local path = {}
  for _, package in ipairs { "lua-resty-core", "lua-resty-lrucache" } do
    path[#path + 1] = ("%s/%s/usr/share/lua/5.1/?.lua"):format(peers, package)
  end
  local cpath = ("lua_package_cpath '%s/lua-cjson/usr/lib/x86_64-linux-gnu/lua/5.1/?.so;%s/release/lua/?.so;;';"):format(peers, build)
  return servers.nginx(name, ("lua_package_path '%s;;'; %s %s"):format(table.concat(path, ";"), cpath, http), head,
    ("LD_LIBRARY_PATH=%s/libluajit2-5.1-2/usr/lib/x86_64-linux-gnu"):format(peers), prefix)
end

--- Debian's HAProxy; PORT in `sections` replaced; `lua` is loaded.
function servers.haproxy(name, sections, lua)
  local port, home = free_port(), ("%s/%s-%d"):format(folder, name:gsub("%W", "-"), #started)
  os.execute("mkdir -p " .. home)
  if lua then servers.write(home .. "/service.lua", lua) end
  servers.write(home .. "/haproxy.cfg", ([[
global
  nbthread 1
  no strict-limits
  maxconn 12000
%s
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
%s]]):format(lua and ("  lua-load %s/service.lua"):format(home) or "", (sections:gsub("PORT", tostring(port)))))
  local libraries = {}
  for _, package in ipairs { "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1" } do
    libraries[#libraries + 1] = ("%s/%s/usr/lib/x86_64-linux-gnu"):format(peers, package)
  end
  local pid = start(("LD_LIBRARY_PATH=%s exec %s/haproxy/usr/sbin/haproxy -db -f %s/haproxy.cfg"):format(table.concat(libraries, ":"), peers, home))
  await(name, port, "/hello")
  return { name = name, pid = pid, address = "127.0.0.1:" .. port }
end

--- Debian's Varnish before `origin`.
function servers.varnish(name, origin)
  local port, home = free_port(), ("%s/varnish-%d"):format(folder, #started)
  os.execute("mkdir -p " .. home)
  local libraries = {}
  for _, package in ipairs { "libvarnishapi3", "libjemalloc2" } do
    libraries[#libraries + 1] = ("%s/%s/usr/lib/x86_64-linux-gnu"):format(peers, package)
  end
  local pid = start(("LD_LIBRARY_PATH=%s exec %s/varnish/usr/sbin/varnishd -F -j none -n %s -a 127.0.0.1:%d -b %s -s malloc,64m -t 3600 -p thread_pools=1"):format(
    table.concat(libraries, ":"), peers, home, port, origin))
  await(name, port, "/hello")
  return { name = name, pid = pid, address = "127.0.0.1:" .. port }
end

--- Ends what has been started, and waits for it.
servers.start, servers.free_port = start, free_port

function servers.stop_all()
  for _, pid in ipairs(started) do os.execute(("kill %d 2>/dev/null"):format(pid)) end
  for i, pid in ipairs(started) do
    os.execute(("tail --pid=%d -f /dev/null"):format(pid))
    started[i] = nil
  end
end

function servers.stop()
  servers.stop_all()
  os.execute("rm -rf " .. folder)
end

return servers
