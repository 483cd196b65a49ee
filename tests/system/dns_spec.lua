--- Upstreams by name, resolved by a DNS server of our own.

local uv = require "luv"
local engine = require "tests.support.engine"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"

local function u16(n) return string.char(math.floor(n / 256) % 256, n % 256) end

--- A DNS server. `answer(name)` returns a list of IPv4 addresses and a TTL in
-- seconds, or nil for no such name, or false to say nothing.
local function start_dns(answer)
  local self = { asked = 0, udp = uv.new_udp() }
  assert(self.udp:bind("127.0.0.1", 0))
  self.port = self.udp:getsockname().port
  self.udp:recv_start(function(_, bytes, from)
    if not bytes or not from then return end
    local labels, at = {}, 13
    while bytes:byte(at) ~= 0 do
      local len = bytes:byte(at)
      labels[#labels + 1] = bytes:sub(at + 1, at + len)
      at = at + len + 1
    end
    local question = bytes:sub(13, at + 4)
    local kind = bytes:byte(at + 1) * 256 + bytes:byte(at + 2)
    local list, ttl = answer(table.concat(labels, "."))
    if list == false then return end
    if kind == 1 then self.asked = self.asked + 1 end
    local records = {}
    for _, address in ipairs(kind == 1 and list or {}) do
      local a, b, c, d = address:match("(%d+)%.(%d+)%.(%d+)%.(%d+)")
      records[#records + 1] = "\192\12" .. u16(1) .. u16(1) .. u16(0) .. u16(ttl) .. u16(4) .. string.char(a, b, c, d)
    end
    local flags = list and "\129\128" or "\129\131"
    self.udp:send(bytes:sub(1, 2) .. flags .. u16(1) .. u16(#records) .. u16(0) .. u16(0) .. question .. table.concat(records),
      from.ip, from.port, function() end)
  end)
  return self
end

describe("an upstream by name", function()
  local served, peers, dns

  after_each(function()
    if served then served:stop() end
    for _, p in ipairs(peers or {}) do p:stop(true) end
    if dns then dns.udp:close() end
    served, peers, dns = nil, nil, nil
  end)

  --- Peers on 127.0.0.1, .2, ... that share a port.
  local function start_peers(n)
    peers = {}
    for i = 1, n do
      peers[i] = peer.start { host = "127.0.0." .. i, port = peers[1] and peers[1].port,
        answer = function() return peer.response(200, { Connection = "close" }, tostring(i)), "close" end }
    end
  end

  local function serve(settings)
    served = engine.start { config = ([[return { upstreams = { backend = "http://app.test:%d" }, upstream = "backend",
      resolver = "127.0.0.1:%d", settings = { %s } }]]):format(peers[1].port, dns.port, settings or "") }
  end

  it("uses all of its addresses, and the next one when one takes no connection", function()
    loop.run(function()
      start_peers(3)
      dns = start_dns(function(name)
        assert(name == "app.test")
        return { "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4" }, 60 -- nobody listens on the last
      end)
      serve()
      local by = {}
      for _ = 1, 24 do
        local response = served:get("/")
        assert.equal(200, response.status)
        by[response.body] = (by[response.body] or 0) + 1
      end
      for i = 1, 3 do assert.is_true((by[tostring(i)] or 0) >= 4) end
      assert.equal(1, dns.asked)
    end, 20000)
  end)

  it("is resolved again by its TTL, and keeps its addresses while the resolver fails", function()
    loop.run(function()
      start_peers(2)
      local list = { "127.0.0.1" }
      dns = start_dns(function() return list, 0 end)
      serve("['upstream.dns_min_ms'] = 50, ['upstream.dns_timeout_ms'] = 100")
      assert.equal("1", served:get("/").body)
      list = { "127.0.0.2" }
      loop.wait_until(function() return served:get("/").body == "2" end, 5000, "the new address")
      list = nil
      loop.wait_until(function()
        assert.equal("2", served:get("/").body)
        return served:log():find("cannot be resolved again", 1, true)
      end, 5000, "the resolver's failure in the log")
      list = false
      for _ = 1, 20 do assert.equal("2", served:get("/").body) end
      list = { "127.0.0.1" }
      loop.wait_until(function() return served:get("/").body == "1" end, 5000, "the address after the failure")
    end, 20000)
  end)

  it("without an address is a 502 that says so, and one that nobody answers for too", function()
    loop.run(function()
      start_peers(1)
      local list
      dns = start_dns(function() return list, 0 end)
      serve("['upstream.dns_timeout_ms'] = 100")
      local response = served:get("/")
      assert.equal(502, response.status)
      assert.equal("perilune; error=dns_error", response.headers["proxy-status"])
      list = false
      response = served:get("/")
      assert.equal(502, response.status)
      list = { "127.0.0.1" }
      assert.equal("1", served:get("/").body)
    end, 20000)
  end)
end)
