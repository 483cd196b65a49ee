--- Runs the rules without an engine: on the golden fixtures, or on a snapshot that GET suggestions/facts gave. It is what
-- `perilune rules` loads in the place of the control API; core.bench says what is asked for and takes what is found.

local core, require = ...

local facts = require "perilune.suggestions.facts"
local golden = require "perilune.suggestions.golden"
local setting_names = require "perilune.setting_names"
local rules = require "perilune.suggestions.rules"
local suggestions = require "perilune.suggestions"

local M = {}

local CALL_MS = 50 -- what a rule has in a whole look of an engine

local bench = core.bench
local failed = 0

local function say(...) bench.say((...):format(select(2, ...)) .. "\n") end

local function fail(rule, ...)
  failed = failed + 1
  say("FAIL %-22s rules/suggestions/%s.lua: %s", rule.id, rule.id, (...):format(select(2, ...)))
end

local function settings()
  local out = {}
  for name, value in pairs(bench.settings) do out[name] = value end
  return out
end

-- A setting as the board has it, with the value of the snapshot; pools are those of the snapshot.
local function reader(snapshot)
  return function(name)
    local id, bound = setting_names.of_pool(name)
    for _, pool in ipairs(snapshot.pools or {}) do
      if id == pool.id then
        local one = core.trials.state(setting_names.of_pools(pool.pool_type, bound))
        one.stable = pool[bound]
        return one
      end
    end
    local values, whole = snapshot.settings or {}, setting_names.of_upstreams(name)
    local one = core.trials.state(whole or name)
    local value = values[name]
    if value == nil and whole then value = values[whole] end
    if one and value ~= nil then one.stable = value end
    return one
  end
end

local function units_of(snapshot)
  local out = {}
  for _, thing in ipairs(snapshot.things or {}) do
    local units = out[thing.kind] or {}
    for name in pairs(thing.now or {}) do
      units[name] = name:find "_ms$" and "ms" or (name:find "_share$" or name:find "_rat[ei]o?$") and "ratio" or name:find "bytes" and "bytes" or ""
    end
    out[thing.kind] = units
  end
  return out
end

--- What one rule says of a snapshot: a list of { target, fields }, and an error or nil.
local function asked(rule, all, snapshot)
  local trouble
  local f = facts.new(snapshot, units_of(snapshot), require "thresholds")
  local book = suggestions.new(all, { note = function() return true end, mode = function() return "suggest" end, read = reader(snapshot), log = function() end,
    rest_ms = function() return 0 end })
  function book.ask(_, one, what, ...)
    local ok, answer = core.bounded(CALL_MS, one[what], ...)
    if ok then return answer end
    trouble = trouble or ("in '%s': %s"):format(what, tostring(answer))
  end
  local list = {}
  for _, s in ipairs(f:of(rule.on)) do
    local known = true
    for _, name in ipairs(rule.needs or {}) do known = known and s.now[name] ~= nil end
    if known and book:ask(rule, "when", s, f) then
      local fields, why = book:compute(rule, s, f)
      list[#list + 1] = { target = s.name, fields = fields, why = why }
    end
  end
  return list, trouble
end

local function show(rule, one)
  local fields, text = one.fields, {}
  for _, op in ipairs(fields and fields.operations or {}) do text[#text + 1] = ("%s %s > %s"):format(op.name, tostring(op.from), tostring(op.to)) end
  local impact = fields and fields.impact
  say("%-24s %-20s %s%s", rule.id, one.target, #text > 0 and table.concat(text, ", ") or fields and "advice" or "nothing to change: " .. tostring(one.why),
    impact and ("; %s %.4g > %.4g (%.4g to %.4g)"):format(impact.metric, impact.now, impact.predicted, impact.lo, impact.hi) or "; impact not known")
  if fields then say("  %s: %s", fields.title, fields.explanation) end
end

local function near(a, b) return type(a) ~= "number" and a == b or type(a) == "number" and type(b) == "number" and math.abs(a - b) <= 0.02 * math.max(math.abs(b), 1e-9) end

local function compare(rule, case, one)
  local fields = one.fields
  if not fields then return fail(rule, "nothing is left of what it sets: %s", tostring(one.why)) end
  local got = {}
  for _, op in ipairs(fields.operations or {}) do got[op.name] = op.to end
  for name, value in pairs(case.set or {}) do
    if not near(got[name], value) then fail(rule, "%s is to be %s, not %s", name, tostring(value), tostring(got[name])) end
  end
  for name in pairs(got) do
    if not (case.set and case.set[name] ~= nil) then fail(rule, "it sets %s, which is not expected", name) end
  end
  if case.predicted and not (fields.impact and near(fields.impact.predicted, case.predicted)) then
    fail(rule, "%g is to be predicted, not %s", case.predicted, tostring(fields.impact and fields.impact.predicted))
  end
end

local function judge(rule, all)
  local case = golden.cases[rule.id]
  local quiet, trouble = asked(rule, all, golden.base(settings()))
  if trouble then return fail(rule, "%s", trouble) end
  if #quiet > 0 then return fail(rule, "it is raised for %s of a healthy engine", quiet[1].target) end
  if not case then return say("%-24s quiet on a healthy engine; it has no fixture of its own", rule.id) end
  local before = failed
  local snapshot = golden.base(settings())
  case.fires(snapshot)
  local list, wrong = asked(rule, all, snapshot)
  if wrong then return fail(rule, "%s", wrong) end
  if #list == 0 then return fail(rule, "it is not raised where it must be") end
  compare(rule, case, list[1])
  for _, near_miss in ipairs(type(case.near) == "table" and case.near or { case.near }) do
    snapshot = golden.base(settings())
    case.fires(snapshot)
    near_miss(snapshot)
    local still, worse = asked(rule, all, snapshot)
    if worse then fail(rule, "%s", worse) end
    if #still > 0 then fail(rule, "it is raised in a near miss, for %s", still[1].target) end
  end
  if failed == before then show(rule, list[1]) end
end

local function chosen(all)
  if #bench.names == 0 then return all end
  local ids, out = {}, {}
  for _, rule in ipairs(all) do ids[#ids + 1], ids[rule.id] = rule.id, rule end
  for _, name in ipairs(bench.names) do
    if not ids[name] then
      local like = core.nearest(name, ids)
      error(("there is no rule '%s'%s"):format(name, like and (", did you mean '%s'?"):format(like) or "; see perilune rules ls"), 0)
    end
    out[#out + 1] = ids[name]
  end
  return out
end

local function on_facts(list, all)
  local snapshot, why = core.json.decode(bench.facts)
  snapshot = type(snapshot) == "table" and (snapshot.data or snapshot)
  if type(snapshot) ~= "table" or type(snapshot.things) ~= "table" then
    error("the file of --facts holds no snapshot; save GET suggestions/facts to it" .. (why and ": " .. tostring(why) or ""), 0)
  end
  local raised = 0
  for _, rule in ipairs(list) do
    local found, trouble = asked(rule, all, snapshot)
    if trouble then fail(rule, "%s", trouble) end
    for _, one in ipairs(found) do
      raised = raised + 1
      show(rule, one)
    end
    if #found == 0 and not trouble then say("%-24s not raised", rule.id) end
  end
  say("%d rules, %d raised, %d failed", #list, raised, failed)
end

local function listed(list)
  local out = core.json.array()
  for i, rule in ipairs(list) do
    out[i] = { id = rule.id, class = rule.class, on = rule.on, executable = rule.set ~= nil, semantic = rule.semantic and true or false }
  end
  return out
end

--- Does what core.bench asks for, and tells how many rules failed.
function M.run()
  local all = rules.read()
  local list = chosen(all)
  if bench.what == "ls" then
    if bench.json then return say("%s", core.json.encode(listed(list))) end
    for _, rule in ipairs(list) do say("%-24s %-13s %-10s %-11s %s", rule.id, rule.class, rule.on, rule.set and "executable" or "advice", rule.semantic and "semantic" or "") end
  elseif bench.facts then on_facts(list, all)
  else
    for _, rule in ipairs(list) do judge(rule, all) end
    say("%d rules, %d failed", #list, failed)
  end
  bench.failed(failed)
end

return M
