--- The files of rules/issues/ and rules/thresholds.lua, read and checked.
--
-- A file returns { symptoms = { ... }, causes = { ... } }. A symptom says when something is wrong with a thing; the
-- causes that name it say how much of it they explain, and the best one gives the issue its type and code.
--
--   symptom: name, on ("route" or "host"), type, when(s, t, is_open), title(s), severity(s) 0 to 1, follows(s), code, type_of(s)
--   cause:   code, of (a symptom's name, or a list), type, target, score(s, t), says(s, t), inhibits (a list of codes)
--
-- A symptom that has a code is the last resort: what no cause names is an issue of this code about the whole host, however
-- many things show it, and of the type that type_of() names. Its signals are those that stand out in their company.
-- A cause that explains at least half of a symptom weakens those that it inhibits: they are its consequences.
-- `is_open`: the symptom is part of an issue, so that a rule can hold on to it at a lower level than it opens one.
-- A target is "route" (the one with the symptom), "host", "hottest" (the route whose handler costs most), "database"
-- or "redis" (the pool that holds requests up most), or any other word, which then stands for itself.
-- `s` is a view (perilune.analyzer.view), `t` the thresholds.

local core, require = ...

local M = {}

M.types = { "SLOW_RESPONSE", "HIGH_ERROR_RATE", "CACHE_EFFICIENCY", "CONCURRENT_OVERLOAD", "DATABASE_BOTTLENECK", "MEMORY_LEAK", "CPU_BOTTLENECK" }

local shapes = {
  symptom = { name = "string", on = "string", type = "string", when = "function", title = "function", severity = "function", follows = "function?", code = "string?", type_of = "function?" },
  cause = { code = "string", of = "list", type = "string", target = "string", score = "function", says = "function", inhibits = "table?" },
}

local function is_one_of(value, list)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
end

local function check(what, rule, file, index)
  local where = ("rules/%s.lua: %s %d"):format(file:gsub("%.", "/"), what, index)
  if type(rule) ~= "table" then error(where .. " is a table", 0) end
  where = ("%s (%s)"):format(where, tostring(rule.name or rule.code))
  local shape, names = shapes[what], {}
  for name in pairs(shape) do names[#names + 1] = name end
  table.sort(names)
  for name in pairs(rule) do
    if not shape[name] then
      local near = core.nearest(tostring(name), names)
      error(("%s: unknown key '%s'%s"):format(where, tostring(name), near and (", did you mean '%s'?"):format(near) or ""), 0)
    end
  end
  if what == "cause" and type(rule.of) == "string" then rule.of = { rule.of } end
  for _, name in ipairs(names) do
    local want, optional = shape[name]:match "^(%a+)(%??)$"
    local is = type(rule[name])
    if not (is == want or (want == "list" and is == "table") or (optional == "?" and is == "nil")) then
      error(("%s: '%s' is a %s"):format(where, name, want), 0)
    end
  end
  if not is_one_of(rule.type, M.types) then
    error(("%s: there is no issue type '%s'; it is one of %s"):format(where, rule.type, table.concat(M.types, ", ")), 0)
  end
  if rule.on and not is_one_of(rule.on, { "route", "host" }) then error(where .. ": 'on' is \"route\" or \"host\"", 0) end
  return rule
end

--- Reads all files. Returns { symptoms, causes, thresholds }; an error names file, place and mistake.
function M.read()
  local all = { symptoms = {}, causes = {} }
  local files = core.modules "issues"
  table.sort(files)
  for _, file in ipairs(files) do
    local got = require(file)
    if type(got) ~= "table" then error(("rules/%s.lua returns { symptoms = { ... }, causes = { ... } }"):format(file:gsub("%.", "/")), 0) end
    for i, symptom in ipairs(got.symptoms or {}) do all.symptoms[#all.symptoms + 1] = check("symptom", symptom, file, i) end
    for i, cause in ipairs(got.causes or {}) do all.causes[#all.causes + 1] = check("cause", cause, file, i) end
  end
  local known = {}
  for _, symptom in ipairs(all.symptoms) do known[#known + 1] = symptom.name end
  for _, cause in ipairs(all.causes) do
    for _, name in ipairs(cause.of) do
      if not is_one_of(name, known) then
        local near = core.nearest(name, known)
        error(("rules/issues: cause %s is of '%s', which is no symptom%s"):format(cause.code, name, near and (", did you mean '%s'?"):format(near) or ""), 0)
      end
    end
  end
  all.thresholds = M.thresholds(require "builtin.thresholds", require "thresholds")
  return all
end

--- The defaults with what the user's file changes.
function M.thresholds(defaults, own)
  if type(own) ~= "table" then error("rules/thresholds.lua returns a table of numbers", 0) end
  local names, out = {}, {}
  for name, value in pairs(defaults) do names[#names + 1], out[name] = name, value end
  table.sort(names)
  for name, value in pairs(own) do
    if defaults[name] == nil then
      local near = core.nearest(tostring(name), names)
      error(("rules/thresholds.lua: there is no threshold '%s'%s"):format(tostring(name), near and (", did you mean '%s'?"):format(near) or ""), 0)
    end
    if type(value) ~= "number" or not (value >= 0 and value < math.huge) then
      error(("rules/thresholds.lua: '%s' is a number, 0 or above"):format(name), 0)
    end
    out[name] = value
  end
  return out
end

return M
