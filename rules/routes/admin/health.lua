-- GET /livez, /healthz : is the engine alive?  GET /readyz : should it get traffic?
-- ?verbose names the checks. 503 while draining, or when no worker is ready.
local admin = require "perilune.admin"
local app = admin.open_app()

local VERBOSE = { verbose = { type = "string", hint = "anything" } }

local function answer(req, checks)
  local ok, lines = true, {}
  for _, check in ipairs(checks) do
    ok = ok and check[2]
    lines[#lines + 1] = (check[2] and "[+] " or "[-] ") .. check[1]
  end
  local text = (ok and "ok" or "unavailable") .. "\n"
  if req.query.verbose then text = table.concat(lines, "\n") .. "\n" .. text end
  return ok and 200 or 503, text, { ["Cache-Control"] = "no-store" }
end

local function live(req)
  local _, _, alive = admin.control.workers()
  return answer(req, { { "a worker is alive", alive > 0 } })
end

app:get("/livez", {
  summary = "Is the engine alive? 503 when it is not; ?verbose names the checks. Needs no token",
  query = VERBOSE, answers = { [200] = "string", [503] = "string" }, produces = "text/plain",
}, live)
app:get("/healthz", {
  summary = "Is the engine alive? 503 when it is not; ?verbose names the checks. Needs no token",
  query = VERBOSE, answers = { [200] = "string", [503] = "string" }, produces = "text/plain",
}, live)
app:get("/readyz", {
  summary = "Should the engine get traffic? 503 while draining, or when no worker is ready; ?verbose names the checks. Needs no token",
  query = VERBOSE, answers = { [200] = "string", [503] = "string" }, produces = "text/plain",
}, function(req)
  local total, ready = admin.control.workers()
  return answer(req, {
    { "not draining", not admin.control.draining() },
    { ("workers ready: %d of %d"):format(ready, total), ready > 0 },
    { "scripts loaded", admin.stats.generation().active > 0 },
  })
end)

return app
