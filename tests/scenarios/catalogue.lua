--- Faults, pairs of them, and times without one, and what the engine should say about each. Of a fault:
--   plant(w)       does it to a world (tests/scenarios/world.lua); returns how to heal it
--   issue          reason codes, any of which is right; {}: none need be raised
--   optional_issue it is right as well that none is raised (a suggestion says it all)
--   rules          suggestions that are right, the first or one that is as good; nil: only the issue is scored
--   optional       a suggestion of `rules` is welcome and not asked for
--   forbidden      suggestions that would make it worse, or miss the cause
--   first_not      suggestions that must not come first
--   indicator      what must move by a fifth for the run to count: a route or "host", and its signal
--   machine        what is said of the machine (that others use its processor) counts; else it is true of where the laboratory is
--   world          options of a world of its own; nil: the one of all
--   cure           the engine can: a setting and values of it ({ setting =, values = }), the best of which by hand is what its cure is
--                  compared with
-- What is drawn by w:draw differs from seed to seed.
local catalogue = {}

local by_name = {}
for _, part in ipairs { "database", "upstream", "cache", "machine" } do
  for _, fault in ipairs(require("tests.scenarios.faults." .. part)) do
    catalogue[#catalogue + 1] = fault
    by_name[fault.name] = fault
  end
end

--- Two at once: both must be found, the root before the symptom.
local function both(name, first, second)
  local a, b = by_name[first], by_name[second]
  catalogue[#catalogue + 1] = { name = name, pair = { a, b }, indicator = a.indicator, issue = { unpack(a.issue) }, world = a.world or b.world,
    plant = function(w)
      local heal_a, heal_b = a.plant(w), b.plant(w)
      return function()
        heal_b()
        heal_a()
      end
    end }
  for _, code in ipairs(b.issue) do table.insert(catalogue[#catalogue].issue, code) end
end
both("n_plus_one+pool_small", "n_plus_one", "pool_small")
both("slow_upstream+chatty_redis", "slow_upstream", "redis_chatty")
both("bad_instance+narrow_tasks", "bad_instance", "task_pool_narrow")
both("slow_query+failing_instance", "slow_query", "failing_instance")

for _, control in ipairs(require "tests.scenarios.controls") do
  control.control = true
  catalogue[#catalogue + 1] = control
end

return catalogue
