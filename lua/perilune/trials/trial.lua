--- One change on trial: two experiments with guards, and a verdict.
--
--     PRECHECK > CANARY > EXPAND > CONFIRM > KEEPING > VERIFIED
--                  |         |        |
--                  +---------+--------+--> NO_EFFECT, INCONCLUSIVE, ROLLED_BACK, SUPERSEDED, ABORTED
--
-- CANARY and CONFIRM are experiments of one design: by turns in time (perilune.trials.switchback), or, for what each of
-- enough workers acts on by itself, side by side (perilune.trials.canary). Between them the change stays on for a while, on
-- more workers (EXPAND). Only if both experiments call it better it is kept; the estimate that counts is that of CONFIRM,
-- because the first one was chosen for being large. Guards look at every second in which the change is on and let go of it
-- at once.
--
-- This module knows no clock, no setting and no traffic: the time is given, and `env` does the rest, so that a test can run
-- a thousand hours in seconds.
--
--     env.span(routes, from_ms, to_ms, arm) -> { requests, errors, mean_ms, ... } of whole seconds, nil: not known
--     env.apply(trial, on, workers)    -> true, or nil and why       the change is in force, for all or for these workers
--                                                                    alone, or the stable values are
--     env.workers(trial)               -> how many workers act on it by themselves, each on its own value (1: it is shared),
--                                         and one of them (from 0) that is like the others
--     env.arms(workers)                -> true, or nil and why       they are measured apart from the others; nil: no longer
--     env.keep(trial)                  -> true, or nil and why       the change becomes the stable value; it may take a while,
--                                                                    and the trial be another copy of itself by then
--     env.read(name)                   -> { value, stable, on_trial } or nil
--     env.restarts()                   -> how many workers were ever replaced
--     env.frozen(trial)                -> why nothing may be on trial now, or nil
--     env.note(trial, from, to, why)   -> true, or nil and why       the journal: before anything moves

local _, require = ...

local canary = require "perilune.trials.canary"
local measures = require "perilune.trials.measures"
local switchback = require "perilune.trials.switchback"

local M = {}

local LATE_MS = measures.LATE_MS
local REFERENCE_S, REFERENCE_WINDOWS, BEGINS_S = 30, 6, 10
local REQUESTS_LEAST = 50   -- in what is measured of a block
local BLOCK_LEAST_S, BLOCK_MOST_S = 4, 120
local KEEP_MS = 15000
local EXPAND_LEAST_S = 10
local SILENT_S = 10         -- without an answer where there was traffic
local GROSS_ERRORS, GROSS_EVENTS = 0.20, 5
local GROSS_TAIL, GROSS_TAIL_MS, GROSS_REQUESTS, GROSS_MEAN = 10, 50, 10, 5
local SPIKE = 3             -- times the traffic of the reference

M.ended = { VERIFIED = true, NO_EFFECT = true, INCONCLUSIVE = true, ROLLED_BACK = true, SUPERSEDED = true, ABORTED = true }

local trial = {}
trial.__index = trial

--- spec: id, changes ({ name, from, to } each), metric, direction ("down" or "up"), mde (relative), routes (indexes on the
-- board, nil: all), settle_s, seed, pairs (the horizon), price (the share by which p99 and other routes may become longer for it).
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

local designs = { switchback = switchback, canary = canary }

local function design(self) return designs[self.design or "switchback"] end

-- `workers` alone have the change (nil: all of them do), and `arm` is what is measured of them.
local function switch(self, on, env, workers, arm)
  local who = on and workers and table.concat(workers, " ") or nil
  if self.on == on and self.who == who then return true end
  local done, why = env.apply(self, on, on and workers or nil)
  if not done then return nil, why end
  self.on, self.who, self.arm = on, who, on and arm or nil
  self.share = on and workers and #workers / self.workers or 1
  return true
end

-- ---- the end ----

-- The stable values first: taking a change back waits for no disk, and whoever finds a trial without an end in the journal
-- takes it for rolled back.
function trial:finish(now_ms, phase, why, env)
  local from = self.phase
  self.ended_ms, self.why = now_ms, why
  if self.touched then env.apply(self, false) end
  if self.design == "canary" then env.arms() end
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
    local span = env.span(self.routes, from, from + 1000, self.arm)
    if span and span.requests > 0 then
      self.silent_s = 0
    else
      self.silent_s = (self.silent_s or 0) + 1
    end
    local rps = self.reference.rps * (self.share or 1)
    if self.silent_s >= SILENT_S and rps >= 1 then return "ROLLED_BACK", ("nothing was measured for %d s"):format(self.silent_s) end
    if self.silent_s >= 3 and self.on and rps >= 5 then return "ROLLED_BACK", "no request was answered for 3 s with the change" end
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

-- What the traffic was like in each of the last REFERENCE_WINDOWS; nil: nobody asked.
local function windows_until(self, to, env)
  local windows, length = {}, REFERENCE_S * 1000 / REFERENCE_WINDOWS
  for i = 1, REFERENCE_WINDOWS do
    local from = to - (REFERENCE_WINDOWS - i + 1) * length
    local part = env.span(self.routes, from, from + length)
    windows[i] = part and part.requests > 0 and { part.requests, part.errors } or nil
  end
  return windows
end

function phases.PRECHECK(self, now_ms, env)
  local to = math.floor((now_ms - LATE_MS) / 1000) * 1000
  local seen = windows_until(self, to, env)
  -- The first seconds of a load are not like those that follow, and it may have begun a moment ago.
  local patience_s = seen[1] and 0 or seen[REFERENCE_WINDOWS] and REFERENCE_S or not next(seen) and BEGINS_S or 0
  if now_ms < self.since_ms + patience_s * 1000 then
    self.why = ("waits for %d s of traffic to compare with"):format(REFERENCE_S)
    return
  end
  self.why = nil
  local span = env.span(self.routes, to - REFERENCE_S * 1000, to)
  if not span or span.requests < self.requests_least then
    return self:finish(now_ms, "ABORTED", ("there is too little traffic to tell: %d requests in %d s"):format(span and span.requests or 0, REFERENCE_S), env)
  end
  local rps = span.requests / math.max(1, span.span_s or REFERENCE_S)
  local windows = {}
  for i = 1, REFERENCE_WINDOWS do windows[#windows + 1] = seen[i] end
  self.reference = { requests = span.requests, rps = rps, error_rate = span.errors / span.requests, p99_ms = span.p99_ms, mean_ms = span.mean_ms, value = span[self.metric],
    windows = windows, restarts = env.restarts() }
  local settle = math.max(1, math.ceil(self.settle_s))
  self.block_s = self.block_s or math.max(BLOCK_LEAST_S, 3 * settle, settle + math.ceil(self.requests_least * 1.5 / rps))
  if self.block_s > BLOCK_MOST_S then
    return self:finish(now_ms, "ABORTED", ("there is too little traffic to tell: %.1f requests a second"):format(rps), env)
  end
  self.touched, self.started_ms = true, now_ms
  self.workers, self.worker = 1, nil
  if env.workers then self.workers, self.worker = env.workers(self) end
  self.window_s = canary.window_s(self, self.workers, rps)
  self.design = self.window_s and env.arms { self.worker } and "canary" or "switchback"
  move(self, now_ms, "CANARY", nil, env)
  if self.phase == "CANARY" then design(self).begin(self, now_ms, self.seed) end
end

local function take_turns(self, now_ms, env)
  local done, why = switch(self, false, env)
  if not done then return self:finish(now_ms, "ABORTED", why, env) end
  env.arms()
  self.design, self.before = "switchback", nil
  switchback.begin(self, now_ms, self.seed)
end

-- One step of an experiment; `better` is what comes behind it.
local function experiment(self, now_ms, env, better)
  local d = design(self)
  local verdict, tripped = d.step(self, now_ms, env)
  if tripped then return self:finish(now_ms, "ROLLED_BACK", tripped, env) end
  if verdict == "unsuited" then return take_turns(self, now_ms, env) end
  if verdict == "running" then
    local on, workers, arm = d.wants(self, now_ms)
    if on and not self.on then self.on_ms = now_ms end
    if self.on and not on then self.off_ms = now_ms end
    local done, why = switch(self, on, env, workers, arm)
    if not done then return self:finish(now_ms, "ABORTED", why, env) end
    return
  end
  local result = d.result(self)
  self[self.phase == "CANARY" and "canary" or "confirm"] = result
  if verdict == "better" then return better(result) end
  if verdict == "worse" then return self:finish(now_ms, "ROLLED_BACK", ("%s became worse: %+.0f %%"):format(self.metric, result.change * 100), env) end
  if verdict == "no_effect" then return self:finish(now_ms, "NO_EFFECT", ("no effect on %s after %s"):format(self.metric, d.counted(result)), env) end
  if result.verdict == "better" then
    return self:finish(now_ms, "INCONCLUSIVE", ("%s became better, but perhaps at the price of %s"):format(self.metric, self.suspect), env)
  end
  return self:finish(now_ms, "INCONCLUSIVE", ("%s could not tell an effect on %s from chance"):format(d.counted(result), self.metric), env)
end

-- How far the change goes at a time of EXPAND; false when it has gone all the way.
local function expand(self, now_ms, env)
  local steps = design(self).expand(self)
  local step = steps[1 + math.floor((now_ms - self.since_ms) / (1000 * math.max(EXPAND_LEAST_S, 3 * self.settle_s)))]
  if not step then return false end
  local done, why = switch(self, true, env, step.workers)
  if not done then self:finish(now_ms, "ABORTED", why, env) end
  return true
end

function phases.CANARY(self, now_ms, env)
  return experiment(self, now_ms, env, function(result)
    self.on_ms = now_ms
    move(self, now_ms, "EXPAND", ("%s %+.0f %% in %s"):format(self.metric, result.change * 100, design(self).counted(result)), env)
    if self.phase == "EXPAND" then expand(self, now_ms, env) end
  end)
end

function phases.EXPAND(self, now_ms, env)
  if expand(self, now_ms, env) then return end
  move(self, now_ms, "CONFIRM", nil, env)
  if self.phase == "CONFIRM" then design(self).begin(self, now_ms, (self.seed * 31 + 17) % 2 ^ 48) end
end

function phases.CONFIRM(self, now_ms, env)
  return experiment(self, now_ms, env, function(result)
    local why = ("%s %+.0f %% (%+.0f to %+.0f %%) in %s, after %+.0f %% in the canary"):format(self.metric, result.change * 100,
      (result.change_lo or result.change) * 100, (result.change_hi or result.change) * 100, design(self).counted(result), self.canary.change * 100)
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
    if self.design == "canary" then env.arms() end
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
  local part = self.experiment and design(self).progress(self) or 0
  local base = { PRECHECK = 0, CANARY = 0.02, EXPAND = 0.5, CONFIRM = 0.55, KEEPING = 0.99 }
  local share = { CANARY = 0.46, CONFIRM = 0.43 }
  return M.ended[self.phase] and 1 or (base[self.phase] or 0) + part * (share[self.phase] or 0)
end

return M
