--- Hits of 10 KB from the cache.
return function(bench)
  local servers = bench.servers
  local folder = servers.folder .. "/origin"
  os.execute(("mkdir -p %s/routes %s/cached/policies %s/store"):format(folder, servers.folder, servers.folder))
  servers.write(folder .. "/routes/app.lua", [[
local app = require("perilune").app()
local body = ("0123456789abcdef"):rep(640)
app:get("/hello", function() return 200, body, { ["Content-Type"] = "text/plain", ["Cache-Control"] = "max-age=3600" } end)
return app]])
  servers.write(servers.folder .. "/cached/policies/cache.lua", 'return { mode = "on" }')
  local origin = servers.engine("origin", "--rules " .. folder)
  local list = {
    servers.engine("cached", ("--rules %s/cached --upstream http://%s"):format(servers.folder, origin.address)),
    servers.nginx("nginx proxy_cache", ([[proxy_cache_path %s/store keys_zone=c:10m; sendfile on; tcp_nopush on; open_file_cache max=1000 inactive=60s;
      server { listen 127.0.0.1:PORT; location / { proxy_pass http://%s; proxy_cache c; proxy_cache_valid 1h; } }]]):format(
      servers.folder, origin.address)),
    servers.varnish("Varnish", origin.address),
  }
  for _, server in ipairs(list) do
    for _ = 1, 20 do servers.capture(("curl -s -o /dev/null http://%s/hello"):format(server.address)) end
  end
  bench.columns(unpack(bench.header))
  bench.compare("cache hit, 10 KB", "/hello", list)
end
