--- Groups of peers: balancing, retries, ejection, and peers that misbehave.

local uv = require "luv"
local engine = require "tests.support.engine"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"

local served, peers

--- Starts n peers that answer with their number; options.answer(i) replaces that.
local function start_peers(n, answer)
  peers = {}
  for i = 1, n do
    peers[i] = peer.start { answer = answer and answer(i) or function() return peer.response(200, {}, tostring(i)) end }
  end
  return peers
end

local function list(extra)
  local urls = {}
  for i, p in ipairs(peers) do
    urls[i] = type(extra) == "function" and extra(i, p) or ("%q"):format("http://" .. p.address)
  end
  return table.concat(urls, ", ")
end

--- Serves everything by an upstream of those peers.
local function serve(keys, options)
  options = options or {}
  options.config = ("return { upstreams = { backend = { peers = { %s }, %s } }, upstream = 'backend', settings = { %s } }"):format(
    list(options.entry), keys or "", options.settings or "")
  served = engine.start(options)
  return served
end

local function counts(n, request)
  local by = {}
  for i = 1, n do
    local response = assert(served:request(request and request(i) or { path = "/" }))
    assert.equal(200, response.status)
    by[response.body] = (by[response.body] or 0) + 1
  end
  return by
end

local function total(by)
  local sum = 0
  for _, n in pairs(by) do sum = sum + n end
  return sum
end

describe("an upstream of several peers", function()
  after_each(function()
    if served then served:stop() end
    for _, p in ipairs(peers or {}) do p:stop(true) end
    served, peers = nil, nil
  end)

  it("takes a plain list, and spreads requests over it", function()
    loop.run(function()
      start_peers(3)
      served = engine.start { config = ("return { upstreams = { backend = { %s } }, upstream = 'backend' }"):format(list()) }
      local by, asked = {}, 0
      local function least() return math.min(by["1"] or 0, by["2"] or 0, by["3"] or 0) end
      repeat -- one that was slow once is asked less often for a while, but never left out
        for name, n in pairs(counts(50)) do by[name] = (by[name] or 0) + n end
        asked = asked + 50
      until least() >= 20 or asked == 1000
      assert.equal(asked, total(by))
      assert.is_true(least() >= 20, ("of %d requests the peers got %d, %d and %d"):format(asked, by["1"] or 0, by["2"] or 0, by["3"] or 0))
    end)
  end)

  it("in round robin gives each peer exactly its weight", function()
    loop.run(function()
      start_peers(2)
      serve("balance = 'round_robin'", { entry = function(i, p) return ("{ url = 'http://%s', weight = %d }"):format(p.address, i == 1 and 3 or 1) end })
      local by = counts(40)
      assert.equal(30, by["1"])
      assert.equal(10, by["2"])
    end)
  end)

  it("by two choices keeps away from a peer that has much to do", function()
    loop.run(function()
      start_peers(2, function(i)
        return function()
          if i == 1 then loop.sleep(40) end
          return peer.response(200, {}, tostring(i))
        end
      end)
      serve()
      local result = load.run { address = served.listen, connections = 8, requests = 400 }
      assert.equal(400, result.ok)
      assert.is_true(peers[2].seen > 5 * peers[1].seen, peers[1].seen .. " to " .. peers[2].seen)
    end, 20000)
  end)

  it("by hash sends a key to one peer, spreads keys, and moves only the keys of a peer that goes", function()
    loop.run(function()
      start_peers(4)
      serve("balance = 'hash', hash = 'header:X-User'", { settings = "['upstream.hash_bound'] = 100" })
      local first, by = {}, {}
      local function ask(user)
        local response = assert(served:request { path = "/", headers = { ["X-User"] = user } })
        assert.equal(200, response.status)
        return response.body
      end
      for i = 1, 80 do
        first[i] = ask("user" .. i)
        by[first[i]] = (by[first[i]] or 0) + 1
        assert.equal(first[i], ask("user" .. i))
      end
      for i = 1, 4 do assert.is_true((by[tostring(i)] or 0) >= 8, "peer " .. i .. " has " .. (by[tostring(i)] or 0)) end
      local response = served:admin_request { method = "POST",
        path = "/api/v1/performance-optimization/upstreams/backend/peers/" .. peers[4].address .. "/drain" }
      assert.equal(200, response.status)
      for i = 1, 80 do
        local now = ask("user" .. i)
        if first[i] == "4" then assert.not_equal("4", now) else assert.equal(first[i], now) end
      end
    end, 20000)
  end)

  it("by hash of a cookie or the path is as steady", function()
    loop.run(function()
      start_peers(3)
      serve("balance = 'hash', hash = 'cookie:sid'")
      local seen = {}
      for i = 1, 30 do
        local response = served:request { path = "/" .. i, headers = { Cookie = "a=b; sid=abc" .. i % 3 } }
        local key = i % 3
        seen[key] = seen[key] or response.body
        assert.equal(seen[key], response.body)
      end
    end)
  end)

  it("tries another peer when one cannot be reached, for any method", function()
    loop.run(function()
      start_peers(2)
      serve("balance = 'round_robin'")
      peers[1]:stop_listening()
      for _ = 1, 10 do
        assert.equal("2", served:get("/").body)
        local response = served:request { method = "POST", path = "/", body = "once" }
        assert.equal(200, response.status)
        assert.equal("2", response.body)
      end
      for _, request in ipairs(peers[2]:requests()) do
        if request.method == "POST" then assert.equal("once", request.body) end
      end
    end)
  end)

  it("tries another peer when one breaks off before a response, but only what is idempotent", function()
    loop.run(function()
      start_peers(2, function(i)
        return function()
          if i == 1 then return nil, "close" end
          return peer.response(200, {}, "2")
        end
      end)
      serve("balance = 'round_robin', slow_start_ms = 0", { settings = "['upstream.failures'] = 1000000, ['upstream.budget_floor'] = 1000" })
      for _ = 1, 8 do assert.equal("2", served:get("/").body) end
      local failed = 0
      for _ = 1, 8 do
        local response = served:request { method = "POST", path = "/", body = "x" }
        if response.status == 502 then failed = failed + 1 end
      end
      assert.equal(4, failed)
      assert.equal("perilune; error=connection_terminated",
        (function()
          for _ = 1, 2 do
            local response = served:request { method = "POST", path = "/", body = "x" }
            if response.status == 502 then return response.headers["proxy-status"] end
          end
        end)())
      -- A body that is buffered can be sent again.
      served:stop()
      serve("balance = 'round_robin', slow_start_ms = 0, buffer_request = true",
        { settings = "['upstream.failures'] = 1000000, ['upstream.budget_floor'] = 1000" })
      for _ = 1, 8 do
        local response = served:request { method = "PUT", path = "/", body = "again" }
        assert.equal("2", response.body)
      end
      for _, request in ipairs(peers[2]:requests()) do
        if request.method == "PUT" then assert.equal("again", request.body) end
      end
    end)
  end)

  it("retries 502, 503 and 504 only when told so", function()
    loop.run(function()
      start_peers(2, function(i)
        return function() return peer.response(i == 1 and 503 or 200, {}, tostring(i)) end
      end)
      local settings = "['upstream.failures'] = 1000000, ['upstream.budget_floor'] = 1000"
      serve("balance = 'round_robin'", { settings = settings })
      local refused = 0
      for _ = 1, 10 do
        if served:get("/").status == 503 then refused = refused + 1 end
      end
      assert.equal(5, refused)
      served:stop()
      serve("balance = 'round_robin', retry_on = { 503 }", { settings = settings })
      for _ = 1, 10 do assert.equal(200, served:get("/").status) end
    end)
  end)

  it("gives a try its own time and goes on at another peer", function()
    loop.run(function()
      start_peers(2, function(i)
        return function()
          if i == 1 then loop.sleep(5000) end
          return peer.response(200, {}, tostring(i))
        end
      end)
      serve("balance = 'round_robin', try_timeout_ms = 100", { settings = "['upstream.failures'] = 1000000" })
      for _ = 1, 4 do
        local began = loop.now_ms()
        assert.equal("2", served:get("/").body)
        assert.is_true(loop.now_ms() - began < 2000)
      end
    end)
  end)

  it("spends no more than its budget on retries when everything fails", function()
    loop.run(function()
      start_peers(3, function() return function() return nil, "close" end end)
      serve("balance = 'round_robin'", { settings = "['upstream.failures'] = 1000000, ['upstream.budget_floor'] = 5" })
      local result = load.run { address = served.listen, connections = 4, requests = 300 }
      assert.equal(300, result.status[502])
      local seen = peers[1].seen + peers[2].seen + peers[3].seen
      assert.is_true(seen > 310, "no retries at all: " .. seen)
      assert.is_true(seen <= 300 * 1.2 + 5 + 5, seen .. " attempts for 300 requests")
    end, 20000)
  end)

  it("loses no request while peers die under load", function()
    loop.run(function()
      start_peers(3)
      serve("", { workers = 2 })
      local stop = false
      local task = loop.spawn(function()
        return load.run { address = served.listen, connections = 12, duration_ms = 2500, stop = function() return stop end }
      end)
      loop.wait_until(function() return peers[1].seen > 50 end, 5000, "traffic at the first peer")
      peers[1]:stop(true)
      loop.wait_until(function() return peers[2].seen > 400 end, 5000, "traffic at the second")
      for _, entry in ipairs(peers[2].connections) do entry.conn:abort() end
      peers[2]:stop_listening()
      local before = peers[3].seen
      loop.wait_until(function() return peers[3].seen > before + 200 end, 5000, "traffic at the last")
      local result = loop.join(task)
      assert.equal(0, result.failed, (result.messages.closed or result.messages.check or ""))
      assert.equal(result.ok, result.status[200])
    end, 30000)
  end)

  it("ejects a peer that fails in a row, probes it, and takes it back", function()
    loop.run(function()
      local broken = true
      start_peers(3, function(i)
        return function()
          if i == 1 and broken then return peer.response(503, {}, "no") end
          return peer.response(200, {}, tostring(i))
        end
      end)
      serve("balance = 'round_robin', slow_start_ms = 0",
        { workers = 2, settings = "['upstream.eject_ms'] = 300, ['upstream.failures'] = 3" })
      loop.wait_until(function()
        served:get("/")
        return served:log():find("is taken out", 1, true)
      end, 5000, "the ejection")
      local seen = peers[1].seen
      -- While it is out only a probe, at most, comes to it.
      for _ = 1, 30 do served:get("/") end
      assert.is_true(peers[1].seen <= seen + 1)
      broken = false
      loop.wait_until(function()
        served:get("/")
        return served:log():find("answers again", 1, true)
      end, 5000, "its return")
      local by = counts(30)
      assert.is_true((by["1"] or 0) >= 8)
    end, 20000)
  end)

  it("never ejects the last peers: one of three at most, and none of one", function()
    loop.run(function()
      start_peers(3, function() return function() return peer.response(502, {}, "no") end end)
      serve("balance = 'round_robin'", { settings = "['upstream.eject_ms'] = 60000, ['upstream.failures'] = 2" })
      for _ = 1, 30 do assert.equal(502, served:get("/").status) end
      local _, ejected = served:log():gsub("is taken out", "")
      assert.equal(1, ejected)
    end)
  end)

  it("ejects a peer that fails much more often than the others, though never in a row", function()
    loop.run(function()
      start_peers(3, function(i)
        local n = 0
        return function()
          n = n + 1
          return peer.response(i == 2 and n % 2 == 0 and 503 or 200, {}, tostring(i))
        end
      end)
      serve("balance = 'round_robin'", { workers = 2,
        settings = "['upstream.outlier_ms'] = 200, ['upstream.outlier_requests'] = 20, ['upstream.failures'] = 1000" })
      local task = loop.spawn(function()
        return load.run { address = served.listen, connections = 4,
          stop = function() return served:log():find("is taken out", 1, true) end, duration_ms = 6000 }
      end)
      served:wait_log("peer " .. peers[2].address .. " is taken out", 6000)
      served:wait_log("(error_rate)", 1000)
      loop.join(task)
    end, 20000)
  end)

  it("ejects a peer that is much slower than the others", function()
    loop.run(function()
      start_peers(3, function(i)
        return function()
          if i == 3 then loop.sleep(60) end
          return peer.response(200, {}, tostring(i))
        end
      end)
      serve("balance = 'round_robin'", { settings = "['upstream.outlier_ms'] = 300, ['upstream.outlier_requests'] = 10" })
      local task = loop.spawn(function()
        return load.run { address = served.listen, connections = 16,
          stop = function() return served:log():find("is taken out", 1, true) end, duration_ms = 6000 }
      end)
      served:wait_log("peer " .. peers[3].address .. " is taken out", 6000)
      served:wait_log("(latency)", 1000)
      loop.join(task)
    end, 20000)
  end)

  it("asks each peer whether it is well, takes one out that is not, and brings it back", function()
    loop.run(function()
      local well = true
      start_peers(2, function(i)
        return function(request)
          if request.target == "/health" then return peer.response((well or i == 2) and 204 or 500, {}, "") end
          return peer.response(200, {}, tostring(i))
        end
      end)
      serve("balance = 'round_robin', slow_start_ms = 0, health = { path = '/health', interval_ms = 50, status = 204, timeout_ms = 500 }",
        { workers = 2 })
      local function state(i)
        for _, p in ipairs(served:admin_get("~/upstreams").json.data.upstreams[1].peers) do
          if p.address == peers[i].address then return p.state, p.health end
        end
      end
      loop.wait_until(function() return select(2, state(1)) == "up" end, 5000, "a first check")
      well = false
      loop.wait_until(function() return state(1) == "down" end, 5000, "the peer to be down")
      assert.equal(20, counts(20)["2"])
      well = true
      loop.wait_until(function() return state(1) == "ready" end, 5000, "the peer to be back")
      assert.is_true((counts(20)["1"] or 0) >= 7)
      -- Only one process asks, so there are no more checks than intervals.
      local began = loop.now_ms()
      local function checks()
        local n = 0
        for _, request in ipairs(peers[2]:requests()) do
          if request.target == "/health" then n = n + 1 end
        end
        return n
      end
      local before = checks()
      loop.wait_until(function() return checks() >= before + 6 end, 5000, "six more checks")
      assert.is_true(loop.now_ms() - began >= 5 * 50)
    end, 20000)
  end)

  it("takes a peer that hangs or refuses for unwell, and goes on with it when nobody is well", function()
    loop.run(function()
      start_peers(2, function(i)
        return function(request)
          if request.target == "/health" then
            if i == 1 then loop.sleep(60000) end
            return nil, "close"
          end
          return peer.response(200, {}, tostring(i))
        end
      end)
      serve("balance = 'round_robin', health = { path = '/health', interval_ms = 50, timeout_ms = 100 }")
      loop.wait_until(function()
        local down = 0
        for _, p in ipairs(served:admin_get("~/upstreams").json.data.upstreams[1].peers) do
          if p.state == "down" then down = down + 1 end
        end
        return down == 2
      end, 5000, "both to be down")
      assert.equal(200, served:get("/").status)
    end, 20000)
  end)

  it("begins slowly with a peer that returns", function()
    loop.run(function()
      start_peers(2)
      serve("balance = 'round_robin', slow_start_ms = 60000")
      local path = "/api/v1/performance-optimization/upstreams/backend/peers/" .. peers[1].address
      assert.equal(200, served:admin_request({ method = "POST", path = path .. "/drain" }).status)
      assert.equal(200, served:admin_request({ method = "POST", path = path .. "/undrain" }).status)
      local by = counts(66)
      assert.is_true(by["1"] >= 4 and by["1"] <= 10, "the peer got " .. tostring(by["1"]))
    end)
  end)

  it("cuts the tail of a peer that is slow at times by hedging, within five percent", function()
    loop.run(function()
      local function answer(i)
        return function()
          if i == 1 and math.random() < 0.06 then loop.sleep(400) end
          return peer.response(200, {}, tostring(i))
        end
      end
      start_peers(2, answer)
      local settings = "['upstream.outlier_requests'] = 1000000"
      local function tail(keys)
        serve(keys, { settings = settings })
        load.run { address = served.listen, connections = 2, requests = 300 }
        local before = peers[1].seen + peers[2].seen
        local result = load.run { address = served.listen, connections = 4, requests = 1000 }
        assert.equal(1000, result.ok)
        local extra = peers[1].seen + peers[2].seen - before - 1000
        local hedges = 0
        for _, p in ipairs(served:admin_get("~/upstreams").json.data.upstreams[1].peers) do hedges = hedges + p.hedges end
        served:stop()
        served = nil
        return result.latency_ms.p99, extra, hedges
      end
      local plain = tail("balance = 'round_robin'")
      local hedged, extra, hedges = tail("balance = 'round_robin', hedge = 0.95")
      assert.is_true(plain >= 390, "without hedging " .. plain)
      assert.is_true(hedged < 200, "with hedging " .. hedged)
      assert.is_true(hedges > 5)
      assert.is_true(extra <= 1300 * 0.05 + 2, extra .. " extra requests")
    end, 60000)
  end)

  it("returns the share of a worker that is killed", function()
    loop.run(function()
      start_peers(2, function()
        return function()
          loop.sleep(20000)
          return peer.response(200, {}, "late")
        end
      end)
      serve("", { workers = 2 })
      local waiting = {}
      for i = 1, 10 do
        waiting[i] = served:connect()
        waiting[i]:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      end
      local function in_flight()
        local sum = 0
        for _, p in ipairs(served:admin_get("~/upstreams").json.data.upstreams[1].peers) do sum = sum + p.in_flight end
        return sum
      end
      loop.wait_until(function() return in_flight() == 10 end, 5000, "ten in flight")
      for _, p in ipairs(served:processes()) do
        if p.role == "worker" then uv.kill(p.pid, "sigkill") end
      end
      loop.wait_until(function() return in_flight() == 0 end, 5000, "none in flight")
      for _, c in ipairs(waiting) do c:close() end
    end, 20000)
  end)
end)

describe("a peer that misbehaves", function()
  after_each(function()
    if served then served:stop() end
    for _, p in ipairs(peers or {}) do p:stop(true) end
    served, peers = nil, nil
  end)

  local function with(bad)
    start_peers(2, function(i)
      return function(...)
        if i == 1 then return bad(...) end
        return peer.response(200, {}, "2")
      end
    end)
    serve("balance = 'round_robin', try_timeout_ms = 300",
      { settings = "['upstream.failures'] = 1000000, ['upstream.budget_floor'] = 1000, ['upstream.idle_timeout_ms'] = 300" })
  end

  for name, bytes in pairs {
    ["garbage instead of a head"] = "\0\1\2 nonsense\r\n\r\n",
    ["half a head"] = "HTTP/1.1 200 OK\r\nContent-Le",
    ["two lengths"] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ["a 101 nobody asked for"] = "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  } do
    it("and sends " .. name .. " costs no request", function()
      loop.run(function()
        with(function() return bytes, "close" end)
        for _ = 1, 6 do assert.equal("2", served:get("/").body) end
      end)
    end)
  end

  it("and lies about its length, or breaks off, or sends garbage inside of a body, cuts the answer visibly", function()
    loop.run(function()
      local bytes
      with(function() return bytes, "close" end)
      for _, text in ipairs {
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
      } do
        bytes = text
        local whole, cut = 0, 0
        for _ = 1, 4 do
          local response = served:get("/")
          if response then whole = whole + 1 else cut = cut + 1 end
        end
        assert.equal(2, whole)
        assert.equal(2, cut)
      end
    end)
  end)

  it("and stalls, or trickles a head without end, is left for another", function()
    loop.run(function()
      with(function(_, entry)
        for _ = 1, 100 do
          if not entry.conn:send("HTTP/1.1 100 Continue\r\n") then return nil, "close" end
          loop.sleep(30)
        end
        return nil, "close"
      end)
      for _ = 1, 4 do
        local began = loop.now_ms()
        assert.equal("2", served:get("/").body)
        assert.is_true(loop.now_ms() - began < 2500)
      end
    end, 20000)
  end)
end)

describe("the control API of upstreams", function()
  after_each(function()
    if served then served:stop() end
    for _, p in ipairs(peers or {}) do p:stop(true) end
    served, peers = nil, nil
  end)

  local function post(path)
    return served:admin_request { method = "POST", path = "/api/v1/performance-optimization/upstreams/" .. path }
  end

  it("drains a peer and takes it back, and says what it cannot do", function()
    loop.run(function()
      start_peers(2)
      serve("balance = 'round_robin', slow_start_ms = 0", { workers = 2 })
      local one, two = "backend/peers/" .. peers[1].address, "backend/peers/" .. peers[2].address
      local response = post(one .. "/drain")
      assert.equal(200, response.status)
      assert.is_true(response.json.data.draining)
      assert.equal(12, counts(12)["2"])
      assert.equal("draining", served:admin_get("~/upstreams").json.data.upstreams[1].peers[1].state)
      for path, expected in pairs {
        [one .. "/drain"] = { 409, "already_draining" }, [two .. "/undrain"] = { 409, "not_draining" },
        [two .. "/drain"] = { 409, "last_peer" }, ["nobody/peers/127.0.0.1:1/drain"] = { 404, "unknown_upstream" },
        ["backend/peers/127.0.0.1:1/drain"] = { 404, "unknown_peer" }, ["backend/peers/here/drain"] = { 422, "bad_address" },
      } do
        response = post(path)
        assert.equal(expected[1], response.status, path)
        assert.equal("application/problem+json", response.headers["content-type"])
        assert.equal(expected[2], response.json.code)
      end
      assert.equal(200, post(two .. "/drain?force=true").status)
      response = served:get("/")
      assert.equal(503, response.status)
      assert.equal("perilune; error=destination_unavailable", response.headers["proxy-status"])
      assert.equal(200, post(one .. "/undrain").status)
      assert.equal(8, counts(8)["1"])
    end)
  end)

  it("gives an upstream settings of its own, keeps them, and takes them back", function()
    loop.run(function()
      start_peers(1, function() return function()
        loop.sleep(300)
        return peer.response(200, {}, "late")
      end end)
      served = engine.start {
        config = ("return { upstreams = { patient = %q, hasty = %q }, settings = { ['upstream.patient.retries'] = 1 } }"):format("http://" .. peers[1].address, "http://" .. peers[1].address),
        rules = { ["routes/app.lua"] = [[
local app = require "perilune".app()
app:proxy("/patient/*rest", "patient")
app:proxy("/hasty/*rest", "hasty")
return app]] } }
      local function config(method, path, body)
        return served:admin_request { method = method, path = "/api/v1/performance-optimization/config" .. path, json = body }
      end
      local function statuses() return { served:get("/hasty/x").status, served:get("/patient/x").status } end
      assert.same({ 200, 200 }, statuses())
      local got = config("PATCH", "", { settings = { ["upstream.hasty.first_byte_timeout_ms"] = 50 } })
      assert.equal(200, got.status, got.body)
      assert.same({ 60000, 50, "api" }, { got.json.data.changes[1].from, got.json.data.changes[1].value, got.json.data.changes[1].origin })
      assert.same({ 504, 200 }, statuses())
      local known = {}
      for _, one in ipairs(config("GET", "").json.data.settings) do known[one.name] = one end
      assert.same({ 50, 60000, "api" }, { known["upstream.hasty.first_byte_timeout_ms"].value, known["upstream.hasty.first_byte_timeout_ms"].default,
        known["upstream.hasty.first_byte_timeout_ms"].origin })
      assert.same({ 1, "file" }, { known["upstream.patient.retries"].value, known["upstream.patient.retries"].origin })
      assert.is_nil(known["upstream.patient.first_byte_timeout_ms"])
      assert.equal(60000, config("GET", "/upstream.patient.first_byte_timeout_ms").json.data.value)
      served:restart()
      assert.same({ 504, 200 }, statuses())
      -- What is for all does not reach who has its own.
      assert.equal(200, config("PATCH", "", { settings = { ["upstream.first_byte_timeout_ms"] = 40, ["upstream.hasty.first_byte_timeout_ms"] = 2000 } }).status)
      assert.same({ 200, 504 }, statuses())
      got = config("POST", "/reset", { name = "upstream.hasty.first_byte_timeout_ms" })
      assert.same({ 200, 40 }, { got.status, got.json.data.changes[1].value })
      assert.same({ 504, 504 }, statuses())
      for name, says in pairs { ["upstream.nobody.retries"] = "there is no setting 'upstream.nobody.retries'", ["upstream.hasty.websocket"] = "there is no setting",
        ["upstream.hasty.retries"] = "upstream.hasty.retries' is out of bounds: 0 to 8 retries" } do
        got = config("PATCH", "", { settings = { [name] = 9 } })
        assert.equal(422, got.status, got.body)
        assert.is_truthy(got.json.errors[1].detail:find(says, 1, true), got.json.errors[1].detail)
      end
    end, 40000)
  end)

  it("keeps what it knows of a peer over a reload", function()
    loop.run(function()
      start_peers(2)
      serve("balance = 'round_robin'")
      assert.equal(200, post("backend/peers/" .. peers[1].address .. "/drain").status)
      served:write_rule("routes/new.lua", "local app = require('perilune').app()\napp:get('/new', function() return 'new' end)\nreturn app")
      loop.wait_until(function() return served:get("/new").body == "new" end, 5000, "the reload")
      assert.equal(10, counts(10)["2"])
    end)
  end)

  it("shows peers to Prometheus", function()
    loop.run(function()
      start_peers(1)
      serve("")
      counts(7)
      local text = served:admin_get("/metrics").body
      local labels = ('{upstream="backend",peer="%s"}'):format(peers[1].address):gsub("%p", "%%%0")
      assert.equal("7", text:match("perilune_peer_attempts_total" .. labels .. " (%d+)"))
      assert.equal("7", text:match("perilune_peer_latency_seconds_count" .. labels .. " (%d+)"))
      assert.equal("0", text:match("perilune_peer_in_flight" .. labels .. " (%d+)"))
      assert.equal("1", text:match("perilune_peer_up" .. labels .. " (%d+)"))
    end)
  end)
end)

describe("an upstream that speaks TLS", function()
  local files = require "tests.support.files"
  local nginx = require "tests.support.nginx"
  local process = require "tests.support.process"
  local folder, secure

  before_each(function()
    folder = files.temporary("perilune-tls")
    local code, _, err = process.run { command = "openssl", args = { "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
      "ec_paramgen_curve:P-256", "-keyout", folder .. "/key.pem", "-out", folder .. "/ca.pem", "-subj", "/CN=peer.test",
      "-days", "2", "-addext", "subjectAltName=DNS:peer.test" }, timeout_ms = 20000 }
    assert(code == 0, err)
    local port = nginx.free_port()
    files.write(folder .. "/files/big.txt", ("0123456789abcdef"):rep(131072))
    uv.fs_chmod(folder, 493) -- 0755: nginx reads below it
    secure = nginx.start {
      http = ("server { listen 127.0.0.1:%d ssl; ssl_certificate %s/ca.pem; ssl_certificate_key %s/key.pem; "):format(port, folder, folder)
        .. ("root %s/files; location /sni { return 200 $ssl_server_name; } }"):format(folder),
    }
    secure.tls_port = port
  end)

  after_each(function()
    if served then served:stop() end
    for _, p in ipairs(peers or {}) do p:stop(true) end
    if secure then secure:stop() end
    files.remove(folder)
    served, peers, secure = nil, nil, nil
  end)

  local function start(tls, port)
    served = engine.start { config = ("return { upstreams = { backend = { peers = { 'https://127.0.0.1:%d' }, %s } }, upstream = 'backend' }"):format(
      port or secure.tls_port, tls) }
  end

  it("is asked by its name and believed by its CA", function()
    loop.run(function()
      start(("tls = { ca = '%s/ca.pem', name = 'peer.test' }"):format(folder))
      for _ = 1, 5 do
        local response = served:get("/sni")
        assert.equal(200, response.status)
        assert.equal("peer.test", response.body)
        assert.is_true(served:get("/big.txt").body == ("0123456789abcdef"):rep(131072))
      end
    end, 20000)
  end)

  it("that proves nothing is not talked to, and the log says why", function()
    loop.run(function()
      for _, tls in ipairs { "", "tls = { name = 'peer.test' }", ("tls = { ca = '%s/ca.pem', name = 'other.test' }"):format(folder),
        ("tls = { ca = '%s/ca.pem' }"):format(folder) } do
        start(tls)
        local response = served:get("/sni")
        assert.equal(502, response.status, tls)
        assert.equal("perilune; error=tls_protocol_error", response.headers["proxy-status"])
        served:wait_log("certificate", 2000)
        served:stop()
        served = nil
      end
      start("tls = { verify = false, name = 'any.test' }")
      assert.equal("any.test", served:get("/sni").body)
    end, 30000)
  end)

  it("in name only gets an error, and so does one that hangs in the handshake", function()
    loop.run(function()
      start_peers(1, function() return function() return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" end end)
      start("tls = { verify = false }", secure.port)
      assert.equal(502, served:get("/").status)
      served:stop()
      local silent = peer.start { connection = function(conn) conn:read_until_close(5000) end }
      peers[2] = silent
      served = engine.start { config = ("return { upstreams = { backend = 'https://%s' }, upstream = 'backend', settings = { ['upstream.connect_timeout_ms'] = 200 } }"):format(silent.address) }
      local response = served:get("/")
      assert.equal(504, response.status)
      assert.equal("perilune; error=connection_timeout", response.headers["proxy-status"])
    end, 20000)
  end)

  it("can be one of several peers, the next one is tried when its handshake fails", function()
    loop.run(function()
      start_peers(1)
      served = engine.start { config = ("return { upstreams = { backend = { 'https://127.0.0.1:%d', 'http://%s' } }, upstream = 'backend' }"):format(
        secure.tls_port, peers[1].address) }
      for _ = 1, 10 do assert.equal("1", served:get("/").body) end
    end, 20000)
  end)
end)
