--- Events for clients that listen: a bounded ring, each event made into text once for all of them.
--
-- An id is "EPOCH-N". The epoch is of the control process that counted, so that an id of another one is known to be no
-- place in this ring. Who has fallen behind the oldest event (slow, or long away) goes on at the oldest and is told how
-- many were dropped. The module knows no clock and no client.
-- SPDX-License-Identifier: MIT

local core = ...

local M = {}

local KEPT_MOST = 200

local feed = {}
feed.__index = feed

--- `epoch` is a whole number, `most` how many events are kept.
function M.new(epoch, most)
  return setmetatable({ epoch = epoch, most = most, first = 1, last = 0, events = {} }, feed)
end

--- Adds an event. `data` is a table, written as JSON.
function feed:add(kind, data)
  self.last = self.last + 1
  self.events[self.last] = { kind = kind, text = ("id: %d-%d\nevent: %s\ndata: %s\n\n"):format(self.epoch, self.last, kind, core.json.encode(data)) }
  while self.last - self.first >= self.most do
    self.events[self.first] = nil
    self.first = self.first + 1
  end
end

--- Where somebody goes on who has seen `id` last: a position for after(); and how many are lost, nil where that is not known.
function feed:position(id)
  local epoch, n = (id or ""):match "^(%d+)%-(%d+)$"
  n = tonumber(n)
  if not n then return self.last, 0 end
  if tonumber(epoch) ~= self.epoch or n > self.last then return self.first - 1, nil end
  return n, 0
end

--- What comes after a position, as one text; the new position; and how many events were dropped before it.
function feed:after(position)
  if position >= self.last then return nil, position, 0 end
  local dropped = math.max(0, self.first - 1 - position)
  local list = {}
  for n = math.max(self.first, position + 1), self.last do
    local text = self.events[n].text
    if text then list[#list + 1] = text else dropped = dropped + 1 end
  end
  return #list > 0 and table.concat(list) or nil, self.last, dropped
end

--- What outlives a reload: the newest events that are no ticks.
function feed:dump()
  local kept = {}
  for n = self.last, self.first, -1 do
    local event = self.events[n]
    if event.text and event.kind ~= "tick" and #kept < KEPT_MOST then kept[#kept + 1] = { n, event.kind, event.text } end
  end
  return { epoch = self.epoch, last = self.last, kept = kept }
end

--- Goes on from a dump; `last` is how far it had come since. What was not kept counts as dropped for who asks for it.
function M.restore(dump, last, most)
  local self = M.new(dump.epoch, most)
  self.last = math.max(dump.last, last)
  self.first = math.max(1, self.last - most + 1)
  for n = self.first, self.last do self.events[n] = { kind = "tick" } end
  for _, one in ipairs(dump.kept) do
    if one[1] >= self.first then self.events[one[1]] = { kind = one[2], text = one[3] } end
  end
  return self
end

return M
