-- POST reload                   : load what is in the folder now; answers when it is decided
-- GET  generations              : what is in force, what can be restored, what happened
-- POST generations/:id/restore  : put an older one in force again
local admin = require "perilune.admin"
local overlay = require "perilune.overlay"
local p = require "perilune"
local app = admin.app()
local control = admin.control

app:post(admin.path "reload", {
  summary = "Loads what is in the folder now; answers when it is decided",
  role = "admin",
  answers = { [200] = "Reload" },
  errors = { [422] = "reload_refused" },
}, function()
  local record = overlay.reload()
  if record.result == "refused" then
    return 422, p.json.encode {
      type = "about:blank", title = "Unprocessable Content", status = 422, code = "reload_refused",
      detail = "the new scripts were refused; the generation in force keeps serving",
      generation = admin.stats.generation().active, errors = record.problems,
    }, { ["Content-Type"] = "application/problem+json" }
  end
  record.workers_switched = overlay.settled()
  return admin.envelope(record)
end)

app:get(admin.path "generations", {
  summary = "What is in force, what can be restored, what happened",
  answers = { [200] = "Generations" },
}, function()
  local total, ready, alive, current = control.workers()
  return admin.envelope {
    active = admin.stats.generation().active,
    counters = admin.stats.generation(),
    workers = { total = total, ready = ready, alive = alive, current = current },
    restorable = control.kept(),
    history = control.records(),
  }
end)

app:post(admin.path "generations/:id/restore", {
  summary = "Puts an older generation in force again",
  role = "admin",
  answers = { [200] = { generation = "integer", workers_switched = "boolean" } },
  errors = { [400] = "bad_generation", [404] = "unknown_generation" },
}, function(req)
  local id = tonumber(req.params.id)
  if not id or id < 1 or id % 1 ~= 0 then return admin.problem(400, "bad_generation", "a generation is a number like 3") end
  if not control.restore(id) then
    return admin.problem(404, "unknown_generation", "this generation is not kept any more; see GET generations")
  end
  return admin.envelope { generation = id, workers_switched = overlay.settled() }
end)

return app
