-- A concurrency limit refuses requests that the machine could serve. From rejected and finished requests of each class during the span.
local function worst(f)
  local best, share, n = nil, 0, 0
  for i, c in ipairs(f.limits and f.limits.concurrency or {}) do
    local d = f.limits.during.concurrency and f.limits.during.concurrency[i] or {}
    local rejected, all = d.rejected or 0, (d.rejected or 0) + (d.finished or 0)
    if rejected >= 10 and all >= 200 and rejected / all > share then best, share, n = c, rejected / all, rejected end
  end
  return best, share, n
end

return {
  id = "limit_low",
  title = function(_, f) return ("let %d requests of class %s in at once"):format(math.ceil(worst(f).limit * 1.25), worst(f).class) end,
  class = "concurrency", on = "host", issue = { "overload.queueing" }, needs = { "cpu_share", "limited", "mean_ms" },
  when = function(s, f)
    local c, share = worst(f)
    return c ~= nil and share >= 0.005 and s.now.cpu_share < 0.6 and (c.base_ms <= 0 or s.now.mean_ms < 1.3 * c.base_ms)
  end,
  impact = function(_, f)
    local c, share, n = worst(f)
    return { metric = "refused_share", now = share, predicted = math.max(0, share - 0.25 * (1 - share)), lo = 0, hi = share,
      formula = "rejected share - a quarter more finished", inputs = { limit = c.limit, rejected = n } }
  end,
  advise = function(_, f) return ("Raise the limit of class %s in rules/policies/limits.lua from %d to %d."):format(worst(f).class, worst(f).limit, math.ceil(worst(f).limit * 1.25)) end,
  effort = "low", risk = 2,
  explain = function(s, f)
    local c, share, n = worst(f)
    return ("class %s refused %.0f requests, %.1f %%, at %d in flight; CPU is at %s"):format(c.class, n, share * 100, c.limit, s:show "cpu_share")
  end,
}
