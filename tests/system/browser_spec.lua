--- A real browser as client: page, script and data all come from the engine.

local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local routes = [[
local p = require "perilune"
local app = p.app()
app:get("/", function()
  return 200, '<!doctype html><title>t</title><p id="out">waiting</p><script src="/app.js"></script>',
    { ["Content-Type"] = "text/html; charset=utf-8" }
end)
app:get("/app.js", function()
  return 200, [=[
    Promise.all([1, 2, 3].map(n => fetch("/api/numbers/" + n).then(r => r.json())))
      .then(list => fetch("/api/sum", { method: "POST", body: JSON.stringify(list.map(e => e.n)) }))
      .then(r => r.text())
      .then(text => { document.getElementById("out").textContent = "sum is " + text; });
  ]=], { ["Content-Type"] = "text/javascript" }
end)
app:get("/api/numbers/:n", function(req) p.sleep(0.01) return { n = tonumber(req.params.n) } end)
app:post("/api/sum", function(req)
  local sum = 0
  for _, n in ipairs(p.json.decode(req.body)) do sum = sum + n end
  return tostring(sum)
end)
return app
]]

describe("a browser", function()
  it("loads a page, its script and its data through the engine", function()
    loop.run(function()
      local served = engine.start { rules = { ["routes/app.lua"] = routes } }
      local profile = files.temporary()
      local code, stdout, stderr = process.run {
        command = "chromium",
        args = {
          "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir=" .. profile,
          "--virtual-time-budget=10000", "--dump-dom", "http://" .. served.listen .. "/",
        },
        timeout_ms = 60000,
      }
      files.remove(profile)
      assert.truthy(stdout:find("sum is 6", 1, true), tostring(code) .. stdout .. stderr)
      local seen = {}
      for _, route in ipairs(served:admin_get("~/stats?window=all").json.data.routes) do
        seen[route.method .. " " .. route.route] = route.requests
      end
      assert.equal(1, seen["GET /"])
      assert.equal(3, seen["GET /api/numbers/:n"])
      assert.equal(1, seen["POST /api/sum"])
      served:stop()
    end, 90000)
  end)
end)
