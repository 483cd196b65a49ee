--- The servers that several rows use: the same work on ours and on the peers.
local work = {}

local ROUTES = [[
local app = require("perilune").app()
app:get("/hello", function() return "hello, world\n" end)
app:get("/users/:id", function(req)
  return { id = req.params.id, agent = req.headers["user-agent"], host = req.headers["host"], name = "Ada Lovelace", age = 36,
    admin = true, score = 99.5, city = "London", team = "engine", since = 1842 }
end)
local kilobyte = ("0123456789abcdef"):rep(64)
app:get("/1k", function() return kilobyte end)
local large = kilobyte:rep(64)
app:get("/64k", function() return large end)
return app
]]

local NGINX_LUA = [[
server { listen 127.0.0.1:PORT;
  location /hello { content_by_lua_block { ngx.print("hello, world\n") } }
  location ~ ^/users/(?<id>[^/]+)$ { default_type application/json; content_by_lua_block {
    local headers = ngx.req.get_headers()
    ngx.print(require("cjson").encode { id = ngx.var.id, agent = headers["user-agent"], host = headers["host"], name = "Ada Lovelace",
      age = 36, admin = true, score = 99.5, city = "London", team = "engine", since = 1842 })
  } }
}]]

local HAPROXY_LUA = [[
core.register_service("hello", "http", function(applet)
  applet:set_status(200)
  applet:add_header("content-length", "13")
  applet:add_header("content-type", "text/plain")
  applet:start_response()
  applet:send("hello, world\n")
end)]]

--- What is compressed: rows of JSON as an API answers them. Lua text that defines json(bytes).
work.JSON = [[
local function json(bytes)
  local rows, size, i = {}, 0, 0
  while size < bytes do
    i = i + 1
    rows[i] = ('{"id":%d,"name":"user %d","email":"user%d@example.org","active":%s,"score":%d.%d,"tags":["t%d","t%d"]}'):format(
      i, i * 7919 % 1000, i, i % 3 == 0 and "true" or "false", i * 31 % 100, i * 17 % 10, i % 7, i % 11)
    size = size + #rows[i] + 1
  end
  return "[" .. table.concat(rows, ",") .. "]"
end
]]

function work.json(bytes)
  return loadstring(work.JSON .. "return json(...)")(bytes)
end

--- Ours, with the routes above.
function work.route(bench, program, prefix, options)
  local servers = bench.servers
  local folder = servers.folder .. "/rules"
  os.execute(("mkdir -p %s/routes"):format(folder))
  servers.write(folder .. "/routes/app.lua", ROUTES)
  return servers.engine("routes", "--rules " .. folder .. (options or ""), program, prefix)
end

function work.constant(bench, prefix)
  return bench.servers.nginx("nginx return 200", "server { listen 127.0.0.1:PORT; location /hello { return 200 'hello, world\\n'; } }", nil, nil, prefix)
end

function work.nginx_lua(bench, prefix)
  return bench.servers.nginx_lua("nginx + Lua", NGINX_LUA, prefix)
end

function work.haproxy_lua(bench)
  return bench.servers.haproxy("HAProxy Lua service", "frontend f\n  bind 127.0.0.1:PORT\n  http-request use-service lua.hello\n", HAPROXY_LUA)
end

--- Three proxies before `origin`: ours, nginx, HAProxy.
function work.proxies(bench, origin)
  local servers = bench.servers
  os.execute(("mkdir -p %s/none"):format(servers.folder))
  return {
    servers.engine("proxy", ("--rules %s/none --upstream http://%s"):format(servers.folder, origin.address)),
    servers.nginx("nginx proxy_pass", ([[
  upstream up { server %s; keepalive 64; }
  server { listen 127.0.0.1:PORT; location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; } }]]):format(origin.address)),
    servers.haproxy("HAProxy", ([[
frontend f
  bind 127.0.0.1:PORT
  default_backend b
backend b
  http-reuse always
  server s %s
]]):format(origin.address)),
  }
end

return work
