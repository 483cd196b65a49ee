--- Events for clients that listen: a bounded ring, each event made into text once for all of them.
--
-- An id is "EPOCH-N". The epoch is of the control process that counted, so that an id of another one is known to be no
-- place in this ring. Who has fallen behind the oldest event (slow, or long away) goes on at the oldest and is told how
-- many were dropped. The module knows no clock and no client.
-- SPDX-License-Identifier: MIT

local core = ...

local M = {}

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
  for n = math.max(self.first, position + 1), self.last do list[#list + 1] = self.events[n].text end
  return table.concat(list), self.last, dropped
end

--- What outlives a reload: everything but the ticks, whose places stay empty of text.
function feed:dump()
  local kept = {}
  for n = self.first, self.last do
    local event = self.events[n]
    if event.kind ~= "tick" then kept[#kept + 1] = { n, event.kind, event.text } end
  end
  return { epoch = self.epoch, first = self.first, last = self.last, kept = kept }
end

--- Goes on from a dump.
function M.restore(dump, most)
  local self = M.new(dump.epoch, most)
  self.first, self.last = dump.first, dump.last
  for n = dump.first, dump.last do self.events[n] = { kind = "tick", text = "" } end
  for _, one in ipairs(dump.kept) do self.events[one[1]] = { kind = one[2], text = one[3] } end
  return self
end

return M
