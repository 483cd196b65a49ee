-- GET stats?window=60 : what was measured, over a window of seconds or "all".
local admin = require "perilune.admin"
local app = admin.app()

app:get(admin.path "stats", {
  summary = "What was measured, over a window of seconds or since the start",
  query = { window = { type = "string", most = 20, hint = "a number of seconds up to 86400, or 'all'" } },
  answers = { [200] = "Stats" },
  errors = { [400] = "bad_window" },
}, function(req)
  local seconds, wrong = admin.window(req)
  if not seconds then return admin.problem(400, "bad_window", wrong) end
  local data = admin.stats.stats(seconds)
  local covered = data.span_s
  data.span_s = nil
  data.counters = {}
  for _, counter in ipairs(admin.stats.counters()) do data.counters[counter.name] = counter.value end
  data.store = admin.store.state()
  return admin.envelope(data, covered)
end)

return app
