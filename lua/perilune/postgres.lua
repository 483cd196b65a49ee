--- PostgreSQL for handlers; what waits holds up nobody else.
--
--     local db = p.postgres("main")
--     local rows, message, state = db:query("select id, name from users where city = $1", city)
--     local user = db:one("select * from users where id = $1", id)       -- nil: there is none
--     local count = db:exec("delete from sessions where seen < $1", before)
--     local ok, message, state = db:transaction(function(tx) ... end)
--     db:each("select * from events", function(event) ... end)           -- row by row, in constant memory
--
-- A failure returns nil, a message, the SQLSTATE and, where the server tells more,
-- a table with detail, hint, constraint, table and column. NULL is p.null.

local core = ...

local db = core.db
local run_core, AGAIN = db.run, db.AGAIN
local type, error, pcall, select, unpack, setmetatable = type, error, pcall, select, unpack, setmetatable

local ISOLATED, READ, CONTROL = 0, 1, 2
local ROWS, ONE, COUNT = 0, 1, 2

-- The first use of a text asks for the types of its parameters, then runs it.
local function run(handle, lease, mode, shape, sql, ...)
  if type(sql) ~= "string" then error("usage: db:query(\"select ... where id = $1\", id)", 3) end
  local value, message, state, details = run_core(handle, lease, mode, shape, sql, ...)
  if value == AGAIN then value, message, state, details = run_core(handle, lease, mode, shape, sql, ...) end
  if value == AGAIN then return nil, "the types of the parameters are not stable", "55000" end
  if message == nil then return value end
  if details == nil then return value, message, state end
  return value, message, state, details
end

---@class perilune.Transaction
local transaction = {}
transaction.__index = transaction

---@class perilune.Database
local database = {}
database.__index = database

--- The rows of a statement, as a list of tables by column.
---@param sql string with parameters as $1, $2, ...
---@return table[]? rows
---@return string? message
---@return string? sqlstate
---@return table? details
function database:query(sql, ...) return run(self.handle, nil, ISOLATED, ROWS, sql, ...) end

--- The first row; nil alone when there is none.
function database:one(sql, ...) return run(self.handle, nil, ISOLATED, ONE, sql, ...) end

--- How many rows it changed.
function database:exec(sql, ...) return run(self.handle, nil, ISOLATED, COUNT, sql, ...) end

--- query() and one() of a statement that changes nothing: it travels together with
-- those of other requests, and may be done twice.
function database:read(sql, ...) return run(self.handle, nil, READ, ROWS, sql, ...) end
function database:read_one(sql, ...) return run(self.handle, nil, READ, ONE, sql, ...) end

function transaction:query(sql, ...) return run(self.handle, self.lease, ISOLATED, ROWS, sql, ...) end
function transaction:one(sql, ...) return run(self.handle, self.lease, ISOLATED, ONE, sql, ...) end
function transaction:exec(sql, ...) return run(self.handle, self.lease, ISOLATED, COUNT, sql, ...) end
transaction.read, transaction.read_one = transaction.query, transaction.one

local function stream(handle, lease, fn, sql, ...)
  local ok, message, state, details = db.stream(handle, lease, sql, ...)
  if ok == AGAIN then ok, message, state, details = db.stream(handle, lease, sql, ...) end
  if not ok then return nil, message, state, details end
  local count = 0
  while true do
    local row, why, sqlstate, more = db.next(lease)
    if not row then
      if why then return nil, why, sqlstate, more end
      return count
    end
    count = count + 1
    if fn(row) == false then return count, "stopped" end
  end
end

local function split(...)
  local n = select("#", ...)
  local fn = n > 0 and select(n, ...) or nil
  if type(fn) ~= "function" then error("usage: db:each(sql, ..., function(row) ... end)", 3) end
  return fn, n - 1
end

local function finish(lease, ok, ...)
  db.release(lease)
  if not ok then error((...), 0) end
  return ...
end

local function take(handle)
  local lease = db.new_lease()
  local ok, message, state, details = db.lease(handle, lease)
  if ok then return lease end
  db.release(lease)
  return nil, message, state, details
end

--- Calls fn(row) for each row as it comes; false from it stops. Returns how many rows there were.
function database:each(sql, ...)
  local fn, n = split(...)
  local args = { ... }
  local lease, message, state, details = take(self.handle)
  if not lease then return nil, message, state, details end
  return finish(lease, pcall(stream, self.handle, lease, fn, sql, unpack(args, 1, n)))
end

function transaction:each(sql, ...)
  local fn, n = split(...)
  local count, message, state, details = stream(self.handle, self.lease, fn, sql, unpack({ ... }, 1, n))
  if count and message then
    -- The rest of the rows is read past: the connection goes on in this transaction.
    while true do
      local row, why, sqlstate, more = db.next(self.lease)
      if not row then
        if why then return nil, why, sqlstate, more end
        return count
      end
    end
  end
  return count, message, state, details
end

local function control(self, sql) return run(self.handle, self.lease, CONTROL, COUNT, sql) end

--- What fn returned: an error raised, or nil or false as its first value, undoes it.
local function outcome(self, undo, keep, ok, ...)
  if not ok then
    if db.status(self.lease) then control(self, undo) end
    error((...), 0)
  end
  local first, message = ...
  if select("#", ...) > 0 and not first then
    if db.status(self.lease) then control(self, undo) end
    if first == nil and message == nil then return nil, "rolled back", "rolled_back" end
    return ...
  end
  local status = db.status(self.lease)
  if status == "E" then
    control(self, undo)
    return nil, "a statement of the transaction failed, so it was rolled back", "25P02"
  elseif status ~= "T" then
    return nil, "the connection was lost in the transaction, so it was rolled back", "08006"
  end
  local done, why, state, details = control(self, keep)
  if not done then return nil, why, state, details end
  if select("#", ...) == 0 then return true end
  return ...
end

--- A part of a transaction that can fail alone (a savepoint).
function transaction:transaction(fn)
  if type(fn) ~= "function" then error("usage: tx:transaction(function(tx) ... end)", 2) end
  local name = "perilune_" .. self.depth
  local done, message, state, details = control(self, "SAVEPOINT " .. name)
  if not done then return nil, message, state, details end
  local inner = setmetatable({ handle = self.handle, lease = self.lease, depth = self.depth + 1 }, transaction)
  return outcome(inner, "ROLLBACK TO SAVEPOINT " .. name, "RELEASE SAVEPOINT " .. name, pcall(fn, inner))
end

local begins = {
  ["read committed"] = "ISOLATION LEVEL READ COMMITTED", ["repeatable read"] = "ISOLATION LEVEL REPEATABLE READ",
  serializable = "ISOLATION LEVEL SERIALIZABLE",
}

local function begin_of(options)
  local sql = "BEGIN"
  for key, value in pairs(options or {}) do
    if key == "isolation" and begins[value] then
      sql = sql .. " " .. begins[value]
    elseif key == "read_only" and type(value) == "boolean" then
      sql = sql .. (value and " READ ONLY" or " READ WRITE")
    else
      error("a transaction takes isolation (\"read committed\", \"repeatable read\", \"serializable\") and read_only", 3)
    end
  end
  return sql
end

local function inside(self, fn, begin)
  local begun, message, state, details = control(self, begin)
  if not begun then return nil, message, state, details end
  return outcome(self, "ROLLBACK", "COMMIT", pcall(fn, self))
end

--- Runs fn(tx) in a transaction: committed when fn returns, rolled back when it raises an error or
-- returns nil or false. Returns what fn returned (true for nothing); nil, message, state when it was not committed.
---@param fn fun(tx: perilune.Transaction): any
---@param options? {isolation?: string, read_only?: boolean}
function database:transaction(fn, options)
  if type(fn) ~= "function" then error("usage: db:transaction(function(tx) ... end)", 2) end
  local begin = begin_of(options)
  local lease, message, state, details = take(self.handle)
  if not lease then return nil, message, state, details end
  local tx = setmetatable({ handle = self.handle, lease = lease, depth = 1 }, transaction)
  return finish(lease, pcall(inside, tx, fn, begin))
end

--- The database of a name in the configuration ("main" without one).
---@param name? string
---@return perilune.Database
return function(name)
  name = name or "main"
  local handle = type(name) == "string" and db.open(name)
  if not handle then
    error(("there is no database '%s': name it in the configuration, postgres = { %s = \"postgresql://user:password@host/database\" }"
      .. (name == "main" and ", or set DATABASE_URL" or "")):format(tostring(name), tostring(name)), 2)
  end
  return setmetatable({ handle = handle }, database)
end
