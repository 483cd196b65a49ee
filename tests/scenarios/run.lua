--- The laboratory: plants faults under load, one after the other, and scores what the engine says about them.
--
--     tests/scenarios/run [NAME..]     all, or those named; HOLD=30 seconds each fault lasts
--
-- A fault counts when its indicator moved by a fifth against its own clean time; else it is reported and not scored. The
-- truth is here and the engine cannot read it. Prints one line each, then match rates with Wilson's 95 % intervals.
local loop = require "tests.support.loop"
local World = require "tests.scenarios.world"

local HOLD_S = tonumber(os.getenv "HOLD" or 30)
local QUIET_S = 45
local IGNORED = { ["host.contention"] = true, noisy_neighbour = true } -- true of the machine the laboratory is on

local function wilson(hits, n)
  if n == 0 then return "no run" end
  local z, p = 1.96, hits / n
  local centre, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
  return ("%d of %d, %.0f %% (%.0f to %.0f)"):format(hits, n, p * 100, (centre - half) * 100, math.min(100, (centre + half) * 100))
end

local function has(list, value)
  for _, one in ipairs(list or {}) do
    if one == value then return true end
  end
end

local function indicator(w, what)
  for _, thing in ipairs(w:get "signals".things) do
    if thing.name == what[1] then return thing.now[what[2]] end
  end
end

local function issues(w)
  local list = {}
  for _, issue in ipairs(w:get "issues?state=open".issues) do
    if not IGNORED[issue.code] then list[#list + 1] = issue end
  end
  return list
end

local function suggestions(w)
  local list = {}
  for _, sug in ipairs(w:get "suggestions".suggestions) do
    if sug.state == "OPEN" and not IGNORED[sug.rule] then list[#list + 1] = sug end
  end
  return list
end

local function quiet(w)
  pcall(loop.wait_until, function() return #issues(w) == 0 and #suggestions(w) == 0 end, QUIET_S * 1000)
end

-- Watches for HOLD_S. Returns what was said: all codes and rules with the second they were first seen, and the last lists.
local function watch(w, s, clean)
  local began, seen = loop.now_ms(), { codes = {}, rules = {}, moved = false }
  while loop.now_ms() < began + HOLD_S * 1000 do
    local at = (loop.now_ms() - began) / 1000
    for _, issue in ipairs(issues(w)) do seen.codes[issue.code] = seen.codes[issue.code] or at end
    for _, sug in ipairs(suggestions(w)) do
      if sug.priority < "P4" then seen.rules[sug.rule] = seen.rules[sug.rule] or at end
    end
    if s.indicator then
      local now = indicator(w, s.indicator)
      if now and clean and math.abs(now - clean) > 0.2 * math.max(clean, 0.01) then seen.moved = true end
    end
    loop.sleep(500)
  end
  seen.issues, seen.suggestions = issues(w), suggestions(w)
  return seen
end

local function names(list, field)
  local out = {}
  for i, one in ipairs(list) do out[i] = one[field] end
  return table.concat(out, " ")
end

local function keys(map)
  local out = {}
  for name, at in pairs(map) do out[#out + 1] = ("%s@%.0fs"):format(name, at) end
  table.sort(out)
  return table.concat(out, " ")
end

local function position(list, rules)
  for i, sug in ipairs(list) do
    if has(rules, sug.rule) then return i end
  end
end

local function score(s, seen, total)
  if s.control then
    total.controls = total.controls + 1
    local clean = next(seen.rules) == nil
    if clean then total.silent = total.silent + 1 end
    return clean and "silent" or "NOT SILENT", (next(seen.codes) and "issues: " .. keys(seen.codes) .. " " or "") .. keys(seen.rules)
  end
  if not seen.moved then return "no impact", "its indicator did not move: not scored" end
  local verdict = "right"
  if #s.issue > 0 then
    total.issues = total.issues + 1
    local right = seen.issues[1] and has(s.issue, seen.issues[1].code)
    if right then total.issue_right = total.issue_right + 1 else verdict = "WRONG ISSUE" end
  end
  if s.rules then
    local at = position(seen.suggestions, s.rules)
    total.matches = total.matches + 1
    if at and at <= 3 then total.top3 = total.top3 + 1 else verdict = verdict == "right" and "NO MATCH" or verdict .. ", NO MATCH" end
    if at == 1 then total.top1 = total.top1 + 1 end
  end
  for i = 1, math.min(3, #seen.suggestions) do
    total.shown = total.shown + 1
    if has(s.forbidden, seen.suggestions[i].rule) then
      total.forbidden = total.forbidden + 1
      verdict = verdict .. ", FORBIDDEN"
    end
  end
  return verdict, ("issue: %s; suggestions: %s"):format(names(seen.issues, "code"), names(seen.suggestions, "rule"))
end

local function main(wanted)
  local total = { controls = 0, silent = 0, issues = 0, issue_right = 0, matches = 0, top3 = 0, top1 = 0, shown = 0, forbidden = 0 }
  local w = World.start {}
  for _, s in ipairs(require "tests.scenarios.catalogue") do
    if #wanted == 0 or has(wanted, s.name) then
      quiet(w)
      local clean = s.indicator and indicator(w, s.indicator)
      local heal = s.plant(w)
      local seen = watch(w, s, clean)
      heal()
      local verdict, says = score(s, seen, total)
      print(("%-20s %-14s %s"):format(s.name, verdict, says))
      io.stdout:flush()
    end
  end
  w:stop()
  print(("\nissue right            %s\nsuggestion in top 3    %s\nsuggestion first       %s\nforbidden              %s\nsilent when all is well  %s"):format(
    wilson(total.issue_right, total.issues), wilson(total.top3, total.matches), wilson(total.top1, total.matches),
    wilson(total.forbidden, total.shown), wilson(total.silent, total.controls)))
end

local wanted = { ... }
loop.run(function() main(wanted) end, 3600000)
io.stdout:flush()
os.exit(0, false) -- handles that are still closing would be freed twice with the state
