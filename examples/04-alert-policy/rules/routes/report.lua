local p = require "perilune"
local app = p.app()
app:get("/report", function()
  p.sleep(0.6)
  return { rows = 0 }
end)
return app
