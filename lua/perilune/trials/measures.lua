--- What trials compare: logarithms of what requests took, with and without the change.
--
-- Beside the metric that a trial is about, the tail and the other routes are watched for harm, with a smaller error budget
-- each. Both designs (perilune.trials.switchback, perilune.trials.canary) measure by this and weigh their verdicts by this.

local M = {}

M.LATE_MS = 600 -- after the end of a second, until its frame is there
M.WATCHED = { "metric", "tail", "others" }
M.HARM_ALPHA = 0.02

local HARM = math.log(1.05) -- what is longer by less is no harm, however sure it is
local TAIL_RATIO, TAIL_MS, TAILS, TAILS_BAD = math.log(1.5), 5, 5, 3
local FLOOR = { ms = 0.05, share = 0.001, bytes = 64 } -- least values a logarithm is taken of
local NAN = 0 / 0

-- The logarithm by which p99 and the other routes may become longer.
local function allowed(self) return math.log(1 + (self.price or 0)) end

local harms = { tail = "p99", others = "the mean time of the other routes" }

local function floor_of(metric)
  return metric:find "_ms$" and FLOOR.ms or metric:find "bytes" and FLOOR.bytes or (metric:find "share$" or metric:find "rate$") and FLOOR.share or FLOOR.ms
end

local function value_of(self, span)
  local x = span and span.requests >= self.requests_least and span[self.metric]
  if not x then return NAN end
  local y = math.log(math.max(x, floor_of(self.metric)))
  return self.direction == "up" and -y or y
end

local function log_of(x, least) return x and math.log(math.max(x, least)) or NAN end

-- Mean time of the requests that are not of the trial's routes.
local function others_of(self, span, from, to, env, arm)
  local all = self.routes and env.span(nil, from, to, arm)
  if not all or not all.mean_ms then return nil end
  local own = span and span.mean_ms and span.requests * span.mean_ms or 0
  local n = all.requests - (span and span.requests or 0)
  return n >= self.requests_least and (all.requests * all.mean_ms - own) / n or nil
end

--- What requests of an arm (nil: all) told from one time to another: a value for each of WATCHED, NaN where there were too
-- few, and { n, errors, p99 }.
function M.read(self, from, to, env, arm)
  local span = env.span(self.routes, from, to, arm)
  local enough = span and span.requests >= self.requests_least
  local values = { value_of(self, span), log_of(enough and span.p99_ms or nil, FLOOR.ms), log_of(others_of(self, span, from, to, env, arm), FLOOR.ms) }
  return values, { n = span and span.requests or 0, errors = span and span.errors or 0, p99 = span and span.p99_ms or 0 }
end

--- A value for the book, which has no NaN; and back.
function M.kept(y) return y == y and y end
function M.known(y) return y or NAN end

--- Whether the tail with the change (a) was half as long again (and its price) as without (b) in most of the last windows: why, or nil.
-- `usual` is the logarithm of their ratio where both arms are without the change.
function M.tails(self, list, a, b, usual)
  local bad = a.n >= self.requests_least and b.n >= self.requests_least and a.p99 - b.p99 > TAIL_MS and math.log(a.p99 / math.max(b.p99, FLOOR.ms)) - usual > TAIL_RATIO + allowed(self)
  list[#list + 1] = bad and 1 or 0
  if #list > TAILS then table.remove(list, 1) end
  local sum = 0
  for _, one in ipairs(list) do sum = sum + one end
  if sum >= TAILS_BAD then return ("p99 was more than %.1f times as long with the change in %d of %d windows"):format(math.exp(TAIL_RATIO + allowed(self)), sum, #list) end
end

--- What the metric's verdict is worth beside what else is watched; or nil and the harm. Better, as it seems at the price of
-- something else: that must be told apart before the change is called good. `last`: there is no more time for it.
function M.weigh(self, held, verdict, last)
  for name, says in pairs(harms) do
    local result = held[name]:result()
    if result.verdict == "worse" and result.estimate > HARM + allowed(self) then return nil, ("%s became longer with the change, by %.0f %%"):format(says, (math.exp(result.estimate) - 1) * 100) end
    if verdict == "better" and result.estimate and result.estimate > HARM + allowed(self) then
      verdict = last and "inconclusive" or "running"
      self.suspect = says
    end
  end
  return verdict
end

--- The result of an experiment of the metric, as a relative change. `unit` is what its n counts.
function M.result(self, experiment, unit)
  local r = experiment:result()
  local sign = self.direction == "up" and -1 or 1
  local out = { verdict = r.verdict, [unit] = r.n, lambda = math.min(r.lambda or 1e9, 1e9), log_estimate = r.estimate }
  if r.estimate then out.change = math.exp(sign * r.estimate) - 1 end
  if r.lo and r.hi and r.hi < 50 and r.lo > -50 then
    local a, b = math.exp(sign * r.lo) - 1, math.exp(sign * r.hi) - 1
    out.change_lo, out.change_hi = math.min(a, b), math.max(a, b)
  end
  return out
end

--- Notes how far it is, for whoever looks on.
function M.tell(e, result)
  e.intervals = e.intervals or {}
  e.intervals[#e.intervals + 1] = { change = result.change, lo = result.change_lo, hi = result.change_hi }
end

return M
