--- Pools of connections made, changed and ended over the control API.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"
local redis = require "tests.support.redis"

local POOLS = "/api/v1/performance-optimization/resources/pools"

local APP = [[
local p = require "perilune"
local app = p.app()
app:post("/run", function(req)
  local fn, why = load("local p = ... " .. req.body)
  if not fn then return 500, why end
  local ok, value, message = pcall(fn, p)
  return 200, tostring(value) .. (message and " " .. tostring(message) or "")
end)
return app
]]

local function run(served, text)
  return assert(served:request { method = "POST", path = "/run", body = text }).body
end

local function ask(served, method, id, body, more)
  return assert(served:admin_request { method = method, path = POOLS .. (id and "/" .. id or "") .. (more or ""), json = body, timeout_ms = 15000 })
end

local function pointers(response)
  local list = {}
  for _, one in ipairs(response.json.errors) do list[#list + 1] = one.pointer end
  return list
end

describe("a pool made over the API", function()
  local pg, server
  setup(function()
    loop.run(function()
      pg = postgres.start()
      server = redis.start { password = "canary-of-redis" }
    end, 60000)
  end)
  teardown(function()
    loop.run(function()
      pg:stop()
      server:stop()
    end)
  end)

  local function it_works(name, fn) it(name, function() loop.run(fn, 60000) end) end

  it_works("has a history, which outlives restarts and the pool itself", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, env = { DATABASE_URL = pg.url } }
    local function history(query) return assert(served:admin_get("~/trends?pool=brief&from=-900" .. (query or ""))) end
    local function calls(step)
      local got = history("&step=" .. step)
      assert.equal(200, got.status, got.body)
      local sum = 0
      for _, n in ipairs(got.json.data.columns.statements) do sum = sum + n end
      return sum, got.json.data
    end
    assert.same({ 404, "unknown_pool" }, { history().status, history().json.code })
    assert.equal(201, ask(served, "POST", nil, { pool_id = "brief", pool_type = "database", max_size = 2 }).status)
    for _ = 1, 5 do assert.equal("7", run(served, [[return p.postgres("brief"):one("select 7 as n, pg_sleep(0.05)").n]])) end
    assert.equal("nil 42P01", run(served, [[local r, _, s = p.postgres("brief"):one("select 1 from no_such_table") return r, s]]))
    local data
    loop.wait_until(function()
      local n
      n, data = calls(1)
      return n >= 6
    end, 10000, "the statements")
    local used, failed = 0, 0
    for i = 1, #data.columns.at_ms do
      local use = data.columns.use_ms[i]
      if type(use) == "number" then used, failed = math.max(used, use), failed + data.columns.error_rate[i] * data.columns.statements[i] end
    end
    assert.is_true(used >= 40 and used < 1000, used)
    assert.is_true(math.abs(failed - 1) < 1e-9, failed)
    assert.equal("brief", data.pool)
    local wait = history "&signal=wait_ms".json.data
    assert.same({ at_ms = wait.columns.at_ms, wait_ms = wait.columns.wait_ms }, wait.columns)
    assert.same({ 400, "unknown_signal" }, { history("&signal=rps").status, history("&signal=rps").json.code })
    assert.same({ 400, "route_and_pool" }, { history("&route=x").status, history("&route=x").json.code })
    served:restart()
    for _, step in ipairs { 1, 10, 60 } do assert.equal(6, (calls(step))) end
    assert.is_true(ask(served, "DELETE", "brief").status < 300)
    loop.wait_until(function() return ask(served, "GET", "brief").status == 404 end, 10000, "its end")
    assert.equal(6, (calls(1)))
    served:restart()
    assert.equal(6, (calls(1)))
    served:stop()
  end)

  it_works("replaces connections that are older than a lifetime that was lowered", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, config = ("return { postgres = { main = { dsn = %q, min = 3 } }, redis = { sessions = { url = %q, min = 3 } } }"):format(pg.url, server.url) }
    for _, id in ipairs { "main", "sessions" } do
      local function pool() return ask(served, "GET", id).json.data end
      loop.wait_until(function() return pool().count == 3 end, 10000, "the connections of " .. id)
      local before = pool().opened
      assert.equal(200, ask(served, "PATCH", id, { max_lifetime_ms = 100 }).status)
      loop.wait_until(function() return pool().opened >= before + 6 end, 10000, "others in their place")
      assert.equal(200, ask(served, "PATCH", id, { max_lifetime_ms = 3600000 }).status)
      loop.wait_until(function() return pool().count == 3 end, 10000, "as many as before")
    end
    served:stop()
  end)

  it_works("has the server of the environment, serves handlers and survives a restart", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, workers = 2, env = { DATABASE_URL = pg.url, REDIS_URL = server.url } }
    local made = ask(served, "POST", nil, { pool_id = "new_db_pool", pool_type = "database", max_size = 15 })
    assert.equal(201, made.status)
    assert.equal(POOLS .. "/new_db_pool", made.headers.location)
    local pool = made.json.data
    assert.same({ "new_db_pool", "database", 15, "up", false }, { pool.id, pool.pool_type, pool.max, pool.health, pool.draining })
    assert.equal(("app@127.0.0.1:%d/postgres"):format(pg.port), pool.server)
    assert.equal("42", run(served, [[return p.postgres("new_db_pool"):one("select 42 as n").n]]))
    made = ask(served, "POST", nil, { pool_id = "sessions", pool_type = "redis", max_size = 3 })
    assert.same({ 201, "redis", 3, "up" }, { made.status, made.json.data.pool_type, made.json.data.max, made.json.data.health })
    assert.equal("true", run(served, [[local r = require("perilune.redis")("sessions") r:set("a", 1) return r:get("a") == "1"]]))
    assert.equal(409, ask(served, "POST", nil, { pool_id = "sessions", pool_type = "database" }).status)
    for _, asked in ipairs { { min_size = 50 }, { min_size = 6, max_size = 5 } } do
      local refused = ask(served, "PATCH", "new_db_pool", asked)
      assert.same({ 422, "invalid_fields", "/min_size" }, { refused.status, refused.json.code, pointers(refused)[1] })
      assert.matches("'min_size' is above 'max_size', which is " .. (asked.max_size or 15), refused.json.detail, 1, true)
    end
    assert.equal(200, ask(served, "PATCH", "new_db_pool", { max_size = 4, min_size = 1 }).status)
    assert.equal(200, ask(served, "PATCH", "main", { max_size = 7 }).status)
    local opened = ask(served, "GET", "new_db_pool").json.data.opened
    local changed = ask(served, "PATCH", "new_db_pool", { idle_timeout_ms = 5000, statement_timeout_ms = 200 })
    assert.equal(200, changed.status)
    assert.same({ 5000, 200, 4, opened }, { changed.json.data.idle_timeout_ms, changed.json.data.statement_timeout_ms, changed.json.data.max,
      changed.json.data.opened })
    assert.equal("nil 57014", run(served, [[local r, _, s = p.postgres("new_db_pool"):one("select pg_sleep(2)") return r, s]]))
    assert.equal(200, ask(served, "PATCH", "sessions", { statement_timeout_ms = 300 }).status)
    assert.same({ "/statement_timeout_ms" }, pointers(ask(served, "PATCH", "sessions", { statement_timeout_ms = "soon" })))
    served:restart()
    loop.wait_until(function() return ask(served, "GET", "new_db_pool").status == 200 and ask(served, "GET", "sessions").status == 200 end)
    pool = ask(served, "GET", "new_db_pool").json.data
    assert.same({ 4, 1, 200, 5000 }, { pool.max, pool.min, pool.statement_timeout_ms, pool.idle_timeout_ms })
    assert.equal(300, ask(served, "GET", "sessions").json.data.statement_timeout_ms)
    assert.equal(7, ask(served, "GET", "main").json.data.max)
    assert.equal("43", run(served, [[return p.postgres("new_db_pool"):one("select 43 as n").n]]))
    served:stop()
  end)

  it_works("says that its server is not reachable, and why, and finds it when it comes", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP } }
    local port = pg.port
    pg:down()
    local made = ask(served, "POST", nil, { pool_id = "late", pool_type = "database", host = "127.0.0.1", port = port, user = "app", password = "secret",
      database = "postgres" })
    assert.same({ 201, "unreachable" }, { made.status, made.json.data.health })
    assert.matches("refused", made.json.data.reason)
    pg:up()
    loop.wait_until(function() return ask(served, "GET", "late").json.data.health == "up" end)
    assert.equal("1", run(served, [[return p.postgres("late"):one("select 1 as n").n]]))
    served:stop()
  end)

  it_works("is ended: when its connections have done, or at once", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, workers = 2, env = { DATABASE_URL = pg.url } }
    for _, force in ipairs { false, true } do
      assert.equal(201, ask(served, "POST", nil, { pool_id = "brief", pool_type = "database", max_size = 2 }).status)
      local slow = loop.spawn(function() return run(served, [[local row, _, state = p.postgres("brief"):one("select 7 as n, pg_sleep(1.5)")
        return row and row.n, state]]) end)
      loop.wait_until(function() return pg:sql("select count(*) from pg_stat_activity where query like '%pg_sleep(1.5)%' and state = 'active'") ~= "1" end)
      local began = loop.now_ms()
      assert.equal(204, ask(served, "DELETE", "brief", nil, force and "?force=true" or "").status)
      local said = loop.join(slow)
      if force then
        assert.equal("nil 57P01", said)
        assert.is_true(loop.now_ms() - began < 1200, "it was not broken off")
      else
        assert.equal("7", said)
      end
      loop.wait_until(function() return ask(served, "GET", "brief").status == 404 end)
      assert.matches("there is no database 'brief'", run(served, [[return p.postgres("brief")]]))
    end
    assert.equal(404, ask(served, "DELETE", "brief").status)
    local refused = ask(served, "DELETE", "main")
    assert.same({ 409, "pool_configured" }, { refused.status, refused.json.code })
    assert.equal(422, ask(served, "DELETE", "main", nil, "?force=yes").status)
    served:stop()
  end)

  it_works("stays while a script needs it", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, env = { DATABASE_URL = pg.url } }
    assert.equal(201, ask(served, "POST", nil, { pool_id = "needed", pool_type = "database" }).status)
    served:write_rule("routes/needs.lua", [[
      local p = require "perilune"
      local db = p.postgres("needed")
      local app = p.app()
      app:get("/needs", function() return tostring(db:one("select 5 as n").n) end)
      return app]])
    loop.wait_until(function() return served:get("/needs").body == "5" end)
    local refused = ask(served, "DELETE", "needed")
    assert.same({ 409, "pool_in_use" }, { refused.status, refused.json.code })
    assert.matches("there is no database 'needed'", refused.json.detail)
    assert.matches("routes/needs.lua", refused.json.problems[1].file)
    assert.equal("5", served:get("/needs").body)
    served:remove_rule("routes/needs.lua")
    loop.wait_until(function() return served:get("/needs").status == 404 end)
    assert.equal(204, ask(served, "DELETE", "needed").status)
    served:stop()
  end)

  it_works("is refused with every field that is wrong", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP } }
    local r = ask(served, "POST", nil, { pool_id = "Bad id", pool_type = "mongo", max_size = 0, min_sise = 1 })
    assert.same({ 422, "invalid_fields" }, { r.status, r.json.code })
    assert.same({ "/min_sise", "/max_size", "/pool_id", "/pool_type" }, pointers(r))
    assert.matches("did you mean 'min_size'", r.json.errors[1].detail)
    assert.same({ "/pool_id", "/pool_type" }, pointers(ask(served, "POST", nil, {})))
    assert.same({ "/min_size" }, pointers(ask(served, "POST", nil, { pool_id = "a", pool_type = "database", max_size = 2, min_size = 3 })))
    for kind, most in pairs { database = 20, redis = 20 } do -- what is not named is as the settings say
      r = ask(served, "POST", nil, { pool_id = "a", pool_type = kind, min_size = 50 })
      assert.same({ 422, "invalid_fields", ("'min_size' is above 'max_size', which is %d"):format(most) }, { r.status, r.json.code, r.json.detail })
      assert.same({ "/min_size" }, pointers(r))
    end
    for dsn, word in pairs { ["postgresql://x/y?service=z"] = "service", ["host=a replication=true"] = "replication" } do
      r = ask(served, "POST", nil, { pool_id = "a", pool_type = "database", dsn = dsn })
      assert.equal(422, r.status)
      assert.matches(word, r.json.detail)
    end
    r = ask(served, "POST", nil, { pool_id = "a", pool_type = "redis", dsn = "rediss://x" })
    assert.equal(422, r.status)
    assert.matches("TLS", r.json.detail)
    r = ask(served, "POST", nil, { pool_id = "a", pool_type = "database", dsn = "postgresql://x/y", host = "z" })
    assert.equal(422, r.status)
    assert.equal(404, ask(served, "GET", "a").status)
    assert.equal(404, ask(served, "PATCH", "a", { max_size = 1 }).status)
    assert.equal(400, served:admin_request { method = "POST", path = POOLS, body = "{", headers = { ["Content-Type"] = "application/json" } }.status)
    assert.equal(200, served:admin_get("~/stats").status)
    served:stop()
  end)

  it_works("explains statements without running them", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, env = { DATABASE_URL = pg.url } }
    pg:sql("create table users (id int primary key, email text); insert into users select g, 'u' || g from generate_series(1, 5000) g; analyze users")
    local function explain(statement, id) return ask(served, "POST", (id or "main") .. "/explain", { statement = statement }) end
    local r = explain("select * from users where email = $1")
    assert.equal(200, r.status, r.body)
    assert.equal("users", r.json.data.scans[1].table)
    assert.matches("email = %$1", r.json.data.scans[1].filter)
    assert.is_true(r.json.data.cost > 10)
    r = explain("select * from users where id = ? and email <> ?")
    assert.same({ 200, "Index Scan", {} }, { r.status, r.json.data.plan["Node Type"], r.json.data.scans })
    assert.equal(200, explain("delete from users where id = 5").status)
    assert.equal("5000", pg:sql("select count(*) from users"))
    for statement, state in pairs { ["selec"] = "42601", ["select * from nowhere"] = "42P01", ["select 1; drop table users"] = "42601",
      ["select 1/0 from users where id = $1::nonsense"] = "42704" } do
      r = explain(statement)
      assert.same({ 422, state }, { r.status, r.json.sqlstate }, statement)
    end
    assert.equal(200, explain("select 1").status)
    assert.equal("0", pg:sql("select count(*) from pg_stat_activity where state like 'idle in transaction%'"))
    assert.same({ "/statement" }, pointers(explain(nil)))
    assert.equal(404, explain("select 1", "none").status)
    assert.is_nil(ask(served, "GET", "main/statements").body:find("perilune_explain", 1, true))
    served:stop()
  end)

  it_works("keeps its secrets", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP }, env = { CANARY = "canary-of-env" } }
    ask(served, "POST", nil, { pool_id = "one", pool_type = "database", dsn = "postgresql://app:canary-of-dsn@127.0.0.1:1/x" })
    ask(served, "POST", nil, { pool_id = "two", pool_type = "database", host = "127.0.0.1", port = 1, user = "app", password = "canary-of-field" })
    ask(served, "POST", nil, { pool_id = "three", pool_type = "redis", dsn = server.url })
    local refused = ask(served, "POST", nil, { pool_id = "four", pool_type = "database", dsn = "postgresql://app:canary-of-bad@h/x?nonsense=1" })
    assert.equal(422, refused.status)
    assert.equal(201, ask(served, "POST", nil, { pool_id = "five", pool_type = "redis", host = "127.0.0.1", port = server.port,
      password = "env:CANARY" }).status)
    local said = { refused.body, served:log() }
    for _, path in ipairs { "~/resources/pools", "~/resources/pools/one", "~/resources/pools/two", "~/resources/pools/three", "~/config", "/metrics",
      "~/generations", "~/stats" } do
      said[#said + 1] = served:admin_get(path).raw or served:admin_get(path).body
    end
    assert.is_nil(table.concat(said):find("canary", 1, true))
    local mode = assert(require("luv").fs_stat(served.state .. "/overlay.json")).mode
    assert.equal(tonumber("600", 8), mode % 512)
    served:stop()
  end)

  it_works("is in a file whose damage is told, while what serves goes on", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP } }
    ask(served, "POST", nil, { pool_id = "one", pool_type = "database" })
    local text = files.read(served.state .. "/overlay.json")
    assert.equal(true, json.decode(text).postgres.one.made_by_api)
    files.write(served.state .. "/overlay.json", text:sub(1, -3))
    served:wait_log "overlay.json"
    assert.equal("6", run(served, "return 1 + 5"))
    assert.equal(200, ask(served, "GET", "one").status)
    served:stop()
  end)
end)
