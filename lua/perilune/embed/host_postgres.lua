--- A pool of connections to PostgreSQL inside a program of yours; lua/perilune/postgres.lua over it, as handlers have it.

local core = ...

local options_of, loop_of = core.file("lua/perilune/embed/options.lua", core), core.file("lua/perilune/embed/loop.lua", core)
local type, error, pairs, ipairs, concat, getmetatable = type, error, pairs, ipairs, table.concat, getmetatable

local WHERE = "perilune.pool.postgres"
local WORDS = { "host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "application_name" }
local KNOWN = { name = "string", dsn = "string", pooler = "boolean", loop = "loop", min = "pool.db.min", max = "pool.db.max", wait_ms = "pool.db.wait_ms",
  statement_ms = "pool.db.statement_ms", connect_ms = "pool.db.connect_ms", idle_ms = "pool.db.idle_ms", lifetime_ms = "pool.db.lifetime_ms" }
for _, word in ipairs(WORDS) do KNOWN[word] = "string" end

-- Single words make a connection string; one that is given is kept.
local function take_words(given)
  local parts = {}
  for _, word in ipairs(WORDS) do
    local value = given[word]
    if value then parts[#parts + 1] = ("%s='%s'"):format(word, (value:gsub("['\\]", "\\%0"))) end
    given[word] = nil
  end
  if #parts > 0 and given.dsn then error(WHERE .. ": give 'dsn' or single words like 'host', not both", 3) end
  if #parts > 0 then given.dsn = concat(parts, " ") end
  if not given.dsn then error(WHERE .. ": 'dsn' is missing, as in { dsn = \"postgresql://user:password@host/database\" }", 3) end
end

local function take_options(options)
  if type(options) == "string" then return { dsn = options } end
  if type(options) ~= "table" then error(WHERE .. " takes { dsn = \"postgresql://user:password@host/database\", max = 4 } or the connection string alone", 3) end
  local given = {}
  for name, value in pairs(options) do given[name] = value end
  if type(given.port) == "number" then given.port = ("%d"):format(given.port) end
  options_of.check(WHERE, given, KNOWN, 3)
  return given
end

return function(options)
  local given = take_options(options)
  take_words(given)
  local lib = options_of.library(WHERE, "perilune.postgres", "libpq5 libuv1 libssl3")
  local wrong = lib.wrong(given.dsn)
  if wrong then error(("%s: the connection string cannot be used: %s"):format(WHERE, wrong), 2) end
  given.name = given.name or "main"
  if #given.name == 0 or #given.name > 63 then error(WHERE .. ": 'name' has 1 to 63 bytes", 2) end
  if given.min and given.max and given.min > given.max then error(WHERE .. ": 'min' is above 'max'", 2) end
  local raw, why = lib.new(given)
  if not raw then return nil, why end
  local waiter = loop_of(raw, lib.waits, given.loop)
  local waits, await, result = lib.waits, waiter.await, lib.result

  local function answer(op)
    await(op)
    return result(op)
  end

  -- What lua/perilune/postgres.lua asks the engine for.
  local engine = { AGAIN = lib.AGAIN, status = lib.status }
  function engine.release(lease)
    lib.release(lease)
    waiter.send() -- what is still open is rolled back
  end
  function engine.open() return raw end
  function engine.run(_, ...)
    waiter.look()
    return answer(raw:run(...))
  end
  function engine.new_lease() return raw:new_lease() end
  function engine.lease(_, lease)
    waiter.look()
    return answer(raw:lease(lease))
  end
  function engine.stream(_, ...)
    local op = raw:stream(...)
    if op == true then return true end
    return answer(op)
  end
  function engine.next(lease)
    lib.more(lease)
    if waits(lease) then await(lease) end
    return lib.row(lease)
  end

  local db = core.file("lua/perilune/postgres.lua", { db = engine }) "main"
  local methods = getmetatable(db)
  function methods.stats() return raw:stats() end
  function methods.close() waiter.close() end
  function methods.fd() return waiter.fd() end
  function methods.timeout() return waiter.timeout() end
  function methods.step(_, wait) return waiter.step(wait) end
  return db
end
