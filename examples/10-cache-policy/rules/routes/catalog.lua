local p = require "perilune"
local app = p.app()
local made = 0
app:get("/catalog/:id", function(req)
  p.sleep(0.2) -- what it costs to make one
  made = made + 1
  return { id = req.params.id, made = made }
end)
return app
