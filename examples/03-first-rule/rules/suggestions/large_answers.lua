-- An answer that is large and asked for often should be paged.
return {
  id = "large_answers",
  title = function(s) return "page the answers of " .. s.name end,
  class = "architecture", on = "route", issue = false, needs = { "bytes_out", "rps", "p50_ms" },
  when = function(s) return s.requests >= 20 and s.now.bytes_out >= 200000 and s.now.rps >= 1 end, -- samples, a floor, a rate
  impact = function(s)
    return { metric = "p50_ms", now = s.now.p50_ms, predicted = s.now.p50_ms / 2, lo = s.now.p50_ms / 4, hi = s.now.p50_ms, routes = { s.name },
      formula = "half of the bytes, half of the time", inputs = { bytes_out = s.now.bytes_out } }
  end,
  advise = function(s) return ("Give %s a parameter 'limit', 100 by default."):format(s.name) end,
  effort = "medium", risk = 1,
  explain = function(s) return ("an answer has %.0f KB, %.1f times a second"):format(s.now.bytes_out / 1000, s.now.rps) end,
}
