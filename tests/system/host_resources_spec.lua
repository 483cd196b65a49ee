--- Task threads and pools of PostgreSQL inside programs that are not ours: without a loop, on luv's, and on any other.
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"
local programs = require "tests.support.programs"

local good = programs.good

-- What tasks run.
local WORK = [[
local work = {}
local calls = 0
function work.add(a, b) return a + b end
function work.same(...) return ... end
function work.nothing() end
function work.count() calls = calls + 1 return calls end
function work.spin(seconds)
  local until_s = os.clock() + seconds
  while os.clock() < until_s do end
  return "spun"
end
function work.file(path)
  while true do
    local file = io.open(path)
    if file then file:close() return "there" end
  end
end
function work.forever() while true do pcall(function() while true do end end) end end
function work.fail(text) error(text, 0) end
function work.bad() return { list = { 1, print } } end
function work.leave() os.exit(3) end
return work
]]

local HEAD = [[
package.path = arg[1] .. "/?.lua;" .. package.path
local null = perilune.json.null
local function pack(...) return { n = select("#", ...), ... } end
-- Everything that a call gives, nil as null.
local function all(...)
  local got, out = pack(...), perilune.json.array {}
  for i = 1, got.n do out[i] = got[i] == nil and null or got[i] end
  return out
end
local function told(...) say(all(...)) end
]]

local function with_work(options)
  options = options or {}
  options.files = options.files or {}
  options.files["work.lua"] = WORK
  return options
end

-- What the program says, each line a list; nil is absent at its end.
local function said_by(text, options) return good(HEAD .. text, with_work(options)) end

describe("task threads in a program without a loop", function()
  it("run functions of its modules and kernels, and give what they give", function()
    local said = said_by [[
      local tasks = assert(perilune.tasks { threads = 2 })
      told(tasks:run { module = "work", fn = "add", 2, 3 })
      local data = { a = { 1, 2, { b = "x" } }, [3.5] = true, empty = perilune.json.array {}, null = null }
      local back = tasks:run { module = "work", fn = "same", data }
      told(back ~= data, back.a[3].b, back[3.5], back.null == null, perilune.json.encode(back.empty))
      told(tasks:run { module = "work", fn = "same", 1, nil, "x", false })
      told(tasks:run { module = "work", fn = "nothing" })
      told(tasks:run { kernel = "sha256", "abc" })
      told(tasks:run { kernel = "sort", { 3, 1, 2 } })
      told(tasks:run { kernel = "decode_zstd", (tasks:run { kernel = "zstd", ("x"):rep(9999), level = 3 }) } == ("x"):rep(9999))
      told(tasks:all { { module = "work", fn = "add", 1, 2 }, { kernel = "crc32", "abc" } })
      told(tasks:map({ 1, 2, 3, 4, 5 }, { module = "work", fn = "add", 10, chunk = 2 }))
      local one, two = tasks:start { module = "work", fn = "add", 1, 1 }, tasks:start { module = "work", fn = "add", 2, 2 }
      told(two:await(), one:await())
      told(pcall(one.await, one))
    ]]
    assert.same({ 5 }, said[1])
    assert.same({ true, "x", true, true, "[]" }, said[2])
    assert.equal(4, #said[3])
    assert.same({}, said[4])
    assert.same({ "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }, said[5])
    assert.same({ { 1, 2, 3 } }, said[6])
    assert.same({ true }, said[7])
    assert.same({ { 3, "352441c2" } }, said[8])
    assert.same({ { 11, 12, 13, 14, 15 } }, said[9])
    assert.same({ 4, 2 }, said[10])
    assert.matches("awaited before", said[11][2])
  end)

  it("say what went wrong, and the program goes on", function()
    local said = said_by [[
      local tasks = assert(perilune.tasks { threads = 1, cpu_ms = 50, copy_bytes = 4096 })
      told(tasks:run { module = "work", fn = "fail", "oh no" })
      told(tasks:run { module = "work", fn = "nope" })
      told(tasks:run { module = "nowhere", fn = "nope" })
      told(tasks:run { module = "work", fn = "bad" })
      told(tasks:run { module = "work", fn = "leave" })
      told(tasks:run { module = "work", fn = "forever" })
      told(tasks:run { module = "work", fn = "same", ("x"):rep(5000) })
      told(tasks:run { kernel = "decode_gzip", "no gzip" })
      told(pcall(tasks.run, tasks, { module = "work", fn = "same", print }))
      told(pcall(tasks.run, tasks, { modul = "work", fn = "same" }))
      told(pcall(tasks.run, tasks, { kernel = "sha265", "x" }))
      told(pcall(tasks.run, tasks, { module = "work", fn = "same", priority = "urgent" }))
      told(tasks:run { module = "work", fn = "count" })
    ]]
    assert.equal("oh no", said[1][2])
    assert.equal("script", said[1][3])
    assert.matches("module 'work' has no function 'nope'", said[2][2])
    assert.matches("module 'nowhere' not found", said[3][2])
    assert.matches("a function at result 1%.list%[2%]", said[4][2])
    assert.matches("a task cannot end the program", said[5][2])
    assert.matches("interrupted after 50 ms of CPU time %(cpu_ms%)", said[6][2])
    assert.equal("interrupted", said[6][3])
    assert.equal("too_large", said[7][3])
    assert.equal("protocol", said[8][3])
    assert.matches("a function at argument 1; tasks take and give", said[9][2])
    assert.matches("unknown key 'modul' in a task, did you mean 'module'%?", said[10][2])
    assert.matches("did you mean 'sha256'%?", said[11][2])
    assert.matches("there are critical, high, normal and low", said[12][2])
    assert.same({ 1 }, said[13])
  end)

  it("end what is over its deadline or cancelled, and refuse what is too much", function()
    local said = said_by [[
      local late = assert(perilune.tasks { threads = 1 })
      told(late:run { module = "work", fn = "forever", deadline_ms = 50 })
      local tasks = assert(perilune.tasks { threads = 1, max = 3 })
      local running = assert(tasks:start { module = "work", fn = "forever" })
      local queued = assert(tasks:start { module = "work", fn = "count" })
      local third = assert(tasks:start { module = "work", fn = "count" })
      told(tasks:start { module = "work", fn = "count" })
      told(queued:cancel(), queued:cancel())
      told(queued:await())
      told(running:cancel())
      told(running:await())
      told(third:await())
      local stats = tasks:stats()
      local lua = stats.kinds[1]
      told(stats.width, stats.max, lua.kind, lua.done, lua.cancelled, lua.refused)
    ]]
    assert.equal("timeout", said[1][3])
    assert.equal("task queue full", said[2][2])
    assert.equal("busy", said[2][3])
    assert.same({ true, false }, said[3])
    assert.equal("cancelled", said[4][3])
    assert.same({ true }, said[5])
    assert.equal("cancelled", said[6][3])
    assert.same({ 1 }, said[7])
    assert.same({ 1, 3, "lua", 1, 2, 1 }, said[8])
  end)

  it("compile tasks when they are told to", function()
    local said = said_by([[
      for _, jit in ipairs { true, false } do
        local tasks = assert(perilune.tasks { jit = jit })
        told(tasks:run { module = "status", fn = "on" })
        tasks:close()
      end
    ]], { files = { ["status.lua"] = "return { on = function() return (jit.status()) end }" } })
    assert.same({ { true }, { false } }, said)
  end)

  it("say what is wrong with options", function()
    local said = said_by [[
      told(pcall(function() perilune.tasks { thread = 2 } end))
      told(pcall(function() perilune.tasks { threads = 65 } end))
      told(pcall(function() perilune.tasks { max = "many" } end))
      told(pcall(function() perilune.tasks { jit = 1 } end))
      told(pcall(function() perilune.tasks { loop = "uv" } end))
      told(pcall(function() perilune.tasks(5) end))
      told(pcall(function() perilune.pool.postgres {} end))
      told(pcall(function() perilune.pool.postgres { dns = "x" } end))
      told(pcall(function() perilune.pool.postgres { dsn = "host=x", user = "y" } end))
      told(pcall(function() perilune.pool.postgres { dsn = "secret word" } end))
      told(pcall(function() perilune.pool.postgres { dsn = "host=x replication=true" } end))
      told(pcall(function() perilune.pool.postgres { host = "x", min = 5, max = 2 } end))
      told(pcall(function() perilune.pool.postgres { host = "x", max = 0 } end))
    ]]
    for i, text in ipairs { "main.lua:%d+: perilune.tasks: unknown option 'thread', did you mean 'threads'%?; it has copy_bytes, ",
      "main.lua:%d+: .*'threads' is a whole number from 1 to 64 threads, not 65", "'max' is a whole number", "'jit' is a boolean, not a number",
      "'loop' is require \"luv\", or \"step\"", "perilune.tasks takes a table", "main.lua:%d+: .*'dsn' is missing, as in", "unknown option 'dns', did you mean 'dsn'%?",
      "give 'dsn' or single words", "main.lua:%d+: .*it cannot be read; write postgresql://user:password@host:port/database", "keyword 'replication' cannot be used here",
      "'min' is above 'max'", "'max' is a whole number from 1 to 10000" } do
      assert.is_false(said[i][1])
      assert.matches(text, said[i][2])
      assert.is_nil(said[i][2]:find("secret", 1, true))
    end
  end)

  it("are closed, given up or left to the end of the program, whatever is under way", function()
    local said = said_by [[
      local tasks = assert(perilune.tasks {})
      local one, two = tasks:start { module = "work", fn = "forever" }, tasks:start { module = "work", fn = "count" }
      tasks:close()
      tasks:close()
      told(one:await())
      told(pcall(tasks.run, tasks, { module = "work", fn = "count" }))
      for _ = 1, 20 do
        local lost = assert(perilune.tasks { threads = 3 })
        lost:start { module = "work", fn = "forever" }
      end
      collectgarbage() collectgarbage()
      local last = assert(perilune.tasks {})
      last:start { module = "work", fn = "forever" }
      told "the end"
    ]]
    assert.equal("cancelled", said[1][3])
    assert.matches("this perilune.tasks was closed; make another", said[2][2])
    assert.same({ "the end" }, said[3])
  end)

  it("belong to the process that made them", function()
    local said = said_by [[
      local tasks = assert(perilune.tasks { threads = 1 })
      told(tasks:run { module = "work", fn = "count" })
      local ffi = require "ffi"
      ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      local pid = ffi.C.fork()
      if pid == 0 then
        told(pcall(tasks.run, tasks, { module = "work", fn = "count" }))
        tasks:close()
        local own = assert(perilune.tasks {})
        told(own:run { module = "work", fn = "count" })
        tasks, own = nil, nil
        collectgarbage() collectgarbage()
        ffi.C._exit(0) -- what is the parent's is left where it is, which is no leak
      end
      local status = ffi.new "int[1]"
      ffi.C.waitpid(pid, status, 0)
      told(status[0], tasks:run { module = "work", fn = "add", 1, 1 })
    ]]
    assert.same({ 1 }, said[1])
    assert.matches("this perilune.tasks was made by process %d+, before the fork: make one in each process, after it", said[2][2])
    assert.same({ 1 }, said[3])
    assert.same({ 0, 2 }, said[4])
  end)

  it("wait for coroutines when the program turns the loop itself", function()
    local said = said_by [[
      local tasks = assert(perilune.tasks { threads = 2, max = 100, loop = "step" })
      local order, done = {}, 0
      for i = 1, 50 do
        coroutine.wrap(function()
          for k = 1, 3 do
            assert(tasks:run { module = "work", fn = "add", i, k } == i + k)
            order[#order + 1] = i
          end
          done = done + 1
        end)()
      end
      told(done, tasks:timeout(), type(tasks:fd()))
      while done < 50 do tasks:step(true) end
      local first = {}
      for at, i in ipairs(order) do if at <= 50 then first[i] = true end end
      local others = 0
      for _ in pairs(first) do others = others + 1 end
      told(done, #order, others > 10, tasks:stats().queued)
    ]]
    assert.same({ 0, 0, "number" }, said[1])
    assert.same({ 50, 150, true, 0 }, said[2])
  end)

  it("are several in one process, in several states", function()
    local said = said_by([[
      local uv = require "luv"
      local threads = {}
      for i = 1, 4 do
        threads[i] = uv.new_thread(function(path, cpath, url)
          package.path, package.cpath = path, cpath
          local p = require "perilune"
          for _ = 1, 5 do
            local a, b = assert(p.tasks { threads = 2 }), assert(p.tasks { threads = 1 })
            assert(a:run { module = "work", fn = "add", 1, 2 } == 3)
            assert(b:run { module = "work", fn = "count" } == 1)
            a:close()
          end
        end, package.path, package.cpath)
      end
      for i = 1, 4 do threads[i]:join() end
      told "all"
    ]])
    assert.same({ "all" }, said[1])
  end)
end)

describe("task threads on luv's loop", function()
  it("leave the loop to others while coroutines wait", function()
    local said = said_by [[
      local uv = require "luv"
      local tasks = assert(perilune.tasks { threads = 1, loop = uv })
      local ticks, during, result = 0, nil, nil
      local timer = uv.new_timer()
      timer:start(0, 10, function() ticks = ticks + 1 end)
      coroutine.wrap(function()
        local before = ticks
        result = tasks:run { module = "work", fn = "spin", 0.3 }
        during = ticks - before
        timer:close()
      end)()
      uv.run()
      told(result, during)
    ]]
    assert.equal("spun", said[1][1])
    assert.is_true(said[1][2] >= 10, said[1][2])
  end)

  it("end the loop when nothing is awaited, and keep it while something is", function()
    local said, err = said_by [[
      local uv = require "luv"
      local tasks = assert(perilune.tasks { loop = uv })
      uv.run()
      local results = {}
      for i = 1, 50 do
        coroutine.wrap(function()
          local value = tasks:run { module = "work", fn = "add", i, 0 }
          results[#results + 1] = value
        end)()
      end
      told(#results)
      uv.run()
      local sum = 0
      for _, value in ipairs(results) do sum = sum + value end
      told(#results, sum)
      told(tasks:run { module = "work", fn = "add", 1, 1 }) -- not in a coroutine: waits here
      local why
      coroutine.wrap(function() why = all(tasks:run { module = "work", fn = "forever" }) end)()
      coroutine.wrap(function()
        tasks:run { module = "work", fn = "nothing" }
        error "its own"
      end)()
      local timer = uv.new_timer()
      timer:start(50, 0, function() timer:close() tasks:close() end)
      uv.run()
      told(unpack(why))
    ]]
    assert.same({ 0 }, said[1])
    assert.same({ 50, 1275 }, said[2])
    assert.same({ 2 }, said[3])
    assert.equal("cancelled", said[4][3])
    assert.matches("a coroutine that waited has failed: .*main.lua:%d+: its own", err)
  end)
end)

describe("a fork of a program on luv's loop", function()
  it("that gives up what it inherited leaves the parent's loop as it was", function()
    local said = said_by [[
      local uv = require "luv"
      local tasks = assert(perilune.tasks { threads = 1, loop = uv })
      local ffi = require "ffi"
      ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      local result, status
      coroutine.wrap(function()
        tasks:run { module = "work", fn = "count" }
        local pid = ffi.C.fork()
        if pid == 0 then
          local ok, why = pcall(tasks.run, tasks, { module = "work", fn = "count" })
          tasks:close()
          collectgarbage() collectgarbage()
          ffi.C._exit(not ok and why:find "before the fork" and 0 or 1)
        end
        status = ffi.new "int[1]"
        ffi.C.waitpid(pid, status, 0)
        result = tasks:run { module = "work", fn = "spin", 0.05 }
      end)()
      uv.run()
      told(status[0], result)
    ]]
    assert.same({ 0, "spun" }, said[1])
  end)
end)

describe("a pool in a program", function()
  local pg
  setup(function() pg = postgres.start() end)
  teardown(function() pg:stop() end)

  it("gives rows, in the types that handlers get", function()
    local said = said_by([[
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 2 })
      told(db:query("select $1::int as n, $2::text as t", 5, "x"))
      told(db:one("select 9007199254740993::int8 big, 0.1::numeric e, '\\x00ff'::bytea = $1 k, '{\"a\":[1,null]}'::jsonb l, '{1,2,NULL}'::int[] m, null i", "\0\255"))
      told(db:one "select 1 where false")
      told(db:exec "create temporary table x (id int)")
      told(db:read "select 1 as n")
      told(db:query "select nonsense")
      told(pcall(function() return db:query("select $1::int", 1, 2) end))
      told(pcall(function() return db:query "begin" end))
      told(pcall(function() return db:query(5) end))
      local seen = 0
      told(db:each("select n from generate_series(1, $1::int) n", 5000, function(row) seen = seen + row.n end), seen)
      local stats = db:stats()
      told(stats.health, stats.max, stats.server, stats.errors, stats.count >= 1)
      db:close()
      told(pcall(function() return db:query "select 1" end))
      local socket = perilune.pool.postgres { host = arg[3], port = tonumber(arg[4]), user = "app", dbname = "postgres" }
      told(socket:one "select 'it''s' as it")
    ]], { args = { pg.url, pg.folder, tostring(pg.port) } })
    assert.same({ { { n = 5, t = "x" } } }, said[1])
    assert.equal("9007199254740993", said[2][1].big)
    assert.equal(0.1, said[2][1].e)
    assert.is_true(said[2][1].k)
    assert.equal(1, said[2][1].l.a[1])
    assert.equal(2, said[2][1].m[2])
    assert.is_true(#said[3] <= 1 and said[3][1] == nil)
    assert.same({ 0 }, said[4])
    assert.same({ { { n = 1 } } }, said[5])
    assert.matches('column "nonsense" does not exist', said[6][2])
    assert.equal("42703", said[6][3])
    assert.matches("has 1 parameters, but 2 were given", said[7][2])
    assert.matches("transactions are made by db:transaction", said[8][2])
    assert.matches("usage: db:query", said[9][2])
    assert.same({ 5000, 12502500 }, said[10])
    assert.same({ "up", 2, ("app@127.0.0.1:%d/postgres"):format(pg.port), 1, true }, said[11])
    assert.matches("was closed; make another", said[12][2])
    assert.same({ { it = "it's" } }, said[13])
  end)

  it("commits and rolls back transactions", function()
    pg:sql "create table account (id int primary key, amount int)"
    local said = said_by([[
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 2 })
      told(db:transaction(function(tx)
        tx:exec("insert into account values (1, 10)")
        return tx:one("select amount from account").amount
      end))
      told(db:transaction(function(tx) tx:exec "insert into account values (2, 20)" return nil end))
      told(pcall(db.transaction, db, function(tx) tx:exec "insert into account values (3, 30)" error("changed my mind", 0) end))
      told(db:transaction(function(tx)
        tx:exec "insert into account values (4, 40)"
        tx:transaction(function(inner) inner:exec "insert into account values (5, 50)" return false end)
        return true
      end))
      told(db:transaction(function(tx) return tx:exec "insert into account values (1, 10)" end))
      told(db:query "select id from account order by id")
      told(wait(10, function() db:step(true) return db:stats().used == 0 end))
    ]], { args = { pg.url } })
    assert.same({ 10 }, said[1])
    assert.equal("rolled_back", said[2][3])
    assert.equal("changed my mind", said[3][2])
    assert.same({ true }, said[4])
    assert.equal("23505", said[5][3])
    assert.equal("account_pkey", said[5][4].constraint)
    assert.same({ { { id = 1 }, { id = 4 } } }, said[6])
    assert.same({ true }, said[7])
  end)

  it("is shared by coroutines on luv's loop, which goes on meanwhile", function()
    local said = said_by([[
      local uv = require "luv"
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 4, loop = uv })
      local tasks = assert(perilune.tasks { threads = 1, loop = uv })
      local ticks, done, order, most = 0, 0, {}, 0
      local timer = uv.new_timer()
      timer:start(0, 10, function() ticks = ticks + 1 end)
      for i = 1, 50 do
        coroutine.wrap(function()
          for k = 1, 5 do
            local row = assert(db:one("select $1::int * 100 + $2::int as n", i, k))
            assert(row.n == i * 100 + k)
            order[#order + 1] = i
          end
          if i % 10 == 0 then assert(tasks:run { module = "work", fn = "add", i, 1 } == i + 1) end
          assert(db:transaction(function(tx)
            assert(tx:one("select $1::int as n", i).n == i)
            return true
          end))
          done = done + 1
        end)()
      end
      coroutine.wrap(function()
        local before = ticks
        assert(db:one "select pg_sleep(0.3)")
        most = ticks - before
        timer:close()
      end)()
      uv.run()
      local mixed = {}
      for at, i in ipairs(order) do if at <= 50 then mixed[i] = true end end
      local kinds = 0
      for _ in pairs(mixed) do kinds = kinds + 1 end
      told(done, #order, kinds > 10, most >= 10, db:stats().count <= 4)
    ]], { args = { pg.url } })
    assert.same({ 50, 250, true, true, true }, said[1])
  end)

  it("is several in one process and in one state, each with its own cap", function()
    local said = said_by([[
      local a = assert(perilune.pool.postgres { dsn = arg[2], max = 1, name = "a" })
      local b = assert(perilune.pool.postgres { dsn = arg[2], max = 2, name = "b" })
      local one, two = a:one("select pg_backend_pid() as pid").pid, b:one("select pg_backend_pid() as pid").pid
      told(one ~= two, a:stats().id, a:stats().max, b:stats().id, b:stats().max)
      local uv = require "luv"
      local threads = {}
      for i = 1, 3 do
        threads[i] = uv.new_thread(function(cpath, url, n)
          package.cpath = cpath
          local p = require "perilune"
          local db = assert(p.pool.postgres { dsn = url, max = 2 })
          for k = 1, 50 do assert(db:one("select $1::int as n", n * k).n == n * k) end
        end, package.cpath, arg[2], i)
      end
      for i = 1, 3 do threads[i]:join() end
      a:close()
      told(b:one "select 1 as n")
    ]], { args = { pg.url } })
    assert.same({ true, "a", 1, "b", 2 }, said[1])
    assert.same({ { n = 1 } }, said[2])
  end)

  it("waits no longer than it was told, for statements and for connections", function()
    local said = said_by([[
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 1, statement_ms = 100, loop = "step" })
      told(db:query "select pg_sleep(30)")
      local why
      local busy = assert(perilune.pool.postgres { dsn = arg[2], max = 1, wait_ms = 100, loop = "step" })
      wait(30, function() return busy:one "select 1 as n" end) -- connecting may take longer than that
      coroutine.wrap(function()
        busy:transaction(function(tx)
          coroutine.wrap(function() why = all(busy:transaction(function() end)) end)()
          while not why do tx:one "select 1" end
          return true
        end)
      end)()
      while not why do busy:step(true) end
      told(unpack(why))
    ]], { args = { pg.url } })
    assert.equal("57014", said[1][3])
    assert.matches("no connection to database main became free within 100 ms %(at most 1 are open%)", said[2][2])
    assert.equal("53300", said[2][3])
  end)

  it("is closed in the middle of statements, and whoever waits is told", function()
    local said = said_by([[
      local uv = require "luv"
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 2, loop = uv })
      local answers = {}
      for i = 1, 4 do
        coroutine.wrap(function() answers[i] = all(db:query "select pg_sleep(30)") end)()
      end
      coroutine.wrap(function()
        answers[5] = all(db:transaction(function(tx) return tx:query "select pg_sleep(30)" end))
      end)()
      local timer = uv.new_timer()
      timer:start(0, 5, function()
        local stats = db:stats()
        if stats.used < 2 or stats.pending_requests < 1 then return end
        timer:close()
        db:close()
      end)
      uv.run()
      for i = 1, 5 do told(answers[i][2], answers[i][3]) end
      told "the end"
    ]], { args = { pg.url } })
    for i = 1, 5 do assert.same({ "the pool was closed", "57P01" }, said[i]) end
    assert.same({ "the end" }, said[6])
    -- One that is left as it is, with a statement under way, ends with the program.
    said = said_by([[
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 2, loop = "step" })
      coroutine.wrap(function() db:query "select pg_sleep(30)" end)()
      while db:stats().used < 1 do db:step(true) end
      told "the end"
    ]], { args = { pg.url } })
    assert.same({ "the end" }, said[1])
  end)

  it("belongs to the process that made it: a fork leaves the parent's connections alone", function()
    local said = said_by([[
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 1 })
      local before = db:one("select pg_backend_pid() as pid").pid
      local ffi = require "ffi"
      ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      local pid = ffi.C.fork()
      if pid == 0 then
        told(pcall(function() return db:query "select 1" end))
        db:close()
        local own = assert(perilune.pool.postgres { dsn = arg[2], max = 1 })
        told(own:one("select pg_backend_pid() as pid").pid ~= before)
        db, own = nil, nil
        collectgarbage() collectgarbage()
        ffi.C._exit(0)
      end
      local status = ffi.new "int[1]"
      ffi.C.waitpid(pid, status, 0)
      told(status[0], db:one("select pg_backend_pid() as pid").pid == before)
    ]], { args = { pg.url } })
    assert.matches("was made by process %d+, before the fork", said[1][2])
    assert.same({ true }, said[2])
    assert.same({ 0, true }, said[3])
  end)

  it("says that a server cannot be reached, and goes on when it is back", function()
    local text = HEAD .. [[
      local db = assert(perilune.pool.postgres { dsn = arg[2], max = 2, connect_ms = 1000, wait_ms = 300 })
      told(db:one "select 1 as n")
      local bad
      wait(30, function() bad = all(db:one "select 2 as n") return bad[1] == null and bad[3] ~= "57P01" end)
      told(unpack(bad))
      told(db:stats().health)
      local good
      wait(30, function() good = all(db:one "select 3 as n") if good[1] ~= null then return true end db:step(true) end)
      told(unpack(good))
    ]]
    local program = programs.start(text, { args = { pg.url } })
    loop.wait_until(function() return #program.said() == 1 end, 20000, "the first answer")
    pg:down()
    loop.wait_until(function() return #program.said() == 3 end, 30000, "the failure")
    pg:up()
    local said = program.finish()
    assert.same({ { n = 1 } }, said[1])
    assert.matches("database main cannot be reached: .*refused", said[2][2])
    assert.equal("08001", said[2][3])
    assert.same({ "unreachable" }, said[3])
    assert.same({ { n = 3 } }, said[4])
    said = said_by [[
      local nobody = assert(perilune.pool.postgres { dsn = "postgresql://app:secret@127.0.0.1:1/none", wait_ms = 200 })
      told(nobody:query "select 1")
    ]]
    assert.matches("cannot be reached", said[1][2])
    assert.is_nil(said[1][2]:find("secret", 1, true))
  end)
end)

describe("a library that is missing", function()
  it("is named, with what to install, and the rest of the program goes on", function()
    local folder = files.temporary "perilune-missing"
    files.write(folder .. "/libpq.so.5", "")
    local said = said_by([[
      told(pcall(function() perilune.pool.postgres { dsn = "host=x" } end))
      told(type(perilune.new {}))
      package.cpath = arg[1] .. "/?.so"
      told(pcall(function() return perilune.tasks() end))
    ]], { env = { LD_LIBRARY_PATH = folder } })
    files.remove(folder)
    assert.matches("main.lua:%d+: perilune.pool.postgres needs libpq.so.5, which cannot be loaded; install it %(Debian: apt%-get install libpq5 libuv1 libssl3%)", said[1][2])
    assert.same({ "userdata" }, said[2])
    assert.matches("perilune.tasks: tasks.so is not installed: it belongs beside perilune.so, in perilune/", said[3][2])
  end)
end)
