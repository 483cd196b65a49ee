--- Answers of requests with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): asked again, they are given again.
--
-- At most ENTRIES answers of BYTES together are kept, for AGE_S, in the memory of control, over reloads (core.keep).
-- An attempt that was never answered stands in the way of others for FLIGHT_S.

local core = ...

local M = {}

local KEPT = "idempotency"
local ENTRIES, BYTES, AGE_S, FLIGHT_S = 256, 1024 * 1024, 86400, 60
M.KEY_BYTES = 255

local function load(now)
  local text = core.keep.get(KEPT)
  local list, out = text and core.json.decode(text) or {}, core.json.array()
  for _, one in ipairs(list) do
    if now - one.at < (one.status and AGE_S or FLIGHT_S) then out[#out + 1] = one end
  end
  return out
end

local function save(list)
  local bytes = 0
  for i = #list, 1, -1 do
    bytes = bytes + #(list[i].body or "") + 200
    if i <= #list - ENTRIES or bytes > BYTES then table.remove(list, i) end
  end
  core.keep.put(KEPT, core.json.encode(list))
end

local function find(list, id)
  for i, one in ipairs(list) do
    if one.id == id then return one, i end
  end
end

--- The key of a header field, or nil when it is none.
function M.key(text)
  local key = text:match '^"(.*)"$' or text
  if #key >= 1 and #key <= M.KEY_BYTES and key:find "^[\33-\126]+$" then return key end
end

--- Begins `id`, asked for with a request whose digest is `print`. Returns "new", or "in_flight", "other", or "again" and
-- { status, body, headers }.
function M.begin(id, print, now)
  local list = load(now)
  local one = find(list, id)
  if one then
    if one.print ~= print then return "other" end
    if not one.status then return "in_flight" end
    return "again", one
  end
  list[#list + 1] = { id = id, print = print, at = now }
  save(list)
  return "new"
end

--- Ends it: with an answer to be given again, or (status nil) as if it had not been asked.
function M.finish(id, now, status, body, headers)
  local list = load(now)
  local one, i = find(list, id)
  if one and status then
    one.status, one.body, one.headers = status, body, headers
  elseif one then
    table.remove(list, i)
  end
  save(list)
end

return M
