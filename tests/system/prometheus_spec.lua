--- What a real Prometheus makes of /metrics, and Grafana's dashboard of that.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local prometheus = require "tests.support.prometheus"

local ROUTES = [[
local p = require "perilune"
local app = p.app()
app:get("/wait/:ms", function(req) p.sleep(tonumber(req.params.ms) / 1000) return "done" end)
app:get("/fails", function() return 503 end)
return app
]]

describe("a real Prometheus", function()
  it("scrapes us: counts are exact, quantiles agree, slow requests are exemplars, the Grafana dashboard's queries are answered", function()
    local served = engine.start { rules = { ["routes/run.lua"] = ROUTES }, args = { "--set", "stats.slow_ms=30" } }
    loop.run(function()
      local server = prometheus.start(served.admin)
      loop.wait_until(function() return #server:query "perilune_generation" == 1 end, 10000, "the first scrape")
      local tasks = {}
      for t = 1, 10 do
        tasks[t] = function()
          for _ = 1, 12 do served:get "/wait/5" end
          served:request { path = "/wait/60", headers = { traceparent = "00-" .. ("ab"):rep(16) .. "-" .. ("cd"):rep(8) .. "-01" } }
        end
      end
      loop.all(tasks)
      for _ = 1, 5 do served:get "/fails" end
      local function value(text) return tonumber((server:query(text)[1] or { value = {} }).value[2]) end
      loop.wait_until(function() return value [[sum(perilune_responses_total{http_route="/fails",status_class="5xx"})]] == 5 end, 10000, "the scrape of the last request")
      assert.equal(130, value [[sum(perilune_responses_total{http_route="/wait/:ms"})]])
      assert.equal(130, value [[http_server_request_duration_seconds_count{http_route="/wait/:ms"}]])
      local ours
      for _, route in ipairs(assert(served:admin_get "~/stats?window=all").json.data.routes) do
        if route.route == "/wait/:ms" then ours = route.latency_ms end
      end
      -- Prometheus knows no more than the bounds of the bucket that the quantile is in.
      for q, name in pairs { ["0.5"] = "p50", ["0.95"] = "p95" } do
        local theirs = value(("histogram_quantile(%s, http_server_request_duration_seconds_bucket{http_route=\"/wait/:ms\"})"):format(q)) * 1000
        local below, above = 0, math.huge
        for _, one in ipairs(server:query [[http_server_request_duration_seconds_bucket{http_route="/wait/:ms"}]]) do
          local le = tonumber((one.metric.le:gsub("+Inf", "inf"))) or math.huge
          le = le * 1000
          if le < theirs and le > below then below = le end
          if le >= theirs and le < above then above = le end
        end
        assert.is_true(ours[name] >= below * 0.99 and ours[name] <= above * 1.01, ("%s: %g by us, %g to %g by Prometheus"):format(name, ours[name], below, above))
      end
      local found
      loop.wait_until(function()
        for _, series in ipairs(server:exemplars([[http_server_request_duration_seconds_bucket{http_route="/wait/:ms"}]], 60)) do
          for _, one in ipairs(series.exemplars) do
            if one.labels.trace_id == ("ab"):rep(16) and tonumber(one.value) >= 0.06 then found = one end
          end
        end
        return found
      end, 10000, "an exemplar")
      local dashboard = json.decode(files.read "packaging/grafana.json")
      local asked = 0
      for _, panel in ipairs(dashboard.panels) do
        for _, target in ipairs(panel.targets) do
          local text = target.expr:gsub("%$__rate_interval", "10s"):gsub("%$instance", ".*"):gsub("%$route", ".*")
          local names = {}
          for name in text:gmatch "[%a_:][%w_:]*{" do names[#names + 1] = name:sub(1, -2) end
          server:query(text) -- raises when it is malformed
          for _, name in ipairs(names) do
            local there = #server:query(("count({__name__=%q})"):format(name)) > 0
            local optional = name:find "^perilune_peer_" or name:find "^db_client" or name:find "compression" or name == "perilune_alerts"
            assert.is_true(there or optional ~= nil, name .. " of panel " .. panel.title .. " is not exported")
          end
          asked = asked + 1
        end
      end
      assert.is_true(asked >= 15)
      local targets = server:api("targets").data.activeTargets
      assert.equal("up", targets[1].health)
      assert.equal("", targets[1].lastError)
      server:stop()
    end, 60000)
    served:stop()
  end)
end)

describe("a scrape", function()
  it("of a thousand routes is whole, in both formats, also right behind the first request of each", function()
    local served = engine.start { rules = { ["routes/run.lua"] = [[
      local app = require "perilune".app()
      for i = 1, 1000 do app:get("/made/" .. i, function() return 200, "made" end) end
      return app
    ]] }, args = { "--set", "stats.routes_max=1024" } }
    loop.run(function()
      local tasks = {}
      for t = 0, 9 do
        tasks[t + 1] = function()
          for i = t * 100 + 1, t * 100 + 100 do assert(served:get("/made/" .. i)) end
        end
      end
      loop.all(tasks)
      for accept, ending in pairs { ["text/plain"] = "", ["application/openmetrics-text"] = "# EOF\n" } do
        local got = served:admin_request { path = "/metrics", headers = { Accept = accept }, timeout_ms = 20000 }
        assert.equal(200, got.status, got.body)
        assert.is_true(got.body:sub(#got.body - #ending + 1) == ending)
        local seen, requests = 0, 0
        for count in got.body:gmatch 'http_server_request_duration_seconds_count{[^}]*http_route="/made/%d+"} (%d+)\n' do
          seen, requests = seen + 1, requests + tonumber(count)
        end
        assert.same({ 1000, 1000 }, { seen, requests })
        local _, answered = got.body:gsub('perilune_responses_total{[^}]*http_route="/made/%d+",status_class="2xx"} 1\n', "")
        assert.equal(1000, answered)
      end
    end, 60000)
    served:stop()
  end)
end)
