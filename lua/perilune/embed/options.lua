--- Checks tables of options: a name that is not known is named with the one that is nearest to it.

local core = ...

local type, error, pairs, tostring, floor = type, error, pairs, tostring, math.floor
local M = {}

-- A module like luv, or "step".
local function check_loop(where, loop, level)
  if loop == "step" or (type(loop) == "table" and loop.new_poll and loop.new_prepare and loop.new_timer) then return end
  error(("%s: 'loop' is require \"luv\", or \"step\" when the program calls step() itself, not %s"):format(where, tostring(loop)), level + 1)
end

local function unknown(where, name, known, level)
  local names = {}
  for one in pairs(known) do names[#names + 1] = one end
  table.sort(names)
  local near = core.nearest(tostring(name), names)
  error(("%s: unknown option '%s'%s; it has %s"):format(where, tostring(name), near and (", did you mean '%s'?"):format(near) or "",
    table.concat(names, ", ")), level + 1)
end

local bounds

local function check_number(where, name, value, setting, level)
  bounds = bounds or core.setting_defaults()
  local bound = bounds[setting]
  if type(value) == "number" and value == floor(value) and value >= bound.min and value <= bound.max then return end
  error(("%s: '%s' is a whole number from %d to %d%s, not %s"):format(where, name, bound.min, bound.max,
    bound.unit ~= "" and " " .. bound.unit or "", tostring(value)), level + 1)
end

--- Raises what is wrong with `options`; level 2 (default) is the line that called the caller. `known`: the type of each,
-- "loop", or the name of the setting ("tasks.max") whose bounds it has.
function M.check(where, options, known, level)
  level = level or 2
  if type(options) ~= "table" then error(("%s takes a table of options"):format(where), level + 1) end
  for name, value in pairs(options) do
    local kind = known[name]
    if not kind then
      unknown(where, name, known, level + 1)
    elseif kind == "loop" then
      check_loop(where, value, level + 1)
    elseif kind:find(".", 1, true) then
      check_number(where, name, value, kind, level + 1)
    elseif type(value) ~= kind then
      error(("%s: '%s' is a %s, not a %s"):format(where, name, kind, type(value)), level + 1)
    end
  end
end

--- require() of a library that needs others; raises what to install when one is missing.
function M.library(where, name, packages)
  local ok, module = pcall(require, name)
  if ok then return module end
  local why = tostring(module)
  if why:find("module '" .. name .. "' not found", 1, true) then
    error(("%s: %s.so is not installed: it belongs beside perilune.so, in perilune/ (make install puts it there). %s"):format(where,
      name:match "[^.]+$", why), 3)
  end
  local missing = why:match "(lib[%w_+.-]+%.so[%d.]*)"
  error(("%s needs %s, which cannot be loaded; install it (Debian: apt-get install %s). %s"):format(where, missing or "a library", packages, why), 3)
end

return M
