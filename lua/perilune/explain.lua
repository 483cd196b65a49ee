--- What PostgreSQL means to do with a statement, without doing it.
--
--     local plan, why, state = explain(p.postgres("main"), "select * from users where email = $1")
--     -- { plan = { ... as EXPLAIN (FORMAT JSON) has it }, cost = 8.4, rows = 1, scans = { { table, rows, filter } } }
--
-- The plan is the generic one, for any parameters, as a prepared statement has it after a few runs. It is made in a
-- read-only transaction that is rolled back.

local core = ...

local LIMIT_MS = 5000
local NAME = "perilune_explain"

--- Constants that a shape of statements has lost ("?") become parameters.
local function with_parameters(sql)
  local most = 0
  for n in sql:gmatch "%$(%d+)" do most = math.max(most, tonumber(n)) end
  return (sql:gsub("%?", function()
    most = most + 1
    return "$" .. most
  end))
end

--- Tables that are read from end to end, with what is thrown away.
local function find_scans(node, out)
  if node["Node Type"] == "Seq Scan" then
    out[#out + 1] = { table = node["Relation Name"], rows = node["Plan Rows"], cost = node["Total Cost"], filter = node["Filter"] }
  end
  for _, child in ipairs(node["Plans"] or {}) do find_scans(child, out) end
  return out
end

local CONTROL, COUNT = 2, 2 -- as in postgres.lua

--- A statement that changes the session, which scripts may not.
local function run_session(tx, sql)
  local value, message, state = core.db.run(tx.handle, tx.lease, CONTROL, COUNT, sql)
  if value == core.db.AGAIN then value, message, state = core.db.run(tx.handle, tx.lease, CONTROL, COUNT, sql) end
  return value, message, state
end

local function run(tx, sql)
  local done, message, state = run_session(tx, ("PREPARE %s AS %s"):format(NAME, with_parameters(sql)))
  if not done then return nil, message, state end
  local made = tx:one("select coalesce(array_length(parameter_types, 1), 0) as n from pg_prepared_statements where name = $1", NAME)
  local nulls = made and made.n > 0 and "(" .. ("NULL, "):rep(made.n - 1) .. "NULL)" or ""
  local row, why, code
  tx:transaction(function(inner)
    row, why, code = inner:one(("EXPLAIN (FORMAT JSON) EXECUTE %s%s"):format(NAME, nulls))
    return row ~= nil
  end)
  run_session(tx, "DEALLOCATE " .. NAME)
  if not row then return nil, why, code end
  local value = row["QUERY PLAN"]
  if type(value) == "string" then value = core.json.decode(value) end
  local plan = value[1]["Plan"]
  return { plan = plan, cost = plan["Total Cost"], rows = plan["Plan Rows"], scans = find_scans(plan, core.json.array {}) }
end

---@param db perilune.Database
---@param sql string  a statement, or a shape of statements with "?" for constants
---@return table? plan
---@return string? message
---@return string? sqlstate
return function(db, sql)
  local result, message, state
  local _, failed, code = db:transaction(function(tx)
    tx:exec(("set local statement_timeout = %d"):format(LIMIT_MS))
    tx:exec("set local plan_cache_mode = force_generic_plan")
    result, message, state = run(tx, sql)
    return false -- nothing of it stays
  end, { read_only = true })
  if result then return result end
  return nil, message or failed or "it cannot be explained", state or code
end
