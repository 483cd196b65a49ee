--- What the engine knows now, as the things that policies are about.
--
--     route    the signals of its requests of the last alerts.window_s seconds, and how many `requests` they are
--     host, pool   as the analyzer sees them
--     engine   reload_refused (1: the newest files are not in force), quarantined (routes), store_trouble (1)
--     issue    an open one of the analyzer: level 1 (low) to 4 (critical)
-- SPDX-License-Identifier: MIT

local core = ...

local M = {}

local LEVELS = { low = 1, medium = 2, high = 3, critical = 4 }

local function flat(one, name_labels)
  local thing = { name = one.name, labels = name_labels, requests = one.requests }
  for signal, value in pairs(one.now) do thing[signal] = value end
  return thing
end

local function routes(window_s)
  local list = core.counts.window(window_s).routes
  for _, thing in ipairs(list) do thing.labels = { route = thing.route, method = thing.method } end
  return list
end

-- Refused: not a file since has been taken.
local function reload_refused()
  local newest = core.control.records()[1]
  return newest and (newest.result == "refused" or newest.result == "rolled_back") and 1 or 0
end

local function engine(trouble)
  local why = trouble
  for name, message in pairs(core.journal.failures()) do why = why or ("%s.journal cannot be written: %s"):format(name, message) end
  why = why or core.store.state().trouble
  local dead = core.control.quarantined()
  return { name = "engine", labels = {}, reload_refused = reload_refused(), quarantined = #dead, store_trouble = why and 1 or 0,
    why = why or "", routes = table.concat(dead, ", ") }
end

local seen_text, seen_issues = nil, {}

-- The analyzer keeps its book as a text.
local function issues()
  local text = core.keep.get "analyzer"
  if text ~= seen_text then
    seen_text, seen_issues = text, {}
    for _, issue in pairs(text and core.json.decode(text).open or {}) do
      seen_issues[#seen_issues + 1] = { name = issue.id, labels = { issue = issue.id, type = issue.type, code = issue.code, target = issue.target },
        level = LEVELS[issue.severity] or 0, title = issue.title, cause = issue.cause_text }
    end
  end
  return seen_issues
end

--- `window_s` for routes; `trouble`: why the state of alerts itself cannot be kept, or nil.
function M.things(window_s, trouble)
  local all = { route = routes(window_s), host = {}, pool = {}, engine = { engine(trouble) }, issue = issues() }
  for _, one in ipairs(core.watch.things()) do
    if one.kind == "host" then
      all.host[1] = flat(one, {})
    elseif one.kind == "pool" then
      all.pool[#all.pool + 1] = flat(one, { pool = one.name })
    end
  end
  return all
end

--- Requests that ended behind `after_ms`, by route, and until when: for error budgets.
function M.events(after_ms, bounds)
  local got = core.counts.after(after_ms, bounds)
  return got.routes, got.to_ms
end

return M
