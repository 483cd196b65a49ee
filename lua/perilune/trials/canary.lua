--- An experiment side by side: one worker has the change, the others are its control (core/ml/experiment.h).
--
-- For settings whose value each worker acts on by itself, where there are enough of them: few requests meet the change
-- before anything is known of it, and what moves all workers alike, a neighbour or the traffic, moves no difference.
--
--     CANARY    all without the change, then one worker with it             is it better than the others, by more than before?
--     EXPAND    half of the workers, all of them
--     CONFIRM   all but that one, which is held back                        are the others better than it?
--
-- CONFIRM has the same arms with their parts exchanged, so whatever was wrong with the windows before, and made the change
-- look good in CANARY, makes it look bad there. Where the canary's share of the requests is too small, or the difference
-- of the arms wanders too much by itself, step() says "unsuited", and the trial takes turns instead.
--
-- A design as perilune.trials.switchback says.

local _, require = ...

local measures = require "perilune.trials.measures"
local ml = require "perilune.ml"

local M = {}

local BEFORE, LEAST, MOST_PER_PAIR = 24, 12, 12 -- windows
local WINDOW_LEAST_S, WINDOW_MOST_S = 2, 30
local WORKERS_LEAST = 4

local experiments = setmetatable({}, { __mode = "k" })

--- How long a window must be, in s, with so many workers and requests a second; nil: it does not suit.
function M.window_s(self, workers, rps)
  if workers < WORKERS_LEAST then return nil end
  local s = math.max(WINDOW_LEAST_S, math.ceil(1.5 * self.requests_least * workers / rps))
  return s <= WINDOW_MOST_S and s or nil
end

-- In the order of the arms' parts: with the change, without it.
local function parts(e, canary, control)
  if e.reversed then return control, canary end
  return canary, control
end

local function put(held, method, e, window)
  for i, name in ipairs(measures.WATCHED) do
    local with, without = parts(e, measures.known(window[2 * i - 1]), measures.known(window[2 * i]))
    held[name][method](held[name], with, without)
  end
end

local function objects(self)
  local held, e = experiments[self], self.experiment
  if held and held.of == e then return held end
  held = { of = e, errors = ml.error_guard() }
  for _, name in ipairs(measures.WATCHED) do
    local is_metric = name == "metric"
    held[name] = ml.experiment { mde = is_metric and math.log(1 + self.mde) or nil, alpha = not is_metric and measures.HARM_ALPHA or nil, before = BEFORE,
      least = LEAST, most = e.most }
  end
  for _, w in ipairs(self.reference.windows) do held.errors:before(w[1], w[2]) end
  for _, w in ipairs(self.before) do put(held, "before", e, w) end
  for _, w in ipairs(e.windows) do put(held, "add", e, w) end
  for _, w in ipairs(e.errors) do held.errors:add(w[1], w[2], w[3], w[4]) end
  experiments[self] = held
  return held
end

function M.begin(self, now_ms)
  local start = math.ceil(now_ms / 1000) * 1000
  local first = self.phase ~= "CONFIRM"
  self.before = not first and self.before or {}
  self.experiment = { reversed = not first, on = not first, next_ms = start + (first and 2000 or 1000 + 1000 * math.ceil(self.settle_s)),
    most = MOST_PER_PAIR * (self.pairs or 10), offered = 0, windows = {}, errors = {}, tails = {} }
end

-- The usual logarithm of p99 with the change over p99 without it, from before there was one.
local function usual_tail(self)
  local sum, n = 0, 0
  for _, w in ipairs(self.before) do
    if w[3] and w[4] then sum, n = sum + w[3] - w[4], n + 1 end
  end
  local usual = n > 0 and sum / n or 0
  return self.experiment.reversed and -usual or usual
end

local function measure(self, from, to, env)
  local e, held = self.experiment, objects(self)
  local canary, a = measures.read(self, from, to, env, "canary")
  local control, b = measures.read(self, from, to, env, "control")
  local window = {}
  for i = 1, #measures.WATCHED do window[2 * i - 1], window[2 * i] = measures.kept(canary[i]), measures.kept(control[i]) end
  e.offered = e.offered + 1
  if not e.on then
    if window[1] and window[2] then
      self.before[#self.before + 1] = window
      put(held, "before", e, window)
    end
    return
  end
  e.windows[#e.windows + 1] = window
  put(held, "add", e, window)
  local with, without = parts(e, a, b)
  e.errors[#e.errors + 1] = { with.n, with.errors, without.n, without.errors }
  if held.errors:add(with.n, with.errors, without.n, without.errors) then return "the share of errors is higher with the change" end
  return measures.tails(self, e.tails, with, without, usual_tail(self))
end

-- Whether there are enough windows without the change, and what they say.
local function prepared(self, now_ms)
  local e = self.experiment
  if #self.before < BEFORE and e.offered < 2 * BEFORE then return "running" end
  if #self.before < BEFORE then
    self.unsuited = ("the canary's worker had too few requests in %d of %d windows"):format(e.offered - #self.before, e.offered)
    return "unsuited"
  end
  local r = objects(self).metric:result()
  if not r.usable then
    self.unsuited = ("the difference of the workers wanders by itself (autocorrelation %.2f)"):format(r.r or 1)
    return "unsuited"
  end
  e.on, e.offered, e.next_ms = true, 0, math.ceil(now_ms / 1000) * 1000 + 1000 * math.max(1, math.ceil(self.settle_s))
  return "running"
end

function M.step(self, now_ms, env)
  local e = self.experiment
  local verdict = "running"
  while now_ms >= e.next_ms + self.window_s * 1000 + measures.LATE_MS do
    local from = e.next_ms
    e.next_ms = from + self.window_s * 1000
    local tripped = measure(self, from, e.next_ms, env)
    if tripped then return nil, tripped end
    if not e.on then
      verdict = prepared(self, now_ms)
      if verdict ~= "running" or e.on then return verdict end
    elseif #e.windows >= 2 then
      measures.tell(e, M.result(self))
    end
  end
  if not e.on then return verdict end
  local held = objects(self)
  local weighed, harm = measures.weigh(self, held, held.metric:result().verdict, e.offered >= e.most)
  if weighed == "running" and e.offered >= 2 * e.most then return "inconclusive" end
  return weighed, harm
end

-- So many of the others, behind `first`.
local function others(self, count, first)
  local list = { first }
  for i = 0, self.workers - 1 do
    if i ~= self.worker and count > 0 then list[#list + 1], count = i, count - 1 end
  end
  return list
end

function M.wants(self)
  local e = self.experiment
  if not e.on then return false end
  if e.reversed then return true, others(self, self.workers - 1), "control" end
  return true, { self.worker }, "canary"
end

function M.expand(self) return { { workers = others(self, math.floor(self.workers / 2) - 1, self.worker) }, {} } end

function M.result(self) return measures.result(self, objects(self).metric, "windows") end

function M.counted(result) return ("%d windows side by side"):format(result.windows or 0) end

function M.progress(self)
  local e = self.experiment
  if not e.on then return 0.2 * math.min(1, #self.before / BEFORE) end
  return math.min(1, (e.reversed and 0 or 0.2) + 0.8 * #e.windows / e.most)
end

return M
