-- Small batches pay the round trip too often.
return {
  id = "batch_small",
  title = function(_, f) return ("batches of %d jobs instead of %d"):format(f:setting "writer.batch" * 4, f:setting "writer.batch") end,
  class = "asynchronous", on = "route", issue = false, needs = { "mean_ms", "rps" },
  when = function(s, f) return s.name == "JOB /write" and s.requests >= 50 and s.now.mean_ms >= 1 and f:setting "writer.batch" < 20 end,
  impact = function(s) return { metric = "mean_ms", now = s.now.mean_ms, predicted = s.now.mean_ms / 4, lo = s.now.mean_ms / 8, hi = s.now.mean_ms / 2,
    routes = { s.name }, formula = "a round trip for four times as many", inputs = { mean_ms = s.now.mean_ms } } end,
  set = function(_, f) return { ["writer.batch"] = f:setting "writer.batch" * 4 } end,
  effort = "very_low", risk = 1, verify = { metric = "mean_ms", direction = "down", mde = 0.03, settle_s = 1 },
  explain = function(s) return ("a job takes %s"):format(s:show "mean_ms") end,
}
