--- What a proxy adds to a service that takes 20 ms: 50 connections, mixed sizes.
local work = require "tests.bench.work"

local ORIGIN = [[
server { listen 127.0.0.1:PORT; client_body_buffer_size 64k;
  location / { content_by_lua_block {
    ngx.req.read_body()
    ngx.sleep(0.02)
    local size = tonumber(ngx.var.arg_size or 100)
    ngx.header.content_length = size
    ngx.print(("x"):rep(size))
  } }
}]]

local MIX = [[
local body, n = ("b"):rep(4096), 0
request = function()
  n = n + 1
  if n % 10 == 0 then return wrk.format("POST", "/write", { ["Content-Type"] = "text/plain" }, body) end
  if n % 10 == 5 then return wrk.format("GET", "/large?size=65536") end
  return wrk.format("GET", "/small?size=" .. (200 + n % 7 * 500))
end
done = function(summary, latency, requests)
  print(("LATENCY %f %f %f"):format(latency.mean / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
end]]

return function(bench)
  local servers = bench.servers
  local script = servers.folder .. "/mix.lua"
  servers.write(script, MIX)
  local origin = servers.nginx_lua("origin", ORIGIN)
  local list = work.proxies(bench, origin)
  table.insert(list, 1, { name = "the service itself", address = origin.address })
  local results = {}
  for i = 1, #list do results[i] = { mean = {}, p95 = {}, p99 = {} } end
  for round = 1, bench.rounds do
    for i = 1, #list do
      local which = (i + round) % #list + 1
      local text = servers.capture(("wrk -t1 -c50 -d%ds -s %s http://%s"):format(bench.seconds, script, list[which].address))
      assert(not text:find "Non%-2xx" and not text:find "Socket errors", text)
      local r = results[which]
      r.mean[round], r.p95[round], r.p99[round] = (text:match "LATENCY (%S+)"), text:match "LATENCY %S+ (%S+) (%S+)"
      for name, values in pairs(r) do values[round] = assert(tonumber(values[round]), name) end
    end
  end
  bench.columns("mixed load, 50 connections, 20 ms upstream", "mean ms", "added ms", "p95 ms", "p99 ms")
  local direct = bench.median(results[1].mean)
  for i, server in ipairs(list) do
    local r = results[i]
    local mean = bench.median(r.mean)
    bench.say("| %s | %.2f | %.2f | %.2f | %.2f |", server.name, mean, mean - direct, bench.median(r.p95), bench.median(r.p99))
  end
end
