-- An order takes the database 15 ms; eight clients ask for orders all the time.
local p = require "perilune"
local db = p.postgres "main"
local app = p.app()

app:get("/orders/:id", function(req)
  return db:one("select $1::text as id, pg_sleep(0.015)::text as done", req.params.id)
end)

return app
