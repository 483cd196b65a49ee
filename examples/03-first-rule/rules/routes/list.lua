local p = require "perilune"
local app = p.app()
local row = ("x"):rep(1000)
app:get("/list", function(req)
  local rows = {}
  for i = 1, math.min(tonumber(req.query.rows) or 500, 5000) do rows[i] = row end
  return { rows = rows }
end)
return app
