--- make calm: half the time a steady load, half one that rises and falls like a day, and nothing may be found in either.
--
--     MINUTES=60 tests/scenarios/calm
--
-- The world of the laboratory with the engine's own defaults. Each issue that opens and each suggestion above P4 is printed with
-- the minute; those about the machine the laboratory is on (contention, a noisy neighbour) are printed and not counted.
-- Meanwhile a setting that nothing heeds is tried again and again: real A/A trials, of which none may be kept and at most one in
-- twenty may say better or worse (TRIALS=0: none). Exit code 1: something was found, or trials said what is not so.
local loop = require "tests.support.loop"
local World = require "tests.scenarios.world"

local MINUTES = tonumber(os.getenv "MINUTES") or 60
local TRIALS = os.getenv "TRIALS" ~= "0"
local DAY_S, MOST = 600, 6 -- a day of ten minutes, with up to so many clients more at noon on each path
local PATHS = { "/db", "/session", "/api/items", "/page" }
local OF_THE_MACHINE = { ["host.contention"] = true, noisy_neighbour = true }

local function clients_at(s) return math.floor(MOST * (1 - math.cos(2 * math.pi * s / DAY_S)) / 2 + 0.5) end

-- As many clients more on each path as the time of day wants.
local function follow(w, leaves, wanted)
  while #leaves < wanted do
    local all = {}
    for i, path in ipairs(PATHS) do all[i] = w:clients_of(1, path, 40) end
    leaves[#leaves + 1] = all
  end
  while #leaves > wanted do
    for _, leave in ipairs(table.remove(leaves)) do leave() end
  end
end

-- The share of hedges, where no upstream hedges.
local NO_EFFECT = { changes = { ["upstream.hedge_share"] = 0.06 }, metric = "mean_ms", reason = "no effect" }

local function try_again_and_again(w, state)
  while state.going do
    local got, trial = pcall(w.post, w, "trials", NO_EFFECT)
    if not got then
      loop.sleep(2000)
    else
      local view
      repeat
        loop.sleep(1000)
        view = w:get("trials/" .. trial.id)
      until view.ended_at or not state.going
      if view.ended_at then
        state.trials, state[view.phase] = state.trials + 1, (state[view.phase] or 0) + 1
        print(("%s: %s: %s"):format(trial.id, view.phase, view.why or ""))
        io.stdout:flush()
      end
    end
  end
end

local function main()
  local w = World.start { defaults = true, patience_ms = 15 * 60000, args = { "--set", "trials.cooldown_s=0" } }
  local state = { going = TRIALS, trials = 0 }
  local trying = loop.spawn(function() try_again_and_again(w, state) end)
  local began, seen, leaves = loop.now_ms(), {}, {}
  local found, aside = 0, 0
  local function note(id, name, text)
    if seen[id] then return end
    seen[id] = true
    local counts = not OF_THE_MACHINE[name]
    found, aside = found + (counts and 1 or 0), aside + (counts and 0 or 1)
    print(("%5.1f min  %s  %s%s"):format((loop.now_ms() - began) / 60000, id, text, counts and "" or " (the machine: not counted)"))
    io.stdout:flush()
  end
  while loop.now_ms() - began < MINUTES * 60000 do
    local s = (loop.now_ms() - began) / 1000
    follow(w, leaves, s < MINUTES * 30 and 0 or clients_at(s - MINUTES * 30))
    for _, issue in ipairs(w:get "issues".issues) do note(issue.id, issue.code, ("%s %s: %s"):format(issue.code, issue.target, issue.title or "")) end
    for _, sug in ipairs(w:get "suggestions".suggestions) do
      if sug.priority < "P4" then note(sug.id, sug.rule, ("%s: %s"):format(sug.rule, sug.title)) end
    end
    loop.sleep(2000)
  end
  follow(w, leaves, 0)
  state.going = false
  loop.join(trying)
  local requests = w:get "stats".requests_total
  w:stop()
  print(("%g minutes, %d requests: %d found, %d of the machine"):format(MINUTES, requests, found, aside))
  local kept, false_ones = state.VERIFIED or 0, (state.VERIFIED or 0) + (state.ROLLED_BACK or 0)
  print(("%d trials without an effect: %d kept, %d taken back, %d NO_EFFECT, %d INCONCLUSIVE, %d others"):format(state.trials, kept, state.ROLLED_BACK or 0, state.NO_EFFECT or 0,
    state.INCONCLUSIVE or 0, state.trials - false_ones - (state.NO_EFFECT or 0) - (state.INCONCLUSIVE or 0)))
  return found == 0 and kept == 0 and false_ones <= math.max(1, state.trials / 20)
end

local passed
loop.run(function() passed = main() end, 24 * 3600000)
os.exit(passed and 0 or 1, false) -- handles that are still closing would be freed twice with the state
