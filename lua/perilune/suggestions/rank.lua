--- What a suggestion is worth, and which comes first.
--
--     benefit    = requests a second * time saved (user-seconds a second) + CPU cores freed, as far as the rule was right before
--     confidence = enough samples * how often the rule was verified (a prior of 2 in 3)
--     ROI        = benefit * confidence / (effort * (1 + risk / 4))
--     priority   P1: answers a severe issue and saves a fifth; P2: a tenth, or half a core; P3: 3 %; P4: the rest

local _, require = ...

local rules = require "perilune.suggestions.rules"

local M = {}

local SMOOTH = 0.3
local TRUSTED_AFTER, TRUSTED_SHARE = 10, 0.5
local FACTOR_LEAST, FACTOR_MOST = 0.1, 3
local SAMPLES_ENOUGH = 200

-- ---- calibration ----

--- What is known of a rule: { ended, verified, log_ratio, spread }.
function M.calibration(known) return known or { ended = 0, verified = 0, measured = 0, log_ratio = 0, spread = 0 } end

--- A trial has ended. `predicted` and `measured` are relative changes (-0.3: 30 % less), measured only when it was verified.
function M.learn(known, verified, predicted, measured)
  known = M.calibration(known)
  known.ended = known.ended + 1
  if verified then known.verified = known.verified + 1 end
  if verified and predicted and measured and predicted ~= 0 and measured / predicted > 0 then
    local ratio = math.log(measured / predicted)
    local weight = known.measured == 0 and 1 or SMOOTH
    known.spread = known.spread + weight * (math.abs(ratio - known.log_ratio) - known.spread)
    known.log_ratio = known.log_ratio + weight * (ratio - known.log_ratio)
    known.measured = known.measured + 1
  end
  return known
end

--- Whether the rule may act by itself.
function M.is_trusted(known)
  known = M.calibration(known)
  return known.ended < TRUSTED_AFTER or known.verified / known.ended >= TRUSTED_SHARE
end

-- ---- worth ----

local function clamp(x, least, most) return math.max(least, math.min(most, x)) end

--- The impact as the rule gives it, checked and calibrated; nil when it gives none. Relative change is negative when less.
function M.impact(raw, known, rps)
  if type(raw) ~= "table" or type(raw.now) ~= "number" or type(raw.predicted) ~= "number" or raw.now ~= raw.now or raw.predicted ~= raw.predicted then return nil end
  local factor = clamp(math.exp(M.calibration(known).log_ratio), FACTOR_LEAST, FACTOR_MOST)
  local function calibrated(x) return raw.now + (x - raw.now) * factor end
  local point = calibrated(raw.predicted)
  local lo, hi = calibrated(raw.lo or raw.predicted), calibrated(raw.hi or raw.predicted)
  if raw.now >= 0 then point, lo, hi = math.max(0, point), math.max(0, lo), math.max(0, hi) end
  local saved_ms = raw.metric:find "_ms$" and raw.now - point or raw.saves_ms or 0
  return { metric = raw.metric, now = raw.now, predicted = point, lo = math.min(lo, hi), hi = math.max(lo, hi), routes = raw.routes,
    change = raw.now ~= 0 and point / raw.now - 1 or 0, formula = raw.formula, inputs = raw.inputs, calibration = factor,
    rps = rps, saved_s_per_s = rps * saved_ms / 1000, cores = raw.cores or 0 }
end

function M.benefit(impact) return impact and math.max(0, impact.saved_s_per_s) + math.max(0, impact.cores) or 0 end

function M.confidence(known, samples)
  known = M.calibration(known)
  local reliability = (known.verified + 2) / (known.ended + 3) / (1 + known.spread)
  return clamp(samples / SAMPLES_ENOUGH, 0.1, 1) * clamp(reliability * 1.5, 0, 1)
end

function M.roi(benefit, confidence, effort, risk) return benefit * confidence / (rules.efforts[effort] * (1 + risk / 4)) end

--- `severity` of the issue that is answered, or nil.
function M.priority(impact, severity)
  if not impact then return severity and (severity == "critical" or severity == "high") and "P2" or severity and "P3" or "P4" end
  local less = math.abs(math.min(0, impact.change))
  if impact.direction == "up" then less = math.max(0, impact.change) end
  if less >= 0.2 and (severity == "critical" or severity == "high") then return "P1" end
  if less >= 0.1 or impact.cores >= 0.5 then return "P2" end
  if less >= 0.03 then return "P3" end
  return "P4"
end

return M
