--- The laboratory: plants faults under load, one after the other, and scores what the engine says about them.
--
--     KEEP=folder tests/scenarios/run sum
--     tests/scenarios/run [NAME..]     a few, those named ("cures": and cured, where that can be), or "all" (with pairs,
--                                      harmful changes and cures)
--
-- HOLD=40 seconds each fault lasts (growth is taken over 30); SEEDS="1 2" draw other parameters; LOADS="0.5 1 2" of the clients that are always there.
-- KEEP=folder keeps there what was counted, after each fault; "sum" prints that of all runs together, so that the whole can be run in parts.
-- WHY=folder keeps there what the engine knew at the end of each fault of which it said something wrong.
-- A fault counts when its indicator moved by a fifth against its own clean time; else it is reported and not scored. The
-- truth is here and the engine cannot read it. Prints a line for each run, then what score.lua makes of them. Exit code 1:
-- less than half was right, or a harmful change was kept.
local catalogue = require "tests.scenarios.catalogue"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local scores = require "tests.scenarios.score"
local uv = require "luv"
local World = require "tests.scenarios.world"

local HOLD_S = tonumber(os.getenv "HOLD" or 40)
local QUIET_S, CURE_S = 45, 600
local REFERENCE_S = 32 -- a trial is compared with the half minute before it, which must have had the same clients
local SHORT = { "n_plus_one", "bad_instance", "burning_handler", "steady" }
local KEEP = os.getenv "KEEP"
local WHY, KNOWN = os.getenv "WHY", { "signals", "issues", "suggestions", "resources", "limits", "compression", "upstreams", "cache", "stats" }
local IGNORED = { ["host.contention"] = true, noisy_neighbour = true } -- true of the machine the laboratory is on, unless a fault is about that

local function has(list, value)
  for _, one in ipairs(list or {}) do
    if one == value then return true end
  end
end

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  return list
end

local known_signals

local function indicator(w, what)
  if not known_signals then
    known_signals = {}
    for _, signal in ipairs(w:get "signals".signals) do known_signals[signal.name] = true end
  end
  assert(known_signals[what[2]], "an indicator of the catalogue is no signal: " .. what[2])
  for _, thing in ipairs(w:get "signals".things) do
    if thing.name == what[1] or thing.kind == what[1] then return thing.now[what[2]] end
  end
end

local function issues(w, s)
  local list = {}
  for _, issue in ipairs(w:get "issues?state=open".issues) do
    if not IGNORED[issue.code] or s and s.machine then list[#list + 1] = issue end
  end
  return list
end

local function suggestions(w, s)
  local list = {}
  for _, sug in ipairs(w:get "suggestions".suggestions) do
    if sug.state == "OPEN" and (not IGNORED[sug.rule] or s and s.machine) then list[#list + 1] = sug end
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
    for i, issue in ipairs(issues(w, s)) do
      seen.codes[issue.code] = seen.codes[issue.code] or at
      if i == 1 then seen.first = issue.code end
    end
    for _, sug in ipairs(suggestions(w, s)) do
      if sug.priority < "P4" then seen.rules[sug.rule] = seen.rules[sug.rule] or at end
    end
    if s.indicator then
      local now = indicator(w, s.indicator)
      if now and math.abs(now - (clean or 0)) > 0.2 * math.max(clean or 0, 0.01) then seen.moved = true end
    end
    loop.sleep(500)
  end
  seen.issues, seen.suggestions = issues(w, s), suggestions(w, s)
  if seen.issues[1] then seen.first = seen.issues[1].code end
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

-- ---- scoring of one run ----

local function judge_control(s, seen, total)
  local noise = 0
  for _ in pairs(seen.rules) do noise = noise + 1 end
  total:add("silent", s.name, noise == 0)
  total.clean_s, total.noise = total.clean_s + HOLD_S, total.noise + noise
  return noise == 0 and "silent" or "NOT SILENT", (next(seen.codes) and "issues: " .. keys(seen.codes) .. " " or "") .. keys(seen.rules)
end

-- The issue that leads at the end; or the last that did, for the engine may have helped itself by then (a peer is ejected).
local function judge_issue(s, seen, total)
  if #s.issue == 0 then return true end
  local first = seen.first
  local right = first and has(s.issue, first) or not first and s.optional_issue or false
  total:add("issue", s.name, right)
  total:confuse(s.name, first or "none")
  for _, code in ipairs(s.issue) do
    if seen.codes[code] then
      total.times[#total.times + 1] = seen.codes[code]
      break
    end
  end
  return right
end

-- Both of a pair must be among the first three, the root of them first.
local function judge_pair(s, seen, total)
  local a, b = position(seen.suggestions, s.pair[1].rules), position(seen.suggestions, s.pair[2].rules)
  local wanted = { s.pair[1].optional or a and a <= 3, s.pair[2].optional or b and b <= 3 }
  local found = wanted[1] and wanted[2]
  total:add("top3", s.name, found)
  total:add("top1", s.name, a == 1 or b == 1)
  return found
end

local function judge_rules(s, seen, total)
  if s.pair then return judge_pair(s, seen, total) end
  if not s.rules or s.optional and not position(seen.suggestions, s.rules) then return true end
  local at = position(seen.suggestions, s.rules)
  total:add("top3", s.name, at ~= nil and at <= 3)
  total:add("top1", s.name, at == 1)
  return at ~= nil and at <= 3
end

local function judge(s, seen, total)
  if s.control then return judge_control(s, seen, total) end
  local said = ("issue: %s; suggestions: %s"):format(names(seen.issues, "code"), names(seen.suggestions, "rule"))
  if not seen.moved then return "no impact", "its indicator did not move: not scored; " .. said end
  local wrong = {}
  if not judge_issue(s, seen, total) then wrong[#wrong + 1] = "WRONG ISSUE" end
  if not judge_rules(s, seen, total) then wrong[#wrong + 1] = "NO MATCH" end
  local shown
  for i = 1, math.min(3, #seen.suggestions) do
    local rule = seen.suggestions[i].rule
    shown = shown or has(s.forbidden, rule) or i == 1 and has(s.first_not, rule)
  end
  if not s.pair then total:add("forbidden", s.name, shown or false) end
  if shown then wrong[#wrong + 1] = "FORBIDDEN" end
  return #wrong == 0 and "right" or table.concat(wrong, ", "), said
end

-- ---- cures ----

local function measured(w, s)
  local sum, n = 0, 0
  for _ = 1, 10 do
    loop.sleep(1000)
    local now = indicator(w, s.indicator)
    if now then sum, n = sum + now, n + 1 end
  end
  return n > 0 and sum / n or 0 / 0
end

local function set(w, name, value)
  local id, bound = name:match "^pool%.([%w_]+)%.(%w+)$"
  if id == "main" then w:patch("resources/pools/main", { [bound .. "_size"] = value }) else w:patch("config", { settings = { [name] = value } }) end
end

-- The first suggestion is applied, again and again while there is one; then every value of a grid is tried by hand. Returns
-- which settings are not what they were.
local function cure(w, s, total)
  local before, steps, touched = measured(w, s), {}, { [s.cure.setting] = true }
  local until_ms = loop.now_ms() + CURE_S * 1000
  while loop.now_ms() < until_ms do
    local best = suggestions(w)[1]
    if not best or not has(s.rules, best.rule) then break end
    for _, operation in ipairs(best.operations or {}) do touched[operation.name] = true end
    if not pcall(w.post, w, ("suggestions/%s/apply"):format(best.id), {}) then break end
    local ended
    pcall(loop.wait_until, function()
      ended = w:get("suggestions/" .. best.id)
      return ended.state ~= "QUEUED" and ended.state ~= "RUNNING"
    end, until_ms - loop.now_ms())
    local last = ended.history and ended.history[#ended.history]
    steps[#steps + 1] = ended.state .. (ended.state ~= "SUCCEEDED" and last and last.why and " (" .. last.why .. ")" or "")
    if ended.prediction_error then total.errors[#total.errors + 1] = math.exp(ended.prediction_error) end
    if ended.state ~= "SUCCEEDED" and ended.state ~= "OPEN" then break end -- open again: a longer trial may tell
    pcall(loop.wait_until, function() return #suggestions(w) > 0 end, 40000)
  end
  local after, best = measured(w, s), math.huge
  for _, value in ipairs(s.cure.values) do
    set(w, s.cure.setting, value)
    loop.sleep(2000)
    best = math.min(best, measured(w, s))
  end
  local share = (before - after) / (before - best)
  if math.abs(share) < math.huge then total.recovered[#total.recovered + 1] = share end -- there was something to gain
  print(("%-28s %-14s from %.3g to %.3g, best %.3g: %.0f %% of the gain; %s"):format("  cure of " .. s.name, "", before, after, best, share * 100, table.concat(steps, " ")))
  return touched
end

-- ---- harm ----

local function settings_of(w, changes)
  local now = {}
  for _, one in ipairs(w:get "config".settings) do
    if changes[one.name] ~= nil then now[one.name] = one.value end
  end
  for _, pool in ipairs(w:get "resources/pools".pools) do
    for name in pairs(changes) do
      local id, key = name:match "^pool%.([%w_]+)%.(%w+)$"
      if id == pool.id then now[name] = pool[key] end
    end
  end
  return now
end

-- Whether the journal says how the trial ended, last of all that it says of it.
local function closed(w, id, phase)
  local last
  for line in (files.read(w.served.state .. "/tuning.journal") or ""):gmatch "[^\n]+" do
    local record = json.decode(line)
    if type(record) ~= "table" then return false end
    if record.type == "trial" and record.id == id then last = record.to end
  end
  return last == phase
end

local function try(w, s, total)
  quiet(w)
  local leave = s.before and s.before(w) or function() end
  loop.sleep(REFERENCE_S * 1000)
  local stable = settings_of(w, s.changes)
  for name in pairs(s.changes) do assert(stable[name] ~= nil, name .. " is not to be seen: nothing could tell whether it came back") end
  local trial
  local ok, why = pcall(function() trial = w:post("trials", { changes = s.changes, metric = s.metric, route = s.route, reason = s.name }) end)
  if not ok then
    print(("%-28s %-14s %s"):format(s.name, "NOT TRIED", tostring(why):sub(1, 120)))
    leave()
    return
  end
  w.trial = trial.id
  local on_ms, off_ms, done, view, met = nil, nil, false, trial, false
  local until_ms = loop.now_ms() + CURE_S * 1000
  while loop.now_ms() < until_ms do
    local got, now = pcall(w.get, w, "trials/" .. trial.id) -- control may be away
    if got then view = now end
    if got and view.on and not on_ms then on_ms = loop.now_ms() end
    if s.meanwhile and not met and on_ms and (not s.at or got and view.phase == s.at) then
      met = true
      s.meanwhile(w)
    end
    if got and not view.on and on_ms and not off_ms then off_ms = loop.now_ms() end
    if got and (view.verdict or s.ends[view.phase] or view.phase == "VERIFIED") then
      done = true
      break
    end
    loop.sleep(100)
  end
  if s.after then s.after(w) end
  local after = settings_of(w, s.changes)
  leave()
  local kept = s.kept and view.phase == "VERIFIED"
  local back = true
  for name, value in pairs(after) do back = back and value == (kept and s.changes[name] or stable[name]) end
  local right = done and (s.ends[view.phase] == true or kept) and back and closed(w, trial.id, view.phase)
  if s.meanwhile and not met then
    print(("%-28s %-14s %s before %s was seen: not scored"):format(s.name, "NOT TRIED", view.phase, s.at or "the change"))
    return
  end
  local seconds = on_ms and ((off_ms or loop.now_ms()) - on_ms) / 1000 or 0
  total.harm[#total.harm + 1] = { right = right and (not s.gross or seconds <= 3.5), gross = s.gross, seconds = seconds }
  print(("%-28s %-14s %s%s, on for %.1f s; %s"):format(s.name, right and "right" or "WRONG", view.phase, back and "" or ", NOT TAKEN BACK", seconds, tostring(view.why or "")))
  io.stdout:flush()
end

-- ---- all of it ----

-- What the engine knows, for whoever wants to see why it said what it said.
local function keep_why(w, name)
  for _, what in ipairs(KNOWN) do
    local got = w.served:admin_get("~/" .. what)
    if got and got.status == 200 then files.write(("%s/%s.%s.json"):format(WHY, name, what), got.body) end
  end
end

-- The number of the last change of a setting, by whomever.
local function newest_change(w)
  local last = w:get "config/journal?limit=1".changes[1]
  return last and last.seq or 0
end

local function one(w, s, total, all)
  quiet(w)
  local clean = s.indicator and indicator(w, s.indicator)
  local newest = newest_change(w)
  local heal = s.plant(w)
  local seen = watch(w, s, clean)
  local verdict, says = judge(s, seen, total)
  print(("%-28s %-14s %s"):format(s.name, verdict, says))
  io.stdout:flush()
  if WHY and verdict ~= "right" and verdict ~= "silent" then keep_why(w, s.name) end
  if s.control and newest_change(w) ~= newest then total.moved = total.moved + 1 end
  local touched = all and s.cure and verdict == "right" and cure(w, s, total) or {}
  heal()
  for name in pairs(touched) do
    if not name:find "^pool%." then w:post("config/reset", { name = name }) end
  end
  io.stdout:flush()
end

local kept_as = KEEP and ("%s/%d-%d.json"):format(KEEP, os.time(), uv.os_getpid())
local function keep(total)
  if kept_as then files.write(kept_as, json.encode(total)) end
end

-- One run. False: the laboratory itself failed in it, which is told and counted, and its world is not to be used again.
local function carry(total, name, fn, ...)
  local done, why = pcall(fn, ...)
  if not done then
    total.broke = total.broke + 1
    print(("%-28s %-14s %s"):format(name, "BROKE", tostring(why)))
    io.stdout:flush()
  end
  keep(total)
  return done
end

local function sum()
  local total, runs = scores.new(), 0
  assert(KEEP, "KEEP names the folder of what runs have kept")
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(KEEP)) do
    if name:find "%.json$" then
      total:merge((assert(json.decode(files.read(KEEP .. "/" .. name), 1, nil))))
      runs = runs + 1
    end
  end
  print(("%d runs"):format(runs))
  total:print()
  return total:passed()
end

local function main(wanted)
  local total = scores.new()
  if wanted[1] == "sum" then return sum() end
  local all = wanted[1] == "all"
  if all then wanted = {} elseif #wanted == 0 then wanted = SHORT end
  for _, load in ipairs(words(os.getenv "LOADS" or "1")) do
    for _, seed in ipairs(words(os.getenv "SEEDS" or "1")) do
      local shared
      for _, s in ipairs(catalogue) do
        if #wanted == 0 or has(wanted, s.name) then
          local w = shared
          if s.world or not w then
            local options = { load = tonumber(load), seed = tonumber(seed) }
            for name, value in pairs(s.world or {}) do options[name] = value end
            w = World.start(options)
          end
          if not s.world then shared = w end
          local carried = carry(total, s.name, one, w, s, total, all or has(wanted, "cures"))
          if s.world or not carried then
            pcall(w.stop, w)
            if w == shared then shared = nil end
          end
        end
      end
      for _, s in ipairs(require "tests.scenarios.harm") do
        if all or has(wanted, s.name) then
          shared = shared or World.start { load = tonumber(load), seed = tonumber(seed) }
          if not carry(total, s.name, try, shared, s, total) then
            pcall(shared.stop, shared)
            shared = nil
          end
        end
      end
      if shared then shared:stop() end
    end
  end
  total:print()
  return total:passed()
end

local wanted, passed = { ... }, nil
loop.run(function() passed = main(wanted) end, 24 * 3600000)
io.stdout:flush()
os.exit(passed and 0 or 1, false) -- handles that are still closing would be freed twice with the state
