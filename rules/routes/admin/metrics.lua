-- GET /metrics : Prometheus text or OpenMetrics, as the scraper prefers.
-- GET metrics  : the same.
local admin = require "perilune.admin"
local desk = require "perilune.alerts.desk"
local p = require "perilune"
local prometheus = require "perilune.prometheus"
local app = admin.app()

-- How much a type is wanted (RFC 9110 12.5.1); 0 where it is not named.
local function wanted(accept, kind)
  local most = 0
  for entry in accept:lower():gmatch "[^,]+" do
    if entry:match "^%s*([^;%s]+)" == kind then most = math.max(most, tonumber(entry:match ";%s*q=([%d.]+)") or 1) end
  end
  return most
end

-- A thousand routes are no reason to keep others waiting, or to be over the limit of CPU time; and where there are few
-- processors, a worker gets the one that we have within a millisecond or so.
local ROUTES_AT_A_TIME, PAUSE_S = 20, 0.001

local function pause() p.sleep(PAUSE_S) end

local function histograms()
  local list, at = {}, 0
  while true do
    local some, behind = admin.stats.histograms(at, ROUTES_AT_A_TIME)
    for _, one in ipairs(some) do list[#list + 1] = one end
    if not behind then return list end
    at = behind
    pause()
  end
end

local function metrics(req)
  local accept = req.headers["accept"] or ""
  local openmetrics = wanted(accept, "application/openmetrics-text")
  openmetrics = openmetrics > 0 and openmetrics >= wanted(accept, "text/plain")
  local snapshot = {
    stats = admin.stats.totals(), histograms = histograms(), generation = admin.stats.generation(),
    counters = admin.stats.counters(),
    upstreams = admin.upstreams.list(), compression = admin.compression.routes(), cache = admin.cache.view(),
    tasks = admin.task_stats(), limits = admin.limits.classes(),
    pools = admin.pools.list(), machine = { figures = admin.machine.figures(), processes = admin.machine.processes() },
    alerts = desk.figures(), store = admin.store.state(),
  }
  return 200, function(write)
    prometheus.render(snapshot, openmetrics, function(text)
      if not write(text) then return false end
      pause()
      return true
    end)
  end, { ["Content-Type"] = prometheus.content_type[openmetrics and "openmetrics" or "classic"] }
end

app:get("/metrics", {
  summary = "Prometheus text or OpenMetrics, as the scraper prefers",
  answers = { [200] = "string" }, produces = "text/plain", also = "application/openmetrics-text",
}, metrics)
app:get(admin.path "metrics", {
  summary = "Prometheus text or OpenMetrics, as the scraper prefers",
  answers = { [200] = "string" }, produces = "text/plain", also = "application/openmetrics-text",
}, metrics)

return app
