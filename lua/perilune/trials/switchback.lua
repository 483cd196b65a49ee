--- An experiment in time: pairs of blocks, a coin says which of the two has the change (core/ml/switchback.h).
--
-- For what all workers share, and where there are few of them. The beginning of a block is washed out while the change
-- settles; what the rest of it told is compared.
--
-- A design is: begin(trial, now_ms, seed), step(trial, now_ms, env) -> verdict, or nil and the guard that tripped;
-- wants(trial, now_ms) -> on, workers (nil: all), arm; expand(trial) -> the steps between its two experiments;
-- result(trial), counted(result), progress(trial).

local _, require = ...

local measures = require "perilune.trials.measures"
local ml = require "perilune.ml"

local M = {}

local experiments = setmetatable({}, { __mode = "k" }) -- trial > the C objects, made anew from what the trial holds

local function objects(self)
  local held = experiments[self]
  local e = self.experiment
  if held and held.of == e then return held end
  held = { of = e, errors = ml.error_guard() }
  for _, name in ipairs(measures.WATCHED) do
    local is_metric = name == "metric"
    held[name] = ml.switchback(e.start_ms, { block_ms = e.block_ms, washout_ms = e.washout_ms, seed = e.seed, mde = is_metric and math.log(1 + self.mde) or nil,
      alpha = not is_metric and measures.HARM_ALPHA or nil, least = 4, most = e.pairs })
  end
  for _, w in ipairs(self.reference.windows) do held.errors:before(w[1], w[2]) end
  for _, w in ipairs(e.windows) do
    for i, name in ipairs(measures.WATCHED) do held[name]:add(w[1], w[2], measures.known(w[2 + i])) end
  end
  for _, w in ipairs(e.errors) do held.errors:add(w[1], w[2], w[3], w[4]) end
  experiments[self] = held
  return held
end

function M.begin(self, now_ms, seed)
  local start = math.ceil(now_ms / 1000) * 1000 + 1000
  self.experiment = { start_ms = start, block_ms = self.block_s * 1000, washout_ms = math.max(1, math.ceil(self.settle_s)) * 1000,
    seed = seed, pairs = self.pairs or 10, block = 0, windows = {}, errors = {}, tails = {} }
end

-- What a block told, once it is over: the values, and what the guards make of it.
local function measure(self, block, env)
  local e, held = self.experiment, objects(self)
  local from = e.start_ms + block * e.block_ms + e.washout_ms
  local to = e.start_ms + (block + 1) * e.block_ms
  local on = held.metric:at(from).on
  local values, arm = measures.read(self, from, to, env)
  local window = { to, to - from }
  for i, y in ipairs(values) do
    window[2 + i] = measures.kept(y)
    held[measures.WATCHED[i]]:add(to, to - from, y)
  end
  e.windows[#e.windows + 1] = window
  e[on and "last_on" or "last_off"] = arm
  local other = e[on and "last_off" or "last_on"]
  if block % 2 == 1 and other then
    local a, b = on and arm or other, on and other or arm
    e.errors[#e.errors + 1] = { a.n, a.errors, b.n, b.errors }
    if held.errors:add(a.n, a.errors, b.n, b.errors) then return "the share of errors is higher with the change" end
    return measures.tails(self, e.tails, a, b, 0)
  end
end

function M.step(self, now_ms, env)
  local e = self.experiment
  while now_ms >= e.start_ms + (e.block + 1) * e.block_ms + measures.LATE_MS do
    local tripped = measure(self, e.block, env)
    e.block = e.block + 1
    if tripped then return nil, tripped end
  end
  if e.block < 2 or e.block % 2 == 1 then return "running" end
  -- A pair is closed when its windows are in; the clock may be some ms behind the end of the second block by then.
  local held, at = objects(self), e.start_ms + e.block * e.block_ms + 1
  local verdict = held.metric:close(at)
  held.tail:close(at)
  held.others:close(at)
  if e.told_block ~= e.block then
    e.told_block = e.block
    measures.tell(e, M.result(self))
  end
  return measures.weigh(self, held, verdict, e.block >= 2 * e.pairs)
end

function M.wants(self, now_ms)
  local moment = now_ms >= self.experiment.start_ms and objects(self).metric:at(now_ms)
  return moment and moment.on and not moment.over or false
end

function M.expand() return { {} } end

function M.result(self) return measures.result(self, objects(self).metric, "pairs") end

function M.counted(result) return ("%d pairs of blocks"):format(result.pairs or 0) end

function M.progress(self)
  local e = self.experiment
  return math.min(1, e.block / (2 * e.pairs))
end

return M
