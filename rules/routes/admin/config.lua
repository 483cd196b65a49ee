-- GET config : every setting with type, unit, bounds, value and where it comes from.
local admin = require "perilune.admin"
local app = admin.app()

app:get(admin.path "config", function()
  return admin.envelope { settings = admin.stats.settings() }
end)

return app
