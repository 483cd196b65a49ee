--- What the rules of rules/suggestions/ are asked with. A snapshot is plain data (it can be kept as JSON and played again);
-- the facts are the same with the few questions that a rule asks.
--
--   snapshot = { at_ms, span_s, cores, workers, things, pools, upstreams, tasks, cache, compression, limits, figures, settings, issues }
--
-- `things` are those of watch.things(); pools, upstreams, tasks, cache, compression and limits hold what grew during the last
-- span_s seconds in `during`, beside what is now. Of the facts:
--
--   f.host, f.routes, f.pools     views (perilune.analyzer.view) of the things; those of pools have .pool: id, type, sizes
--   f.upstreams, f.tasks, f.cache, f.compression, f.limits, f.counters, f.cores, f.workers, f.figure["cpu.share"]
--   f:setting(name)               its stable value; f:setting(name, upstream) what that upstream has for itself, if it has
--   f:own(upstream, name)         what a setting of all upstreams is called for one of them, to be set
--   f:issue(code)                 the open issue of that reason code, or nil
--   f:with(phase)                 names of the routes that spend time in a phase, most first, and their requests a second
--   f:rps(routes)                 requests a second of these
--   f:mean(routes, signal)        mean of a signal over them, weighted by their requests
--   f:loops_busy()                share of the time in which the workers' loops compute, 0 to 1
--   f:busy()                      the fullest of what computes for requests, 0 to 1: the machine, or the loops

local _, require = ...

local setting_names = require "perilune.setting_names"
local view = require "perilune.analyzer.view"

local M = {}

-- ---- what grew ----

local identity = { "id", "name", "address", "statement", "kind", "route" }

local function key_of(row, i)
  if type(row) ~= "table" then return i end
  for _, name in ipairs(identity) do
    if type(row[name]) == "string" then return row[name] .. "|" .. tostring(row.priority or row.coding or row.method or "") end
  end
  return i
end

--- now less before, of all numbers in tables of the same shape; rows of lists are told apart by what they are called.
function M.growth(now, before)
  local out = {}
  local rows = {}
  for i, row in pairs(before) do rows[key_of(row, i)] = row end
  for name, value in pairs(now) do
    local old = rows[key_of(value, name)]
    if type(value) == "number" then out[name] = value - (type(old) == "number" and old or 0)
    elseif type(value) == "table" then out[name] = M.growth(value, type(old) == "table" and old or {})
    else out[name] = value end
  end
  -- A mean of counted times is that of the new ones.
  if type(now.mean) == "number" and type(now.count) == "number" then
    local sum = now.mean * now.count - (before.mean or 0) * (before.count or 0)
    out.mean = out.count > 0 and sum / out.count or 0
  end
  return out
end

-- ---- facts ----

local facts = {}
facts.__index = facts

--- `units` by kind and signal, `t` the thresholds of rules/thresholds.lua.
function M.new(snapshot, units, t)
  local f = setmetatable({ at_ms = snapshot.at_ms, span_s = snapshot.span_s, cores = snapshot.cores, workers = snapshot.workers or snapshot.cores, t = t, routes = {}, pools = {}, by_route = {},
    upstreams = snapshot.upstreams or {}, tasks = snapshot.tasks, cache = snapshot.cache, compression = snapshot.compression, limits = snapshot.limits, counters = snapshot.counters,
    figure = snapshot.figures or {}, settings = snapshot.settings or {}, issues = snapshot.issues or {}, statements = {} }, facts)
  local pools = {}
  for _, pool in ipairs(snapshot.pools or {}) do pools[pool.id] = pool end
  for _, thing in ipairs(snapshot.things or {}) do
    local s = view.new(thing, units[thing.kind] or {})
    if s.kind == "host" then f.host = s
    elseif s.kind == "route" then
      f.routes[#f.routes + 1], f.by_route[s.name] = s, s
    elseif pools[s.name] then
      s.pool, s.during, s.pool_type = pools[s.name], pools[s.name].during or {}, pools[s.name].pool_type
      f.pools[#f.pools + 1] = s
      for _, statement in ipairs(pools[s.name].statements or {}) do
        f.statements[#f.statements + 1] = { kind = "statement", name = s.name .. ": " .. statement.statement, statement = statement,
          during = statement.during or {}, pool = s, now = {}, usual = {}, moved = {} }
      end
    end
  end
  for _, u in ipairs(f.upstreams) do u.kind, u.now, u.usual, u.moved = "upstream", {}, {}, {} end
  for _, s in ipairs(f.routes) do s.host, s.pools = f.host, f.pools end
  if f.host then f.host.pools = f.pools end
  return f
end

--- What rules with `on` = kind are asked for.
function facts:of(kind)
  if kind == "host" then return { self.host } end
  return self[kind .. "s"] or {}
end

--- A setting by name; with an upstream, what that has for itself if it has.
function facts:setting(name, upstream)
  local one = upstream and self.settings[self:own(upstream, name)]
  if one == nil then one = self.settings[name] end
  if one == nil then error(("there is no setting '%s'"):format(tostring(name)), 2) end
  return one
end

--- What a setting of all upstreams is called for one of them: "upstream.retries" > "upstream.api.retries".
function facts.own(_, upstream, name) return setting_names.of_upstream(upstream.name, name) end

function facts:issue(code)
  for _, issue in ipairs(self.issues) do
    if issue.code == code then return issue end
  end
end

function facts:with(phase, least_ms)
  local list = {}
  for _, s in ipairs(self.routes) do
    if (s.now[phase] or 0) > (least_ms or 0.01) and (s.now.rps or 0) > 0 then list[#list + 1] = s end
  end
  table.sort(list, function(a, b)
    local x, y = a.now[phase] * a.now.rps, b.now[phase] * b.now.rps
    if x ~= y then return x > y end
    return a.name < b.name
  end)
  local names = {}
  for i, s in ipairs(list) do names[i] = s.name end
  return names, self:rps(names)
end

function facts:rps(routes)
  local sum = 0
  for _, name in ipairs(routes) do sum = sum + (self.by_route[name] and self.by_route[name].now.rps or 0) end
  return sum
end

function facts:mean(routes, signal)
  local sum, n = 0, 0
  for _, name in ipairs(routes) do
    local s = self.by_route[name]
    if s and s.now[signal] then sum, n = sum + s.now[signal] * (s.now.rps or 0), n + (s.now.rps or 0) end
  end
  return n > 0 and sum / n or 0
end

--- What the workers compute beside their task threads. A loop is one thread: with fewer workers than cores it can be full while
-- the machine is not.
function facts:loops_busy()
  local now, threads = self.host.now, 0
  for _, process in ipairs(self.tasks and self.tasks.processes or {}) do
    if process.name ~= "control" then threads = threads + process.width end
  end
  local loops = (now.worker_cpu or 0) - (now.task_busy_share or 0) * threads
  return math.max(0, math.min(1, loops / math.max(1, self.workers)))
end

function facts:busy() return math.max(self.host.now.cpu_share or 0, self:loops_busy()) end

return M
