--- Whether a signal only grows: Mann-Kendall's tau over the last seconds, -1 to 1 (H. B. Mann, 1945; M. G. Kendall, 1948).

local M = {}

local KEPT = 120 -- samples of a signal

--- A memory of some signals of one thing.
function M.new(signals)
  local kept = {}
  for _, name in ipairs(signals) do kept[name] = {} end
  local self = {}

  function self.add(now)
    for name, list in pairs(kept) do
      if now[name] then list[#list + 1] = now[name] end
      if #list > KEPT then table.remove(list, 1) end
    end
  end

  --- tau of the last n samples, and the last less the first of them; 0 while there are fewer.
  function self.tau(name, n)
    local list = kept[name]
    n = math.min(n, KEPT)
    if not list or #list < n or n < 3 then return 0, 0 end
    local first, sum = #list - n, 0
    for i = first + 1, #list - 1 do
      for j = i + 1, #list do sum = sum + (list[j] > list[i] and 1 or list[j] < list[i] and -1 or 0) end
    end
    return sum / (n * (n - 1) / 2), list[#list] - list[first + 1]
  end

  return self
end

return M
