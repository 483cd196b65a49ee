-- A life of the program under valgrind: serve, fail, reload, refuse, proxy, drain.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local uv = require "luv"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello/:name", function(req) return { name = req.params.name, q = req.query.q } end)
app:get("/sleep", function() p.sleep(0.02) return "woke" end)
app:get("/stream", function() return 200, function(write) for i = 1, 5 do write(("x"):rep(9000)) end end end)
app:post("/echo", function(req) return 200, req.body end)
app:get("/fail", function() error("on purpose") end)
return app
]]

-- LuaJIT makes code as it runs, hence --smc-check. It needs no suppressions.
local WRAPPER = [[#!/bin/sh
exec valgrind --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=99 \
  --trace-children=yes --smc-check=all-non-file --log-file=%s/%%p.log %s "$@"
]]

describe("under valgrind", function()
  local folder, program, e

  setup(function()
    program = engine.program()
    folder = files.temporary("perilune-valgrind")
    files.write(folder .. "/perilune", WRAPPER:format(folder, program))
    uv.fs_chmod(folder .. "/perilune", 493)
  end)
  teardown(function()
    uv.os_setenv("PERILUNE", program)
    files.remove(folder)
  end)

  local function logs()
    local all, scan = {}, uv.fs_scandir(folder)
    while true do
      local name = uv.fs_scandir_next(scan)
      if not name then return all end
      if name:match("%.log$") then all[#all + 1] = { pid = tonumber(name:match("%d+")), text = files.read(folder .. "/" .. name) } end
    end
  end

  local function reload()
    return assert(e:admin_request { path = "/api/v1/performance-optimization/reload", method = "POST", timeout_ms = 20000 }).status
  end

  local function traffic()
    assert.equal(200, load.run { address = e.listen, connections = 5, requests = 200, path = "/hello/a?q=1", timeout_ms = 20000 }.ok)
    assert.equal("woke", e:get("/sleep").body)
    assert.equal(45000, #e:get("/stream").body)
    assert.equal(100000, #e:request({ path = "/echo", body = ("x"):rep(100000), timeout_ms = 20000 }).body)
    assert.equal(500, e:get("/fail").status)
    e:get("/hello/..%2f/../../..")
    e:request { path = "/hello/a", method = "BREW" }
    loop.run(function()
      local c = e:connect()
      c:send("GET / HTTP/1.1\r\n\r\n")
      c:read_until_close(2000)
      c:close()
      c = e:connect()
      c:send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
      c:abort()
      assert(e:get("/forwarded/hello/b").status)
    end)
    assert.equal(200, e:admin_get("~/stats").status)
    assert.equal(200, e:admin_get("/metrics").status)
  end

  -- A sanitized program brings its own watcher and does not run under this one.
  local run = engine.program():find("/asan/") and pending or engine.program():find("/tsan/") and pending or it

  run("nothing leaks and nothing is read or written astray, in any process", function()
    local upstream = engine.start { rules = { ["routes/app.lua"] = APP } }
    uv.os_setenv("PERILUNE", folder .. "/perilune")
    e = engine.start { rules = { ["routes/app.lua"] = APP, ["routes/forward.lua"] = [[
local app = require("perilune").app()
app:proxy("/forwarded/*rest", "old")
return app]] }, -- Everything takes twenty times as long: whoever is slow has not hung.
      config = ('return { upstreams = { old = "http://%s" }, settings = { ["worker.hang_ms"] = 60000 } }'):format(upstream.listen), timeout_ms = 40000 }
    traffic()
    e:write_rule("routes/app.lua", APP .. "-- two")
    assert.equal(200, reload())
    traffic()
    e:write_rule("routes/broken.lua", "return {")
    assert.equal(422, reload())
    e:remove_rule("routes/broken.lua")
    local pids = {}
    for _, process in ipairs(e:processes()) do pids[#pids + 1] = process.pid end
    local code = e:stop { timeout_ms = 20000 }
    upstream:stop()
    local seen, told = {}, {}
    for _, log in ipairs(logs()) do
      -- The check of a reload that nobody waits for any more may be cut short.
      seen[log.pid] = log.text:find("ERROR SUMMARY: 0 errors", 1, true) ~= nil
      if log.text:find("ERROR SUMMARY: [1-9]") or log.text:find("Invalid ", 1, true) or log.text:find("uninitialised", 1, true) then
        told[#told + 1] = log.text
      end
    end
    assert.equal("", table.concat(told, "\n"))
    assert.equal(0, code)
    assert.equal(3, #pids)
    for _, pid in ipairs(pids) do assert.is_true(seen[pid], "no clean end of " .. pid) end
  end)
end)
