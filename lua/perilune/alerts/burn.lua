--- Error budgets: how fast they burn, over several windows. Pure: the time is given.
--
-- The burn rate is the share of bad events divided by the share that the objective allows: at 1 the budget lasts its whole
-- period. An alert needs two windows: the long one says that it matters, the short one that it goes on.
--
--     page    14.4 over 1 h and 5 min (2 % of 30 days' budget), or 6 over 6 h and 30 min (5 %)
--     ticket   3 over 1 d and 2 h (10 %), or 1 over 3 d and 6 h (10 %)
--
-- Where there is little traffic, one failure is a high rate: a page needs 10 bad events in its short window as well (a
-- ticket 3), and what that hides is said by a rule of its own: so many bad events in 6 hours.
--
-- Source: Beyer et al., The Site Reliability Workbook, 2018, chapter 5.
-- SPDX-License-Identifier: MIT

local M = {}

M.page = { { long = 3600, short = 300, factor = 14.4 }, { long = 21600, short = 1800, factor = 6 } }
M.ticket = { { long = 86400, short = 7200, factor = 3 }, { long = 259200, short = 21600, factor = 1 } }
M.LOW_WINDOW = 21600

-- Sums at the beginning of each step, for the short and for the long windows.
local FINE, FINE_KEPT = 15, 242
local COARSE, COARSE_KEPT = 300, 866

local counts = {}
counts.__index = counts

--- Sums of one indicator.
function M.new() return setmetatable({ total = 0, bad = 0, fine = { t = {}, total = {}, bad = {} }, coarse = { t = {}, total = {}, bad = {} } }, counts) end

local function note(self, ring, step, kept, now)
  local n = #ring.t
  if n > 0 and math.floor(ring.t[n] / step) == math.floor(now / step) then return end
  ring.t[n + 1], ring.total[n + 1], ring.bad[n + 1] = now, self.total, self.bad
  if n + 1 > kept then
    table.remove(ring.t, 1)
    table.remove(ring.total, 1)
    table.remove(ring.bad, 1)
  end
end

--- Events since the call before.
function counts:add(total, bad, now)
  note(self, self.fine, FINE, FINE_KEPT, now)
  note(self, self.coarse, COARSE, COARSE_KEPT, now)
  self.total, self.bad = self.total + total, self.bad + math.min(total, bad)
end

--- Events and bad ones of the last `seconds`, or since the first that is known. The window begins with the step before
-- it, so it is up to one step longer than asked for.
function counts:over(seconds, now)
  local ring = seconds <= 3600 and self.fine or self.coarse
  local low, high, from = 1, #ring.t, now - seconds
  if high == 0 then return 0, 0 end
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if ring.t[middle] <= from then low = middle else high = middle - 1 end
  end
  return self.total - ring.total[low], self.bad - ring.bad[low]
end

--- The burn rate over a window, and its events.
function counts:rate(seconds, objective, now)
  local total, bad = self:over(seconds, now)
  return total > 0 and bad / total / (1 - objective) or 0, total, bad
end

--- How far the worst pair of windows is beyond its factor: above 1 means that it burns; nil: there were no events.
-- `least` bad events in the short window are needed.
function counts:excess(pairs_of, objective, least, now)
  local worst, what = 0, nil
  if self:over(pairs_of[#pairs_of].long, now) == 0 then return nil end
  for _, one in ipairs(pairs_of) do
    local long = self:rate(one.long, objective, now)
    local short, _, bad = self:rate(one.short, objective, now)
    local excess = math.min(long, short) / one.factor
    if bad >= least and excess > worst then
      worst, what = excess, { long_s = one.long, short_s = one.short, factor = one.factor, long_burn = long, short_burn = short, bad = bad }
    end
  end
  return worst, what
end

--- Bad events of 6 hours where fewer than `rps` requests come a second; 0 where there are more.
function counts:low(rps, now)
  local total, bad = self:over(M.LOW_WINDOW, now)
  if total == 0 then return nil end
  local since = math.max(1, math.min(M.LOW_WINDOW, now - (self.coarse.t[1] or now)))
  return total / since < rps and bad or 0
end

function counts:dump() return { total = self.total, bad = self.bad, fine = self.fine, coarse = self.coarse } end

function M.restore(dump)
  local self = M.new()
  for _, name in ipairs { "total", "bad", "fine", "coarse" } do self[name] = dump[name] or self[name] end
  return self
end

return M
