--- One GET: over HTTP by a Lua route, and many at once inside of one worker, beside redis-benchmark without
--- pipelining. All on one Redis, interleaved, medians of rates.
local ROUTES = [[
local p = require "perilune"
local redis = require "perilune.redis"
local app = p.app()
app:get("/one", function() return (assert(redis:get("key"))) end)
-- Each of 64 clients does 200 GETs, one after the other: 64 are under way at any time.
app:get("/many", function()
  for _ = 1, 200 do assert(redis:get("key")) end
  return 200
end)
return app
]]

return function(bench)
  local servers = bench.servers
  local home = servers.folder .. "/redis"
  local port = servers.free_port()
  os.execute(("mkdir -p %s/rules/routes && ln -sf /usr/bin/redis-check-rdb %s/redis-server"):format(home, home))
  servers.write(home .. "/rules/routes/app.lua", ROUTES)
  local server = servers.start(("exec %s/redis-server --port %d --bind 127.0.0.1 --dir %s --save '' --appendonly no"):format(home, port, home))
  servers.capture(("until redis-cli -p %d set key value >/dev/null 2>&1; do sleep 0.05; done"):format(port))
  servers.write(home .. "/perilune.lua", ("return { redis = 'redis://127.0.0.1:%d' }"):format(port))
  local API = "/api/v1/performance-optimization/resources/pools/redis"

  local function wrk(path, times)
    local engine = servers.engine("redis-state" .. path:gsub("/", "-"), ("--config %s/perilune.lua --rules %s/rules"):format(home, home))
    return function()
      local text = servers.capture(("wrk -t1 -c64 -d%ds --timeout 10s --latency http://%s%s"):format(bench.seconds, engine.address, path))
      local rate = tonumber(text:match "Requests/sec:%s+([%d.]+)")
      assert(rate and not text:match "Non%-2xx" and not text:match "Socket errors", text)
      local p99, unit = text:match "99%%%s+([%d.]+)(%a+)"
      if not times then return rate, tonumber(p99) * ({ us = 0.001, ms = 1, s = 1000 })[unit] end
      -- From sent to answered, of all so far, as the pool has measured it.
      local view = servers.capture(("curl -s http://%s%s"):format(engine.admin, API))
      return rate * times, tonumber(view:match '"use_time_ms":{.-"p99":([%d.e-]+)')
    end
  end

  local function benchmark()
    local text = servers.capture(("redis-benchmark -p %d -t get -P 1 -c 50 -n %d -r 1 --csv"):format(port, 60000 * bench.seconds))
    local rate, _, _, _, _, p99 = text:match '"GET","([%d.]+)","([%d.]+)","([%d.]+)","([%d.]+)","([%d.]+)","([%d.]+)"'
    assert(rate, text)
    return tonumber(rate), tonumber(p99)
  end

  local list = {
    { name = "perilune, route over HTTP, 64 clients", run = wrk("/one") },
    { name = "perilune, 64 at once in one worker", run = wrk("/many", 200) },
    { name = "redis-benchmark -P 1 -c 50", run = benchmark },
  }
  local results = {}
  for i = 1, #list do results[i] = { rate = {}, p99 = {} } end
  for round = 1, bench.rounds do
    for i = 1, #list do
      local which = (i + round) % #list + 1
      results[which].rate[round], results[which].p99[round] = list[which].run()
    end
  end
  bench.columns("work", "client", "GETs/s", "p99 ms", "of the last")
  local base = bench.median(results[#list].rate)
  for i, one in ipairs(list) do
    local rate, p99 = bench.median(results[i].rate), bench.median(results[i].p99)
    bench.say("| %s | %s | %.0f | %.2f | %s |", i == 1 and "one GET" or "", one.name, rate, p99, i == #list and "" or ("%.2fx"):format(rate / base))
  end
  servers.capture(("kill %d"):format(server))
end
