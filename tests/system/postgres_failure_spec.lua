--- What handlers see of a PostgreSQL that fails, is full, slow or away, and of each other.
local engine = require "tests.support.engine"
local fault_proxy = require "tests.support.fault_proxy"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"
local uv = require "luv"

local ROUTES = [[
local p = require "perilune"
local db = p.postgres("main")
local app = p.app()

local function answer(value, message, state)
  if value == nil and message then return 503, { error = message, state = state } end
  return 200, { value = value == nil and p.null or value }
end

app:get("/echo/:id", function(req) return answer(db:one("select $1::text as id", req.params.id)) end)
app:get("/read/:id", function(req) return answer(db:read_one("select $1::text as id", req.params.id)) end)
app:get("/bad/:id", function(req)
  local value, message, state = db:one("select $1::text::int as id", "n" .. req.params.id)
  return 200, { message = message, state = state, value = value }
end)
app:get("/bad-read/:id", function(req)
  local value, message, state = db:read_one("select $1::text::int as id", "n" .. req.params.id)
  return 200, { message = message, state = state, value = value }
end)
app:get("/tx/:id", function(req)
  return answer(db:transaction(function(tx)
    local a, message, state = tx:one("select $1::text as id, txid_current() as t", req.params.id)
    if not a then return nil, message, state end
    local b, message_b, state_b = tx:one("select $1::text as id, txid_current() as t", req.params.id)
    if not b then return nil, message_b, state_b end
    if a.t ~= b.t or a.id ~= b.id then error("torn transaction") end
    return a
  end))
end)
app:get("/slow/:id", function(req) return answer(db:one("select $1::text as id, pg_sleep($2)", req.params.id, 0.05)) end)
app:get("/sleep/:seconds", function(req) return answer(db:one("select pg_sleep($1)", tonumber(req.params.seconds))) end)
app:get("/hold/:seconds", function(req)
  return answer(db:transaction(function(tx) return tx:one("select pg_sleep($1), pg_backend_pid() as pid", tonumber(req.params.seconds)) end))
end)
app:get("/insert/:id", function(req) return answer(db:exec("insert into kept values ($1)", tonumber(req.params.id))) end)
app:get("/insert-tx/:id", function(req)
  return answer(db:transaction(function(tx) return tx:exec("insert into kept values ($1)", tonumber(req.params.id)) end))
end)
app:get("/each", function(req)
  return answer(db:each("select g, repeat('x', 1000) as filler from generate_series(1, $1::int) g", tonumber(req.query.rows), function() end))
end)
app:get("/stream", function(req)
  return 200, function(write)
    db:each("select g, repeat('x', 1000) as filler from generate_series(1, 100000) g", function(row) return write(row.filler) ~= nil end)
  end
end)
return app
]]

local function start(pg, options)
  options = options or {}
  local words = { ("dsn = %q"):format(options.dsn or pg.url) }
  for name, value in pairs(options.pool or {}) do words[#words + 1] = ("%s = %s"):format(name, tostring(value)) end
  local args = {}
  for name, value in pairs(options.settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = name .. "=" .. tostring(value)
  end
  return engine.start { workers = options.workers, args = args, rules = { ["routes/run.lua"] = ROUTES }, env = options.env,
    config = ("return { postgres = { main = { %s } } }"):format(table.concat(words, ", ")) }
end

local function get(served, path, timeout_ms)
  local response, why = http.request { address = served.listen, path = path, timeout_ms = timeout_ms or 10000 }
  if not response then return nil, why end
  return response.status, json.decode(response.body)
end

local function pool(served)
  return assert(served:admin_get("~/resources/pools/main").json, "no pool").data
end

local function backends(pg)
  return tonumber(pg:sql("select count(*) from pg_stat_activity where application_name = 'perilune'"))
end

describe("requests that share connections", function()
  local pg
  -- The server notices within that time that a client has died.
  setup(function() pg = postgres.start { settings = { client_connection_check_interval = "100ms" } } end)
  teardown(function() pg:stop() end)

  -- Every answer names the request it is for; some fail, some are left by their clients.
  local function mixed(served, rounds)
    local kinds, failed, left = { "echo", "read", "bad", "tx", "read", "echo", "bad-read", "slow" }, nil, 0
    local function one(id)
      local kind = kinds[math.random(#kinds)]
      if math.random(20) == 1 then
        local conn = assert(http.connect { address = served.listen })
        conn:send(("GET /%s/%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(math.random(2) == 1 and "sleep/0.05?" or kind, id))
        loop.sleep(math.random(0, 8))
        conn:abort()
        left = left + 1
        return
      end
      local status, body = get(served, ("/%s/%s"):format(kind, id))
      local good
      if kind:find "bad" then
        good = status == 200 and body.state == "22P02" and body.message:find('"n' .. id .. '"', 1, true)
      else
        good = status == 200 and body.value.id == id
      end
      if not good then failed = failed or ("%s/%s: %s %s"):format(kind, id, tostring(status), json.encode(body)) end
    end
    local tasks = {}
    for t = 1, 48 do
      tasks[t] = function() for i = 1, rounds do one(("%d-%d"):format(t, i)) end end
    end
    loop.all(tasks)
    assert.is_nil(failed)
    assert.is_true(left > 20)
  end

  -- The statements of clients that have left may still be on their way back.
  local function wait_idle(served)
    loop.wait_until(function() return pool(served).pending_requests == 0 and pool(served).used == 0 end)
    loop.wait_until(function()
      return pg:sql("select count(*) from pg_stat_activity where application_name = 'perilune' and state <> 'idle'") == "0"
    end, 5000, "every connection to be idle")
  end

  it("get their own results, whoever fails, is slow or leaves", function()
    math.randomseed(7)
    local served = start(pg, { pool = { min = 0, max = 6 } })
    loop.run(function()
      mixed(served, 60)
      wait_idle(served)
      assert.is_true(pool(served).cancels > 0, "nothing was cancelled")
      assert.is_true(pool(served).repeats > 0, "nothing was done again")
    end, 60000)
    served:stop()
  end)

  it("do so behind a transaction-mode pooler's rules, and while connections come and go", function()
    math.randomseed(8)
    local served = start(pg, { pool = { min = 0, max = 6, pooler = true, lifetime_ms = 300 } })
    loop.run(function()
      mixed(served, 30)
      wait_idle(served)
      assert.is_true(pool(served).opened > 6, "opened: " .. pool(served).opened)
      assert.equal(0, pool(served).lost)
    end, 60000)
    served:stop()
  end)

  it("do so behind a real pgbouncer, whose connections are fewer and change with each transaction", function()
    math.randomseed(9)
    loop.run(function()
      local bouncer = pg:bouncer(3)
      local served = start(pg, { dsn = bouncer.url, pool = { min = 0, max = 8, pooler = true } })
      mixed(served, 30)
      loop.wait_until(function()
        return pg:sql("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == "0"
      end, 5000, "the end of every transaction")
      -- Its three and the one that asks; a connection that was cancelled may be on its way out.
      loop.wait_until(function()
        return tonumber(pg:sql("select count(*) from pg_stat_activity where usename = 'app' and backend_type = 'client backend'")) <= 4
      end, 5000, "no more than the pooler's connections")
      assert.equal("up", pool(served).health)
      bouncer.stop()
      loop.wait_until(function() return get(served, "/echo/1") == 503 end)
      served:stop()
    end, 60000)
  end)

  it("never have more connections than max over all workers, and wait in line for them", function()
    local served = start(pg, { workers = 2, pool = { min = 0, max = 3 } })
    loop.run(function()
      local most, done = 0, false
      local watch = loop.spawn(function()
        while not done do most = math.max(most, pool(served).count) loop.sleep(5) end
      end)
      local tasks = {}
      for i = 1, 24 do tasks[i] = function() return (get(served, "/hold/0.03")) end end
      for _, status in ipairs(loop.all(tasks)) do assert.equal(200, status) end
      done = true
      loop.join(watch)
      assert.is_true(most <= 3 and most > 0, "most: " .. most)
      assert.is_true(backends(pg) <= 3)
    end, 30000)
    served:stop()
  end)

  it("are told in time that there is no connection", function()
    local served = start(pg, { pool = { min = 0, max = 1, wait_ms = 200 } })
    loop.run(function()
      local holder = loop.spawn(function() return get(served, "/hold/1.5") end)
      loop.wait_until(function() return pool(served).used == 1 end)
      local began = loop.now_ms()
      local status, body = get(served, "/echo/1")
      assert.equal(503, status)
      assert.equal("53300", body.state)
      assert.matches("within 200 ms %(at most 1", body.error)
      assert.is_true(loop.now_ms() - began < 1000)
      assert.equal(503, (get(served, "/tx/1")))
      assert.equal(200, (loop.join(holder)))
      assert.equal(200, (get(served, "/echo/1")))
      assert.equal(2, pool(served).rejected)
    end, 20000)
    served:stop()
  end)

  it("have the places of a worker that was killed", function()
    local served = start(pg, { workers = 2, pool = { min = 0, max = 2 } })
    loop.run(function()
      local holders = {}
      for i = 1, 2 do holders[i] = loop.spawn(function() return get(served, "/hold/30") end) end
      loop.wait_until(function() return backends(pg) == 2 end)
      for _, one in ipairs(served:processes()) do
        if one.role == "worker" then uv.kill(one.pid, "sigkill") end
      end
      for i = 1, 2 do assert.is_nil((loop.join(holders[i]))) end
      loop.wait_until(function() return get(served, "/tx/1") == 200 end, 5000, "a place")
      assert.is_true(pool(served).count <= 2)
    end, 30000)
    served:stop()
  end)

  it("follow a pool that is resized while it works", function()
    local served = start(pg, { pool = { min = 0, max = 1 } })
    loop.run(function()
      local function change(body)
        return served:admin_request { method = "PATCH", path = "/api/v1/performance-optimization/resources/pools/main", json = body }
      end
      get(served, "/echo/1")
      assert.equal(200, change { max_size = 4, min_size = 4 }.status)
      loop.wait_until(function() return backends(pg) == 4 and pool(served).idle == 4 end)
      assert.equal(200, change { max_size = 2 }.status)
      loop.wait_until(function() return backends(pg) == 2 end)
      assert.equal(422, change { max_size = 0 }.status)
      assert.equal(422, change { min_size = 9 }.status)
      assert.equal(422, change { size = 9 }.status)
      assert.equal(404, served:admin_request { method = "PATCH", path = "/api/v1/performance-optimization/resources/pools/none", json = {} }.status)
    end, 20000)
    served:stop()
  end)
end)

describe("a statement", function()
  local pg, served
  setup(function()
    pg = postgres.start()
    served = start(pg, { pool = { min = 0, max = 2, statement_ms = 300 } })
  end)
  teardown(function()
    served:stop()
    pg:stop()
  end)

  local function running()
    return pg:sql("select count(*) from pg_stat_activity where query like '%pg_sleep%' and state = 'active' and pid <> pg_backend_pid()")
  end

  it("is cancelled after its time, and says so", function()
    loop.run(function()
      local status, body = get(served, "/sleep/20")
      assert.equal(503, status)
      assert.equal("57014", body.state)
      assert.matches("more than 300 ms", body.error)
      assert.equal("0", running())
      assert.equal(200, (get(served, "/echo/1")))
    end)
  end)

  it("is cancelled when its client has gone, in a transaction too", function()
    local patient = start(pg, { pool = { min = 0, max = 2 } })
    loop.run(function()
      for _, path in ipairs { "/sleep/20", "/hold/20" } do
        local conn = assert(http.connect { address = patient.listen })
        conn:send(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path))
        loop.wait_until(function() return running() == "1" end)
        conn:close()
        loop.wait_until(function() return running() == "0" end, 3000, "the cancellation")
      end
      loop.wait_until(function() return pool(patient).idle == pool(patient).count end)
      loop.wait_until(function()
        return pg:sql("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == "0"
      end, 5000, "the end of every transaction")
      assert.equal(200, (get(patient, "/tx/1")))
    end)
    patient:stop()
  end)

  it("streams 100 MB in constant memory, and stops for a client that leaves", function()
    local patient = start(pg, { pool = { min = 0, max = 2 } })
    loop.run(function()
      assert.equal(200, (get(patient, "/each?rows=1000", 60000)))
      local before = patient:worker_bytes()
      local status, body = get(patient, "/each?rows=100000", 60000)
      assert.equal(200, status)
      assert.equal(100000, body.value)
      assert.is_true(patient:worker_bytes() - before < 24 * 1048576, patient:worker_bytes() - before)
      local conn = assert(http.connect { address = patient.listen })
      conn:send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
      loop.wait_until(function() return pool(patient).used == 1 end)
      conn:close()
      loop.wait_until(function() return pool(patient).used == 0 end, 5000, "the stream's end")
      assert.is_true(patient:worker_bytes() - before < 24 * 1048576)
    end, 90000)
    patient:stop()
  end)
end)

describe("a server", function()
  it("that is not there, or does not let us in, is named without its password", function()
    loop.run(function()
      local pg = postgres.start { settings = { max_connections = 5, superuser_reserved_connections = 0 } }
      local cases = {
        { dsn = "postgresql://app:secret@127.0.0.1:1/postgres", state = "08001", text = "Connection refused" },
        { dsn = pg.url:gsub(":secret@", ":geheim@"), state = "28P01", text = "password authentication failed" },
        { dsn = pg.url:gsub("/postgres$", "/nowhere"), state = "3D000", text = 'database "nowhere" does not exist' },
        { dsn = "postgresql://app:secret@no-such-host.invalid/x", state = "08001", text = "could not translate host name" },
      }
      for _, case in ipairs(cases) do
        local served = start(pg, { dsn = case.dsn, pool = { min = 0, wait_ms = 300 } })
        local status, body = get(served, "/echo/1")
        assert.equal(503, status)
        assert.equal(case.state, body.state, body.error)
        assert.matches(case.text, body.error, 1, true)
        assert.equal("unreachable", pool(served).health)
        assert.matches(case.text, pool(served).reason, 1, true)
        local all = served:log() .. body.error .. served:admin_get("~/resources/pools").raw .. served:admin_get("~/config").raw
        assert.is_nil(all:find("secret", 1, true))
        assert.is_nil(all:find("geheim", 1, true))
        served:stop()
      end
      pg:stop()
    end, 40000)
  end)

  it("that accepts and says nothing is given up after connect_ms, and used when it speaks", function()
    loop.run(function()
      local pg = postgres.start()
      local silent = fault_proxy.start { port = pg.port, swallow = 1000 }
      local served = start(pg, { dsn = pg.url:gsub(":%d+/", ":" .. silent.port .. "/"), pool = { min = 0, connect_ms = 300, wait_ms = 1000 } })
      local began = loop.now_ms()
      local status, body = get(served, "/echo/1")
      assert.equal(503, status)
      assert.matches("no connection within 300 ms", body.error)
      assert.is_true(loop.now_ms() - began < 3000)
      silent.calm = true
      loop.wait_until(function() return get(served, "/echo/1") == 200 end, 10000, "an answer")
      served:stop()
      silent:stop()
      pg:stop()
    end, 40000)
  end)

  it("that is full is waited for", function()
    loop.run(function()
      local pg = postgres.start { settings = { max_connections = 4, superuser_reserved_connections = 0, max_wal_senders = 0 } }
      local others = start(pg, { pool = { min = 4, max = 4 } })
      loop.wait_until(function() return pool(others).idle == 4 end)
      local served = start(pg, { pool = { min = 0, max = 4, wait_ms = 4000 } })
      local waiting = loop.spawn(function() return get(served, "/echo/1") end)
      loop.wait_until(function() return pool(served).health == "unreachable" end)
      assert.matches("too many clients", pool(served).reason)
      others:stop()
      assert.equal(200, (loop.join(waiting)))
      assert.equal("up", pool(served).health)
      served:stop()
      pg:stop()
    end, 40000)
  end)

  it("that only reads says so, and answers reads", function()
    loop.run(function()
      local pg = postgres.start { settings = { default_transaction_read_only = "on" } }
      local served = start(pg)
      pg:sql("begin read write; create table kept (id int); commit")
      local status, body = get(served, "/insert/1")
      assert.same({ 503, "25006" }, { status, body.state })
      assert.equal(200, (get(served, "/echo/1")))
      served:stop()
      pg:stop()
    end, 40000)
  end)

  it("that is restarted or killed loses nothing it committed, and is used again within 2 s", function()
    local pg = postgres.start()
    pg:sql("create table kept (id int primary key)")
    local served = start(pg, { pool = { min = 2, max = 8 } })
    loop.run(function()
      local stop, next_id, acknowledged, odd, last_good = false, 0, {}, nil, 0
      local function client()
        while not stop do
          next_id = next_id + 1
          local id = next_id
          local status, body = get(served, (id % 2 == 0 and "/insert/" or "/insert-tx/") .. id)
          if status == 200 then
            acknowledged[#acknowledged + 1] = id
            last_good = loop.now_ms()
          elseif not (status == 503 and type(body.error) == "string" and #body.state == 5) then
            odd = odd or ("%s %s"):format(tostring(status), json.encode(body))
          end
          if status ~= 200 then loop.sleep(5) end
        end
      end
      local clients = {}
      for i = 1, 16 do clients[i] = loop.spawn(client) end
      for _, signal in ipairs { "sigint", "sigkill", "sigint", "sigkill" } do
        local before = #acknowledged
        loop.wait_until(function() return #acknowledged > before + 50 end)
        pg:down(signal)
        pg:up()
        local up = loop.now_ms()
        loop.wait_until(function() return last_good > up end, 2000, "an answer after the server's return")
      end
      stop = true
      for i = 1, 16 do loop.join(clients[i]) end
      assert.is_nil(odd)
      local there = {}
      for id in pg:sql("select string_agg(id::text, ',') from kept"):gmatch "%d+" do there[tonumber(id)] = true end
      for _, id in ipairs(acknowledged) do assert.is_true(there[id], id .. " was acknowledged and is lost") end
      loop.wait_until(function() return backends(pg) == pool(served).count end)
    end, 60000)
    served:stop()
    pg:stop()
  end)

  it("behind a line that splits, delays, swallows and cuts answers rightly or not at all", function()
    local pg = postgres.start()
    local proxy = fault_proxy.start { port = pg.port, seed = 20, cut = 12, swallow = 2 }
    local served = start(pg, { dsn = pg.url:gsub(":%d+/", ":" .. proxy.port .. "/"),
      pool = { min = 0, max = 6, statement_ms = 300, connect_ms = 500, wait_ms = 1500 } })
    loop.run(function()
      local wrong, good, bad = nil, 0, 0
      local tasks = {}
      for t = 1, 16 do
        tasks[t] = function()
          for i = 1, 40 do
            local kind, id = ({ "echo", "read", "tx" })[i % 3 + 1], ("%d-%d"):format(t, i)
            local status, body = get(served, ("/%s/%s"):format(kind, id))
            if status == 200 and body.value.id == id then
              good = good + 1
            elseif status == 503 and #body.state == 5 then
              bad = bad + 1
            else
              wrong = wrong or ("%s: %s %s"):format(id, tostring(status), json.encode(body))
            end
          end
        end
      end
      loop.all(tasks)
      assert.is_nil(wrong)
      assert.is_true(good > 100 and bad > 0, ("%d good, %d bad"):format(good, bad))
      proxy.calm = true
      loop.wait_until(function() return get(served, "/tx/1") == 200 and pool(served).pending_requests == 0 end, 5000, "an answer on a good line")
    end, 90000)
    served:stop()
    proxy:stop()
    pg:stop()
  end)

  it("that ends its connections 200 times costs neither connections nor memory", function()
    local pg = postgres.start()
    local served = start(pg, { pool = { min = 2, max = 4 } })
    loop.run(function()
      local function cycle()
        pg:sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'perilune'")
        loop.wait_until(function() return get(served, "/echo/1") == 200 and get(served, "/tx/2") == 200 end, 2000, "an answer")
      end
      for _ = 1, 50 do cycle() end
      local bytes = served:worker_bytes()
      for _ = 1, 150 do cycle() end
      assert.is_true(served:worker_bytes() - bytes < 2 * 1048576, served:worker_bytes() - bytes)
      loop.wait_until(function() return backends(pg) == pool(served).count and pool(served).used == 0 end)
      assert.is_true(pool(served).lost >= 200)
    end, 120000)
    served:stop()
    pg:stop()
  end)

  it("that stays away is not waited for by every request", function()
    local pg = postgres.start()
    local served = start(pg, { pool = { min = 1, max = 4 }, settings = { ["pool.db.grace_ms"] = 300 } })
    loop.run(function()
      assert.equal(200, (get(served, "/echo/1")))
      pg:down()
      loop.wait_until(function()
        local began = loop.now_ms()
        local status, body = get(served, "/echo/1")
        return status == 503 and body.state == "08001" and loop.now_ms() - began < 100
      end, 5000, "an answer at once")
      pg:up()
      loop.wait_until(function() return get(served, "/echo/1") == 200 end, 2000, "the server's return")
    end, 30000)
    served:stop()
    pg:stop()
  end)

  it("is spoken to over TLS, large results and streams too", function()
    local pg = postgres.start { tls = true }
    local served = start(pg, { dsn = pg.url .. "?sslmode=require", pool = { min = 0, max = 4 } })
    loop.run(function()
      local tasks = {}
      for t = 1, 16 do
        tasks[t] = function()
          for i = 1, 20 do
            local id = ("%d-%d"):format(t, i)
            local status, body = get(served, ("/%s/%s"):format(({ "echo", "read", "tx" })[i % 3 + 1], id))
            assert.equal(200, status)
            assert.equal(id, body.value.id)
          end
        end
      end
      loop.all(tasks)
      local status, body = get(served, "/each?rows=20000", 30000)
      assert.same({ 200, 20000 }, { status, body.value })
      assert.equal("t", pg:sql("select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'perilune'"))
      assert.equal(200, (get(served, "/sleep/0.01")))
    end, 40000)
    served:stop()
    pg:stop()
  end)

  it("is found by DATABASE_URL, and its password stays out of sight", function()
    loop.run(function()
      local pg = postgres.start()
      local served = engine.start { rules = { ["routes/run.lua"] = ROUTES }, env = { DATABASE_URL = pg.url } }
      assert.equal(200, (get(served, "/echo/1")))
      local code, out = engine.run { args = { "config", "show" }, env = { DATABASE_URL = pg.url } }
      assert.equal(0, code)
      assert.matches("postgres%.main +app@127%.0%.0%.1:%d+/postgres", out)
      assert.is_nil((out .. served:log()):find("secret", 1, true))
      local function doctor(url)
        local _, said = engine.run { args = { "doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0" }, env = { DATABASE_URL = url } }
        assert.is_nil(said:find("secret", 1, true))
        return said
      end
      assert.matches("ok   postgres main +app@127%.0%.0%.1:%d+/postgres\n", doctor(pg.url))
      assert.matches("BAD  postgres main +app@[%d.]+:%d+/postgres %- [^\n]*authentication failed[^\n]*; start it, or correct", doctor((pg.url:gsub("secret", "secret2"))))
      assert.matches("BAD  postgres main +x@127%.0%.0%.1:1/x %- [^\n]*Connection refused; start it", doctor "postgresql://x:secret@127.0.0.1:1/x")
      served:stop()
      local bad, text, err = engine.run { args = { "config", "show" }, env = { DATABASE_URL = "postgresql://app:secret@[x" } }
      assert.equal(2, bad)
      assert.matches("DATABASE_URL cannot be used", text .. err)
      assert.is_nil((text .. err):find("secret", 1, true))
      pg:stop()
    end, 30000)
  end)
end)
