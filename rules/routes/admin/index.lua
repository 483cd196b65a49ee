-- GET / : where to go from here.
local admin = require "perilune.admin"
local app = admin.app()

app:get("/", function()
  local base = admin.path ""
  return {
    stats = base .. "stats", metrics = "/metrics", generations = base .. "generations", config = base .. "config",
    resources = base .. "resources", tasks = base .. "resources/tasks", machine = base .. "resources/machine",
    upstreams = base .. "upstreams", limits = base .. "limits", compression = base .. "compression", cache = base .. "cache",
    pools = base .. "resources/pools", alerts = base .. "alerts", policies = base .. "alerts/policies",
    health = "/healthz", ready = "/readyz",
  }
end)

return app
