-- GET trends?route=GET%20/users&signal=p95_ms&from=-3600&to=0&step=10
-- GET trends?pool=main&signal=wait_ms
--
-- The history of a route, of a connection pool, or of all routes, from memory and from disk where that does not reach back, by columns: one list per signal, as long as at_ms. Times are unix seconds, or
-- seconds before now where negative. For each signal asked for: its trend (Theil-Sen), its volatility, and where there
-- is enough, a forecast with its interval, and when it crosses `threshold`.
local admin = require "perilune.admin"
local p = require "perilune"
local ml = require "perilune.ml"
local app = admin.app()

local STEPS_MOST, STEPS = 2000, 300
local FORECAST_FROM = 30 -- steps of history
local FORECAST_OF = 600  -- the newest are looked at
local AHEAD_MOST = 60

local function time(text, fallback, now)
  if text == nil then return fallback end
  local seconds = tonumber(text)
  if not seconds or not (seconds > -1e10 and seconds < 1e11) then return nil end
  return seconds <= 0 and now + seconds or seconds
end

-- The values that are there, the newest of them, and how many steps each is apart on average.
local function known(column)
  local values = {}
  for i = math.max(1, #column - FORECAST_OF + 1), #column do
    if column[i] ~= p.json.null then values[#values + 1] = column[i] end
  end
  return values
end

local function analysis(column, step, threshold)
  local values = known(column)
  if #values < FORECAST_FROM then
    return { enough = false, note = ("%d of %d steps of history are there"):format(#values, FORECAST_FROM) }
  end
  local t = ml.trend(values, threshold and { threshold = threshold } or nil)
  local out = { enough = true, steps = #values, slope_per_hour = t.slope * 3600 / step, p = t.p, volatility = ml.volatility(values) }
  if t.crossing and t.crossing.crosses then out.crosses_in_s = t.crossing.steps * step end
  local f = ml.forecast(values, { steps = math.min(AHEAD_MOST, math.floor(#values / 3)) })
  out.forecast = f.beats and { values = f.values, lo = f.lo, hi = f.hi } or p.json.null
  if not f.beats then out.note = "it cannot be told better than by repeating what was" end
  return out
end

app:get(admin.path "trends", {
  summary = "The history of a route, of a connection pool, or of all routes, by columns; for one signal its trend, volatility and forecast",
  query = {
    from = { type = "number", code = "bad_range", hint = "unix seconds, or seconds before now as in from=-3600" },
    to = { type = "number", code = "bad_range", hint = "unix seconds, or seconds before now" },
    step = { type = "integer", min = 0, max = 86400, hint = "a whole number of seconds, 1 to 86400" },
    route = { type = "string", hint = "a route as GET signals names it; without it all" },
    pool = { type = "string", hint = "the id of a connection pool, as GET resources/pools names it; instead of a route" },
    signal = { type = "string", hint = "one of the columns, as p95_ms" },
    threshold = { type = "number", hint = "a number in the signal's unit" },
  },
  answers = { [200] = "Trend" },
  errors = { [400] = "bad_range bad_step bad_threshold route_and_pool too_many_steps unknown_signal", [404] = "unknown_pool unknown_route" },
}, function(req)
  local now, query = os.time(), req.query
  local from, to = time(query.from, now - 900, now), time(query.to, now, now)
  local step = tonumber(query.step or 0)
  if not from or not to or from >= to or from < 0 then
    return admin.problem(400, "bad_range", "from and to are unix seconds, or seconds before now as in from=-3600, the earlier first")
  end
  if not step or step < 0 or step > 86400 or step ~= math.floor(step) then return admin.problem(400, "bad_step", "step is a whole number of seconds, 1 to 86400") end
  if step == 0 then step = admin.default_step(to - from, STEPS) end
  if (to - from) / step > STEPS_MOST then
    return admin.problem(400, "too_many_steps", ("that are more than %d steps: ask for a shorter time or a longer step"):format(STEPS_MOST))
  end
  local threshold = query.threshold and tonumber(query.threshold)
  if query.threshold and not threshold then return admin.problem(400, "bad_threshold", "threshold is a number in the signal's unit") end
  if query.route and query.pool then return admin.problem(400, "route_and_pool", "a route or a pool: ask for each by itself") end
  local columns
  if query.pool then columns = admin.watch.pool_series(query.pool, from * 1000, to * 1000, step) else columns = admin.watch.series(query.route, from * 1000, to * 1000, step) end
  if not columns and query.pool then return admin.problem(404, "unknown_pool", "there is no pool of this id, now or in the history; see GET resources/pools for those there are") end
  if not columns then return admin.problem(404, "unknown_route", "no request has come for this route; see GET signals for those there are") end
  local out = { route = query.route or p.json.null, pool = query.pool or p.json.null, from = from, to = to, step_s = step, columns = columns }
  if query.signal then
    if not columns[query.signal] or query.signal == "at_ms" then
      local names = {}
      for name in pairs(columns) do names[#names + 1] = name end
      table.sort(names)
      return admin.problem(400, "unknown_signal", ("there is no signal '%s' in the history; there are %s"):format(query.signal, table.concat(names, ", ")))
    end
    out.columns = { at_ms = columns.at_ms, [query.signal] = columns[query.signal] }
    out.signal, out.analysis = query.signal, analysis(columns[query.signal], step, threshold)
  end
  return admin.envelope(out)
end)

return app
