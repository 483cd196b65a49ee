-- Large answers go out as they are because compression is off. From bytes of answers of each route; how far they would shrink
-- is what compression reached since the start, and is not claimed where it never ran.
local function ratio(f)
  local before, after = 0, 0
  for _, r in ipairs(f.compression and f.compression.routes or {}) do
    for _, c in ipairs(r.codings or {}) do before, after = before + c.bytes_in, after + c.bytes_out end
  end
  return before > 0 and after / before or nil
end

local function large(f)
  local names, bytes = {}, 0
  for _, s in ipairs(f.routes) do
    if (s.now.bytes_out or 0) >= 4096 then names[#names + 1], bytes = s.name, bytes + s.now.bytes_out * (s.now.rps or 0) end
  end
  return names, bytes
end

return {
  id = "uncompressed",
  title = function() return "compress answers" end,
  class = "compression", on = "host", issue = false, needs = { "cpu_share" },
  when = function(s, f)
    local names, bytes = large(f)
    return f:setting "compression.enabled" == false and #names > 0 and bytes >= 100e3 and s.now.cpu_share < 0.7 and f:rps(names) * f.span_s >= 50
  end,
  impact = function(_, f)
    local names, bytes = large(f)
    local now, r = f:mean(names, "bytes_out"), ratio(f)
    if not r then return nil end
    return { metric = "bytes_out", now = now, predicted = now * r, lo = now * r, hi = now, routes = names,
      formula = "bytes * what compression left of bytes before", inputs = { ratio = r, bytes_per_s = bytes } }
  end,
  set = function() return { ["compression.enabled"] = true } end,
  effort = "very_low", risk = 1, verify = { metric = "bytes_out", direction = "down", mde = 0.1, price = 0.5 },
  explain = function(_, f)
    local names, bytes = large(f)
    return ("%d routes send %.1f MB a second of answers above 4 kB, and compression is off"):format(#names, bytes / 1e6)
  end,
}
