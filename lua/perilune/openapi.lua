--- The document of the control API (OpenAPI 3.1), from what its routes have declared of themselves (see perilune.admin).
--
-- Shapes, as declarations have them:
--   "string", "integer", "number", "boolean", "time" (RFC 3339), "object", "any"; "integer|null"; "Pool" (one of perilune.admin.shapes)
--   "=on|off"                         one of these texts
--   { "Pool" }                        an array of them
--   { ["*"] = "number" }              an object of numbers by any name
--   { id = "string", why = "string?" }  an object; what ends in "?" may be absent, and so may a member whose name ends in it: ["of?"] = { ... }
-- Objects may have members that are not named.

local core, require = ...

local shapes = require "perilune.admin.shapes"

local M = {}

local BASE = "/api/v1/performance-optimization/"
local DIALECT = "https://json-schema.org/draft/2020-12/schema"
local PRIMITIVE = { string = true, integer = true, number = true, boolean = true, object = true, array = true, null = true }

local array = core.json.array
local schema

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function split(text)
  local out = array()
  for word in text:gmatch "[^|]+" do out[#out + 1] = word end
  return out
end

local function of_word(word)
  if PRIMITIVE[word] then return { type = word } end
  if word == "time" then return { type = "string", format = "date-time" } end
  if word == "any" then return {} end
  if shapes[word] == nil then error("there is no shape '" .. word .. "'", 0) end
  return { ["$ref"] = "#/components/schemas/" .. word }
end

local function of_text(text)
  if text:sub(1, 1) == "=" then return { enum = split(text:sub(2)) } end
  local words, types = split(text), array()
  if #words == 1 then return of_word(words[1]) end
  for _, word in ipairs(words) do
    if PRIMITIVE[word] then types[#types + 1] = word end
  end
  if #types == #words then return { type = types } end
  local any = array()
  for i, word in ipairs(words) do any[i] = of_word(word) end
  return { anyOf = any }
end

local function of_table(shape)
  if shape[1] ~= nil then return { type = "array", items = schema(shape[1]) } end
  local out = { type = "object", required = array(), properties = {} }
  for _, name in ipairs(sorted(shape)) do
    local member = shape[name]
    local bare = name:gsub("%?$", "")
    local may_be_absent = bare ~= name or type(member) == "string" and member:sub(-1) == "?"
    if type(member) == "string" then member = member:gsub("%?$", "") end
    if name == "*" then
      out.additionalProperties = schema(member)
    else
      out.properties[bare] = schema(member)
      if not may_be_absent then out.required[#out.required + 1] = bare end
    end
  end
  return out
end

--- The JSON schema of a shape.
function schema(shape)
  if type(shape) == "string" then return of_text(shape) end
  return of_table(shape)
end
M.schema = schema

-- The schema of a field of perilune.admin.check.
local function field_schema(field)
  local kind = field.type == "table" and "object" or field.type
  local out = { type = kind, description = field.hint, default = field.default, minimum = field.min, maximum = field.max, maxLength = field.most }
  if kind == "string" then out.minimum, out.maximum = nil, nil end
  if field.values then out.enum = array(field.values) end
  return out
end

-- A field of a body; null is as if it was not there.
local function body_schema(fields)
  local out = { type = "object", properties = {}, required = array(), additionalProperties = fields["*"] ~= nil }
  for _, name in ipairs(sorted(fields)) do
    local field = fields[name]
    if name ~= "*" then
      out.properties[name] = field_schema(field)
      if field.required then out.required[#out.required + 1] = name else out.properties[name].type = array { out.properties[name].type, "null" } end
      if out.properties[name].enum and not field.required then
        local enum = array()
        for _, one in ipairs(field.values) do enum[#enum + 1] = one end
        enum[#enum + 1] = core.json.null
        out.properties[name].enum = enum
      end
    end
  end
  return out
end

local function parameters_of(method, path, declaration)
  local out = array()
  for name in path:gmatch "[:*]([%w_]+)" do
    out[#out + 1] = { name = name, ["in"] = "path", required = true, schema = { type = "string" } }
  end
  for _, name in ipairs(sorted(declaration.query or {})) do
    local field = declaration.query[name]
    if not name:find("*", 1, true) then
      out[#out + 1] = { name = name, ["in"] = "query", description = field.hint, required = field.required, schema = field_schema(field) }
    else
      out[#out + 1] = { name = name:gsub("%W", ""), ["in"] = "query", description = name .. ": " .. field.hint, style = "form", explode = true,
        schema = { type = "object", additionalProperties = field_schema(field) } }
    end
  end
  for _, name in ipairs(sorted(declaration.headers or {})) do
    out[#out + 1] = { name = name, ["in"] = "header", description = declaration.headers[name], schema = { type = "string" } }
  end
  if method == "POST" then out[#out + 1] = { ["$ref"] = "#/components/parameters/IdempotencyKey" } end
  return out
end

local PROBLEM = { ["$ref"] = "#/components/responses/Problem" }

local TITLES = { [200] = "Done", [201] = "Made", [202] = "Under way", [204] = "Done; there is nothing to say", [304] = "Not modified", [503] = "Not now" }

local function answer_of(status, shape, declaration)
  local out = { description = TITLES[status] or "An answer" }
  if shape == false then return out end
  local kind = declaration.produces or "application/json"
  if declaration.produces or declaration.plain then
    out.content = { [kind] = { schema = schema(shape) } }
  else
    out.content = { [kind] = { schema = { type = "object", required = array { "data", "meta" },
      properties = { data = schema(shape), meta = { ["$ref"] = "#/components/schemas/Meta" } } } } }
  end
  if declaration.also then out.content[declaration.also] = { schema = { type = "string" } } end
  return out
end

local function responses_of(declaration)
  local out = { default = PROBLEM }
  for status, shape in pairs(declaration.answers or { [200] = "any" }) do out[tostring(status)] = answer_of(status, shape, declaration) end
  for status, codes in pairs(declaration.errors or {}) do
    if not out[tostring(status)] then
      out[tostring(status)] = { description = codes, content = { ["application/problem+json"] = { schema = { ["$ref"] = "#/components/schemas/Problem" } } } }
    end
  end
  if not declaration.answers then -- nothing is known of it
    out["200"] = nil
    out.default = { description = "An answer" }
  end
  return out
end

local function words_of(path)
  local out = {}
  for word in path:gsub("^" .. BASE:gsub("%p", "%%%0"), ""):gmatch "[%w_]+" do out[#out + 1] = word end
  return out
end

local function operation_id(method, path)
  local out = method:lower()
  for _, word in ipairs(words_of(path)) do
    for part in word:gmatch "[^_]+" do out = out .. part:sub(1, 1):upper() .. part:sub(2) end
  end
  return path:sub(1, #BASE) == BASE and out or out .. "AtRoot"
end

local function operation(method, path, declaration)
  local out = { operationId = operation_id(method, path), summary = declaration.summary, tags = array { words_of(path)[1] or "root" },
    parameters = parameters_of(method, path, declaration), responses = responses_of(declaration),
    ["x-role"] = declaration.role or (method == "GET" and "read" or "operate") }
  if declaration.consumes then
    out.requestBody = { required = true, content = { [declaration.consumes] = { schema = { type = "string", format = "binary" } } } }
  elseif declaration.body then
    out.requestBody = { required = not declaration.body_optional, content = { ["application/json"] = { schema = body_schema(declaration.body) } } }
  end
  return out
end

local function paths_of(declared)
  local out = {}
  for key, declaration in pairs(declared) do
    local method, pattern = key:match "^(%S+) (.*)$"
    local path = pattern:gsub("[:*]([%w_]+)", "{%1}")
    for _, name in ipairs(method == "*" and { "GET", "POST", "PUT", "PATCH", "DELETE" } or { method }) do
      out[path] = out[path] or {}
      out[path][name:lower()] = operation(name, pattern, declaration)
    end
  end
  return out
end

--- The document of routes: { ["METHOD pattern"] = declaration }.
function M.document(declared)
  local schemas = {}
  for name, shape in pairs(shapes) do schemas[name] = schema(shape) end
  return {
    openapi = "3.1.0", jsonSchemaDialect = DIALECT,
    info = { title = "Perilune control API", version = core.version, license = { name = "MIT", identifier = "MIT" },
      description = "Answers are { data, meta }; what went wrong is a problem document (RFC 9457) with a code." },
    servers = array { { url = "/" } },
    security = array { {}, { token = array() } },
    paths = paths_of(declared),
    components = {
      schemas = schemas,
      responses = { Problem = { description = "What went wrong", content = { ["application/problem+json"] = { schema = { ["$ref"] = "#/components/schemas/Problem" } } } } },
      parameters = { IdempotencyKey = { name = "Idempotency-Key", ["in"] = "header", schema = { type = "string", maxLength = 257 },
        description = "Asked again with the same key, a request is answered as it was, and not done again" } },
      securitySchemes = { token = { type = "http", scheme = "bearer", description = "needed once admin_token or admin_tokens is configured; x-role says which role" } },
    },
  }
end

return M
