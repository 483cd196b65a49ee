--- Judges answers of the control API by its own document, GET /openapi.json: the part of JSON Schema 2020-12 that it uses.
local json = require "dkjson"

local schema = {}

local function kind_of(value)
  if value == json.null then return "null" end
  local kind = type(value)
  if kind == "table" then return (getmetatable(value) or {}).__jsontype or "object" end
  if kind == "number" and value == math.floor(value) then return "integer" end
  return kind
end

local function is_of(types, value)
  local kind = kind_of(value)
  for _, one in ipairs(type(types) == "table" and types or { types }) do
    if one == kind or one == "number" and kind == "integer" then return true end
  end
  return false
end

local check

local function check_object(document, s, value, at)
  for _, name in ipairs(s.required or {}) do
    if value[name] == nil then return ("%s lacks '%s'"):format(at, name) end
  end
  for name, member in pairs(value) do
    local own = (s.properties or {})[name]
    if own == nil then own = s.additionalProperties end
    if own == false then return ("%s has '%s', which is not declared"):format(at, tostring(name)) end
    local wrong = type(own) == "table" and check(document, own, member, at .. "/" .. tostring(name))
    if wrong then return wrong end
  end
end

--- What is wrong with a value (decoded with json.null for null), or nil. `at` is where it stands.
function check(document, s, value, at)
  if s["$ref"] then return check(document, schema.resolve(document, s["$ref"]), value, at) end
  if s.type and not is_of(s.type, value) then
    return ("%s is a %s, declared as %s"):format(at, kind_of(value), type(s.type) == "table" and table.concat(s.type, " or ") or s.type)
  end
  if s.enum then
    local found = false
    for _, one in ipairs(s.enum) do found = found or one == value end
    if not found then return ("%s is '%s', not one of %s"):format(at, tostring(value), table.concat(s.enum, ", ")) end
  end
  if s.format == "date-time" and type(value) == "string" and not value:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[%d.]*Z$" then
    return ("%s is '%s', which is no time"):format(at, value)
  end
  if s.anyOf then
    local wrong
    for _, one in ipairs(s.anyOf) do
      wrong = check(document, one, value, at)
      if not wrong then return nil end
    end
    return wrong
  end
  local kind = kind_of(value)
  if kind == "object" then return check_object(document, s, value, at) end
  if kind == "array" and s.items then
    for i, one in ipairs(value) do
      local wrong = check(document, s.items, one, ("%s/%d"):format(at, i - 1))
      if wrong then return wrong end
    end
  end
end
schema.check = check

--- What "#/components/..." refers to.
function schema.resolve(document, reference)
  local at = document
  for name in reference:gsub("^#/", ""):gmatch "[^/]+" do at = assert(at[name], "nothing is at " .. reference) end
  return at
end

--- A document ready to be asked: { document, operation(method, path) }.
function schema.read(text)
  local document = assert(json.decode(text))
  local list = {}
  for path, operations in pairs(document.paths) do
    local pattern = "^" .. path:gsub("[%-%.%+%%]", "%%%0"):gsub("{[%w_]+}", "[^/]+") .. "$"
    list[#list + 1] = { pattern = pattern, operations = operations, parts = select(2, path:gsub("{", "")), path = path }
  end
  table.sort(list, function(a, b) return a.parts < b.parts or (a.parts == b.parts and a.path < b.path) end)
  local self = { document = document, known = {} }
  --- The operation that takes a request, or nil: no path is so, or (second result true) it does not take this method.
  function self.operation(method, path)
    if method == "HEAD" then method = "GET" end
    local found = false
    for _, one in ipairs(list) do
      if path:find(one.pattern) then
        found = true
        if one.operations[method:lower()] then return one.operations[method:lower()] end
      end
    end
    return nil, found
  end
  return self
end

local function media_of(content, content_type)
  for name, media in pairs(content) do
    local pattern = "^" .. name:gsub("[%-%.%+/]", "%%%0"):gsub("%*", ".*")
    if content_type:find(pattern) then return media end
  end
end

--- What is wrong with an answer to a request, or nil.
function schema.judge(read, method, path, response)
  local operation = read.operation(method, path)
  local status, content_type = response.status, response.headers["content-type"] or ""
  if status < 200 then return nil end
  local declared = operation and operation.responses[tostring(status)]
  if not declared then
    if not operation then
      if status < 400 then return nil end -- a redirect of the server, OPTIONS
    elseif not operation.responses.default["$ref"] then
      return nil -- a route that says nothing of itself
    elseif status < 400 then
      return ("%d is not declared"):format(status)
    end
    declared = read.document.components.responses.Problem
  end
  if declared["$ref"] then declared = schema.resolve(read.document, declared["$ref"]) end
  if not declared.content then return response.body ~= "" and "there is a body where none is declared" or nil end
  local media = media_of(declared.content, content_type)
  if not media then return ("%d with content type '%s' is not declared"):format(status, content_type) end
  if method == "HEAD" or not content_type:find("json", 1, true) then return nil end
  local value, _, why = json.decode(response.body, 1, json.null)
  if value == nil then return "the body is no JSON: " .. tostring(why) end
  return check(read.document, media.schema, value, "")
end

return schema
