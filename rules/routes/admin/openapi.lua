-- GET /openapi.json : this API, as an OpenAPI 3.1 document made of what its routes declare
local admin = require "perilune.admin"
local openapi = require "perilune.openapi"
local p = require "perilune"
local app = admin.app()

local text, etag

app:get("/openapi.json", {
  summary = "This API: its operations, what they take and answer",
  answers = { [200] = { openapi = "string", paths = { ["*"] = "object" }, components = "object" }, [304] = false }, plain = true,
  headers = { ["If-None-Match"] = "the ETag of the document at hand" },
}, function(req)
  if not text then
    text = p.json.encode(openapi.document(admin.declared()))
    etag = ('"%s"'):format(admin.control.digest(text):sub(1, 32))
  end
  local headers = { ["Content-Type"] = "application/json", ETag = etag, ["Cache-Control"] = "no-cache" }
  for one in (req.headers["if-none-match"] or ""):gmatch "[^,%s]+" do
    if one:gsub("^W/", "") == etag or one == "*" then return 304, nil, headers end
  end
  return 200, text, headers
end)

return app
