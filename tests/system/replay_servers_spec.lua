--- perilune replay reads what real servers write, and the documented lines of those that cannot run here.
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local process = require "tests.support.process"
local uv = require "luv"

local peers = (os.getenv "BUILD" or "build") .. "/deps/peers"

local function replay(path, ...)
  local args = { "replay", "--report", "json", ... }
  args[#args + 1] = path
  local code, out, err = process.run { command = os.getenv "PERILUNE", args = args, timeout_ms = 20000 }
  assert.equal(0, code, err)
  return out, err
end

local function content(path) return uv.fs_stat(path) and files.read(path) or "" end

local function count(text) return select(2, text:gsub("\n", "")) end

--- What a client may send: ids, a query, quotes and a backslash in a header, and a path that is not there.
local function send(port)
  for _, path in ipairs { "/users/1", "/users/2?a=b", "/users/3", "/missing" } do
    http.request { port = port, path = path, headers = { ["User-Agent"] = [[a "quoted\" \agent]] } }
  end
end

--- Asserts what the report must say about these requests.
local function check(path, format, timed)
  local out = replay(path)
  assert.truthy(out:find('"format": "' .. format .. '", "lines": 4, "bad": 0', 1, true), out)
  assert.truthy(out:find('"route": "GET /users/:id", "requests": 3', 1, true), out)
  assert.truthy(out:find('"route": "GET /missing", "requests": 1', 1, true), out)
  assert.equal(timed, out:find('"p99_ms"', 1, true) ~= nil, out)
end

--- Starts a server on a port that was free a moment ago, once more when somebody took it.
local function start(config, options)
  for _ = 1, 5 do
    local port = nginx.free_port()
    files.write(options.folder .. "/server.conf", (config:gsub("%f[%u]%u%u%u%u+%f[^%u]", { PORT = tostring(port), FOLDER = options.folder })))
    local server = assert(process.start(options))
    loop.wait_until(function()
      if server:exited() then return true end
      local conn = http.connect { port = port, timeout_ms = 500 }
      if conn then conn:close() end
      return conn
    end, 20000, options.command)
    if not server:exited() then return server, port end
    if not server:stderr():lower():find "in use" then error(server:stderr()) end
  end
  error(options.command .. " did not start")
end

local function in_folder(work)
  loop.run(function()
    local folder = files.temporary "replay"
    uv.fs_chmod(folder, 493)
    local ok, message = pcall(work, folder)
    files.remove(folder)
    assert(ok, message)
  end, 40000)
end

describe("replay of nginx", function()
  local JSON = [[log_format odd escape=json '{"time":"$time_iso8601","request":"$request","status":$status,]] ..
    [["body_bytes_sent":$body_bytes_sent,"request_time":$request_time,"agent":"$http_user_agent"}';]]
  local TIMED = [[log_format odd '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent ]] ..
    [["$http_referer" "$http_user_agent" $request_time';]]
  for name, case in pairs {
    ["combined"] = { "combined", false, "", "combined" },
    ["combined with request time"] = { "combined-time", true, TIMED, "odd" },
    ["JSON"] = { "nginx-json", true, JSON, "odd" },
  } do
    it("reads " .. name, function()
      loop.run(function()
        local server = nginx.start { http = case[3], server = "access_log seen.log " .. case[4] .. ";" }
        local ok, message = pcall(function()
          send(server.port)
          local path = server.folder .. "/seen.log"
          loop.wait_until(function() return count(content(path)) == 4 end, 5000, "four lines")
          check(path, case[1], case[2])
        end)
        server:stop()
        assert(ok, message)
      end, 40000)
    end)
  end
end)

describe("replay of Apache", function()
  local CONFIG = [[
ServerRoot FOLDER
ServerName localhost
DefaultRuntimeDir FOLDER
PidFile FOLDER/pid
Listen 127.0.0.1:PORT
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
User www-data
Group www-data
StartServers 1
ErrorLog FOLDER/error.log
DocumentRoot FOLDER
LogFormat "%h %l %u %t \"%r\" %>s %b" common
LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" %D" timed
CustomLog FOLDER/common.log common
CustomLog FOLDER/timed.log timed
]]
  it("reads common, and combined with %D", function()
    in_folder(function(folder)
      local server, port = start(CONFIG, { folder = folder, command = "/usr/sbin/apache2", args = { "-DFOREGROUND", "-f", folder .. "/server.conf" } })
      local ok, message = pcall(function()
        send(port)
        loop.wait_until(function() return count(content(folder .. "/timed.log")) >= 4 end, 5000, "four lines")
      end)
      server:stop()
      assert(ok, message)
      check(folder .. "/timed.log", "combined-us", true)
      check(folder .. "/common.log", "common", false)
    end)
  end)
end)

describe("replay of Caddy", function()
  local CONFIG = [[
{
  admin off
  auto_https off
}
http://:PORT {
  bind 127.0.0.1
  log {
    output file FOLDER/access.log
  }
  respond /users/* "a user"
  respond 404
}
]]
  it("reads its JSON", function()
    in_folder(function(folder)
      local server, port = start(CONFIG, { folder = folder, command = peers .. "/caddy/usr/bin/caddy",
        args = { "run", "--config", folder .. "/server.conf", "--adapter", "caddyfile" }, env = { HOME = folder, XDG_CONFIG_HOME = folder, XDG_DATA_HOME = folder } })
      local ok, message = pcall(function()
        send(port)
        loop.wait_until(function() return count(content(folder .. "/access.log")) == 4 end, 5000, "four lines")
        check(folder .. "/access.log", "caddy", true)
      end)
      server:stop()
      assert(ok, message)
    end)
  end)
end)

describe("replay of HAProxy", function()
  local CONFIG = [[
global
  log stdout format raw local0
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:PORT
  LINES
  http-request return status 200 content-type text/plain string "hello"
]]
  local JSON = [[log-format '{"time":"%tr","method":"%HM","uri":"%HU","status":%ST,"bytes":%B,"Ta":%Ta}']]
  for format, lines in pairs { ["haproxy"] = "option httplog\n  capture request header User-Agent len 64", ["haproxy-json"] = JSON } do
    it("reads " .. format, function()
      in_folder(function(folder)
        local libraries = {}
        for _, package in ipairs { "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1" } do
          libraries[#libraries + 1] = ("%s/%s/usr/lib/x86_64-linux-gnu"):format(peers, package)
        end
        local text = CONFIG:gsub("LINES", (lines:gsub("%%", "%%%%")))
        local server, port = start(text, { folder = folder, command = peers .. "/haproxy/usr/sbin/haproxy",
          args = { "-db", "-f", folder .. "/server.conf" }, env = { LD_LIBRARY_PATH = table.concat(libraries, ":") } })
        local seen
        local ok, message = pcall(function()
          send(port)
          loop.wait_until(function()
            seen = {}
            for line in server:stdout():gmatch "[^\n]+" do
              if line:find "/users/" or line:find "/missing" then seen[#seen + 1] = line end
            end
            return #seen == 4
          end, 5000, "four lines")
        end)
        server:stop()
        assert(ok, message)
        files.write(folder .. "/access.log", table.concat(seen, "\n") .. "\n")
        check(folder .. "/access.log", format, true)
      end)
    end)
  end
end)

describe("replay of documented lines", function()
  -- From the documentation of each: Traefik "JSON format", Envoy "JSON format", AWS "Access log entries", HAProxy 8.2.3, ltsv.org.
  local LINES = {
    traefik = [[{"ClientAddr":"127.0.0.1:1","Duration":2000000,"DownstreamContentSize":19,"DownstreamStatus":404,"RequestMethod":"GET",]] ..
      [["RequestPath":"/users/7?x=1","StartUTC":"2024-03-11T14:50:11.012337Z","level":"info","msg":"","time":"2024-03-11T15:50:11+01:00"}]],
    envoy = [[{"start_time":"2016-04-15T20:17:00.310Z","method":"GET","path":"/users/7","protocol":"HTTP/2","response_code":204,]] ..
      [["response_flags":"-","bytes_received":154,"bytes_sent":0,"duration":2,"upstream_service_time":"100","x_forwarded_for":null}]],
    alb = [[https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.001 0.001 0.000 ]] ..
      [[200 200 0 57 "GET https://www.example.com:443/users/7 HTTP/1.1" "curl/7.46.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 ]] ..
      [[arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "Root=1-58337281-1d84f3d73c47ec4e58577259" ]] ..
      [["www.example.com" "arn:aws:acm:us-east-2:123456789012:certificate/1" 1 2018-07-02T22:22:48.364000Z "authenticate,forward" "-" "-" ]] ..
      [["10.0.0.1:80" "200" "-" "-"]],
    haproxy = [[Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 0/0/0/1/2 200 2750 ]] ..
      [[- - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /users/7 HTTP/1.1"]],
    ltsv = "host:127.0.0.1\ttime:[05/Feb/2013:15:34:47 +0000]\treq:GET /users/7 HTTP/1.1\tstatus:200\tsize:36\treqtime:0.002",
  }
  for format, line in pairs(LINES) do
    it("reads " .. format, function()
      in_folder(function(folder)
        files.write(folder .. "/access.log", line .. "\n")
        local out = replay(folder .. "/access.log")
        assert.truthy(out:find('"format": "' .. format .. '", "lines": 1, "bad": 0', 1, true), out)
        assert.truthy(out:find('"route": "GET /users/:id"', 1, true), out)
        assert.truthy(out:find('"mean_ms": 2.000', 1, true), out)
      end)
    end)
  end
end)
