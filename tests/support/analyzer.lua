--- The analyzer of issues and the shipped rules of rules/issues/, loaded without an engine.

--- need(name): the modules, with these files of rules ("issues.latency") as all that there are.
return function(files)
  local core = { json = { array = function(t) return t or {} end }, nearest = function() end, bounded = require "tests.support.bounded", modules = function() return files end }
  local loaded = {}
  local function load(path, ...) return assert(loadfile(path))(...) end
  local function need(name)
    if name:match "^issues%." then return load("rules/" .. name:gsub("%.", "/") .. ".lua") end
    if name == "builtin.thresholds" or name == "thresholds" then return load "rules/thresholds.lua" end
    if not loaded[name] then loaded[name] = load("lua/" .. name:gsub("%.", "/") .. ".lua", core, need) end
    return loaded[name]
  end
  return need
end
