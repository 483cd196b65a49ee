--- What goes wrong behind the proxy. The keys of a fault: tests/scenarios/catalogue.lua.
local API = "GET /api/*rest"

local function instance(i, bad, good)
  return function(w)
    local values = {}
    for name, value in pairs(bad) do values[name] = type(value) == "table" and w:draw(value[1], value[2]) or value end
    w:instance(i, values)
    return function() w:instance(i, good) end
  end
end

local function setting(values, before, after)
  return function(w)
    local changes = {}
    for name, value in pairs(values) do changes[name] = type(value) == "table" and w:draw(value[1], value[2]) or value end
    w:patch("config", { settings = changes })
    if before then before(w) end
    return function()
      if after then after(w) end
      for name in pairs(values) do w:post("config/reset", { name = name }) end
    end
  end
end

return {
  { name = "slow_upstream", issue = { "upstream.slow" }, rules = { "timeout_long" }, optional = true, forbidden = { "bad_instance", "bad_instance_slow", "hedge", "pool_undersized" },
    indicator = { API, "mean_ms" }, plant = instance(nil, { delay_ms = { 60, 110 } }, { delay_ms = 4 }) },
  { name = "bad_instance", issue = { "upstream.instance", "upstream.slow", "upstream.errors" }, rules = { "bad_instance", "bad_instance_slow" }, forbidden = { "retry_storm" },
    indicator = { API, "p95_ms" }, plant = instance(2, { delay_ms = { 90, 160 } }, { delay_ms = 4 }) },
  { name = "failing_instance", issue = { "upstream.instance", "upstream.errors" }, rules = { "bad_instance", "bad_instance_errors" }, optional = true, forbidden = { "retry_storm", "timeout_long", "timeout_short" },
    indicator = { API, "error_rate" }, plant = instance(3, { errors = { 20, 40 } }, { errors = 0 }) },
  { name = "heavy_tail", issue = { "upstream.slow", "upstream.tail" }, rules = { "hedge" }, forbidden = { "bad_instance", "bad_instance_slow" }, indicator = { API, "p99_ms" },
    plant = instance(nil, { slow_share = 3, slow_ms = { 120, 200 } }, { slow_share = 0 }) },
  { name = "error_burst", issue = { "upstream.errors" }, forbidden = { "pool_undersized", "uncompressed" }, indicator = { API, "error_rate" },
    plant = instance(nil, { errors = { 40, 60 } }, { errors = 0 }) },
  { name = "retry_storm", issue = { "upstream.errors", "upstream.slow" }, rules = { "retry_storm" }, forbidden = { "hedge", "timeout_long" }, indicator = { API, "mean_ms" },
    world = { upstream = "retries = 3, retry_on = { 503 }", args = { "--set", "upstream.failures=1000" } },
    cure = { setting = "upstream.service.budget_share", values = { 0, 0.1, 0.2, 0.5 } },
    plant = setting({ ["upstream.budget_share"] = 1 },
      function(w) w:instance(nil, { errors = w:draw(40, 55), status = 503, delay_ms = 15 }) end, function(w) w:instance(nil, { errors = 0, status = 500, delay_ms = 4 }) end) },
  { name = "no_keepalive", issue = { "net.connect" }, rules = { "keepalive_low" }, forbidden = { "timeout_long", "timeout_short" }, indicator = { API, "mean_ms" },
    world = { tls = true }, -- in which connecting takes time
    cure = { setting = "upstream.keepalive_max", values = { 8, 32, 256 } },
    plant = setting { ["upstream.keepalive_max"] = 0 } },
  { name = "timeout_short", issue = { "upstream.errors" }, rules = { "timeout_short" }, forbidden = { "retry_storm" }, indicator = { API, "error_rate" },
    world = { upstream = "retries = 0", instances = { delay_ms = 30, slow_share = 12, slow_ms = 45 } }, -- retries would hide it
    cure = { setting = "upstream.service.first_byte_timeout_ms", values = { 50, 100, 1000 } },
    plant = setting { ["upstream.first_byte_timeout_ms"] = { 34, 38 } } },
}
