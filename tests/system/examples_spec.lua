--- Every example, started by its own command.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local peer = require "tests.support.peer"
local postgres = require "tests.support.postgres"
local process = require "tests.support.process"
local uv = require "luv"

local ROOT = uv.cwd()
local PROGRAM = engine.program()
local LIBRARY = PROGRAM:match "^(.*)/[^/]+$" .. "/lua"
local BASE = "/api/v1/performance-optimization"

local function environment(more)
  local env = { PERILUNE = PROGRAM, PERILUNE_LIB = LIBRARY }
  if LIBRARY:find("/asan/", 1, true) then
    local _, out = process.run { command = "/usr/bin/gcc", args = { "-print-file-name=libasan.so" } }
    env.LD_PRELOAD = out:gsub("%s+$", "")
    env.ASAN_OPTIONS = "verify_asan_link_order=0:detect_leaks=0:" .. (os.getenv "ASAN_OPTIONS" or "")
  end
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

-- Starts an example that serves, on free ports and a state folder of its own; fn(example) with listen, admin, get(path), api(path).
local function serving(name, options, fn)
  local folder = files.temporary "perilune-example"
  local args = { "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", folder .. "/state", "--workers", "1" }
  uv.fs_mkdir(folder .. "/state", 448)
  local one = assert(process.start { command = ROOT .. "/examples/" .. name .. "/run", args = args, env = environment(options.env) })
  local ok, why = pcall(loop.run, function()
    local ports
    loop.wait_until(function()
      assert(not one:exited(), one:stderr())
      local text = files.read(folder .. "/state/ports.json")
      ports = text and json.decode(text)
      return ports
    end, 10000, "ports.json")
    local example = { listen = ports.listen, admin = ports.admin }
    function example.get(path) return assert(http.request { address = ports.listen, path = path }) end
    function example.api(path)
      return json.decode(assert(http.request { address = ports.admin, authority = ports.admin, path = BASE .. path }).body).data
    end
    fn(example)
  end, options.timeout_ms or 30000)
  one:stop()
  files.remove(folder)
  if not ok then error(why, 0) end
end

-- Runs an example that ends by itself.
local function ended(name, args, timeout_ms)
  local code, out, err = process.run { command = ROOT .. "/examples/" .. name .. "/run", args = args or {}, env = environment(), timeout_ms = timeout_ms or 30000 }
  assert.equal(0, code, out .. err)
  return out
end

describe("the example", function()
  it("01 proxies", function()
    local backend = peer.start { answer = peer.response(200, {}, "from behind") }
    serving("01-proxy", { env = { BACKEND = "http://" .. backend.address } }, function(example)
      assert.equal("from behind", example.get("/any/path").body)
      assert.equal(1, example.api("/stats?window=all").requests_total)
    end)
    backend:stop()
  end)

  it("02 is an API", function()
    serving("02-lua-api", {}, function(example) assert.equal(42, json.decode(example.get("/api/users/42").body).id) end)
  end)

  it("03 has a rule, and a test of it", function()
    assert.matches("page the answers of GET /a", ended("03-first-rule", { "test" }))
    serving("03-first-rule", {}, function(example)
      local found
      loop.wait_until(function()
        for _ = 1, 10 do example.get "/list" end
        for _, one in ipairs(example.api("/suggestions").suggestions) do found = found or one.rule == "large_answers" and one end
        return found
      end, 25000, "the suggestion")
      assert.equal("GET /list", found.target)
    end)
  end)

  it("04 has an alert policy", function()
    serving("04-alert-policy", { timeout_ms = 60000 }, function(example)
      local fired
      local function load() for _ = 1, 8 do example.get "/report" end end
      loop.wait_until(function()
        loop.all { load, load, load, load }
        for _, one in ipairs(example.api("/alerts").alerts) do fired = fired or one.labels.alertname == "SlowReport" and one.state == "firing" end
        return fired
      end, 50000, "the alert")
    end)
  end)

  it("05 measures a plain program", function()
    assert.matches("JOB%s+/resize%s+%d+", ended("05-embed-luajit", { "3" }))
  end)

  it("06 serves on luv, with tasks and a database", function()
    local pg = postgres.start()
    for _, url in ipairs { "", pg.url } do
      local one = assert(process.start { command = ROOT .. "/examples/06-embed-luv/run", args = { "0" },
        env = environment { DATABASE_URL = url ~= "" and url or false } })
      loop.run(function()
        local address = loop.wait_until(function() return one:stdout():match "http://(%S+)\n" end, 10000, "its address")
        local response = assert(http.request { address = address, path = "/text", headers = { ["Accept-Encoding"] = "gzip" } })
        assert.equal("gzip", response.headers["content-encoding"])
        assert.equal(1, json.decode(assert(http.request { address = address, path = "/stats" }).body).requests)
        local paths, requests = { "/words", "/now", "/text" }, {}
        for i = 1, 30 do requests[i] = function() return assert(http.request { address = address, path = paths[i % 3 + 1] }) end end
        for i, got in ipairs(loop.all(requests)) do
          local path = paths[i % 3 + 1]
          assert.equal((path == "/now" and url == "") and 404 or 200, got.status, got.body)
          if path == "/words" then assert.equal(1800, json.decode(got.body).words) end
          if path == "/now" and url ~= "" then assert.matches("PostgreSQL 15", json.decode(got.body).version) end
        end
      end)
      one:stop()
    end
    pg:stop()
  end)

  it("07 makes nginx part of an engine's service", function()
    local folder = files.temporary "perilune-door"
    uv.fs_chmod(folder, 493)
    local socket = folder .. "/perilune.sock" -- nginx's workers are another user than root
    local served = engine.start { args = { "--set", "attach.anyone=true" }, env = { PERILUNE_ATTACH = socket } }
    local modules, resty, libraries = nginx.lua_paths()
    local port = nginx.free_port()
    local one = assert(process.start { command = ROOT .. "/examples/07-nginx/run", args = { tostring(port), socket },
      env = environment { NGINX = nginx.binary(), NGINX_MODULES = modules, LUA_RESTY = resty, LD_LIBRARY_PATH = libraries } })
    loop.run(function()
      loop.wait_until(function() return http.request { port = port, path = "/users/1" } end, 10000, "nginx")
      for i = 2, 10 do assert.equal("a user\n", http.request({ port = port, path = "/users/" .. i }).body) end
      loop.wait_until(function()
        for _, route in ipairs(assert(served:admin_get "~/stats?window=all").json.data.routes) do
          if (route.route or route.name) == "/users/:id" and route.requests >= 10 then return true end
        end
      end, 5000, "its requests")
    end, 30000)
    one:stop()
    served:stop()
    files.remove(folder)
  end)

  it("08 reads a log", function()
    local out = ended "08-replay"
    assert.matches("GET /api/users/:id", out)
    assert.matches("slow, failing", out)
  end)

  it("09 turns a setting of its own, on trial, and keeps what is proven", function()
    if LIBRARY:find("/asan/", 1, true) then return end -- minutes of waiting for an experiment; its code runs in trials_spec and embed_spec
    local out = ended("09-custom-setting", { "400" }, 420000)
    assert.matches("trial%-1\tVERIFIED", out)
    assert.matches("writer.batch is 20", out)
  end)

  it("10 caches by policy", function()
    serving("10-cache-policy", {}, function(example)
      local first, second = example.get "/catalog/7", example.get "/catalog/7"
      assert.equal(first.body, second.body)
      assert.matches("hit", second.headers["cache-status"])
    end)
  end)
end)
