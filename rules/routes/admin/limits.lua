-- GET limits : what each concurrency limit lets in, holds back and turns away, and what rate limits refused.
local admin = require "perilune.admin"
local app = admin.app()

app:get(admin.path "limits", {
  summary = "What each limit lets in, holds back and turns away",
  answers = { [200] = "Limits" },
}, function()
  local counts = {}
  for _, counter in ipairs(admin.stats.counters()) do counts[counter.name] = counter.value end
  return admin.envelope {
    concurrency = admin.limits.classes(),
    rate = { refused = counts.rate_refused, observed = counts.rate_observed },
    connections = { refused = counts.client_refused },
  }
end)

return app
