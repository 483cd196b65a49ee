--- Two values of a setting, measured by turns.
--
--     pair 0         pair 1         pair 2
--     [ a ][ B ]     [ B ][ a ]     [ B ][ a ] ...      a coin says which comes first
--
-- The coins and the test are those of a switchback (core/ml/switchback.h) over the logarithm of each block's p95; its clock
-- stands still between blocks; it ends as soon as there is a verdict. The values are in force as a trial's are: if control dies, they are let go of by themselves.

local core, require = ...

local admin = require "perilune.admin"
local ml = require "perilune.ml"

local M = {}

local PAIRS, PAIRS_LEAST, PAIRS_MOST = 6, 4, 20
local BLOCK_S, SETTLE_LEAST_S, SETTLE_MOST_S = 4, 0.5, 30
local LEASE_SPARE_S = 30
local TURN_MS = 1000     -- of a block on the clock of the test

local array, null = core.json.array, core.json.null

local function number_of(value, least, most) return type(value) == "number" and value >= least and value <= most end

--- What was asked for, complete: { setting, a, b, pairs, block_s, settle_s }. Or nil, the field that is wrong, and why.
function M.new(asked)
  local names = { "a", "b", "block_s", "pairs", "setting" }
  for name in pairs(asked) do
    local known = false
    for _, one in ipairs(names) do known = known or one == name end
    if not known then
      local near = core.nearest(tostring(name), names)
      return nil, tostring(name), ("unknown field '%s'%s"):format(tostring(name), near and (", did you mean '%s'?"):format(near) or "; compare has setting, a, b, pairs and block_s")
    end
  end
  local now = type(asked.setting) == "string" and admin.trials.state(asked.setting) or nil
  if not now then return nil, "setting", "'setting' is the name of a setting, as GET config shows it" end
  if not now.group then return nil, "setting", ("'%s' is for an operator to change: no trial may, and no benchmark"):format(asked.setting) end
  for _, which in ipairs { "a", "b" } do
    local value = asked[which]
    if now.type == "boolean" and type(value) ~= "boolean" then return nil, which, ("'%s' is true or false, as '%s' is"):format(which, asked.setting) end
    if now.type ~= "boolean" and not number_of(value, now.min, now.max) then return nil, which, ("'%s' is a number from %.14g to %.14g"):format(which, now.min, now.max) end
    if now.type == "integer" and value ~= math.floor(value) then return nil, which, ("'%s' is a whole number, as '%s' is"):format(which, asked.setting) end
  end
  if asked.a == asked.b then return nil, "b", "'b' is another value than 'a'" end
  local turns, block_s = asked.pairs or PAIRS, asked.block_s or BLOCK_S
  if not number_of(turns, PAIRS_LEAST, PAIRS_MOST) or turns ~= math.floor(turns) then return nil, "pairs", ("'pairs' is a whole number from %d to %d"):format(PAIRS_LEAST, PAIRS_MOST) end
  if not number_of(block_s, 0.5, 30) then return nil, "block_s", "'block_s' is seconds, 0.5 to 30" end
  local settle_s = math.min(math.max(now.settle_s or 0, SETTLE_LEAST_S), SETTLE_MOST_S)
  return { setting = asked.setting, a = asked.a, b = asked.b, pairs = turns, block_s = block_s, settle_s = settle_s, seed = math.random(2 ^ 31), blocks = {} }
end

--- How long it may take, in seconds.
function M.longest(c) return 2 * c.pairs * (c.block_s + c.settle_s + 2) end

local function test(c)
  local s = ml.switchback(0, { block_ms = TURN_MS, washout_ms = 1, seed = c.seed, least = PAIRS_LEAST, most = c.pairs })
  for i, block in ipairs(c.blocks) do s:add(i * TURN_MS - 1, TURN_MS - 2, math.log(block.p95_ms)) end
  s:close(#c.blocks * TURN_MS)
  return s
end

--- Whether there is a verdict, or all blocks are.
function M.over(c) return #c.blocks == 2 * c.pairs or test(c):result().verdict ~= "running" end

--- The value of the next block is put in force. Returns it; or nil and why.
function M.begin(c)
  local value = c.a
  if test(c):at(#c.blocks * TURN_MS + TURN_MS / 2).on then value = c.b end
  local done, why = admin.trials.try(c.setting, value)
  if not done then return nil, why end
  admin.trials.renew(c.block_s + c.settle_s + LEASE_SPARE_S)
  return value
end

--- What the block with this value measured: a result of `perilune bench`. False: it measured nothing.
function M.add(c, value, result)
  local ms = result and result.response_ms
  if not ms or result.answered == 0 or ms.p95 <= 0 then return false end
  c.blocks[#c.blocks + 1] = { value = value, p50_ms = ms.p50, p95_ms = ms.p95, p99_ms = ms.p99, requests_per_second = result.requests_per_second.median,
    failed = result.unexpected + result.timeouts + result.broken + result.dropped, valid = result.valid }
  return true
end

--- The stable value is in force again.
function M.finish(c)
  admin.trials.restore(c.setting)
  admin.trials.renew(0)
end

-- The middle of what the blocks with this value say.
local function summary(c, value)
  local out = {}
  for _, name in ipairs { "p50_ms", "p95_ms", "p99_ms", "requests_per_second" } do
    local values = {}
    for _, block in ipairs(c.blocks) do
      if block.value == value then values[#values + 1] = block[name] end
    end
    table.sort(values)
    out[name] = values[math.ceil(#values / 2)] or null
  end
  return out
end

local WORDS = { better = "b is better", worse = "b is worse", no_effect = "no difference", inconclusive = "inconclusive", running = "inconclusive" }

--- What the blocks say: the verdict, the effect of b against a as a share (-0.1: 10 % less) with an interval that holds at any
-- number of looks, and the blocks.
function M.result(c)
  local result = test(c):result()
  local out = { setting = c.setting, metric = "p95_ms", a = { value = c.a }, b = { value = c.b }, blocks = array(), pairs = result.n, verdict = WORDS[result.verdict], valid = #c.blocks > 0, reasons = array() }
  for _, which in ipairs { "a", "b" } do
    for name, value in pairs(summary(c, c[which])) do out[which][name] = value end
  end
  local known = result.lo and result.hi and result.lo > -math.huge and result.hi < math.huge
  out.effect = known and { estimate = math.exp(result.estimate) - 1, low = math.exp(result.lo) - 1, high = math.exp(result.hi) - 1 } or null
  local invalid, failed = 0, 0
  for i, block in ipairs(c.blocks) do
    out.blocks[i] = block
    invalid, failed = invalid + (block.valid and 0 or 1), failed + block.failed
  end
  local function doubt(text)
    out.valid = false
    out.reasons[#out.reasons + 1] = text
  end
  if not M.over(c) then doubt(("%d of %d blocks were measured"):format(#c.blocks, 2 * c.pairs)) end
  if invalid > 0 then doubt(("%d blocks are not valid"):format(invalid)) end
  if failed > 0 then doubt(("%d requests failed"):format(failed)) end
  return out
end

return M
