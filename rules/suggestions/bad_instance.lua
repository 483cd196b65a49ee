-- One instance of an upstream answers much slower than its peers, or fails where they do not. Compared with the median of the
-- others over the same half minute, so a slow upstream as a whole is none of this.
local LEAST, RATIO, FLOOR_MS, ERRORS = 30, 2.5, 10, 0.1

local function mean_ms(peer)
  local d = peer.during or {}
  return (d.answers or 0) > 0 and (d.latency_sum_s or 0) * 1000 / d.answers or nil
end

local function rate(peer)
  local d = peer.during or {}
  return (d.attempts or 0) > 0 and (d.failures or 0) / d.attempts or 0
end

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)] or 0
end

-- The worst instance, what the others take, and their rate of failures; nil when none stands out.
local function worst(s)
  local found, most
  for i, peer in ipairs(s.peers) do
    local times, errors = {}, {}
    for j, other in ipairs(s.peers) do
      if i ~= j then times[#times + 1], errors[#errors + 1] = mean_ms(other), rate(other) end
    end
    local own, rest, failing = mean_ms(peer), median(times), median(errors)
    local d = peer.during or {}
    if (d.attempts or 0) >= LEAST and #times >= 1 then
      local slow = own and own > RATIO * rest and own - rest > FLOOR_MS
      local broken = rate(peer) > failing + ERRORS
      local harm = (own or 0) - rest + rate(peer) * 1000
      if (slow or broken) and (not most or harm > most) then found, most = { peer = peer, own = own or rest, rest = rest, errors = rate(peer), others = failing }, harm end
    end
  end
  return found
end

return {
  id = "bad_instance",
  title = function(s) return ("keep requests away from %s of %s"):format(worst(s).peer.address, s.name) end,
  class = "architecture",
  on = "upstream",
  issue = { "upstream.slow", "upstream.errors", "upstream.instance" },
  when = function(s) return #s.peers >= 2 and worst(s) ~= nil end,
  impact = function(s, f)
    local w, attempts = worst(s), 0
    for _, peer in ipairs(s.peers) do attempts = attempts + ((peer.during or {}).attempts or 0) end
    local routes = f:with("upstream_first_byte", 0.1)
    local part = w.peer.during.attempts / math.max(1, attempts)
    local now = f:mean(routes, "mean_ms")
    return { metric = "mean_ms", now = now, predicted = now - part * (w.own - w.rest), routes = routes, formula = "mean - share of the instance * (its mean - that of the others)",
      inputs = { share = part, instance_ms = w.own, others_ms = w.rest, instance_errors = w.errors, others_errors = w.others } }
  end,
  advise = function(s)
    local w = worst(s)
    return ("POST upstreams/%s/peers/%s/drain takes it out of rotation at once, undrain brings it back. Look at what is different there: deploy, disk, neighbours."):format(s.name, w.peer.address)
  end,
  xor = "bad_instance",
  effort = "very_low",
  risk = 1,
  inhibits = { "hedge" },
  explain = function(s)
    local w = worst(s)
    return ("%s takes %.1f ms where the others take %.1f, and fails %.1f %% of its tries where they fail %.1f %%"):format(w.peer.address, w.own, w.rest, w.errors * 100, w.others * 100)
  end,
}
