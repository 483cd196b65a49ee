-- The example API: some routes of different cost. Edit rules/routes/api.lua
-- while it runs and ask again.
return {
  listen = "127.0.0.1:8000",
  admin = "127.0.0.1:8001",
  rules = "rules",
  settings = {
    ["stats.slow_ms"] = 50,
  },
}
