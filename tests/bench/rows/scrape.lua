--- What a request notices of somebody who scrapes 1,000 routes: an open loop of 500 requests a second alone, beside a client that
-- fetches a file of that size from nginx, and beside one that scrapes. So what the client costs, who is on the same cores, is not
-- taken for ours. A real Prometheus comes once in 15 s.
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

  local pages = servers.folder .. "/pages"
  os.execute("mkdir -p " .. pages)
  servers.write(pages .. "/metrics", text)
  local file = ("curl -s http://%s/metrics"):format(servers.nginx("pages", ("server { listen 127.0.0.1:PORT; location /hello { return 200; } location / { root %s; } }"):format(pages)).address)

  local sizes = servers.folder .. "/sizes"
  local function block(beside)
    local seconds = bench.seconds * 2
    local client = beside and ("(for i in $(seq %d); do %s -f -o /dev/null -w '%%{size_download}\\n'; sleep %.2f; done >%s) &"):format(seconds * SCRAPES, beside, 1 / SCRAPES, sizes) or ""
    local out = servers.capture(("%s %s/release/perilune bench http://%s/hello --rate %d --duration %d -o json; wait"):format(client, bench.build, served.address, RATE, seconds))
    if beside then
      local fetched = 0
      for size in io.lines(sizes) do
        assert(tonumber(size) >= #text * 0.9, size .. " bytes were fetched")
        fetched = fetched + 1
      end
      assert(fetched == seconds * SCRAPES, fetched .. " fetches")
    end
    local service = assert(out:match '"service_ms": (%b{})', out)
    local function of(name) return tonumber(service:match('"' .. name .. '": ([%d.]+)')) end
    return { p50 = of "p50", p95 = of "p95", p99 = of "p99", max = of "max" }
  end
  local names, arms, results, more = { "p50", "p95", "p99", "max" }, { false, file, scrape }, {}, {}
  for round = 1, bench.rounds * 2 do
    local blocks = {}
    for i = 1, #arms do
      local which = (i + round) % #arms + 1
      blocks[which] = block(arms[which])
    end
    for _, name in ipairs(names) do
      for arm = 1, #arms do
        results[arm] = results[arm] or {}
        results[arm][name] = results[arm][name] or {}
        results[arm][name][round] = blocks[arm][name]
      end
      more[name] = more[name] or {}
      more[name][round] = blocks[3][name] - blocks[2][name]
    end
  end
  local function timed()
    local before = servers.cpu(served.pid)
    for _ = 1, 10 do servers.capture(scrape .. " >/dev/null") end
    return (servers.cpu(served.pid) - before) / 10 * 1000
  end
  bench.columns(("GET /hello at %d/s, ms"):format(RATE), "alone", ("beside %d fetches a second of %.1f MB from nginx"):format(SCRAPES, #text / 1e6),
    ("beside %d scrapes a second of %d routes"):format(SCRAPES, ROUTES), "ours more than nginx's, of rounds side by side")
  for _, name in ipairs(names) do
    bench.say("| %s | %.2f | %.2f | %.2f | %+.2f |", name == "max" and ("the longest of %d"):format(RATE * bench.seconds * 2) or name, bench.median(results[1][name]),
      bench.median(results[2][name]), bench.median(results[3][name]), bench.median(more[name]))
  end
  bench.say("| CPU time of a scrape, of control | | | %.0f | |", timed())
end
