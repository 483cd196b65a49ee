--- make calm: half the time a steady load, half one that rises and falls like a day, and nothing may be found in either.
--
--     MINUTES=60 tests/scenarios/calm
--
-- The world of the laboratory with the engine's own defaults. Each issue that opens and each suggestion above P4 is printed with
-- the minute; those about the machine the laboratory is on (contention, a noisy neighbour) are printed and not counted. Exit
-- code 1: something was found.
local loop = require "tests.support.loop"
local World = require "tests.scenarios.world"

local MINUTES = tonumber(os.getenv "MINUTES") or 60
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

local function main()
  local w = World.start { defaults = true, patience_ms = 15 * 60000 }
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
  local requests = w:get "stats".requests_total
  w:stop()
  print(("%g minutes, %d requests: %d found, %d of the machine"):format(MINUTES, requests, found, aside))
  return found == 0
end

local passed
loop.run(function() passed = main() end, 24 * 3600000)
os.exit(passed and 0 or 1, false) -- handles that are still closing would be freed twice with the state
