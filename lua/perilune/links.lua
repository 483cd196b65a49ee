--- What belongs together: an alert, the issue it is a symptom of, and the suggestion that answers that.
--
--     alert { labels } --labels.issue, or the same route, pool or host--> issue { affected, target } <--issue-- suggestion
--
-- The three live in three files of rules, each with modules of its own; each tells here what is open (M.tell), in few words,
-- and asks for the ids that go with one of its own (M.of). Nothing is stored: what ends is linked no more.
-- SPDX-License-Identifier: MIT

local core = ...

local M = {}

local KINDS = { "alerts", "issues", "suggestions" }
local MOST = 200 -- of a kind

local function key(kind) return "links." .. kind end

--- What is open now. alerts: { id, labels }; issues: { id, target, affected }; suggestions: { id, issue }.
function M.tell(kind, list)
  local few = core.json.array()
  for i = 1, math.min(#list, MOST) do few[i] = list[i] end
  local text = core.json.encode(few)
  if core.keep.get(key(kind)) ~= text then core.keep.put(key(kind), text) end
end

--- Trials that were taken back lately: { id, routes, began_s, ended_s } each, times in s since 1970.
function M.take_back(list) core.keep.put(key "taken_back", core.json.encode(core.json.array(list))) end

function M.taken_back() return core.json.decode(core.keep.get(key "taken_back") or "[]") end

local read = {} -- kind > text and what it says

local function list_of(kind)
  local text = core.keep.get(key(kind)) or "[]"
  if not read[kind] or read[kind].text ~= text then read[kind] = { text = text, list = core.json.decode(text) } end
  return read[kind].list
end

local function is_about(issue, name)
  if issue.target == name then return true end
  for _, one in ipairs(issue.affected or {}) do
    if one == name or one:match "^%S+ (.*)$" == name then return true end
  end
  return false
end

-- Whether an alert and an issue speak of the same.
local function is_same(alert, issue)
  local labels = alert.labels or {}
  if labels.issue then return labels.issue == issue.id end
  if labels.route then return is_about(issue, labels.method and labels.method .. " " .. labels.route or labels.route) end
  if labels.pool then return is_about(issue, labels.pool) end
  return issue.target == "host" and alert.on == "host"
end

local function ids(out)
  table.sort(out)
  return core.json.array(out)
end

--- The ids that go with one: { issues, suggestions } of an alert, { alerts, suggestions } of an issue, { alerts } of a suggestion.
function M.of(kind, one)
  local out = { alerts = {}, issues = {}, suggestions = {} }
  if kind == "alerts" then
    for _, issue in ipairs(list_of "issues") do
      if is_same(one, issue) then out.issues[#out.issues + 1] = issue.id end
    end
  elseif kind == "issues" then
    out.issues[1] = one.id
  elseif one.issue then
    out.issues[1] = one.issue
  end
  local named = {}
  for _, id in ipairs(out.issues) do named[id] = true end
  if kind ~= "suggestions" then
    for _, suggestion in ipairs(list_of "suggestions") do
      if named[suggestion.issue] then out.suggestions[#out.suggestions + 1] = suggestion.id end
    end
  end
  if kind ~= "alerts" then
    for _, issue in ipairs(list_of "issues") do
      for _, alert in ipairs(named[issue.id] and list_of "alerts" or {}) do
        if is_same(alert, issue) then out.alerts[#out.alerts + 1] = alert.id end
      end
    end
  end
  for _, each in ipairs(KINDS) do out[each] = ids(out[each]) end
  out[kind] = nil
  if kind == "suggestions" then out.issues = nil end
  return out
end

return M
