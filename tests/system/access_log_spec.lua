--- A line for each request: formats, what clients send in it, rotation, loss.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local uv = require "luv"

local ROUTES = [[
local p = require "perilune"
local app = p.app()
app:get("/users/:id", function(req) return { id = req.params.id } end)
app:get("/slow", function() p.sleep(0.02) return "slow" end)
return app
]]

local folder
before_each(function() folder = files.temporary "perilune-log" end)
after_each(function() files.remove(folder) end)

local function start(options)
  local env = { PERILUNE_ACCESS_LOG = folder .. "/access.log", PERILUNE_ACCESS_LOG_FORMAT = options.format }
  return engine.start { rules = { ["routes/run.lua"] = ROUTES }, env = env, args = options.args, workers = options.workers }
end

local function lines(path)
  local list = {}
  for line in (files.read(path or folder .. "/access.log") or ""):gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

local function wait_lines(n, path)
  loop.wait_until(function() return #lines(path) >= n end, 5000, n .. " lines")
  return lines(path)
end

describe("clients that may know", function()
  it("are told where the time went", function()
    local served = engine.start { rules = { ["routes/run.lua"] = ROUTES }, args = { "--set", "server.timing=1" } }
    loop.run(function()
      local timing = served:get("/slow").headers["server-timing"]
      local total = tonumber(timing:match "^total;dur=([%d.]+)")
      assert.is_true(total >= 20, timing)
      assert.matches(", lua;dur=[%d.]+", timing)
    end)
    served:stop()
    served = engine.start { rules = { ["routes/run.lua"] = ROUTES } }
    loop.run(function() assert.is_nil(served:get("/slow").headers["server-timing"]) end)
    served:stop()
  end)
end)

describe("the access log", function()
  it("is nginx's combined format by default, with what clients send escaped", function()
    local served = start {}
    loop.run(function()
      served:request { path = "/users/7?a=%22", headers = { ["User-Agent"] = 'quote " and \\ and \xff', Referer = "http://x/" } }
      local conn = http.connect { address = served.listen }
      conn:send "GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n"
      conn:read_response {}
      conn:close()
      local got = wait_lines(2)
      assert.matches([[^127%.0%.0%.1 %- %- %[%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d [%+%-]%d%d%d%d%] "GET /users/7%?a=%%22 HTTP/1%.1" 200 10 "http://x/" "quote \x22 and \x5C and \xFF"$]], got[1])
      assert.matches('"%-" 400 ', got[2])
    end)
    served:stop()
  end)

  it("is one JSON object a line, which replay reads", function()
    local served = start { format = "json" }
    loop.run(function()
      served:request { path = "/users/7", headers = { ["User-Agent"] = 'a "b" \xff' } }
      served:get "/slow"
      served:get "/none"
      local got = wait_lines(3)
      local first, second, third = json.decode(got[1]), json.decode(got[2]), json.decode(got[3])
      assert.equal("/users/:id", first.route)
      assert.equal("/users/7", first.request_uri)
      assert.equal(200, first.status)
      assert.equal(10, first.body_bytes_sent)
      assert.equal('a "b" \239\191\189', first.http_user_agent)
      assert.is_true(second.request_time >= 0.015) -- a timer counts from when the turn of the loop began
      assert.is_true(type(second.phases_ms) == "table")
      assert.equal(404, third.status)
      local code, out = engine.run { args = { "replay", "--report", "json", folder .. "/access.log" } }
      assert.equal(0, code, out)
      assert.matches("/users/:id", out)
    end)
    served:stop()
  end)

  it("is any text with nginx's variables; a wrong one is refused at start", function()
    local served = start { format = '$remote_addr|$request_method|$uri|$args|$route|$status|$http_x_mine|$request_time|$phase_lua|$host|$server_protocol' }
    loop.run(function()
      served:request { path = "/users/9?x=1", headers = { ["X-Mine"] = "yes" } }
      local got = wait_lines(1)
      assert.matches("^127%.0%.0%.1|GET|/users/9|x=1|/users/:id|200|yes|0%.%d%d%d|%d+%.%d%d%d|[^|]+|HTTP/1%.1$", got[1])
    end)
    served:stop()
    local code, out, err = engine.run { args = { "check" }, cwd = folder, env = { PERILUNE_ACCESS_LOG_FORMAT = "$remote_adr" } }
    assert.equal(2, code)
    assert.matches("access_log_format: there is no variable '$remote_adr', did you mean '$remote_addr'", out .. err)
  end)

  it("has every request of several workers once, also when the file is moved away", function()
    local served = start { workers = 2, format = "$request_uri" }
    loop.run(function()
      local seen, total = {}, 0
      local function ask(from, to)
        local tasks = {}
        for t = 1, 8 do
          tasks[t] = function()
            for i = from + t, to, 8 do assert.equal(200, served:get("/users/" .. i).status) end
          end
        end
        loop.all(tasks)
      end
      ask(0, 400)
      wait_lines(1)
      assert(uv.fs_rename(folder .. "/access.log", folder .. "/access.log.1"))
      loop.wait_until(function()
        served:get "/users/0"
        return #lines() > 0
      end, 5000, "a new file")
      ask(400, 800)
      loop.wait_until(function()
        seen, total = {}, 0
        for _, name in ipairs { "/access.log.1", "/access.log" } do
          for _, line in ipairs(lines(folder .. name)) do
            if line ~= "/users/0" then
              total = total + 1
              seen[line] = true
            end
          end
        end
        return total >= 800
      end, 5000, "800 lines")
      assert.equal(800, total)
      for i = 1, 800 do assert.is_true(seen["/users/" .. i], "/users/" .. i) end
    end, 30000)
    served:stop()
  end)

  it("loses lines, counted, rather than hold up a request", function()
    local env = { PERILUNE_ACCESS_LOG = "/dev/full" }
    local served = engine.start { rules = { ["routes/run.lua"] = ROUTES }, env = env }
    loop.run(function()
      loop.wait_until(function()
        assert.equal(200, served:get("/users/1").status)
        return (assert(served:admin_get "~/stats").json.data.counters.access_log_lost or 0) > 0
      end, 5000, "a line to be lost")
      served:wait_log "lines are lost: No space left on device"
    end)
    served:stop()
  end)

  it("that cannot be opened costs the log and no request", function()
    local served = engine.start { rules = { ["routes/run.lua"] = ROUTES }, env = { PERILUNE_ACCESS_LOG = folder .. "/no/such/folder" } }
    loop.run(function()
      assert.equal(200, served:get("/users/1").status)
      served:wait_log "there is no access log"
    end)
    served:stop()
  end)
end)
