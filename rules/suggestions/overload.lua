-- More is in flight than can be served, and nothing limits it. From CPU (of the machine, or of the workers' loops), requests in
-- flight, connections (what a full loop has not read yet is in flight nowhere) and the tail, against what is usual.
return {
  id = "overload",
  title = function() return "limit concurrency" end,
  class = "concurrency", on = "host", issue = { "overload.queueing" }, needs = { "cpu_share", "in_flight", "connections", "rps", "p95_ms" },
  when = function(s, f)
    return f:busy() >= 0.9 and (s:rose("in_flight", 2, 10) or s:rose("connections", 2, 10)) and s:rose("p95_ms", 2, 10) and s:ratio "rps" < 1.5 and s.now.rps >= 5
      and #(f.limits and f.limits.concurrency or {}) == 0
  end,
  impact = function(s)
    return { metric = "p95_ms", now = s.now.p95_ms, predicted = s.usual.p95_ms, lo = s.usual.p95_ms, hi = s.now.p95_ms,
      formula = "p95 of what is let in: the usual one", inputs = { in_flight = s.now.in_flight, usual = s.usual.in_flight } }
  end,
  advise = function(s) return ("Give routes a class with an adaptive limit in rules/policies/limits.lua, to begin at %d."):format(math.ceil(s.usual.in_flight * 1.5)) end,
  effort = "low", risk = 2, inhibits = { "hedge_low", "pool_undersized" },
  explain = function(s, f)
    return ("%s requests are in flight, usually %s; p95 is %s, usually %s; CPU is at %s, the workers' loops at %.0f %%"):format(
      s:show "in_flight", s:show_usual "in_flight", s:show "p95_ms", s:show_usual "p95_ms", s:show "cpu_share", f:loops_busy() * 100)
  end,
}
