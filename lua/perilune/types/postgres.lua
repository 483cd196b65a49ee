---@meta
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

---@class perilune.Transaction

---@class perilune.Database

---@class perilune.Database
local database = {}

--- The rows of a statement, as a list of tables by column.
---@param sql string with parameters as $1, $2, ...
---@return table[]? rows
---@return string? message
---@return string? sqlstate
---@return table? details
function database:query(sql, ...) end

--- The first row; nil alone when there is none.
function database:one(sql, ...) end

--- How many rows it changed.
function database:exec(sql, ...) end

--- query() and one() of a statement that changes nothing: it travels together with
-- those of other requests, and may be done twice.
function database:read(sql, ...) end

--- Calls fn(row) for each row as it comes; false from it stops. Returns how many rows there were.
function database:each(sql, ...) end

---@class perilune.Transaction
local transaction = {}

--- A part of a transaction that can fail alone (a savepoint).
function transaction:transaction(fn) end

--- Runs fn(tx) in a transaction: committed when fn returns, rolled back when it raises an error or
-- returns nil or false. Returns what fn returned (true for nothing); nil, message, state when it was not committed.
---@param fn fun(tx: perilune.Transaction): any
---@param options? {isolation?: string, read_only?: boolean}
function database:transaction(fn, options) end
