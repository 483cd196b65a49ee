--- What the sessions of a database do: who waits for a lock, and who idles in a transaction, also while the pool is full.
local engine = require "tests.support.engine"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"

local APP = [[
local p = require "perilune"
local db, app = p.postgres "main", p.app()
local held = false
app:get("/lock", function()
  return db:transaction(function(tx)
    tx:one "select id from hot where id = 1 for update"
    return "ok"
  end)
end)
app:get("/hold", function()
  return db:transaction(function(tx)
    tx:one "select id from hot where id = 1 for update"
    held = true
    while held do p.sleep(0.01) end
    return "ok"
  end)
end)
app:get("/compute", function() return db:one("select count(sqrt(i))::text n from generate_series(1, 400000) i").n end)
app:get("/release", function() held = false return "released" end)
return app
]]

describe("the activity of a database", function()
  local pg, served

  setup(function()
    pg = postgres.start {}
    pg:sql "create table hot (id int primary key); insert into hot values (1)"
    served = engine.start { rules = { ["routes/app.lua"] = APP },
      config = ("return { postgres = { main = { dsn = %q, min = 1, max = 3 } } }"):format(pg.url) }
  end)

  teardown(function()
    loop.run(function()
      served:stop()
      pg:stop()
    end, 30000)
  end)

  local function seen() return served:admin_get("~/resources/pools/main/activity") end

  it("names who waits for a lock and who idles with it, though no connection is free", function()
    loop.run(function()
      local holder = loop.spawn(function() return assert(served:get "/hold").status end)
      loop.wait_until(function() return seen().json.data.now.idle_in_tx == 1 end, 15000, "an idle transaction")
      local waiting = {}
      for i = 1, 6 do waiting[i] = loop.spawn(function() return assert(served:get "/lock").status end) end
      local got
      loop.wait_until(function()
        got = seen().json.data
        return got.now.blocked == 2 -- of three connections, one holds the lock
      end, 15000, "two that wait")
      assert.is_true(got.now.blocker.waiting >= 1)
      assert.equal("idle in transaction", got.now.blocker.state)
      assert.matches("for update", got.now.blocker.statement)
      assert.is_true(got.now.blocked_s > 0 and got.recent.looks >= 2)
      local explained = served:admin_request { method = "POST", path = "/api/v1/performance-optimization/resources/pools/main/explain",
        json = { statement = "select id from hot where id = ?" } }
      assert.equal(200, explained.status)
      assert.equal(200, served:get("/release").status)
      assert.equal(200, loop.join(holder))
      for i = 1, 6 do assert.equal(200, loop.join(waiting[i])) end
      assert.is_nil(served:log():find("was ended by signal", 1, true))
    end, 60000)
  end)

  it("tells what sessions on this machine do at the processor", function()
    loop.run(function()
      local clients = load.background(served, { clients = 2, request = "/compute" })
      local got
      loop.wait_until(function()
        loop.sleep(300)
        got = seen().json.data.recent
        return got.running and got.running >= 0.3
      end, 30000, "a session that computes")
      assert.is_true(got.starved >= 0 and got.cores >= 1 and got.running <= got.cores + 0.2, require("dkjson").encode(got))
      assert.is_true(got.active >= 0.3 and got.reading <= got.active)
      clients.stop()
    end, 60000)
  end)

  it("is there for databases alone", function()
    loop.run(function()
      assert.equal(404, served:admin_get("~/resources/pools/none/activity").status)
    end)
  end)
end)
