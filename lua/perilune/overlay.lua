--- What the API was told to keep: a layer of the configuration between its file and the environment.
--
--     local overlay = require "perilune.overlay"
--     overlay.read()                       -- a table like a configuration's: { postgres = { reports = { max = 15 } } }
--     local record, why = overlay.change(function(t) t.postgres = { reports = { max = 15 } } end)
--
-- A change is a reload: it is in force when change() returns, or refused, and then nothing has changed. One
-- change at a time; others wait for it.

local core = ...

local M = {}
local busy = false

local WAIT_S = 5

function M.read()
  local text = core.overlay.read()
  return text and core.json.decode(text) or {}
end

--- Loads what is in the folder now. Returns the record of the attempt.
function M.reload()
  local ticket = core.control.reload()
  local record
  repeat
    core.sleep(0.01)
    record = core.control.reload_result(ticket)
  until record
  return record
end

--- Waits until every worker serves the generation in force, for at most 5 s.
function M.settled()
  local until_s = core.now() + WAIT_S
  repeat
    local total, _, _, current = core.control.workers()
    if current == total then return true end
    core.sleep(0.01)
  until core.now() > until_s
  return false
end

local function attempt(edit)
  local before = core.overlay.read()
  local values = before and core.json.decode(before) or {}
  edit(values)
  local written, why = core.overlay.write(core.json.encode(values))
  if not written then return nil, why end
  local record = M.reload()
  if record.result == "refused" then
    core.overlay.write(before or "{}")
    return nil, record.problems[1] and record.problems[1].message or "the scripts of the folder are refused as they are", record
  end
  M.settled()
  return record
end

--- Edits the overlay and puts it in force. Returns the record of the reload; or nil, why and, when it
-- was the scripts or the configuration that refused it, that record.
---@param edit fun(values: table)
function M.change(edit)
  while busy do core.sleep(0.01) end
  busy = true
  local ok, record, why, refused = pcall(attempt, edit)
  busy = false
  if not ok then error(record, 0) end
  return record, why, refused
end

return M
