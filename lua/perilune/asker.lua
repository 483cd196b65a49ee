--- Asks functions of rule files. Each rule has so much CPU time in a look, and all have so much together, for control must be back
-- before the supervisor takes it for hung: one that does not end takes neither its fellows nor the look with it. It is not asked
-- again then; who asks is made anew when a file has changed.
--
--     local asker = M.new()
--     asker:begin()                               a look begins
--     asker:ask(rule, fn, ...)                    true, the answer; or false, why not, and true when it is not asked again;
--                                                 or false: the others took all the time there is, it is asked in the next look
local core = ...

local RULE_MS = 50  -- a rule, for all that it is asked about in a look: it takes microseconds
local LOOK_MS = 150 -- all of them

local asker = {}
asker.__index = asker

local M = {}

function M.new() return setmetatable({ used = {}, dead = {}, left_ms = LOOK_MS }, asker) end

function asker:begin()
  self.left_ms = LOOK_MS
  for rule in pairs(self.used) do self.used[rule] = nil end
end

local function too_much() return ("it used more than %d ms of CPU time in one look: do less"):format(RULE_MS) end

function asker:ask(rule, fn, ...)
  if self.dead[rule] then return false, self.dead[rule], true end
  if self.left_ms <= 0 then return false end
  local used = self.used[rule] or 0
  local ok, answer, more, interrupted = core.bounded(RULE_MS - used, fn, ...)
  if more > 0 then self.used[rule], self.left_ms = used + more, self.left_ms - more end
  if interrupted or used + more >= RULE_MS then self.dead[rule] = interrupted and tostring(answer) or too_much() end
  return ok, answer, self.dead[rule] ~= nil
end

return M
