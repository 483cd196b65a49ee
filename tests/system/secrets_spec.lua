--- What is secret stays so: planted wherever a configuration takes one, it is found in no answer, log or file of the engine but the one
-- it was given to keep (overlay.json, readable by its owner alone).
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local uv = require "luv"

local API = "/api/v1/performance-optimization/"
local MARK = "canary-7f3a" -- part of every secret
local function secret(name) return ("%s-of-%s-0123456789"):format(MARK, name) end

local CONFIG = ([[return {
  postgres = { main = "postgresql://app:%s@127.0.0.1:1/shop" },
  redis = { sessions = { url = "redis://:%s@127.0.0.1:1/0" } },
  admin_token = "%s",
  admin_tokens = { { name = "reader", role = "read", token = "%s" }, { name = "by-env", role = "operate", token = "env:SECRET_TOKEN" } },
}]]):format(secret "dsn", secret "redis", secret "token", secret "reader")

local NOTIFY = [[return {
  receivers = { hook = { webhook = "http://127.0.0.1:1/hook", headers = { Authorization = { env = "SECRET_HOOK" } } } },
  notify = { receiver = "hook" },
}]]

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/row", function()
  local row, why = p.postgres("main"):one("select 1 as a")
  return row or { why = why }
end)
app:get("/key", function()
  local value, why = require("perilune.redis")("sessions"):get("a")
  return { value = value, why = why }
end)
return app
]]

local function each_file(folder, fn)
  for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
    local path = folder .. "/" .. name
    if kind == "directory" then each_file(path, fn) elseif kind == "file" then fn(path, name) end
  end
end

describe("secrets", function()
  it("are in no answer, no log and no file but their own", function()
    local served = engine.start { config = CONFIG, rules = { ["routes/app.lua"] = APP, ["alerts/notify.lua"] = NOTIFY }, env = { SECRET_TOKEN = secret "env", SECRET_HOOK = secret "webhook" } }
    local asked = 0
    local function clean(text, where)
      assert.is_nil(text:find(MARK, 1, true), where .. "\n" .. text:sub(1, 4000))
    end
    local headers = { Authorization = "Bearer " .. secret "token" }
    local function ask(method, path, body)
      local options = { method = method, path = path, headers = { Authorization = headers.Authorization }, json = body, timeout_ms = 20000 }
      local response = assert(served:admin_request(options))
      asked = asked + 1
      clean(response.raw, method .. " " .. path)
      return response
    end
    loop.run(function()
      clean(served:get("/row").raw, "/row")
      clean(served:get("/key").raw, "/key")
      -- what is made, changed and refused
      ask("POST", API .. "resources/pools", { pool_id = "made", pool_type = "database", dsn = ("postgresql://app:%s@127.0.0.1:1/x"):format(secret "made") })
      ask("POST", API .. "resources/pools", { pool_id = "kept", pool_type = "redis", host = "127.0.0.1", port = 1, password = secret "kept" })
      ask("POST", API .. "resources/pools", { pool_id = "bad", pool_type = "database", dsn = ("postgresql://app:%s@h/x?nonsense=1"):format(secret "bad") })
      ask("POST", API .. "resources/pools", { pool_id = "worse", pool_type = "redis", dsn = ("redis://:%s@h:99999/x"):format(secret "worse") })
      ask("PATCH", API .. "resources/pools/made", { max_size = 3 })
      ask("POST", API .. "resources/pools/main/explain", { statement = "select 1" })
      ask("POST", API .. "alerts/test", { text = ('return { alert = "X", summary = "%s" }'):format("x") })
      ask("POST", API .. "reload")
      -- every GET there is, with what it takes and with what it does not
      for path, operations in pairs(ask("GET", "/openapi.json").json.paths) do
        if operations.get and path ~= API .. "stream" then
          for _, id in ipairs { "main", "sessions", "made", "1" } do
            ask("GET", (path:gsub("{[%w_]+}", id)))
            if not path:find("{", 1, true) then break end
          end
          ask("GET", path:gsub("{[%w_]+}", "none") .. "?nonsense=1")
        end
      end
      assert.is_true(asked > 80, asked)
      -- who has no token, a wrong one, or not the right
      for _, token in ipairs { secret "token" .. "x", secret "reader", secret "env" } do
        local got = http.request { address = served.admin, authority = served.admin, method = "POST", path = API .. "reload", headers = { Authorization = "Bearer " .. token } }
        clean(got.raw, "a token that may not")
      end
      -- the stream begins with what is so now
      local conn = assert(http.connect { address = served.admin })
      conn:send(http.build { path = API .. "stream", authority = served.admin, headers = headers, keep_alive = true })
      loop.wait_until(function()
        conn:fill(5000)
        return conn.buffer:find("event: tick", 1, true)
      end, 20000, "a tick")
      clean(conn.buffer, "stream")
      conn:close()
    end, 120000)
    served:stop { keep = true }
    clean(served:log(), "the log")
    clean(served.process:stdout(), "stdout")
    local seen = 0
    each_file(served.state, function(path, name)
      seen = seen + 1
      -- a generation is what it was made of, configuration and overlay included, and as closed to others
      if name == "overlay.json" or path:find("/generations/", 1, true) then
        assert.equal(tonumber("600", 8), bit.band(uv.fs_stat(path).mode, tonumber("777", 8)), path)
      else
        clean(files.read(path), path)
      end
    end)
    assert.is_true(seen > 2)
    -- and the commands that print a configuration
    local code, out, err = engine.run { args = { "config", "show", "--config", served.folder .. "/perilune.lua", "--state", served.state, "--rules", served.rules },
      env = { SECRET_TOKEN = secret "env" } }
    assert.equal(0, code, err)
    clean(out .. err, "config show")
    files.remove(served.folder)
  end)
end)
