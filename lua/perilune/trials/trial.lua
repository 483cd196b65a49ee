--- One change on trial: an experiment in time with guards, and a verdict.
--
--     PRECHECK > CANARY > EXPAND > CONFIRM > KEEPING > VERIFIED
--                  |         |        |
--                  +---------+--------+--> NO_EFFECT, INCONCLUSIVE, ROLLED_BACK, SUPERSEDED, ABORTED
--
-- CANARY and CONFIRM are randomised switchbacks (core/ml/switchback.h): time is cut into pairs of blocks, a coin says which
-- of the two has the change, the beginning of a block is washed out while the change settles, and the logarithm of the
-- metric over the rest of the block is what is compared. Between them the change stays on for a while (EXPAND). Only if both
-- experiments call it better it is kept; the estimate that counts is that of CONFIRM, because the first one was chosen for
-- being large. Guards look at every second in which the change is on and let go of it at once.
--
-- This module knows no clock, no setting and no traffic: the time is given, and `env` does the rest, so that a test can run
-- a thousand hours in seconds.
--
--     env.span(routes, from_ms, to_ms) -> { requests, errors, mean_ms, ... } of whole seconds, nil: not known
--     env.apply(trial, on)             -> true, or nil and why       the change is in force, or the stable values are
--     env.keep(trial)                  -> true, or nil and why       the change becomes the stable value; it may take a while,
--                                                                    and the trial be another copy of itself by then
--     env.read(name)                   -> { value, stable, on_trial } or nil
--     env.restarts()                   -> how many workers were ever replaced
--     env.frozen(trial)                -> why nothing may be on trial now, or nil
--     env.note(trial, from, to, why)   -> true, or nil and why       the journal: before anything moves

local _, require = ...

local ml = require "perilune.ml"

local M = {}

local LATE_MS = 600         -- after the end of a second, until its frame is there
local REFERENCE_S = 30
local REQUESTS_LEAST = 50   -- in what is measured of a block
local BLOCK_LEAST_S, BLOCK_MOST_S = 4, 120
local KEEP_MS = 15000
local EXPAND_LEAST_S = 10
local SILENT_S = 10         -- without an answer where there was traffic
local GROSS_ERRORS, GROSS_EVENTS = 0.20, 5
local GROSS_TAIL, GROSS_TAIL_MS, GROSS_REQUESTS, GROSS_MEAN = 10, 50, 10, 5
local SPIKE = 3             -- times the traffic of the reference
local FLOOR = { ms = 0.05, share = 0.001, bytes = 64 } -- least values a logarithm is taken of

M.ended = { VERIFIED = true, NO_EFFECT = true, INCONCLUSIVE = true, ROLLED_BACK = true, SUPERSEDED = true, ABORTED = true }

local experiments = setmetatable({}, { __mode = "k" }) -- trial > the C objects, made anew from what the trial holds

local function floor_of(metric)
  return metric:find "_ms$" and FLOOR.ms or metric:find "bytes" and FLOOR.bytes or (metric:find "share$" or metric:find "rate$") and FLOOR.share or FLOOR.ms
end

local function value_of(self, span)
  local x = span and span.requests >= self.requests_least and span[self.metric]
  if not x then return 0 / 0 end
  local y = math.log(math.max(x, floor_of(self.metric)))
  return self.direction == "up" and -y or y
end

local trial = {}
trial.__index = trial

--- spec: id, changes ({ name, from, to } each), metric, direction ("down" or "up"), mde (relative), routes (indexes on the
-- board, nil: all), settle_s, seed, pairs (the horizon).
function M.new(spec)
  local self = setmetatable({}, trial)
  for name, value in pairs(spec) do self[name] = value end
  self.direction, self.mde, self.settle_s = self.direction or "down", self.mde or 0.03, self.settle_s or 3
  self.phase, self.on = "PRECHECK", false
  self.requests_least = self.requests_least or REQUESTS_LEAST
  return self
end

--- A trial from what dump() gave.
function M.restore(dump) return setmetatable(dump, trial) end

--- Plain values, for the book.
function trial:dump() return self end

-- ---- the experiment in time ----

-- Beside the metric itself, the tail and the other routes are watched for harm, with a smaller error budget each.
local WATCHED = { "metric", "tail", "others" }
local HARM_ALPHA = 0.02
local SUSPECT = math.log(1.05)

local function objects(self)
  local held = experiments[self]
  local e = self.experiment
  if held and held.of == e then return held end
  held = { of = e, errors = ml.error_guard() }
  for _, name in ipairs(WATCHED) do
    local is_metric = name == "metric"
    held[name] = ml.switchback(e.start_ms, { block_ms = e.block_ms, washout_ms = e.washout_ms, seed = e.seed, mde = is_metric and math.log(1 + self.mde) or nil,
      alpha = not is_metric and HARM_ALPHA or nil, least = 4, most = e.pairs })
  end
  for _, w in ipairs(self.reference.windows) do held.errors:before(w[1], w[2]) end
  for _, w in ipairs(e.windows) do
    for i, name in ipairs(WATCHED) do held[name]:add(w[1], w[2], w[2 + i] or 0 / 0) end
  end
  for _, w in ipairs(e.errors) do held.errors:add(w[1], w[2], w[3], w[4]) end
  experiments[self] = held
  return held
end

local function begin_experiment(self, now_ms, seed)
  local start = math.ceil(now_ms / 1000) * 1000 + 1000
  self.experiment = { start_ms = start, block_ms = self.block_s * 1000, washout_ms = math.max(1, math.ceil(self.settle_s)) * 1000,
    seed = seed, pairs = self.pairs or 10, block = 0, windows = {}, errors = {}, tails = {} }
end

local function switch(self, on, env)
  if self.on == on then return true end
  local done, why = env.apply(self, on)
  if not done then return nil, why end
  self.on = on
  return true
end

local function log_of(x, least) return x and math.log(math.max(x, least)) or 0 / 0 end

-- Mean time of the requests that are not of the trial's routes.
local function others_of(self, span, from, to, env)
  local all = self.routes and env.span(nil, from, to)
  if not all or not all.mean_ms then return nil end
  local own = span and span.mean_ms and span.requests * span.mean_ms or 0
  local n = all.requests - (span and span.requests or 0)
  return n >= self.requests_least and (all.requests * all.mean_ms - own) / n or nil
end

-- What a block told, once it is over: the values, and what the guards make of it.
local function measure(self, block, env)
  local e, held = self.experiment, objects(self)
  local from = e.start_ms + block * e.block_ms + e.washout_ms
  local to = e.start_ms + (block + 1) * e.block_ms
  local on = held.metric:at(from).on
  local span = env.span(self.routes, from, to)
  local enough = span and span.requests >= self.requests_least
  local window = { to, to - from }
  for i, y in ipairs { value_of(self, span), log_of(enough and span.p99_ms or nil, FLOOR.ms), log_of(others_of(self, span, from, to, env), FLOOR.ms) } do
    window[2 + i] = y == y and y
    held[WATCHED[i]]:add(to, to - from, y)
  end
  e.windows[#e.windows + 1] = window
  local arm = { n = span and span.requests or 0, errors = span and span.errors or 0, p99 = span and span.p99_ms or 0 }
  e[on and "last_on" or "last_off"] = arm
  local other = e[on and "last_off" or "last_on"]
  if block % 2 == 1 and other then
    local a, b = on and arm or other, on and other or arm
    e.errors[#e.errors + 1] = { a.n, a.errors, b.n, b.errors }
    if held.errors:add(a.n, a.errors, b.n, b.errors) then return "the share of errors is higher with the change" end
    local bad = a.n >= self.requests_least and b.n >= self.requests_least and a.p99 > 1.5 * b.p99 and a.p99 - b.p99 > 5
    table.insert(e.tails, bad and 1 or 0)
    if #e.tails > 5 then table.remove(e.tails, 1) end
    local sum = 0
    for _, one in ipairs(e.tails) do sum = sum + one end
    if sum >= 3 then return ("p99 was half as long again with the change in %d of %d pairs"):format(sum, #e.tails) end
  end
end

local function result_of(self)
  local r = objects(self).metric:result()
  local sign = self.direction == "up" and -1 or 1
  local out = { verdict = r.verdict, pairs = r.n, lambda = math.min(r.lambda, 1e9), log_estimate = r.estimate }
  if r.estimate then out.change = math.exp(sign * r.estimate) - 1 end
  if r.lo and r.hi and r.hi < 50 and r.lo > -50 then
    local a, b = math.exp(sign * r.lo) - 1, math.exp(sign * r.hi) - 1
    out.change_lo, out.change_hi = math.min(a, b), math.max(a, b)
  end
  return out
end

-- Returns the verdict so far; or nil and the guard that tripped.
local function go_on(self, now_ms, env)
  local e = self.experiment
  while now_ms >= e.start_ms + (e.block + 1) * e.block_ms + LATE_MS do
    local tripped = measure(self, e.block, env)
    e.block = e.block + 1
    if tripped then return nil, tripped end
  end
  local held = objects(self)
  local verdict = "running"
  -- A pair is closed when its windows are in; the clock may be some ms behind the end of the second block by then.
  if e.block >= 2 and e.block % 2 == 0 then
    local at = e.start_ms + e.block * e.block_ms + 1
    verdict = held.metric:close(at)
    if e.told_block ~= e.block then -- for whoever looks on
      local so_far = result_of(self)
      e.told_block, e.intervals = e.block, e.intervals or {}
      e.intervals[#e.intervals + 1] = { pairs = so_far.pairs, change = so_far.change, lo = so_far.change_lo, hi = so_far.change_hi }
    end
    for name, says in pairs { tail = "p99", others = "the mean time of the other routes" } do
      local harm = held[name]:close(at)
      local estimate = held[name]:result().estimate
      if harm == "worse" then return nil, ("%s became longer with the change, by %.0f %%"):format(says, (math.exp(estimate) - 1) * 100) end
      -- Better, as it seems at the price of something else: that must be told apart before the change is called good.
      if verdict == "better" and estimate and estimate > SUSPECT then
        verdict = e.block >= 2 * e.pairs and "inconclusive" or "running"
        self.suspect = says
      end
    end
  end
  return verdict
end

-- ---- the end ----

-- The stable values first: taking a change back waits for no disk, and whoever finds a trial without an end in the journal
-- takes it for rolled back.
function trial:finish(now_ms, phase, why, env)
  local from = self.phase
  self.ended_ms, self.why = now_ms, why
  if self.touched then env.apply(self, false) end
  self.on = false
  env.note(self, from, phase, why)
  self.phase = phase
  return phase
end

local function move(self, now_ms, phase, why, env)
  local noted, trouble = env.note(self, self.phase, phase, why)
  if not noted then return self:finish(now_ms, "ABORTED", "the journal cannot be written: " .. tostring(trouble), env) end
  self.phase, self.since_ms = phase, now_ms
end

-- ---- guards ----

local function gross(self, second)
  local ref = self.reference
  if not second or second.requests == 0 then return end
  local rate = second.errors / second.requests
  if second.errors >= GROSS_EVENTS and rate > ref.error_rate + GROSS_ERRORS then
    return ("%.0f %% of the answers were errors, before the change %.1f %%"):format(rate * 100, ref.error_rate * 100)
  end
  if second.requests >= GROSS_REQUESTS and second.p99_ms > GROSS_TAIL * ref.p99_ms and second.p99_ms > ref.p99_ms + GROSS_TAIL_MS then
    self.gross_tails = (self.gross_tails or 0) + 1
    -- One second may be a neighbour's doing, unless all of its requests suffered.
    if self.gross_tails >= 2 or second.mean_ms > GROSS_MEAN * ref.mean_ms then return ("p99 was %.0f ms, before the change %.1f ms"):format(second.p99_ms, ref.p99_ms) end
  else
    self.gross_tails = 0
  end
end

-- Looks at each whole second in which the change was on. Returns the phase to end in and why.
local function guard(self, now_ms, env)
  local second = math.floor((now_ms - LATE_MS) / 1000) * 1000
  if not self.looked_ms then self.looked_ms = second end
  while self.looked_ms < second do
    local from = self.looked_ms
    self.looked_ms = from + 1000
    local span = env.span(self.routes, from, from + 1000)
    if span and span.requests > 0 then
      self.silent_s = 0
    else
      self.silent_s = (self.silent_s or 0) + 1
    end
    if self.silent_s >= SILENT_S and self.reference.rps >= 1 then return "ROLLED_BACK", ("nothing was measured for %d s"):format(self.silent_s) end
    if self.silent_s >= 3 and self.on and self.reference.rps >= 5 then return "ROLLED_BACK", "no request was answered for 3 s with the change" end
    if self.on and from >= (self.on_ms or 0) then
      local why = gross(self, span)
      if why then return "ROLLED_BACK", why end
    end
    -- While the change is on, more may be its own doing: clients that wait less ask more.
    if self.on or from < (self.off_ms or 0) + 1000 * self.settle_s then
      span = nil
    end
    if span and span.requests > SPIKE * self.reference.rps + 50 then
      self.spike_s = (self.spike_s or 0) + 1
      if self.spike_s >= 5 then return "ABORTED", ("traffic is %.0f times that of the beginning: nothing can be told"):format(span.requests / math.max(1, self.reference.rps)) end
    elseif span then
      self.spike_s = 0
    end
  end
end

-- Whether the world is still the one of the beginning. Returns the phase to end in and why.
local function check(self, env)
  for _, change in ipairs(self.changes) do
    local now = env.read(change.name)
    if not now then return "SUPERSEDED", ("'%s' is gone"):format(change.name) end
    local keeping = self.phase == "KEEPING" and now.stable == change.to
    if now.stable ~= change.from and not keeping then return "SUPERSEDED", ("'%s' was changed by somebody else, to %s"):format(change.name, tostring(now.stable)) end
    if self.on and not now.on_trial and not keeping then return "ROLLED_BACK", ("the lease of '%s' was over"):format(change.name) end
  end
  if self.reference and env.restarts() > self.reference.restarts then return "ROLLED_BACK", "a worker was replaced during the trial" end
  local frozen = env.frozen(self)
  if frozen then return "ABORTED", frozen end
end

-- ---- phases ----

local phases = {}

function phases.PRECHECK(self, now_ms, env)
  local to = math.floor((now_ms - LATE_MS) / 1000) * 1000
  local span = env.span(self.routes, to - REFERENCE_S * 1000, to)
  if not span or span.requests < self.requests_least then
    return self:finish(now_ms, "ABORTED", ("there is too little traffic to tell: %d requests in %d s"):format(span and span.requests or 0, REFERENCE_S), env)
  end
  local rps = span.requests / math.max(1, span.span_s or REFERENCE_S)
  local windows = {}
  for i = 6, 1, -1 do
    local part = env.span(self.routes, to - i * 5000, to - (i - 1) * 5000)
    if part and part.requests > 0 then windows[#windows + 1] = { part.requests, part.errors } end
  end
  self.reference = { requests = span.requests, rps = rps, error_rate = span.errors / span.requests, p99_ms = span.p99_ms, mean_ms = span.mean_ms, value = span[self.metric],
    windows = windows, restarts = env.restarts() }
  local settle = math.max(1, math.ceil(self.settle_s))
  self.block_s = self.block_s or math.max(BLOCK_LEAST_S, 3 * settle, settle + math.ceil(self.requests_least * 1.5 / rps))
  if self.block_s > BLOCK_MOST_S then
    return self:finish(now_ms, "ABORTED", ("there is too little traffic to tell: %.1f requests a second"):format(rps), env)
  end
  self.touched, self.started_ms = true, now_ms
  move(self, now_ms, "CANARY", nil, env)
  begin_experiment(self, now_ms, self.seed)
end

-- One step of an experiment; `better` is what comes behind it.
local function experiment(self, now_ms, env, better)
  local verdict, tripped = go_on(self, now_ms, env)
  if tripped then return self:finish(now_ms, "ROLLED_BACK", tripped, env) end
  if verdict == "running" then
    local moment = now_ms >= self.experiment.start_ms and objects(self).metric:at(now_ms)
    local on = moment and moment.on and not moment.over or false
    if on and not self.on then self.on_ms = now_ms end
    if self.on and not on then self.off_ms = now_ms end
    local done, why = switch(self, on, env)
    if not done then return self:finish(now_ms, "ABORTED", why, env) end
    return
  end
  local result = result_of(self)
  self[self.phase == "CANARY" and "canary" or "confirm"] = result
  if verdict == "better" then return better(result) end
  if verdict == "worse" then return self:finish(now_ms, "ROLLED_BACK", ("%s became worse: %+.0f %%"):format(self.metric, result.change * 100), env) end
  if verdict == "no_effect" then return self:finish(now_ms, "NO_EFFECT", ("no effect on %s after %d pairs of blocks"):format(self.metric, result.pairs), env) end
  if result.verdict == "better" then
    return self:finish(now_ms, "INCONCLUSIVE", ("%s became better, but perhaps at the price of %s"):format(self.metric, self.suspect), env)
  end
  return self:finish(now_ms, "INCONCLUSIVE", ("%d pairs of blocks could not tell an effect on %s from chance"):format(result.pairs or 0, self.metric), env)
end

function phases.CANARY(self, now_ms, env)
  return experiment(self, now_ms, env, function(result)
    local done, why = switch(self, true, env)
    if not done then return self:finish(now_ms, "ABORTED", why, env) end
    self.on_ms = now_ms
    move(self, now_ms, "EXPAND", ("%s %+.0f %% in %d pairs of blocks"):format(self.metric, result.change * 100, result.pairs), env)
  end)
end

function phases.EXPAND(self, now_ms, env)
  if now_ms < self.since_ms + 1000 * math.max(EXPAND_LEAST_S, 3 * self.settle_s) then return end
  move(self, now_ms, "CONFIRM", nil, env)
  if self.phase ~= "CONFIRM" then return end
  begin_experiment(self, now_ms, (self.seed * 31 + 17) % 2 ^ 48)
end

function phases.CONFIRM(self, now_ms, env)
  return experiment(self, now_ms, env, function(result)
    local why = ("%s %+.0f %% (%+.0f to %+.0f %%) in %d pairs of blocks, after %+.0f %% in the canary"):format(self.metric, result.change * 100,
      (result.change_lo or result.change) * 100, (result.change_hi or result.change) * 100, result.pairs, self.canary.change * 100)
    self.found = why
    local done, trouble = switch(self, true, env)
    if not done then return self:finish(now_ms, "ABORTED", trouble, env) end
    self.on_ms = now_ms
    move(self, now_ms, "KEEPING", why, env)
  end)
end

function phases.KEEPING(self, now_ms, env)
  local there = true
  for _, change in ipairs(self.changes) do there = there and env.read(change.name).stable == change.to end
  if there then
    self.ended_ms, self.why, self.on = now_ms, self.found, false
    env.note(self, "KEEPING", "VERIFIED", self.found)
    self.phase = "VERIFIED"
  elseif not self.asked then
    self.asked = true
    local kept, why = env.keep(self)
    if not kept then self:finish(now_ms, "ABORTED", "it is better, but cannot be kept: " .. tostring(why), env) end
  elseif now_ms > self.since_ms + KEEP_MS then
    self:finish(now_ms, "ABORTED", "it is better, but another value came into force", env)
  end
end

--- Goes on. Returns the phase. Call it some times a second.
function trial:tick(now_ms, env)
  if M.ended[self.phase] then return self.phase end
  local phase, why = check(self, env)
  if not phase and self.reference then phase, why = guard(self, now_ms, env) end
  if phase then return self:finish(now_ms, phase, why, env) end
  phases[self.phase](self, now_ms, env)
  return self.phase
end

--- Somebody wants it gone.
function trial:stop(now_ms, phase, why, env)
  if not M.ended[self.phase] then self:finish(now_ms, phase, why, env) end
end

--- How far it is, 0 to 1, at the most.
function trial:progress()
  local e = self.experiment
  local part = e and math.min(1, e.block / (2 * e.pairs)) or 0
  local base = { PRECHECK = 0, CANARY = 0.02, EXPAND = 0.5, CONFIRM = 0.55, KEEPING = 0.99 }
  local share = { CANARY = 0.46, CONFIRM = 0.43 }
  return M.ended[self.phase] and 1 or (base[self.phase] or 0) + part * (share[self.phase] or 0)
end

return M
