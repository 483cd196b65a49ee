--- One watched thing as the rules of rules/issues/ see it: what its signals are now, what is usual for them, and
-- the few questions that a rule asks.
--
--   s.kind       "host", "route" or "pool"
--   s.name       "GET /users/:id", the pool's id, or "host"
--   s.requests   in its last sample (of a pool: calls)
--   s.errors     of a route: answers of 500 and above lately, one of half a minute ago counting 1/e
--   s.now        { signal = value }, over the last samples, in the units of GET signals
--   s.usual      { signal = median of what is usual }; a signal not learnt yet is absent
--   s.moved      { signal = { direction, since_ms, spreads, p } }, only those that left what is usual
--   s.company    of the host, pools and the busiest routes: what all signals do together, { severity, p, channel, unusual, since_ms,
--                samples, learnt, needed, signals = { { name, share } } } (see core/watch/company.h and bind_watch.h)
--   s.host, s.pools, s.hottest    the views of the host, of all pools, and of the route whose handler costs most

local view = {}
view.__index = view

local PHASES = { "queue", "lua", "pool_wait", "db", "redis", "task", "upstream_connect", "upstream_first_byte", "upstream_body",
  "cache", "compress", "write" }
local NOTICED_MS = 5000  -- a change is noticed so late
local LEAST_GROWTH = 0.1 -- of the mean; below it there is no additional time to speak of

--- A thing of watch.things(), and the units of its signals by name.
function view.new(thing, units)
  thing.units = units
  return setmetatable(thing, view)
end

--- Now against usual: 1 is no change, and so is what is not known. Both are taken for at least a thousandth.
function view:ratio(signal)
  local now, usual = self.now[signal], self.usual[signal]
  if not now or not usual then return 1 end
  return math.max(now, 1e-3) / math.max(usual, 1e-3)
end

--- Whether a signal has left what is usual upwards, is at least `ratio` times that, and `floor` above it.
function view:rose(signal, ratio, floor)
  local moved, now, usual = self.moved[signal], self.now[signal], self.usual[signal]
  return moved ~= nil and moved.direction == "up" and now ~= nil and usual ~= nil and now >= ratio * usual and now - usual >= floor
end

--- The same without having left it for certain: enough for a cause, once a symptom is certain.
function view:above(signal, ratio, floor)
  local now, usual = self.now[signal], self.usual[signal]
  return now ~= nil and usual ~= nil and now >= ratio * usual and now - usual >= floor
end

--- Whether it has left it downwards by at least `amount`.
function view:fell(signal, amount)
  local moved, now, usual = self.moved[signal], self.now[signal], self.usual[signal]
  return moved ~= nil and moved.direction == "down" and now ~= nil and usual ~= nil and usual - now >= amount
end

--- Whether something is known that may be behind what began at since_ms: another issue (but those of `code`) that is open or
-- was up to span_ms before, or a change or an experiment up to span_ms before.
function view:explained(since_ms, span_ms, code)
  local from, book = since_ms - span_ms, self.book
  for _, issue in pairs(book.open) do
    if issue.code ~= code then return true end
  end
  for _, issue in ipairs(book.closed) do
    if issue.code ~= code and issue.closed_ms >= from then return true end
  end
  for _, marker in ipairs(book.markers) do
    if marker.at_ms >= from and marker.at_ms <= since_ms + NOTICED_MS then return true end
  end
  return (self.held_ms or 0) >= from or ((self.host or self).held_ms or 0) >= from
end

--- The share, 0 to 1, of a route's additional time that a phase takes; "elsewhere": in no phase. Where nothing is
-- usual yet, or there is no additional time, the share of all its time.
function view:excess(phase)
  local now, usual = self.now, self.usual
  local mean, before = now.mean_ms or 0, usual.mean_ms or 0
  local growth = mean - before
  if growth < LEAST_GROWTH * before or not usual.mean_ms then usual, growth = {}, mean end
  if growth <= 0 then return 0 end
  local function of(name) return math.max(0, (now[name] or 0) - (usual[name] or 0)) / growth end
  if phase ~= "elsewhere" then return math.min(1, of(phase)) end
  local rest = 1
  for _, name in ipairs(PHASES) do rest = rest - of(name) end
  return math.max(0, rest)
end

local function text(value, unit)
  if not value then return "not known" end
  if unit == "ms" then
    if value >= 1000 then return ("%.2f s"):format(value / 1000) end
    return (value >= 100 and "%.0f ms" or value >= 1 and "%.1f ms" or "%.2f ms"):format(value)
  elseif unit == "ratio" then
    return (value >= 0.1 and "%.0f %%" or "%.1f %%"):format(value * 100)
  elseif unit == "bytes" then
    if value >= 1e9 then return ("%.2f GB"):format(value / 1e9) end
    if value >= 1e6 then return ("%.1f MB"):format(value / 1e6) end
    return ("%.1f kB"):format(value / 1e3)
  end
  return (value >= 100 and "%.0f" or "%.1f"):format(value)
end

--- A signal in words, now and usually.
function view:show(signal) return text(self.now[signal], self.units[signal]) end
function view:show_usual(signal) return text(self.usual[signal], self.units[signal]) end

--- What is usual as the end of a phrase, ", usually 3.0 ms"; nothing where it is not known. `word` comes before the value.
function view:usually(signal, word)
  if not self.usual[signal] then return "" end
  return ", usually " .. (word and word .. " " or "") .. self:show_usual(signal)
end

return view
