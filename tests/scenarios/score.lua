--- What the laboratory counts, and how it is said: rates with Wilson's intervals, means by scenario (so that one with many
--- runs weighs no more than another) with an interval by resampling scenarios, and which issue was taken for which.
local score = {}
score.__index = score

function score.new() return setmetatable({ by = {}, order = {}, taken = {}, clean_s = 0, noise = 0, moved = 0, broke = 0, times = {}, errors = {}, harm = {}, recovered = {} }, score) end

local SUMS, LISTS = { "clean_s", "noise", "moved", "broke" }, { "times", "errors", "harm", "recovered" }

--- Adds what another run counted: a score, or one that was decoded from JSON.
function score:merge(other)
  for what, all in pairs(other.by) do
    for scenario, one in pairs(all) do
      self.by[what] = self.by[what] or {}
      local own = self.by[what][scenario] or { hits = 0, n = 0 }
      self.by[what][scenario] = { hits = own.hits + one.hits, n = own.n + one.n }
    end
  end
  for _, truth in ipairs(other.order) do
    for said, n in pairs(other.taken[truth]) do
      for _ = 1, n do self:confuse(truth, said) end
    end
  end
  for _, name in ipairs(SUMS) do self[name] = self[name] + (other[name] or 0) end
  for _, name in ipairs(LISTS) do
    for _, value in ipairs(other[name]) do table.insert(self[name], value) end
  end
end

--- "x of n, p % (lo to hi)" (Wilson 1927).
function score.wilson(hits, n)
  if n == 0 then return "no run" end
  local z, p = 1.96, hits / n
  local centre, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
  return ("%d of %d, %.0f %% (%.0f to %.0f)"):format(hits, n, p * 100, math.max(0, centre - half) * 100, math.min(100, (centre + half) * 100))
end

--- One answer of a scenario: what ("issue", "top3", "top1", "forbidden", "silent"), and whether it was so.
function score:add(what, scenario, hit)
  local all = self.by[what] or {}
  self.by[what] = all
  all[scenario] = all[scenario] or { hits = 0, n = 0 }
  all[scenario].n = all[scenario].n + 1
  if hit then all[scenario].hits = all[scenario].hits + 1 end
end

--- An issue that was right here was called so there.
function score:confuse(truth, said)
  if not self.taken[truth] then
    self.taken[truth] = {}
    self.order[#self.order + 1] = truth
  end
  self.taken[truth][said] = (self.taken[truth][said] or 0) + 1
end

local function mean(shares)
  local sum = 0
  for _, share in ipairs(shares) do sum = sum + share end
  return #shares > 0 and sum / #shares or 0 / 0
end

--- The mean over scenarios and its 95 % interval, by drawing scenarios again (Efron 1979); and the runs behind it.
function score:macro(what)
  local names, shares, hits, n = {}, {}, 0, 0
  for name in pairs(self.by[what] or {}) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local one = self.by[what][name]
    shares[i] = one.hits / one.n
    hits, n = hits + one.hits, n + one.n
  end
  if n == 0 then return "no run" end
  local drawn, state = {}, 1
  for i = 1, 1000 do
    local again = {}
    for j = 1, #shares do
      state = state * 16807 % 2147483647
      again[j] = shares[1 + state % #shares]
    end
    drawn[i] = mean(again)
  end
  table.sort(drawn)
  return ("%.0f %% of %d scenarios (%.0f to %.0f); runs: %s"):format(mean(shares) * 100, #shares, drawn[26] * 100, drawn[975] * 100, score.wilson(hits, n))
end

--- Whether at least half was right, no harm stayed, and the laboratory itself did what it should.
function score:passed()
  local hits, n = 0, 0
  for _, what in ipairs { "issue", "top3", "silent" } do
    for _, one in pairs(self.by[what] or {}) do hits, n = hits + one.hits, n + one.n end
  end
  for _, one in ipairs(self.harm) do
    if not one.right then return false end
  end
  return self.broke == 0 and hits >= n / 2
end

local function median(list)
  if #list == 0 then return 0 / 0 end
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

local function within(list, factor)
  local hits = 0
  for _, one in ipairs(list) do
    if math.abs(math.log(one)) <= math.log(factor) then hits = hits + 1 end
  end
  return hits
end

function score:print()
  print("\nwhat was planted, and the issue that came first:")
  for _, truth in ipairs(self.order) do
    local said = {}
    for code, n in pairs(self.taken[truth]) do said[#said + 1] = ("%s %d"):format(code, n) end
    table.sort(said)
    print(("  %-28s %s"):format(truth, table.concat(said, ", ")))
  end
  print("")
  print("issue right             " .. self:macro "issue")
  print("suggestion in top 3     " .. self:macro "top3")
  print("suggestion first        " .. self:macro "top1")
  print("forbidden shown         " .. self:macro "forbidden")
  print("silent when all is well " .. self:macro "silent")
  if self.clean_s > 0 then
    print(("false suggestions       %.1f an hour of %.0f clean seconds; settings moved: %d"):format(self.noise / self.clean_s * 3600, self.clean_s, self.moved))
  end
  if #self.times > 0 then print(("time to detect          median %.0f s of %d"):format(median(self.times), #self.times)) end
  if #self.errors > 0 then
    print(("prediction within 2x    %s"):format(score.wilson(within(self.errors, 2), #self.errors)))
  end
  if #self.recovered > 0 then print(("gain of the best setting recovered: median %.0f %% of %d"):format(median(self.recovered) * 100, #self.recovered)) end
  if self.broke > 0 then print("the laboratory broke    " .. self.broke .. " times: not scored") end
  if #self.harm > 0 then
    local right, gross = 0, {}
    for _, one in ipairs(self.harm) do
      if one.right then right = right + 1 end
      if one.gross and one.right then gross[#gross + 1] = one.seconds end
    end
    print("harm taken back         " .. score.wilson(right, #self.harm))
    if #gross > 0 then print(("gross harm was on for   median %.1f s, most %.1f s"):format(median(gross), gross[#gross])) end
  end
end

return score
