--- The files of rules/suggestions/, read and checked. Each returns one rule:
--
--   id         "pool_undersized": the name of its file
--   version    1; another one when its conditions change, so that what is known of it is told apart
--   title      function(s, f): what to do, in a few words
--   class      database, cache, asynchronous, architecture, compression, concurrency or resources
--   on         "route", "pool", "upstream", "statement" or "host": it is asked for each of them
--   issue      reason codes of issues that it answers, or false: it looks for itself
--   needs      signals without which it is not asked
--   when       function(s, f): whether it applies now
--   impact     function(s, f): { metric, now, predicted, lo, hi, routes, formula, inputs, cores }, or nil: not known
--   set        function(s, f): { ["setting.name"] = value }, what would be changed; or
--   advise     function(s, f): what a person should do: text, with the exact SQL, code or command
--   effort     "very_low", "low", "medium", "high"
--   risk       0 to 4
--   semantic   true: it changes what is answered, and is never applied without somebody's consent
--   inhibits   ids of rules that are not to be raised while this one is: it is their cause
--   depends_on ids of rules whose suggestions come first
--   xor        a word: of the rules with the same word only the best is shown as open
--   verify     { metric, direction, mde, settle_s, price }: what the trial looks at; default: that of impact, down, 0.03. `price` is
--              the share by which p99 and the other routes may become longer for it (0): what failed at once is answered, what was
--              sent as it is is compressed
--   explain    function(s, f): why, with the numbers
--
-- `s` is what it is asked for, `f` are the facts: see perilune.suggestions.facts.

local core, require = ...

local M = {}

M.classes = { "database", "cache", "asynchronous", "architecture", "compression", "concurrency", "resources" }
M.efforts = { very_low = 1, low = 2, medium = 5, high = 13 }
local kinds = { "route", "pool", "upstream", "statement", "host" }

local shape = {
  id = "string", version = "number?", title = "function", class = "string", on = "string", issue = "any", needs = "table?", when = "function",
  impact = "function", set = "function?", advise = "function?", effort = "string", risk = "number", semantic = "boolean?", inhibits = "table?",
  depends_on = "table?", xor = "string?", verify = "table?", explain = "function",
}
local verify_shape = { metric = "string?", direction = "string?", mde = "number?", settle_s = "number?", price = "number?" }

local function has(list, value)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
end

local function check_shape(where, value, wanted)
  local names = {}
  for name in pairs(wanted) do names[#names + 1] = name end
  table.sort(names)
  for name in pairs(value) do
    if not wanted[name] then
      local near = core.nearest(tostring(name), names)
      error(("%s: unknown key '%s'%s"):format(where, tostring(name), near and (", did you mean '%s'?"):format(near) or ""), 0)
    end
  end
  for _, name in ipairs(names) do
    local want, optional = wanted[name]:match "^(%a+)(%??)$"
    local is = type(value[name])
    if want ~= "any" and is ~= want and not (optional == "?" and is == "nil") then error(("%s: '%s' is a %s"):format(where, name, want), 0) end
  end
end

--- Checks one rule; `file` is its module's name, "suggestions.pool_undersized".
function M.check(rule, file)
  local where = ("rules/%s.lua"):format(file:gsub("%.", "/"))
  if type(rule) ~= "table" then error(where .. ": it returns a rule, which is a table; see `perilune rules new`", 0) end
  check_shape(where, rule, shape)
  local name = file:match "([^%.]+)$"
  if rule.id ~= name then error(("%s: 'id' is the name of the file, '%s'"):format(where, name), 0) end
  if not has(M.classes, rule.class) then error(("%s: 'class' is one of %s"):format(where, table.concat(M.classes, ", ")), 0) end
  if not has(kinds, rule.on) then error(("%s: 'on' is one of %s"):format(where, table.concat(kinds, ", ")), 0) end
  if not M.efforts[rule.effort] then error(where .. ": 'effort' is very_low, low, medium or high", 0) end
  if rule.risk < 0 or rule.risk > 4 then error(where .. ": 'risk' is a number from 0 to 4", 0) end
  if not rule.set and not rule.advise then error(where .. ": it has 'set' (what would be changed) or 'advise' (what a person should do)", 0) end
  if rule.issue ~= false and type(rule.issue) ~= "table" then error(where .. ": 'issue' is a list of reason codes, or false", 0) end
  if rule.verify then check_shape(where .. ": verify", rule.verify, verify_shape) end
  if rule.verify and rule.verify.direction and not has({ "down", "up" }, rule.verify.direction) then error(where .. ": 'verify.direction' is \"down\" or \"up\"", 0) end
  rule.version = rule.version or 1
  return rule
end

--- Reads all of them, in the order of their names.
function M.read()
  local list, ids = {}, {}
  local files = core.modules "suggestions"
  table.sort(files)
  for _, file in ipairs(files) do
    local rule = M.check(require(file), file)
    list[#list + 1], ids[#ids + 1] = rule, rule.id
  end
  for _, rule in ipairs(list) do
    for _, what in ipairs { "inhibits", "depends_on" } do
      for _, id in ipairs(rule[what] or {}) do
        if not has(ids, id) and id ~= "*" then
          local near = core.nearest(id, ids)
          error(("rules/suggestions/%s.lua: %s names '%s', which is no rule%s"):format(rule.id, what, id, near and (", did you mean '%s'?"):format(near) or ""), 0)
        end
      end
    end
  end
  return list
end

return M
