-- GET / : where to go from here.
local admin = require "perilune.admin"
local app = admin.app()

app:get("/", function()
  local base = admin.path ""
  return {
    stats = base .. "stats", metrics = "/metrics", generations = base .. "generations", config = base .. "config",
    upstreams = base .. "upstreams", tasks = base .. "resources/tasks",
    health = "/healthz", ready = "/readyz",
  }
end)

return app
