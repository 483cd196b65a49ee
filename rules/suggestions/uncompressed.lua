-- Large answers go out as they are because compression is off. How much smaller they would be is not known before it is tried:
-- the trial measures it.
local LEAST_BYTES, LEAST_RATE = 4096, 100000

local function large(f)
  local names, rate = {}, 0
  for _, s in ipairs(f.routes) do
    if (s.now.bytes_out or 0) >= LEAST_BYTES and (s.now.rps or 0) > 0 then
      names[#names + 1] = s.name
      rate = rate + s.now.bytes_out * s.now.rps
    end
  end
  return names, rate
end

return {
  id = "uncompressed",
  title = function() return "compress answers" end,
  class = "compression",
  on = "host",
  issue = false,
  needs = { "cpu_share" },
  when = function(s, f)
    local names, rate = large(f)
    return f:setting "compression.enabled" == false and #names > 0 and rate >= LEAST_RATE and s.now.cpu_share < 0.7
  end,
  impact = function(_, f)
    local names, rate = large(f)
    local now = f:mean(names, "bytes_out")
    return { metric = "bytes_out", now = now, predicted = now * 0.5, lo = now * 0.15, hi = now, routes = names, formula = "bytes * (1 - r); r is measured by the trial",
      inputs = { bytes = now, bytes_per_s = rate } }
  end,
  set = function() return { ["compression.enabled"] = true } end,
  effort = "very_low",
  risk = 1,
  verify = { metric = "bytes_out", direction = "down", mde = 0.1 },
  explain = function(_, f)
    local names, rate = large(f)
    return ("%.1f MB a second of answers of %s and others go out as they are"):format(rate / 1e6, names[1])
  end,
}
