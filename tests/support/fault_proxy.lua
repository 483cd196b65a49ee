--- A TCP proxy that harms what passes, by a seed: it splits bytes into small
-- pieces, holds them back, swallows a direction for good, or cuts the connection.
local uv = require "luv"

local proxy = {}
proxy.__index = proxy

-- Park and Miller's minimal standard generator: the same faults on every machine.
local function generator(seed)
  local state = seed
  return function(n)
    state = state * 16807 % 2147483647
    return state % n
  end
end

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

local function cut(link)
  close(link[1])
  close(link[2])
  for timer in pairs(link.timers) do close(timer) end
  link.timers = {}
end

local function later(link, ms, fn)
  local timer = uv.new_timer()
  link.timers[timer] = true
  timer:start(ms, 0, function()
    link.timers[timer] = nil
    close(timer)
    fn()
  end)
end

local function pass(self, link, from, to)
  local queue, sending = {}, false
  local function send()
    local piece = table.remove(queue, 1)
    if not piece or to:is_closing() then sending = false return end
    sending = true
    local what = self.calm and 1000 or self.random(1000)
    if what < self.cut then return cut(link) end
    if what < self.cut + self.swallow then link[to] = "dead" end
    if link[to] == "dead" then return send() end
    local n = what % 7 == 0 and math.max(1, self.random(#piece)) or #piece
    if n < #piece then table.insert(queue, 1, piece:sub(n + 1)) end
    to:write(piece:sub(1, n))
    if what % 11 == 0 and not self.calm then return later(link, 1 + what % 5, send) end
    send()
  end
  from:read_start(function(_, bytes)
    if not bytes then return cut(link) end
    queue[#queue + 1] = bytes
    if not sending then send() end
  end)
end

--- Starts one to a port of this machine. options: port, seed (1), cut and swallow
-- (chances in 1000 per piece of data). Field: port. `calm = true` ends the faults.
function proxy.start(options)
  local self = setmetatable({ random = generator(options.seed or 1), cut = options.cut or 0, swallow = options.swallow or 0,
    links = {}, server = uv.new_tcp() }, proxy)
  assert(self.server:bind("127.0.0.1", 0))
  self.port = self.server:getsockname().port
  self.server:listen(128, function()
    local client, target = uv.new_tcp(), uv.new_tcp()
    self.server:accept(client)
    local link = { client, target, timers = {} }
    self.links[link] = true
    target:connect("127.0.0.1", options.port, function(err)
      if err then return cut(link) end
      pass(self, link, client, target)
      pass(self, link, target, client)
    end)
  end)
  return self
end

function proxy:stop()
  close(self.server)
  for link in pairs(self.links) do cut(link) end
end

return proxy
