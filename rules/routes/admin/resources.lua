-- GET resources : everything that handlers lean on (pools, task threads, caches, the history on disk, the machine, processes), the health of
-- each, and a sentence for whatever is out of line
local admin = require "perilune.admin"
local health = require "perilune.health"
local app = admin.app()

app:get(admin.path "resources", {
  summary = "Everything that handlers lean on, the health of each, and a sentence for whatever is out of line",
  answers = { [200] = "Resources" },
}, function() return admin.envelope(health.look()) end)

return app
