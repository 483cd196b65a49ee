--- What the tables of rules/alerts/ may hold: keys by name, types, durations; each mistake with its place and a way out.
-- SPDX-License-Identifier: MIT

local core = ...

local M = {}

local UNITS = { s = 1, m = 60, h = 3600, d = 86400 }
local LONGEST = 366 * 86400

local function listed(list)
  local quoted = {}
  for i, one in ipairs(list) do quoted[i] = '"' .. one .. '"' end
  return table.concat(quoted, ", ")
end

--- ", did you mean 'x'?", or nothing.
function M.hint(name, names)
  local near = core.nearest(tostring(name), names)
  return near and (", did you mean '%s'?"):format(near) or ""
end

--- Seconds of 30, "30s", "5m", "4h" or "1d"; nil when it is none.
function M.seconds(value)
  if type(value) == "string" then
    local n, unit = value:match "^(%d+%.?%d*)([smhd])$"
    value = n and tonumber(n) * UNITS[unit]
  end
  if type(value) == "number" and value >= 0 and value <= LONGEST then return value end
end

local is = {
  string = function(v) return type(v) == "string" and v ~= "", "a text" end,
  number = function(v) return type(v) == "number" and v == v and v > -math.huge and v < math.huge, "a number" end,
  count = function(v) return type(v) == "number" and v >= 0 and v == math.floor(v) and v < 2 ^ 53, "a whole number, 0 or above" end,
  boolean = function(v) return type(v) == "boolean", "true or false" end,
  ["function"] = function(v) return type(v) == "function", "a function" end,
  table = function(v) return type(v) == "table", "a table" end,
  duration = function(v) return M.seconds(v) ~= nil, 'a duration: seconds, or a text like "30s", "5m", "4h", "1d"' end,
  share = function(v) return type(v) == "number" and v > 0 and v < 1, "a share between 0 and 1, as 0.999" end,
  texts = function(v)
    if type(v) ~= "table" then return false, "a list of texts" end
    local n = 0
    for _ in pairs(v) do n = n + 1 end
    for i = 1, n do
      if type(v[i]) ~= "string" then return false, "a list of texts" end
    end
    return true
  end,
  labels = function(v)
    local what = "a table of texts by label name, as { team = \"api\" }; a name is of letters, digits and _"
    if type(v) ~= "table" then return false, what end
    for name, text in pairs(v) do
      if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" or type(text) ~= "string" or #text > 1024 then return false, what end
    end
    return true
  end,
}

--- Checks a table. `shape` is { key = "type" or "type?" or { "one", "of", optional = true } }. Raises what is wrong.
function M.check(where, value, shape)
  if type(value) ~= "table" then error(("%s is a table, not a %s"):format(where, type(value)), 0) end
  local names = {}
  for name in pairs(shape) do names[#names + 1] = name end
  table.sort(names)
  local given = {}
  for name in pairs(value) do given[#given + 1] = tostring(name) end
  table.sort(given)
  for _, name in ipairs(given) do
    if not shape[name] then error(("%s: unknown key '%s'%s"):format(where, name, M.hint(name, names)), 0) end
  end
  for _, name in ipairs(names) do
    local want, it = shape[name], value[name]
    local optional = type(want) == "table" and want.optional or type(want) == "string" and want:sub(-1) == "?"
    if it == nil then
      if not optional then error(("%s: '%s' is missing"):format(where, name), 0) end
    elseif type(want) == "table" then
      local fits = false
      for _, one in ipairs(want) do fits = fits or one == it end
      if not fits then error(("%s: '%s' is one of %s%s"):format(where, name, listed(want), M.hint(it, want)), 0) end
    else
      local ok, what = is[want:gsub("%?$", "")](it)
      if not ok then error(("%s: '%s' is %s"):format(where, name, what), 0) end
    end
  end
  return value
end

return M
