--- Notifications on their way: a queue for each endpoint, in order, until it has taken them. Pure: time and chance are given.
--
-- One at a time: the first waits for its turn, is sent, and is gone or waits longer, so a dead receiver holds up nobody but
-- itself. Kept on the disk before it is sent and until it is taken, a notification may come twice, but is not lost, unless
-- too many wait (the oldest is given up), it is too old, or the receiver says that it will never take it.
-- SPDX-License-Identifier: MIT

local M = {}

local outbox = {}
outbox.__index = outbox

--- `limits` is read at each use: { most, age_s, retry_s, retry_most_s }. `on_lost(endpoint, entry, why)` hears of what is given up.
function M.new(limits, on_lost, kept)
  local self = setmetatable({ limits = limits, on_lost = on_lost or function() end, queues = {}, next_id = 1, counts = {} }, outbox)
  for name, value in pairs(kept or {}) do self[name] = value end
  return self
end

local function count_of(self, endpoint)
  self.counts[endpoint] = self.counts[endpoint] or { sent = 0, failed = 0, lost = 0 }
  return self.counts[endpoint]
end

local function lose(self, endpoint, index, why)
  local entry = table.remove(self.queues[endpoint], index)
  count_of(self, endpoint).lost = count_of(self, endpoint).lost + 1
  self.on_lost(endpoint, entry, why)
end

--- Queues a notification.
function outbox:put(endpoint, notification, now)
  local queue = self.queues[endpoint] or {}
  self.queues[endpoint] = queue
  queue[#queue + 1] = { id = self.next_id, queued_at = now, next_at = now, attempts = 0, notification = notification }
  self.next_id = self.next_id + 1
  while #queue > self.limits.most do
    lose(self, endpoint, 1, ("more than %d wait (alerts.outbox)"):format(self.limits.most))
  end
end

--- Alerts for an endpoint that only wants to know how each is now: what waits is one entry, the newest word on each counts.
function outbox:merge(endpoint, notification, now)
  local queue = self.queues[endpoint] or {}
  local last = queue[#queue]
  if not last or last.sending then return self:put(endpoint, notification, now) end
  local at = {}
  for i, one in ipairs(last.notification.alerts) do at[one.alert.id] = i end
  for _, one in ipairs(notification.alerts) do
    local i = at[one.alert.id] or #last.notification.alerts + 1
    last.notification.alerts[i], at[one.alert.id] = one, i
  end
end

--- The entry to send now, or nil.
function outbox:due(endpoint, now)
  local queue = self.queues[endpoint]
  while queue and queue[1] and now - queue[1].queued_at > self.limits.age_s do
    lose(self, endpoint, 1, ("it could not be delivered for %d s (alerts.outbox_s)"):format(self.limits.age_s))
  end
  local entry = queue and queue[1]
  return entry and entry.next_at <= now and entry or nil
end

local function index_of(queue, id)
  for i, entry in ipairs(queue or {}) do
    if entry.id == id then return i end
  end
end

--- It was taken. False: it is not there any more.
function outbox:done(endpoint, id)
  local i = index_of(self.queues[endpoint], id)
  if not i then return false end
  table.remove(self.queues[endpoint], i)
  count_of(self, endpoint).sent = count_of(self, endpoint).sent + 1
  return true
end

--- It was not taken. `for_good`: the receiver will not. `after_s`: it asked to be left alone for so long. `chance` is 0 to 1.
function outbox:failed(endpoint, id, why, now, chance, for_good, after_s)
  local i = index_of(self.queues[endpoint], id)
  if not i then return false end
  local entry = self.queues[endpoint][i]
  entry.attempts, entry.why, entry.sending = entry.attempts + 1, why, nil
  count_of(self, endpoint).failed = count_of(self, endpoint).failed + 1
  if for_good then
    lose(self, endpoint, i, why)
    return true
  end
  local pause = math.min(self.limits.retry_most_s, self.limits.retry_s * 2 ^ math.min(60, entry.attempts - 1))
  entry.next_at = now + math.max(pause * (0.5 + chance / 2), math.min(after_s or 0, self.limits.retry_most_s))
  return true
end

--- Endpoints that are no more give up what waits for them.
function outbox:only(endpoints)
  local known = {}
  for _, endpoint in ipairs(endpoints) do known[endpoint.id] = true end
  for id, queue in pairs(self.queues) do
    while not known[id] and queue[1] do lose(self, id, 1, "there is no such receiver any more") end
    if not known[id] then self.queues[id] = nil end
  end
end

function outbox:waiting(endpoint) return #(self.queues[endpoint] or {}) end

--- What must outlive a restart.
function outbox:dump()
  local queues = {}
  for endpoint, queue in pairs(self.queues) do
    if #queue > 0 then queues[endpoint] = queue end
  end
  return { queues = queues, next_id = self.next_id, counts = self.counts }
end

return M
