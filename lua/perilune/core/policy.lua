--- Policies: what a file in rules/policies/ returns, checked by a schema and
-- resolved to one flat table for each route.
--
--     return {
--       rate = 100,                              -- for every route
--       routes = {
--         ["GET /api/reports/:id"] = { rate = 5 },   -- one route: its method and pattern
--         ["/static/*"] = { rate = 1000 },           -- all whose pattern begins so
--         ["/health"] = false,                       -- not for this one
--       },
--     }
--
-- The nearest override wins: method and pattern, pattern, longest beginning.
-- A schema is { fields = { name = { type, default, min, max, values, doc } } };
-- types are those of Lua, "integer", "choice" (one of `values`) and "strings" (a list).

local core = ...

local policy = {}

local function names_of(fields)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The line of the file where a key is given, from line `from` on, as far as its text tells; else `from`.
local function line_of(text, key, from)
  local word = tostring(key):gsub("%p", "%%%0")
  local line = 0
  from = from or 1
  for content in (text .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    content = content:gsub("%-%-.*$", "")
    if line >= from and (content:find("%f[%w_]" .. word .. "%s*=") or content:find("[\"']" .. word .. "[\"']")) then
      return line
    end
  end
  return from
end

local phrases = {
  number = "a number", integer = "a whole number", boolean = "true or false", string = "a string", table = "a table",
  strings = "a list of strings", ["function"] = "a function",
}

local function is_strings(value)
  if type(value) ~= "table" then return false end
  for key, member in pairs(value) do
    if type(key) ~= "number" or type(member) ~= "string" then return false end
  end
  return true
end

local is_type = {
  integer = function(value) return type(value) == "number" and value == math.floor(value) end,
  strings = is_strings,
  any = function() return true end,
}

--- Why a value is none of its field, or nil.
local function wrong_with(name, field, value)
  if field.type == "choice" then
    for _, allowed in ipairs(field.values) do
      if value == allowed then return end
    end
    local list = {}
    for i, allowed in ipairs(field.values) do list[i] = tostring(allowed) end
    return ("'%s' is one of %s, not %s"):format(name, table.concat(list, ", "), tostring(value))
  end
  local fits = is_type[field.type]
  if fits and not fits(value) or not fits and type(value) ~= field.type then
    return ("'%s' is %s, not %s"):format(name, phrases[field.type],
      type(value) == "number" and tostring(value) or "a " .. type(value))
  end
  if type(value) == "number" and not (value >= (field.min or -math.huge) and value <= (field.max or math.huge)) then
    return ("'%s' is from %s to %s, not %s"):format(name, tostring(field.min), tostring(field.max), tostring(value))
  end
  return field.check and field.check(value)
end

local function check(schema, values, text, problems, where, from)
  for name, value in pairs(values) do
    local field = schema.fields[name]
    local message
    if not field then
      local near = type(name) == "string" and core.nearest(name, names_of(schema.fields))
      message = ("unknown key '%s'%s%s"):format(tostring(name), where, near and (", did you mean '%s'?"):format(near) or "")
    else
      message = wrong_with(name, field, value)
      message = message and message .. where
    end
    if message then problems[#problems + 1] = { line = line_of(text, name, from), text = message } end
  end
end

local function merge(into, values)
  for name, value in pairs(values) do into[name] = value end
  return into
end

--- The override that is nearest to a route: its key, or nil.
local function nearest_key(routes, method, pattern)
  for _, key in ipairs { method .. " " .. pattern, pattern } do
    if routes[key] ~= nil then return key end
  end
  local best
  for key in pairs(routes) do
    local wanted, begin = key:match("^(%u*) ?(/.*)%*$")
    if begin and (wanted == "" or wanted == method) and pattern:sub(1, #begin) == begin and (not best or #key > #best) then
      best = key
    end
  end
  return best
end

--- Checks `value`, what the file `text` returned, against a schema. Returns
-- resolve(method, pattern), unused() and the list of problems.
function policy.new(kind, schema, value, text)
  local problems, used = {}, {}
  if type(value) ~= "table" then
    return false, false, { { line = 1, text = ("policies/%s.lua returns a table, not a %s"):format(kind, type(value)) } }
  end
  local common, routes = merge({}, value), value.routes or {}
  common.routes = nil
  check(schema, common, text, problems, "")
  if type(routes) ~= "table" then
    return false, false, { { line = line_of(text, "routes"), text = "'routes' is a table of overrides by route, not a " .. type(routes) } }
  end
  for key, override in pairs(routes) do
    local where = (" of route '%s'"):format(tostring(key))
    if type(key) ~= "string" or not key:find("^%u* ?/") then
      problems[#problems + 1] = { line = line_of(text, key),
        text = ("an override is named like its route, \"GET /path\" or \"/path\", not '%s'"):format(tostring(key)) }
    elseif type(override) == "table" then
      check(schema, override, text, problems, where, line_of(text, key))
    elseif override ~= false then
      problems[#problems + 1] = { line = line_of(text, key), text = "an override is a table, or false for none" .. where }
    end
  end
  table.sort(problems, function(a, b) return a.line < b.line end)
  local defaults = {}
  for name, field in pairs(schema.fields) do defaults[name] = field.default end
  local function resolve(method, pattern)
    local key = nearest_key(routes, method, pattern)
    if key then used[key] = true end
    if key and routes[key] == false then return nil end
    return merge(merge(merge({}, defaults), common), key and routes[key] or {})
  end
  local function unused()
    local left = {}
    for key in pairs(routes) do
      if not used[key] then left[#left + 1] = { line = line_of(text, key), text = ("there is no route '%s'"):format(key) } end
    end
    return left
  end
  return resolve, unused, problems
end

return policy
