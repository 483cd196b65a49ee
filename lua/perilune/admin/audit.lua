--- Who changed what through the API: a line of <state>/audit.journal for each request that is no GET.
--
-- { id, at, actor, role, method, path, fields, status, code }: `fields` are those of query and body, with "***" for what may be
-- secret and only the size of what is long. What was refused is written too, without waiting for the disk.

local core = ...

local M = {}

local JOURNAL, TEXT_MOST, FIELDS_MOST, DEPTH = "audit", 200, 50, 3
local SECRET = { "pass", "secret", "token", "dsn", "url", "auth", "key", "credential", "statement", "text" }

local function is_secret(name, value)
  if type(value) ~= "string" then return false end
  name = name:lower()
  for _, word in ipairs(SECRET) do
    if name:find(word, 1, true) then return true end
  end
  return value:find("://", 1, true) ~= nil
end

local function shown(name, value, depth)
  if type(value) == "table" then
    if depth == 0 then return "..." end
    local out, n = getmetatable(value) and core.json.array() or {}, 0
    for key, member in pairs(value) do
      n = n + 1
      if n > FIELDS_MOST then break end
      if type(key) == "string" then key = key:sub(1, TEXT_MOST) end
      out[key] = shown(type(key) == "string" and key or name, member, depth - 1)
    end
    return out
  end
  if is_secret(name, value) then return "***" end
  if type(value) == "string" and #value > TEXT_MOST then return ("(%d bytes)"):format(#value) end
  return value
end

local function plain(text)
  return (text:sub(1, 1000):gsub("[^\32-\126]", "?"))
end

local written = 0 -- by this generation

--- Writes one. `request` is { actor, role, method, path, query, body }.
function M.note(request, status, code)
  local fields = {}
  for _, part in ipairs { request.query or {}, request.body or {} } do
    for name, value in pairs(part) do fields[tostring(name):sub(1, TEXT_MOST)] = value end
  end
  written = written + 1
  local id = ("%x-%x-%x"):format(os.time(), core.generation, written)
  local line = core.json.encode { id = id, at = os.date "!%Y-%m-%dT%H:%M:%SZ", actor = request.actor, role = request.role, method = request.method,
    path = plain(request.path), fields = next(fields) and shown("", fields, DEPTH) or nil, status = status, code = code }
  if #line > 65536 then
    line = core.json.encode { id = id, at = os.date "!%Y-%m-%dT%H:%M:%SZ", actor = request.actor, role = request.role, method = request.method,
      path = plain(request.path), status = status, code = code }
  end
  core.journal.append(JOURNAL, line, status >= 400)
end

--- The lines there are, the newest first: a list of tables.
function M.read()
  local lines, out = core.journal.read(JOURNAL), core.json.array()
  for i = #lines, 1, -1 do
    local entry = core.json.decode(lines[i])
    if type(entry) == "table" then out[#out + 1] = entry end
  end
  return out
end

return M
