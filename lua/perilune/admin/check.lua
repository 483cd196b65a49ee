--- Judges what a request of the control API says by what its route has declared.
--
-- A field or parameter: { type, min, max, values, pattern, most, hint, required, default }, type being "string", "number",
-- "integer", "boolean" or, in bodies, "table" ("object" or "array" where it has to be one). `hint` ends the sentence "'name' is ...".
-- A query parameter may have `code` (bad_NAME without it) and `status` (400). A name "label.*" stands for all that begin so.

local core = ...

local M = {}

local DEPTH = 32 -- of objects and arrays in each other

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return names
end

local function hint_of(name, names)
  local near = core.nearest(name, names)
  return near and (", did you mean '%s'?"):format(near) or ""
end

-- JSON's arrays carry a metatable. Many encoders write an empty object as an empty array.
local function is_array(value) return getmetatable(value) ~= nil and next(value) ~= nil end

local function is_of(kind, value)
  if kind == "integer" then return type(value) == "number" and value == math.floor(value) end
  if kind == "object" then return type(value) == "table" and not is_array(value) end
  if kind == "array" then return type(value) == "table" and getmetatable(value) ~= nil end
  return type(value) == kind
end

local function fits(field, value)
  if not is_of(field.type, value) then return false end
  if type(value) == "number" and not (value >= (field.min or -math.huge) and value <= (field.max or math.huge)) then return false end
  if type(value) == "string" and (#value > (field.most or math.huge) or field.pattern and not value:find(field.pattern)) then return false end
  for _, one in ipairs(field.values or {}) do
    if one == value then return true end
  end
  return field.values == nil
end

--- The table of a JSON body, once nothing is wrong with it as far as `fields` tell; or nil, status, code, detail and errors
-- ({ pointer, detail }, RFC 6901). Fields that are null are as if they were not there. A field "*" alone lets anything in.
function M.body(text, fields)
  local asked, why = core.json.decode(text, DEPTH)
  if type(asked) ~= "table" or is_array(asked) then
    return nil, 400, "bad_json", "the body is a JSON object" .. (asked == nil and why and text ~= "" and (": " .. why) or "")
  end
  local errors, names = core.json.array(), sorted(fields)
  local function wrong(name, detail) errors[#errors + 1] = { pointer = "/" .. name:gsub("~", "~0"):gsub("/", "~1"), detail = detail } end
  for _, name in ipairs(fields["*"] and {} or sorted(asked)) do
    if not fields[name] then wrong(name, ("unknown field '%s'%s"):format(name, hint_of(name, names))) end
  end
  for _, name in ipairs(fields["*"] and {} or names) do
    local field, value = fields[name], asked[name]
    if value == nil or value == core.json.null then
      asked[name] = nil
      if field.required then wrong(name, ("'%s' is missing: %s"):format(name, field.hint)) end
    elseif not fits(field, value) then
      wrong(name, ("'%s' is %s"):format(name, field.hint))
    end
  end
  if #errors > 0 then return nil, 422, "invalid_fields", errors[1].detail, errors end
  return asked
end

local function number(text)
  return text:find "^[-+]?%d*%.?%d*[eE]?[-+]?%d*$" and tonumber(text) or nil
end

local function value_of(field, text)
  if field.type == "number" or field.type == "integer" then return number(text) end
  if field.type == "boolean" then
    if text == "true" then return true end
    if text == "false" then return false end
    return nil
  end
  return text
end

-- The field of a name; "label.*" is that of "label.route".
local function field_of(fields, name)
  if fields[name] then return fields[name] end
  local group = name:match "^(.-%.)."
  return group and fields[group .. "*"]
end

--- The values of a query; or nil, status, code, detail and errors ({ parameter, detail }).
function M.query(query, fields)
  local out, names = {}, sorted(fields)
  local function refuse(status, code, name, detail)
    return nil, status, code, detail, core.json.array { { parameter = name, detail = detail } }
  end
  for _, name in ipairs(sorted(query)) do
    local field = field_of(fields, name)
    if not field then
      return refuse(400, "unknown_parameter", name, ("there is no parameter '%s'%s; %s"):format(name, hint_of(name, names),
        #names > 0 and "there are " .. table.concat(names, ", ") or "this takes none"))
    end
    local value = value_of(field, query[name])
    if value == nil or not fits(field, value) then
      return refuse(field.status or 400, field.code or "bad_" .. name:match "^[%w_]*", name, ("%s is %s"):format(name, field.hint))
    end
    out[name] = value
  end
  for name, field in pairs(fields) do
    if out[name] == nil then out[name] = field.default end
  end
  return out
end

return M
