-- GET patterns?from=-86400&to=&step= : how the service behaves, as a few named patterns: traffic, latency, errors, phases, routes,
-- the hours (UTC) it is seen at, its share of the time, when it was seen last, and whether it is so now
local admin = require "perilune.admin"
local patterns = require "perilune.patterns"
local app = admin.app()

local STEPS, STEPS_MOST = 720, 2000
local ROUTES, PHASES = 6, 3

local function time(text, fallback, now)
  if text == nil then return fallback end
  local seconds = tonumber(text)
  if not seconds or not (seconds > -1e10 and seconds < 1e11) then return nil end
  return seconds <= 0 and now + seconds or seconds
end

-- The busiest routes, and the phases that took most of all time.
local function what_counts()
  local stats, routes, phases, sums = admin.stats.stats(0), {}, {}, {}
  table.sort(stats.routes, function(a, b) return a.requests > b.requests end)
  for i, route in ipairs(stats.routes) do
    if i <= ROUTES then routes[route.method .. " " .. route.route] = true end
    for name, phase in pairs(route.phases_ms or {}) do sums[name] = (sums[name] or 0) + phase.mean * phase.count end
  end
  for name in pairs(sums) do phases[#phases + 1] = name end
  table.sort(phases, function(a, b) return sums[a] > sums[b] end)
  while #phases > PHASES do table.remove(phases) end
  return routes, phases
end

app:get(admin.path "patterns", {
  summary = "How the service behaves, as a few named patterns",
  query = {
    from = { type = "number", code = "bad_range", hint = "unix seconds, or seconds before now as in from=-86400" },
    to = { type = "number", code = "bad_range", hint = "unix seconds, or seconds before now" },
    step = { type = "integer", min = 1, max = 86400, hint = "a whole number of seconds, 1 to 86400" },
  },
  answers = { [200] = "Patterns" },
  errors = { [400] = "bad_range bad_step too_many_steps" },
}, function(req)
  local now, q = os.time(), req.query
  local from, to = time(q.from, now - 86400, now), time(q.to, now, now)
  if not from or not to or from >= to or from < 0 then
    return admin.problem(400, "bad_range", "from and to are unix seconds, or seconds before now as in from=-86400, the earlier first")
  end
  local step = q.step and tonumber(q.step) or admin.default_step(to - from, STEPS, 10)
  if not step or step < 1 or step > 86400 or step ~= math.floor(step) then return admin.problem(400, "bad_step", "step is a whole number of seconds, 1 to 86400") end
  if (to - from) / step > STEPS_MOST then
    return admin.problem(400, "too_many_steps", ("that are more than %d steps: ask for a shorter time or a longer step"):format(STEPS_MOST))
  end
  local wanted, phases = what_counts()
  local list = {}
  for _, thing in ipairs(admin.watch.things()) do
    if thing.kind == "route" and wanted[thing.name] then
      list[#list + 1] = { name = thing.name, columns = admin.watch.series(thing.index, from * 1000, to * 1000, step) }
    end
  end
  local found = patterns.find(admin.watch.series(nil, from * 1000, to * 1000, step), list, phases, step)
  found.from, found.to, found.step_s = from, to, step
  return admin.envelope(found)
end)

return app
