--- Handlers and a real PostgreSQL 15.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"

-- Runs Lua that a test sends, in a handler: `return run(db, p, req)`.
local RUN = [[
local p = require "perilune"
local db = p.postgres("main")
local app = p.app()
app:post("/run", function(req)
  local fn, why = load("local db, p, req = ... " .. req.body)
  if not fn then return 500, why end
  local function pack(...) return { n = select("#", ...), ... } end
  local got = pack(fn(db, p, req))
  local out = p.json.array {}
  for i = 1, got.n do out[i] = got[i] == nil and p.null or got[i] end
  return 200, p.json.encode(out)
end)
return app
]]

local function start(pg, options)
  options = options or {}
  local words = { ("dsn = %q"):format(options.dsn or pg.url) }
  for name, value in pairs(options.pool or {}) do words[#words + 1] = ("%s = %s"):format(name, tostring(value)) end
  local args = { "--set", "pool.db.min=0" }
  for _, arg in ipairs(options.args or {}) do args[#args + 1] = arg end
  return engine.start { workers = options.workers, args = args, rules = options.rules or { ["routes/run.lua"] = RUN },
    config = ("return { postgres = { main = { %s } } }"):format(table.concat(words, ", ")) }
end

--- What the Lua text returns in a handler, as a list; NULL and nil are json.null.
local function run(served, text)
  local response = assert(served:request { method = "POST", path = "/run", body = text })
  assert.equal(200, response.status, response.body)
  return json.decode(response.body, 1, json.null)
end

describe("a database", function()
  local pg, served
  setup(function()
    pg = postgres.start()
    served = start(pg)
  end)
  teardown(function()
    served:stop()
    pg:stop()
  end)

  it("gives rows with the types of their columns", function()
    loop.run(function()
      local row = run(served, [[return db:one("select 1::int2 a, 2::int4 b, 3::int8 c, 9007199254740993::int8 big, 1.5::float8 d, "
        .. "0.1::numeric e, 12345678901234567890.5::numeric f, true g, false h, null i, 'x'::text j, '\\x00ff41'::bytea = $1 k, "
        .. "'{\"a\":[1,null]}'::jsonb l, '{1,2,NULL}'::int[] m, '{{a,\"b,\\\"c\"},{d,NULL}}'::text[] n, '{}'::int[] o, "
        .. "'2026-01-02 03:04:05.678'::timestamp q, '2026-01-02 03:04:05+05:30'::timestamptz at time zone 'UTC' r, "
        .. "date '2026-01-02' s, 'infinity'::timestamp t, '{t,f}'::bool[] u", "\0\255A")]])[1]
      assert.same({ a = 1, b = 2, c = 3, big = "9007199254740993", d = 1.5, e = 0.1, f = "12345678901234567890.5", g = true, h = false,
        i = json.null, j = "x", k = true, l = { a = { 1, json.null } }, m = { 1, 2, json.null },
        n = { { "a", 'b,"c' }, { "d", json.null } }, o = {}, q = "2026-01-02T03:04:05.678", r = "2026-01-01T21:34:05",
        s = "2026-01-02", t = "infinity", u = { true, false } }, row)
    end)
  end)

  it("takes parameters of every type as they are, and none of them as SQL", function()
    loop.run(function()
      local row = run(served, [[return db:one("select $1::text a, $2::int b, $3::float8 c, $4::bool d, $5::jsonb e, $6::int[] f, $7::text g, "
        .. "$8::text[] h, $9::timestamptz = '2026-01-02T03:04:05Z' i, $10::json k, $11::bytea[] = array['\\x00ff'::bytea] l",
        "'; drop table x; --", 42, 0.1, true, { a = { 1, p.null } }, { 1, 2, p.null }, nil, { 'a"b\\', "NULL", "" },
        "2026-01-02T03:04:05Z", p.json.array {}, { "\0\255" })]])[1]
      assert.same({ a = "'; drop table x; --", b = 42, c = 0.1, d = true, e = { a = { 1, json.null } }, f = { 1, 2, json.null },
        g = json.null, h = { 'a"b\\', "NULL", "" }, i = true, k = {}, l = true }, row)
      local bytes = run(served, [[local all = {} for i = 0, 255 do all[#all + 1] = string.char(i) end
        local text = table.concat(all):rep(40)
        local row = db:one("select $1::bytea b, length($1::bytea) n", text) return row.b == text, row.n]])
      assert.same({ true, 10240 }, bytes)
    end)
  end)

  it("tells none, one and many rows, and how many were changed", function()
    loop.run(function()
      assert.same({ json.null }, run(served, [[return db:one("select 1 where false")]]))
      assert.same({ {} }, run(served, [[return db:query("select 1 where false")]]))
      assert.same({ { { g = 1 }, { g = 2 } } }, run(served, [[return db:query("select g from generate_series(1, 2) g")]]))
      assert.same({ 0 }, run(served, [[return db:exec("create table counted (a int primary key)")]]))
      assert.same({ 3 }, run(served, [[return db:exec("insert into counted select generate_series(1, $1::int)", 3)]]))
      assert.same({ 2 }, run(served, [[return db:exec("delete from counted where a > $1", 1)]]))
    end)
  end)

  it("says what failed, with SQLSTATE and details, and goes on", function()
    loop.run(function()
      assert.same({ json.null, 'syntax error at or near "selec"', "42601" }, run(served, [[return db:query("selec")]]))
      assert.same({ json.null, "division by zero", "22012" }, run(served, [[return db:query("select 1 / $1::int", 0)]]))
      assert.equal("22021", run(served, [[return db:query("select $1::text", "a\255b")]])[3])
      assert.equal("22021", run(served, [[return db:query("select '\255'")]])[3])
      assert.equal("22P02", run(served, [[return db:query("select $1::int", "x")]])[3])
      pg:sql("create table unique_ones (a int constraint only_once primary key)")
      run(served, [[return db:exec("insert into unique_ones values (1)")]])
      local got = run(served, [[return db:exec("insert into unique_ones values ($1)", 1)]])
      assert.equal("23505", got[3])
      assert.same({ constraint = "only_once", table = "unique_ones", detail = "Key (a)=(1) already exists." }, got[4])
      assert.same({ { a = 1 } }, run(served, [[return db:one("select 1 a")]]))
    end)
  end)

  it("refuses what would reach other requests", function()
    loop.run(function()
      for _, text in ipairs { "BEGIN", " /* a /* b */ */ commit", "-- x\nrollback", "set search_path = x", "SET SESSION a.b = 1", "listen x",
        "deallocate all", "copy t from stdin", "prepare x as select 1", "prepare transaction 'x'" } do
        local got = run(served, ("return pcall(db.query, db, %q)"):format(text))
        assert.is_false(got[1], text)
      end
      local got = run(served, [[return pcall(db.query, db, "select $1::int", 1, 2)]])
      assert.matches("has 1 parameters, but 2 were given", got[2])
      assert.matches("has no type in SQL", run(served, [[return pcall(db.query, db, "select $1::int", print)]])[2])
      assert.matches("neither JSON nor an array", run(served, [[return pcall(db.query, db, "select $1::int", {})]])[2])
    end)
  end)

  it("commits what returns, and rolls back what fails, raises or says no", function()
    loop.run(function()
      pg:sql("create table ledger (a int primary key deferrable initially deferred)")
      assert.same({ "done", 7 }, run(served, [[return db:transaction(function(tx) tx:exec("insert into ledger values (1)") return "done", 7 end)]]))
      assert.same({ true }, run(served, [[return db:transaction(function(tx) tx:exec("insert into ledger values (2)") end)]]))
      assert.same({ json.null, "no", "E1" }, run(served, [[return db:transaction(function(tx) tx:exec("insert into ledger values (3)") return nil, "no", "E1" end)]]))
      local raised = run(served, [[return pcall(db.transaction, db, function(tx) tx:exec("insert into ledger values (4)") error({ code = 5 }) end)]])
      assert.same({ false, { code = 5 } }, raised)
      local failed = run(served, [[return db:transaction(function(tx) tx:exec("insert into ledger values (5)") tx:exec("selec") return true end)]])
      assert.equal("25P02", failed[3])
      -- A constraint that is only looked at by COMMIT.
      assert.equal("23505", run(served, [[return db:transaction(function(tx) tx:exec("insert into ledger values (1)") return 1 end)]])[3])
      assert.equal("23505", run(served, [[return db:exec("insert into ledger values (1)")]])[3])
      assert.same({ true }, run(served, [[return db:transaction(function(tx)
        tx:exec("insert into ledger values (6)")
        tx:transaction(function(inner) inner:exec("insert into ledger values (7)") return false end)
        tx:transaction(function(inner) inner:exec("insert into ledger values (8)") end)
        tx:transaction(function(inner) inner:exec("selec") end)
      end)]]))
      assert.equal("1,2,6,8", pg:sql("select string_agg(a::text, ',' order by a) from ledger"))
      assert.equal("25006", run(served, [[local state db:transaction(function(tx) local _, _, s = tx:exec("delete from ledger") state = s return false end,
        { read_only = true }) return p.null, "", state]])[3])
      assert.equal("0", pg:sql("select count(*) from pg_stat_activity where state like 'idle in transaction%'"))
    end)
  end)

  it("ends the transaction of a handler that raised, without being told", function()
    loop.run(function()
      local response = served:request { method = "POST", path = "/run",
        body = [[db:transaction(function(tx) tx:exec("create table never (a int)") error("torn") end)]] }
      assert.equal(500, response.status)
      assert.equal("", pg:sql("select to_regclass('never')"))
      assert.equal("0", pg:sql("select count(*) from pg_stat_activity where state like 'idle in transaction%'"))
    end)
  end)

  it("gives rows one by one, stops when told, and names a failure in the middle", function()
    loop.run(function()
      assert.same({ 100000, 5000050000 }, run(served, [[local sum = 0
        local n = db:each("select g from generate_series(1, $1::int) g", 100000, function(row) sum = sum + row.g end) return n, sum]]))
      assert.same({ 10 }, { run(served, [[local n = 0 return db:each("select g from generate_series(1, 1000000) g",
        function() n = n + 1 return n < 10 end)]])[1] })
      local got = run(served, [[local n = 0 local r, m, s = db:each("select 100 / (50000 - g) v from generate_series(1, 60000) g", function() n = n + 1 end)
        return r, s, n]])
      assert.same({ json.null, "22012", 49999 }, got)
      local inner = run(served, [[return db:transaction(function(tx) local sum = 0
        tx:each("select g from generate_series(1, 50000) g", function(row) sum = sum + row.g return row.g < 100 end)
        return sum, tx:one("select 5 a").a end)]])
      assert.same({ 5050 - 0, 5 }, inner)
    end)
  end)

  it("refuses a result above pool.db.result_bytes, not the next one", function()
    loop.run(function()
      local got = run(served, [[return db:query("select repeat('x', 1000000) from generate_series(1, 50)")]])
      assert.equal("54000", got[3])
      assert.equal("54000", run(served, [[return db:one("select repeat('x', 50000000)")]])[3])
      assert.same({ { a = 1 } }, run(served, [[return db:one("select 1 a")]]))
    end)
  end)

  it("counts statements by their shape, and how often one request calls them", function()
    loop.run(function()
      run(served, [[for i = 1, 7 do db:one("select " .. i .. " as n /* c */  where 'a''b' <> $1 and 1 in (1, 2,3) -- end", "x") end return 1]])
      local list = served:admin_get("~/resources/pools/main/statements").json.data.statements
      local found
      for _, one in ipairs(list) do
        if one.statement == "select ? as n where ? <> $1 and ? in (?)" then found = one end
      end
      assert.is_table(found, json.encode(list))
      assert.same({ 7, 7, 0, 1, 7, 7 }, { found.calls, found.rows, found.errors, found.requests, found.calls_per_request, found.most_per_request })
      assert.equal("POST /run", found.most_by_route)
      assert.equal(7, found.time_ms.count)
      local phases = served:admin_get("~/stats?window=all").json.data
      assert.is_truthy(json.encode(phases):find('"db"', 1, true))
    end)
  end)

  it("prepares again what the server has forgotten or changed", function()
    loop.run(function()
      pg:sql("create table shape (a int); insert into shape values (1)")
      assert.same({ { { a = 1 } } }, run(served, [[return db:query("select * from shape")]]))
      pg:sql("alter table shape add b int default 2")
      assert.same({ { { a = 1, b = 2 } } }, run(served, [[return db:query("select * from shape")]]))
      run(served, [[return db:query("do $$ begin execute 'deallocate all'; end $$")]])
      assert.same({ { { a = 1, b = 2 } } }, run(served, [[return db:query("select * from shape")]]))
    end)
  end)

  it("keeps its connections over a reload, and leaves them when the configuration names another server", function()
    local own = start(pg)
    loop.run(function()
      local function pid() return run(own, [[return db:one("select pg_backend_pid() pid").pid]])[1] end
      local before = pid()
      own:write_rule("routes/other.lua", [[local app = require("perilune").app() app:get("/other", function() return "x" end) return app]])
      loop.wait_until(function() return own:get("/other").status == 200 end)
      assert.equal(before, pid())
      pg:sql("create database elsewhere")
      files.write(own.folder .. "/perilune.lua", ("return { postgres = { main = { dsn = %q } } }"):format(pg.url:gsub("/postgres$", "/elsewhere")))
      loop.wait_until(function() return run(own, [[return db:one("select current_database() d").d]])[1] == "elsewhere" end)
      loop.wait_until(function() return pg:sql("select count(*) from pg_stat_activity where pid = " .. before) == "0" end)
    end)
    own:stop()
  end)

  it("must be in the configuration, which is checked, and never shown", function()
    local folder = files.temporary("perilune-check")
    local function check(config, route)
      files.write_tree(folder, { ["perilune.lua"] = config, ["rules/routes/a.lua"] = route or "return require('perilune').app()" })
      local code, out = engine.run { args = { "check", "--config", folder .. "/perilune.lua" } }
      return code, out
    end
    local code, out = check("return {}", 'local p = require "perilune"\nlocal db = p.postgres("shop")\nreturn p.app()')
    assert.equal(2, code)
    assert.matches("a%.lua:2: there is no database 'shop'", out)
    for config, text in pairs {
      ['postgres = { main = "postgresql://app:hush@[1" }'] = "postgres.main: the connection string cannot be used",
      ['postgres = { main = "host=x password=hush replication=database" }'] = "keyword 'replication' cannot be used here",
      ['postgres = { main = { dsn = "host=x", maxx = 3 } }'] = "unknown key 'maxx', did you mean 'max'?",
      ['postgres = { main = { dsn = "host=x", max = 0 } }'] = "'max' is a whole number from 1 to 10000",
      ['postgres = { main = { max = 2 } }'] = "it is missing",
      ['postgres = { main = { dsn = "host=x", min = 5, max = 2 } }'] = "min is above max",
      ['postgres = "x"'] = "it must be a table",
    } do
      code, out = check("return { " .. config .. " }")
      assert.equal(2, code, config)
      assert.is_truthy(out:find(text, 1, true), out)
      assert.is_nil(out:find("hush", 1, true))
    end
    files.remove(folder)
  end)
end)
