-- GET audit?limit=&cursor= : who changed what through the API, the newest first
local admin = require "perilune.admin"
local app = admin.app()

app:get(admin.path "audit", {
  summary = "Who changed what through this API, the newest first",
  role = "admin",
  query = admin.paged({}, 50, 1000),
  answers = { [200] = { entries = { "AuditEntry" }, total = "integer" } },
  errors = { [400] = "bad_cursor bad_limit" },
}, function(req)
  local all = admin.audit()
  local entries, more, wrong = admin.page(req, all, function(one) return one.id end)
  if not entries then return unpack(wrong) end
  return admin.envelope({ entries = entries, total = #all }, nil, more)
end)

return app
