-- GET stream : server-sent events: tick (each second), issue, suggestion, trial, alert, reload; dropped says how many a client
-- that was too slow or too long away has missed. Last-Event-ID, as browsers send it, goes on from there.
local admin = require "perilune.admin"
local feed = require "perilune.feed"
local overview = require "perilune.overview"
local p = require "perilune"
local app = admin.app()

local KEPT, LAST, OWNER = "stream", "stream.last", "stream.owner"
local LOOK_S, HEARTBEAT_S, RETRY_MS = 0.25, 15, 3000
local GONE_S = 60 -- a client that has not come back to us for so long is gone
local BOUNDS_MS = require "perilune.bounds"

local events, owner, seen, ticks -- set at the first turn: a file in a check keeps nothing
local clients = {}

local function is_over() return admin.keep.get(OWNER) ~= owner end

-- Takes over from the generation before: its clients come again, with the id they saw last.
local function begin()
  owner = tostring((tonumber(admin.keep.get(OWNER) or 0)) + 1)
  admin.keep.put(OWNER, owner)
  local kept = admin.keep.get(KEPT)
  kept = kept and p.json.decode(kept)
  local most = admin.setting "stream.events"
  events = kept and feed.restore(kept.feed, tonumber(admin.keep.get(LAST)), most) or feed.new(os.time(), most)
  seen = kept and kept.seen
end

local function keep(is_new)
  if is_new or not admin.keep.get(KEPT) then admin.keep.put(KEPT, p.json.encode { feed = events:dump(), seen = seen }) end
  admin.keep.put(LAST, tostring(events.last)) -- a tick moves only this
end

local function count()
  local n, now = 0, p.now()
  for client in pairs(clients) do
    if now - client.at > GONE_S then clients[client] = nil else n = n + 1 end
  end
  return n
end

app:every(LOOK_S, "tells the dashboard's clients", function()
  if not owner then begin() end
  if is_over() then return end
  local cost = admin.watch.cost()
  if cost.ticks == ticks then return end
  ticks = cost.ticks
  local list, now = overview.changes(seen)
  seen = now
  for _, one in ipairs(list) do events:add(one[1], one[2]) end
  if count() > 0 then events:add("tick", overview.tick(BOUNDS_MS)) end -- nobody missed the others
  keep(#list > 0)
end)

-- Sends what comes until the client leaves or a reload puts another copy of this file into our place.
local function serve(client, write)
  local position, dropped = events:position(client.id)
  if not write(("retry: %d\n\n"):format(RETRY_MS)) then return end
  if dropped == nil and not write 'event: dropped\ndata: {"dropped":null}\n\n' then return end
  local wrote = p.now()
  while true do
    local over = is_over()
    local text, at, lost = events:after(position)
    position = at
    if lost > 0 then text = ('event: dropped\ndata: {"dropped":%d}\n\n'):format(lost) .. (text or "") end
    if not text and p.now() - wrote >= HEARTBEAT_S then text = ": still here\n\n" end
    if text then
      if not write(text) then return end
      wrote = p.now()
    end
    if over then return end
    client.at = p.now()
    p.sleep(LOOK_S)
  end
end

app:get(admin.path "stream", {
  summary = "Server-sent events: tick (each second), issue, suggestion, trial, alert, reload, dropped",
  answers = { [200] = "string" }, produces = "text/event-stream", headers = { ["Last-Event-ID"] = "goes on behind that event" },
  errors = { [503] = "too_many_streams" },
}, function(req)
  if not owner then begin() end
  local most = admin.setting "stream.clients"
  if count() >= most then
    return admin.problem(503, "too_many_streams", ("%d clients listen already (stream.clients)"):format(most), { ["Retry-After"] = "10" })
  end
  local client = { id = req.headers["last-event-id"] }
  return 200, function(write)
    client.at = p.now()
    clients[client] = true
    local ok, why = pcall(serve, client, write)
    clients[client] = nil
    if not ok then error(why, 0) end
  end, { ["Content-Type"] = "text/event-stream", ["Cache-Control"] = "no-store", ["X-Accel-Buffering"] = "no" }
end)

return app
