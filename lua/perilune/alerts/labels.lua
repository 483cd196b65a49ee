--- Labels of alerts: who is who, and who is meant.
--
-- A matcher is a text per label: "GET" is equal, "/api/*" takes any text for each '*', and '!' in front turns it round.
-- A label that is absent is the empty text, as in Alertmanager.
-- SPDX-License-Identifier: MIT

local M = {}

local bxor, tobit, lshift, tohex = bit.bxor, bit.tobit, bit.lshift, bit.tohex

-- FNV-1a of 32 bits (Fowler, Noll, Vo); h * 16777619 in parts that a double holds.
local function fnv(text, h)
  for i = 1, #text do
    h = bxor(h, text:byte(i))
    h = tobit(h * 403 + lshift(h, 24))
  end
  return h
end

function M.names(labels)
  local names = {}
  for name in pairs(labels) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- All labels as one text, the same for the same labels.
function M.text(labels)
  local parts = {}
  for i, name in ipairs(M.names(labels)) do parts[i] = name .. "\31" .. labels[name] end
  return table.concat(parts, "\30")
end

--- 16 hexadecimal digits that stand for a set of labels.
function M.fingerprint(labels)
  local text = M.text(labels)
  return tohex(fnv(text, tobit(0x811c9dc5))) .. tohex(fnv("\1" .. text, tobit(0x1000193)))
end

--- Whether a text is what a pattern with '*' says. Linear: after each star the next part is taken where it first occurs.
function M.glob(pattern, text)
  if not pattern:find("*", 1, true) then return pattern == text end
  local head, rest = pattern:match "^([^*]*)%*(.*)$"
  if text:sub(1, #head) ~= head then return false end
  local at = #head + 1
  while true do
    local part, more = rest:match "^([^*]*)%*(.*)$"
    if not part then break end
    local first, last = text:find(part, at, true)
    if not first then return false end
    at, rest = last + 1, more
  end
  return #text - at + 1 >= #rest and (rest == "" or text:sub(-#rest) == rest)
end

--- Whether labels are those that all matchers ask for.
function M.matches(matchers, labels)
  for name, wanted in pairs(matchers) do
    local turned = wanted:sub(1, 1) == "!"
    local fits = M.glob(turned and wanted:sub(2) or wanted, labels[name] or "")
    if fits == turned then return false end
  end
  return true
end

--- The labels of these names that there are, as a table.
function M.pick(labels, names)
  local out = {}
  for _, name in ipairs(names) do out[name] = labels[name] end
  return out
end

-- The values of some labels as one text; nil where one is absent.
local function values(names, set)
  local parts = {}
  for i, name in ipairs(names) do
    if set[name] == nil then return nil end
    parts[i] = set[name]
  end
  return table.concat(parts, "\31")
end

--- Who keeps whom quiet. `rules` are { source, target, equal }, `firing` a list of alerts { id, labels }: a source and a
-- target must both have the labels of `equal`, with the same values, and nobody keeps itself quiet. Returns a function
-- (id, labels) that gives the source, or nil.
function M.inhibition(rules, firing)
  local sources = {}
  for i, rule in ipairs(rules) do
    sources[i] = {}
    for _, alert in ipairs(firing) do
      local key = M.matches(rule.source, alert.labels) and values(rule.equal, alert.labels)
      if key then
        local list = sources[i][key] or {}
        sources[i][key] = list
        if #list < 2 then list[#list + 1] = alert end -- one of two is not the target
      end
    end
  end
  return function(id, set)
    for i, rule in ipairs(rules) do
      local key = next(sources[i]) and M.matches(rule.target, set) and values(rule.equal, set)
      for _, alert in ipairs(key and sources[i][key] or {}) do
        if alert.id ~= id then return alert end
      end
    end
  end
end

return M
