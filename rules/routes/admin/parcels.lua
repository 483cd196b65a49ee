-- POST parcels : what an application on another machine has measured since its last parcel (perilune.attach "http://..."); about one a
-- second and process. See core/stats/parcel.h.
local admin = require "perilune.admin"
local app = admin.app()

local REFUSALS = {
  invalid = { 422, "bad_parcel", "this is no whole parcel of Perilune's library" },
  protocol = { 409, "other_version", "the library is of another version than this engine, and their sketches differ: install the same version" },
  busy = { 503, "too_many_guests", "all places for applications are taken: raise attach.guests" },
  io = { 503, "no_guests", "no place can be given to an application: see the log" },
}

app:post(admin.path "parcels", {
  summary = "What an application on another machine has measured; sent by Perilune's library",
  consumes = "application/vnd.perilune.parcel",
  answers = { [200] = { version = "string" } },
  errors = { [409] = "other_version", [422] = "bad_parcel", [503] = "too_many_guests no_guests" },
}, function(req)
  local taken, why = admin.guests.take(req.body or "")
  if taken then return admin.envelope({ version = admin.version }) end
  return admin.problem(unpack(REFUSALS[why] or REFUSALS.invalid))
end)

return app
