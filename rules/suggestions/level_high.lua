-- Compression takes much of a CPU (or of task threads) that is nearly used up: a lower level is several times cheaper and some percent larger.
local CPU, SHARE = 0.7, 0.15

local function cost(f)
  local cpu_s = 0
  for _, route in ipairs(f.compression and f.compression.during and f.compression.during.routes or {}) do
    for _, coding in ipairs(route.codings or {}) do cpu_s = cpu_s + (coding.cpu_s or 0) end
  end
  return f.span_s > 0 and cpu_s / f.span_s or 0
end

local function suggested(f) return math.max(1, math.floor(f:setting "compression.level" / 2)) end

return {
  id = "level_high",
  title = function(_, f) return ("compression.level %d instead of %d"):format(suggested(f), f:setting "compression.level") end,
  class = "compression",
  on = "host",
  issue = { "cpu.compression", "cpu.saturated" },
  needs = { "cpu_share" },
  when = function(s, f)
    return f:setting "compression.enabled" and f:setting "compression.level" > 1 and math.max(f:busy(), s.now.task_busy_share or 0) >= CPU and cost(f) >= SHARE * s.now.cpu_share * f.cores
  end,
  impact = function(_, f)
    local routes = f:with("compress", 0.01)
    local now, part = f:mean(routes, "mean_ms"), f:mean(routes, "compress")
    return { metric = "mean_ms", now = now, predicted = now - part / 2, lo = now - part, hi = now, routes = routes, cores = cost(f) / 2,
      formula = "half of what compressing takes now", inputs = { compress_ms = part, cores = cost(f) } }
  end,
  set = function(_, f) return { ["compression.level"] = suggested(f) } end,
  effort = "very_low",
  risk = 1,
  inhibits = { "uncompressed", "cpu_bound", "overload" }, -- what compressing takes is cheaper to have back than another core
  explain = function(s, f) return ("compressing takes %.2f cores, with %.0f %% of the CPU in use"):format(cost(f), s.now.cpu_share * 100) end,
}
