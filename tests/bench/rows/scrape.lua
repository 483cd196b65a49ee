--- What a request notices of somebody who scrapes 1,000 routes: an open loop of 500 requests a second, with and without SCRAPES a
-- second beside it; a real Prometheus comes once in 15 s. The client that scrapes and reads is on the same cores.
local ROUTES, RATE, SCRAPES = 1000, 500, 2

local APP = [[
local app = require "perilune".app()
for i = 1, %d do app:get("/made/" .. i, function() return "made" end) end
app:get("/hello", function() return "hello" end)
return app]]

return function(bench)
  local servers = bench.servers
  local rules = servers.folder .. "/scraped"
  os.execute("mkdir -p " .. rules .. "/routes")
  servers.write(rules .. "/routes/app.lua", APP:format(ROUTES))
  local served = servers.engine("scraped", ("--rules %s --set stats.routes_max=1024"):format(rules))
  local script = servers.folder .. "/each.lua"
  servers.write(script, ("return function(i) if i <= %d then return { path = '/made/' .. i } end end"):format(ROUTES))
  servers.capture(("%s/release/perilune bench http://%s/made/1 --script %s --iterations %d -o json"):format(bench.build, served.address, script, ROUTES * 2))
  local scrape = ("curl -s http://%s/metrics"):format(served.admin)
  local text = servers.capture(scrape)
  local _, routes = text:gsub('_count{[^}]*"/made/%d+"', "")
  assert(routes >= ROUTES, routes .. " routes are in a scrape")

  local function block(scraped)
    local seconds = bench.seconds * 2
    local beside = scraped and ("(for i in $(seq %d); do %s >/dev/null; sleep %.2f; done) &"):format(seconds * SCRAPES, scrape, 1 / SCRAPES) or ""
    local out = servers.capture(("%s %s/release/perilune bench http://%s/hello --rate %d --duration %d -o json; wait"):format(beside, bench.build, served.address, RATE, seconds))
    local service = assert(out:match '"service_ms": (%b{})', out)
    local function of(name) return tonumber(service:match('"' .. name .. '": ([%d.]+)')) end
    return { p50 = of "p50", p95 = of "p95", p99 = of "p99", max = of "max" }
  end
  local names, with, without, more = { "p50", "p95", "p99", "max" }, {}, {}, {}
  for _, name in ipairs(names) do with[name], without[name], more[name] = {}, {}, {} end
  for round = 1, bench.rounds do
    local a, b
    if round % 2 == 0 then a, b = block(true), block(false) else b, a = block(false), block(true) end
    for _, name in ipairs(names) do
      with[name][round], without[name][round], more[name][round] = a[name], b[name], a[name] - b[name]
    end
  end
  local function timed()
    local before = servers.cpu(served.pid)
    for _ = 1, 10 do servers.capture(scrape .. " >/dev/null") end
    return (servers.cpu(served.pid) - before) / 10 * 1000
  end
  bench.columns(("GET /hello at %d/s, ms"):format(RATE), "alone", ("beside %d scrapes a second of %d routes, %.1f MB each"):format(SCRAPES, ROUTES, #text / 1e6), "difference, of rounds side by side")
  for _, name in ipairs(names) do
    bench.say("| %s | %.2f | %.2f | %+.2f |", name, bench.median(without[name]), bench.median(with[name]), bench.median(more[name]))
  end
  bench.say("| CPU time of a scrape, of control | | %.0f | |", timed())
end
