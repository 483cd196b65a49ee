--- What handlers see of a Redis that fails, is full, slow or away, and of each other.
local engine = require "tests.support.engine"
local fault_proxy = require "tests.support.fault_proxy"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"
local redis = require "tests.support.redis"
local uv = require "luv"

local ROUTES = [[
local p = require "perilune"
local redis = require "perilune.redis"
local app = p.app()
local function answer(value, message, code)
  if value == nil and message then return 503, { error = message, code = code } end
  return 200, { value = value == nil and p.null or value }
end
app:get("/echo/:id", function(req) return answer(redis:echo(req.params.id)) end)
app:get("/bad/:id", function(req)
  local value, message, code = redis:eval("return redis.error_reply('WRONG ' .. ARGV[1])", 0, req.params.id)
  return 200, { message = message, code = code }
end)
app:get("/pipe/:id", function(req)
  local id = req.params.id
  local replies, message, code = redis:pipeline(function(c) c:echo(id .. "a") c:echo(id .. "b") end)
  if not replies then return answer(nil, message, code) end
  return answer(replies[1] == id .. "a" and replies[2] == id .. "b" and id or "torn")
end)
app:get("/tx/:id", function(req)
  local replies, message, code = redis:transaction(function(c) c:echo(req.params.id) c:incr("transactions") end)
  if not replies then return answer(nil, message, code) end
  return answer(replies[1])
end)
app:get("/late/:id", function(req)
  local value, message, code = redis:within(5):eval("local s = redis.call('TIME') repeat local n = redis.call('TIME') until (n[1] - s[1]) * 1e6 + n[2] - s[2] > 12000 return ARGV[1]", 0, req.params.id)
  return 200, { value = value == nil and p.null or value, code = code }
end)
app:get("/push/:id", function(req) return answer(redis:rpush("kept", req.params.id)) end)
app:get("/block", function(req) return answer(redis:blpop("nothing", 30)) end)
app:get("/size/:n", function(req)
  local value, message, code = redis:get("big" .. req.params.n)
  if value == nil then return answer(nil, message, code) end
  return answer(#value)
end)
return app
]]

local function start(url, options)
  options = options or {}
  local words = { ("url = %q"):format(url) }
  for name, value in pairs(options.pool or {}) do words[#words + 1] = ("%s = %s"):format(name, tostring(value)) end
  local args = {}
  for name, value in pairs(options.settings or {}) do
    args[#args + 1] = "--set"
    args[#args + 1] = name .. "=" .. tostring(value)
  end
  return engine.start { workers = options.workers, args = args, rules = { ["routes/run.lua"] = ROUTES },
    config = ("return { redis = { redis = { %s } } }"):format(table.concat(words, ", ")) }
end

local function get(served, path, timeout_ms)
  local response, why = http.request { address = served.listen, path = path, timeout_ms = timeout_ms or 10000 }
  if not response then return nil, why end
  return response.status, json.decode(response.body, 1, json.null)
end

local function pool(served) return assert(served:admin_get("~/resources/pools/redis").json, "no pool").data end

local function clients(server)
  local n = 0
  for line in server:cli("client", "list"):gmatch "[^\n]+" do
    if line:find("name=perilune", 1, true) then n = n + 1 end
  end
  return n
end

--- Every answer names the request it is for; some fail, some are late, some are left by their clients.
local function mixed(served, width, rounds)
  local kinds, failed = { "echo", "pipe", "bad", "tx", "echo", "late", "pipe", "echo" }, nil
  local function one(id)
    local kind = kinds[math.random(#kinds)]
    if math.random(20) == 1 then
      local conn = assert(http.connect { address = served.listen })
      conn:send(("GET /%s/%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(kind, id))
      loop.sleep(math.random(0, 4))
      conn:abort()
      return
    end
    local status, body = get(served, ("/%s/%s"):format(kind, id))
    local good
    if kind == "bad" then
      good = status == 200 and body.code == "WRONG" and body.message:find(id, 1, true)
    elseif kind == "late" then
      good = status == 200 and (body.value == id or (body.value == json.null and body.code == "timeout"))
    else
      good = status == 200 and body.value == id or (status == 503 and body.code == "timeout")
    end
    if not good then failed = failed or ("%s/%s: %s %s"):format(kind, id, tostring(status), json.encode(body)) end
  end
  local tasks = {}
  for t = 1, width do tasks[t] = function() for i = 1, rounds do one(("%d-%d"):format(t, i)) end end end
  loop.all(tasks)
  return failed
end

describe("requests that share connections to Redis", function()
  local server
  setup(function() loop.run(function() server = redis.start() end, 30000) end)
  teardown(function() loop.run(function() server:stop() end) end)

  it("get their own replies, whoever fails, is late or leaves", function()
    math.randomseed(11)
    local served = start(server.url, { pool = { command_ms = 3000 } })
    loop.run(function()
      assert.is_nil(mixed(served, 40, 60))
      loop.wait_until(function() return pool(served).pending_requests == 0 and pool(served).used == 0 end)
      assert.is_true(pool(served).timeouts > 0, "nothing was late")
    end, 60000)
    served:stop()
  end)

  it("get their own replies or an error through a line that breaks", function()
    math.randomseed(12)
    local harm = fault_proxy.start { port = server.port, seed = 5, cut = 4, swallow = 3 }
    local served = start("redis://127.0.0.1:" .. harm.port, { pool = { command_ms = 400 } })
    loop.run(function()
      local wrong, errors = nil, 0
      local tasks = {}
      for t = 1, 24 do
        tasks[t] = function()
          for i = 1, 40 do
            local id = ("%d-%d"):format(t, i)
            local status, body = get(served, "/echo/" .. id)
            if status == 503 then
              errors = errors + 1
              if not ({ timeout = 1, lost = 1, connect = 1, protocol = 1 })[body.code] then wrong = wrong or body.code end
            elseif status ~= 200 or body.value ~= id then
              wrong = wrong or ("%s: %s %s"):format(id, tostring(status), json.encode(body))
            end
          end
        end
      end
      loop.all(tasks)
      assert.is_nil(wrong)
      assert.is_true(errors > 0, "the line did not break")
      harm.calm = true
      loop.wait_until(function() return get(served, "/echo/1") == 200 and get(served, "/tx/1") == 200 end, 10000, "a sound line")
    end, 90000)
    served:stop()
    harm:stop()
  end)

  it("have at most max connections over all workers", function()
    local served = start(server.url, { workers = 2, pool = { min = 0, max = 3 } })
    loop.run(function()
      local most, done = 0, false
      local watch = loop.spawn(function()
        while not done do most = math.max(most, clients(server)) end
      end)
      local tasks = {}
      for i = 1, 24 do tasks[i] = function() for _ = 1, 20 do assert.equal(200, (get(served, "/tx/" .. i))) end end end
      loop.all(tasks)
      done = true
      loop.join(watch)
      assert.is_true(most <= 3 and most > 0, "most: " .. most)
    end, 30000)
    served:stop()
  end)

  it("leak neither connection nor memory over many engines' worth of coming and going", function()
    local served = start(server.url, { pool = { min = 0, max = 4, lifetime_ms = 100 } })
    loop.run(function()
      for _ = 1, 20 do get(served, "/echo/x") end
      local before = served:worker_bytes()
      for round = 1, 200 do
        assert.equal(200, (get(served, "/tx/" .. round)))
        server:cli("client", "kill", "type", "normal", "skipme", "yes")
        loop.wait_until(function() return get(served, "/echo/" .. round) == 200 end, 5000)
      end
      assert.is_true(clients(server) <= 4)
      local grown = served:worker_bytes() - before
      assert.is_true(grown < 4 * 1048576, "the worker has grown by " .. grown)
    end, 120000)
    served:stop()
  end)
end)

describe("a Redis that", function()
  it("is killed and comes back loses nothing that it had said yes to, and is used again within 2 s", function()
    local server, served
    loop.run(function()
      server = redis.start { durable = true }
      served = start(server.url, { pool = { command_ms = 2000 } })
      local yes, going, codes = {}, true, {}
      local tasks = {}
      for t = 1, 16 do
        tasks[t] = loop.spawn(function()
          local i = 0
          while going do
            i = i + 1
            local id = ("%d-%d"):format(t, i)
            local status, body = get(served, "/push/" .. id)
            if status == 200 then yes[id] = true else codes[body and body.code or "none"] = true end
          end
        end)
      end
      for _ = 1, 3 do
        loop.sleep(200)
        server:down "sigkill"
        loop.sleep(100)
        server:up()
        local began = loop.now_ms()
        loop.wait_until(function() return get(served, "/echo/back") == 200 end, 5000, "the server")
        assert.is_true(loop.now_ms() - began < 2000, "it took " .. loop.now_ms() - began)
      end
      going = false
      for _, task in ipairs(tasks) do loop.join(task) end
      local kept = {}
      for id in server:cli("lrange", "kept", "0", "-1"):gmatch "[^\n]+" do kept[id] = true end
      local count = 0
      for id in pairs(yes) do
        count = count + 1
        assert.is_true(kept[id], id .. " was lost")
      end
      assert.is_true(count > 50)
      for code in pairs(codes) do assert.is_not_nil(({ lost = 1, connect = 1, timeout = 1, LOADING = 1 })[code], code) end
      served:stop()
      server:stop()
    end, 90000)
  end)

  it("is not there, wants a password, or takes nobody more, says so", function()
    loop.run(function()
      local server = redis.start { password = "sesame" }
      local served = start(("redis://127.0.0.1:%d"):format(server.port))
      local status, body = get(served, "/echo/1")
      assert.same({ 503, "NOAUTH" }, { status, body.code })
      served:stop()
      served = start(("redis://:wrong@127.0.0.1:%d"):format(server.port))
      status, body = get(served, "/echo/1")
      assert.same({ 503, "WRONGPASS" }, { status, body.code })
      assert.is_nil((served:log() .. body.error):find("wrong@", 1, true))
      loop.wait_until(function() return pool(served).health == "unreachable" end)
      served:stop()
      server:stop()

      local port = server.port
      served = start(("redis://127.0.0.1:%d"):format(port))
      status, body = get(served, "/echo/1")
      assert.same({ 503, "connect" }, { status, body.code })
      assert.matches("refused", body.error)
      served:stop()

      server = redis.start { settings = { maxclients = 1 } }
      local taken = assert(http.connect { address = "127.0.0.1:" .. server.port })
      taken:send "PING\r\n"
      taken:take_through("\r\n", loop.now_ms() + 5000)
      served = start(server.url, { pool = { command_ms = 1000 } })
      status, body = get(served, "/echo/1")
      assert.equal(503, status)
      assert.matches("max number of clients", body.error)
      taken:close()
      loop.wait_until(function() return get(served, "/echo/1") == 200 end, 10000)
      served:stop()
      server:stop()
    end, 60000)
  end)

  it("is a replica, or out of memory, gives its own word", function()
    loop.run(function()
      local server = redis.start()
      local served = start(server.url)
      server:cli("replicaof", "127.0.0.1", "1")
      local status, body = get(served, "/push/1")
      assert.same({ 503, "READONLY" }, { status, body.code })
      server:cli("replicaof", "no", "one")
      server:cli("config", "set", "maxmemory", "1")
      status, body = get(served, "/push/1")
      assert.same({ 503, "OOM" }, { status, body.code })
      server:cli("config", "set", "maxmemory", "0")
      assert.equal(200, (get(served, "/push/1")))
      served:stop()
      server:stop()
    end, 30000)
  end)

  it("stops answering holds a request no longer than its deadline, and one that has a large value no more memory than allowed", function()
    loop.run(function()
      local server = redis.start()
      local served = start(server.url, { pool = { command_ms = 300 } })
      assert.equal(200, (get(served, "/echo/1")))
      uv.kill(server.pid, "sigstop")
      local began = loop.now_ms()
      local status, body = get(served, "/echo/2")
      uv.kill(server.pid, "sigcont")
      assert.same({ 503, "timeout" }, { status, body.code })
      assert.is_true(loop.now_ms() - began < 2000)
      loop.wait_until(function()
        local s, b = get(served, "/echo/3")
        return s == 200 and b.value == "3"
      end, 5000)
      server:cli("eval", "redis.call('set', KEYS[1], string.rep('x', 104857600))", 1, "big1")
      server:cli("set", "big2", "small")
      local before = served:worker_bytes()
      local slow = start(server.url, { pool = { command_ms = 20000 } })
      status, body = get(slow, "/size/1", 20000)
      assert.same({ 503, "too_large" }, { status, body.code })
      local _, small = get(slow, "/size/2")
      assert.equal(5, small.value)
      assert.is_true(slow:worker_bytes() - before < 48 * 1048576)
      slow:stop()
      served:stop()
      server:stop()
    end, 60000)
  end)

  it("answers with garbage, more than it was asked, or nothing, is given up without harm", function()
    loop.run(function()
      for _, garbage in ipairs { "HTTP/1.1 200 OK\r\n\r\n", "*1000000000\r\n", "$99999999999999\r\n", "*1\r\n" .. ("*1\r\n"):rep(5000),
        "\0\1\2\3\r\n", ":notanumber\r\n", "-\r\n+late\r\n", "" } do
        local liar = peer.start { connection = function(conn)
          while conn:fill(5000) do
            conn.buffer = ""
            if not conn:send(garbage) then return end
            if garbage == "" then return conn:close() end
          end
        end }
        local served = start("redis://" .. liar.address, { pool = { command_ms = 500, connect_ms = 500 } })
        for i = 1, 3 do
          local status, body = get(served, "/echo/secret" .. i)
          assert.equal(503, status, garbage)
          assert.is_string(body.code)
        end
        assert.equal(200, served:admin_get("~/stats").status)
        assert.is_nil(served:log():find("ended by signal", 1, true))
        served:stop()
        liar:stop(true)
      end
    end, 120000)
  end)

  it("dies under a blocking command wakes who waits", function()
    loop.run(function()
      local server = redis.start()
      local served = start(server.url)
      local waiting = loop.spawn(function() return get(served, "/block", 20000) end)
      loop.wait_until(function() return server:cli("client", "list"):find("cmd=blpop", 1, true) end)
      server:down "sigkill"
      local status, body = loop.join(waiting)
      assert.same({ 503, "lost" }, { status, body.code })
      served:stop()
      server:stop()
    end, 30000)
  end)
end)
