--- Handlers and a real Redis 7.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local redis = require "tests.support.redis"

-- Runs Lua that a test sends, in a handler: `return run(redis, p, req)`.
local RUN = [[
local p = require "perilune"
local redis = require "perilune.redis"
local app = p.app()
app:post("/run", function(req)
  local fn, why = load("local redis, p, req = ... " .. req.body)
  if not fn then return 500, why end
  local function pack(...) return { n = select("#", ...), ... } end
  local got = pack(fn(redis, p, req))
  local out = p.json.array {}
  for i = 1, got.n do out[i] = got[i] == nil and p.null or got[i] end
  return 200, p.json.encode(out)
end)
app:get("/events/:channel", function(req)
  return 200, function(write)
    local sub = assert(redis:subscribe(req.params.channel))
    if not write("data: ready\n\n") then return end
    for payload in sub:messages() do
      if not write("data: " .. payload .. "\n\n") then return end
    end
  end, { ["Content-Type"] = "text/event-stream" }
end)
return app
]]

local function start(server, options)
  options = options or {}
  local words = { ("url = %q"):format(options.url or server.url) }
  for name, value in pairs(options.pool or {}) do words[#words + 1] = ("%s = %s"):format(name, tostring(value)) end
  return engine.start { workers = options.workers, args = options.args, rules = options.rules or { ["routes/run.lua"] = RUN },
    config = ("return { redis = { redis = { %s } } }"):format(table.concat(words, ", ")) }
end

--- What the Lua text returns in a handler, as a list; nil is json.null.
local function run(served, text)
  local response = assert(served:request { method = "POST", path = "/run", body = text })
  assert.equal(200, response.status, response.body)
  return json.decode(response.body, 1, json.null)
end

local function pool(served)
  return assert(served:admin_get("~/resources/pools/redis").json, "no pool").data
end

describe("a Redis", function()
  local server, served
  setup(function()
    server = redis.start()
    served = start(server)
  end)
  teardown(function()
    served:stop()
    server:stop()
  end)
  before_each(function() loop.run(function() server:cli "flushall" end) end)

  it("takes every command as a method, and gives replies as Lua values", function()
    loop.run(function()
      assert.same({ "OK", "v", 1, json.null, 0 }, run(served, [[return redis:set("k", "v"), redis:get("k"), redis:del("k"), redis:get("k"), redis:del("k")]]))
      assert.same({ 3, { "a", "b", "c" }, { "c" } }, run(served, [[return redis:rpush("l", { "a", "b", "c" }), redis:lrange("l", 0, -1), redis:lrange("l", -1, -1)]]))
      assert.same({ "OK", { "1", json.null, "2" } }, run(served, [[return redis:mset({ a = 1, b = 2 }), redis:mget("a", "none", "b")]]))
      assert.same({ 2, { x = "1", y = "" }, {} }, run(served, [[return redis:hset("h", { x = 1, y = "" }), redis:hgetall("h"), redis:hgetall("none")]]))
      assert.same({ "0.1", "9007199254740993", "1e+300" }, run(served, [[redis:set("f", 0.1) redis:set("i", "9007199254740992") redis:set("g", 1e300)
        return redis:get("f") + 0 == 0.1 and "0.1", redis:incr("i"), redis:get("g") + 0 == 1e300 and "1e+300"]]))
      assert.same({ true }, run(served, [[local all = {} for i = 0, 255 do all[#all + 1] = string.char(i) end
        local text = table.concat(all):rep(400) redis:set("b", text) return redis:get("b") == text]]))
      assert.matches("name=perilune", run(served, [[return redis:client_list()]])[1])
      assert.same({ "PONG", 1, "int" }, run(served, [[return redis:command("ping"), redis:strlen("a"), redis:object_encoding("a")]]))
      assert.same({ { maxmemory = "0" } }, run(served, [[return redis:config_get("maxmemory")]]))
    end)
  end)

  it("says what failed, with the server's word", function()
    loop.run(function()
      assert.same({ json.null, "Operation against a key holding the wrong kind of value", "WRONGTYPE" },
        run(served, [[redis:rpush("l", 1) return redis:get("l")]]))
      local got = run(served, [[return redis:nonsense("x")]])
      assert.equal("ERR", got[3])
      assert.matches("unknown command 'nonsense'", got[2]:lower())
      assert.matches("argument 2 is nil; Redis takes", run(served, [[return pcall(redis.set, redis, "k", nil)]])[2])
      assert.matches("pass 1 or 0", run(served, [[return pcall(redis.set, redis, "k", true)]])[2])
      assert.matches("argument 1 holds a table", run(served, [[return pcall(redis.del, redis, { { "x" } })]])[2])
    end)
  end)

  it("refuses what would reach other requests", function()
    loop.run(function()
      for _, name in ipairs { "multi", "exec", "watch", "select", "auth", "subscribe_", "monitor", "client_reply", "quit", "reset", "hello" } do
        local text = name == "subscribe_" and [[return pcall(redis.command, redis, "subscribe", "x")]]
          or ([[return pcall(function() return redis:%s("x") end)]]):format(name)
        local got = run(served, text)
        assert.is_false(got[1], name)
        assert.matches("is not sent as it stands", got[2])
      end
      assert.is_false(run(served, [[return pcall(redis.pipeline, redis, function(p) p:multi() end)]])[1])
      assert.is_false(run(served, [[return pcall(redis.pipeline, redis, function(p) p:blpop("x", 0) end)]])[1])
      for _, call in ipairs { [[redis.pipeline, redis, { { "client", "reply", "off" } }]], [[redis.client, redis, "reply", "off"]],
        [[redis.command, redis, "client", "reply", "off"]], [[redis.command, redis, "CLIENT  REPLY", "off"]],
        [[redis.pipeline, redis, function(q) q:command("client", "reply", "off") end]] } do
        assert.matches("is not sent as it stands", run(served, ("return pcall(%s)"):format(call))[2])
      end
    end)
  end)

  it("answers pipelines in order, with the errors in their places", function()
    loop.run(function()
      local got = run(served, [[return redis:pipeline(function(p) p:set("a", 1) p:incr("a") p:get("none") p:rpush("a", 1) p:hgetall("none") p:get("a") end)]])[1]
      assert.same({ "OK", 2, json.null, { error = "Operation against a key holding the wrong kind of value", code = "WRONGTYPE" }, {}, "2" }, got)
      assert.same({ { "OK", "x" } }, run(served, [[return redis:pipeline { { "set", "b", "x" }, { "get", "b" } }]]))
      assert.same({ 3000, "2999" }, run(served, [[local r = redis:pipeline(function(p) for i = 1, 3000 do p:command("echo", i - 1) end end) return #r, r[3000] ]]))
      assert.same({ {} }, run(served, [[return redis:pipeline(function() end)]]))
    end)
  end)

  it("does transactions as a whole, and says when a watched key has changed", function()
    loop.run(function()
      assert.same({ { "OK", 6, "6" } }, run(served, [[return redis:transaction(function(tx) tx:set("n", 5) tx:incr("n") tx:get("n") end)]]))
      local broken = run(served, [[return redis:transaction(function(tx) tx:set("n", 7) tx:command("get") end)]])
      assert.equal("ERR", broken[3])
      assert.matches("wrong number of arguments", broken[2])
      assert.equal("6", server:cli("get", "n"))
      assert.same({ { 5 } }, run(served, [[return redis:transaction({ "n" }, function(tx, now) if now:get("n") == "6" then tx:decr("n") end end)]]))
      assert.same({ json.null, "sold out", "sold_out" }, run(served, [[return redis:transaction({ "n" }, function() return nil, "sold out", "sold_out" end)]]))
      assert.same({ { 6 }, 2 }, run(served, [[local calls = 0
        return redis:transaction({ "n" }, function(tx, now) calls = calls + 1 now:get("n") if calls == 1 then redis:set("n", 5) end tx:incr("n") end), calls]]))
      local conflict = run(served, [[return redis:transaction({ "n" }, function(tx) redis:incr("n") tx:incr("n") end, { retries = 2 })]])
      assert.equal("conflict", conflict[3])
      assert.equal("9", server:cli("get", "n"))
      assert.same({ false, "torn" }, run(served, [[return pcall(redis.transaction, redis, { "n" }, function() error("torn", 0) end)]]))
    end)
  end)

  it("runs scripts by their hash, also when the server has forgotten them", function()
    loop.run(function()
      local text = [[local s = "return { KEYS[1], ARGV[1], redis.call('INCR', KEYS[1]) }" return redis:script(s, { "c" }, "x")]]
      assert.same({ { "c", "x", 1 } }, run(served, text))
      assert.same({ { "c", "x", 2 } }, run(served, text))
      server:cli("script", "flush")
      assert.same({ { "c", "x", 3 } }, run(served, text))
      assert.matches("evalsha", server:cli("info", "commandstats"))
      assert.equal("ERR", run(served, [[return redis:script("return redis.call('nonsense')")]])[3])
      assert.equal("MYCODE", run(served, [[return redis:script("return redis.error_reply('MYCODE oh')")]])[3])
    end)
  end)

  it("waits for blocking commands without holding up others", function()
    loop.run(function()
      local waiting = loop.spawn(function() return run(served, [[return redis:blpop("q", 10)]]) end)
      loop.wait_until(function() return server:cli("client", "list"):find("cmd=blpop", 1, true) end)
      local began = loop.now_ms()
      for i = 1, 50 do assert.same({ "OK" }, run(served, ([[return redis:set("x%d", 1)]]):format(i))) end
      assert.is_true(loop.now_ms() - began < 4000)
      server:cli("rpush", "q", "one")
      assert.same({ { "q", "one" } }, loop.join(waiting))
      assert.same({ json.null }, run(served, [[return redis:blpop("q", 0.05)]]))
      assert.same({ json.null }, run(served, [[return redis:xread("BLOCK", 50, "STREAMS", "s", "$")]]))
    end)
  end)

  it("leaves no element behind for a client that has gone from a blocking command", function()
    loop.run(function()
      local conn = assert(http.connect { address = served.listen })
      conn:send(http.build { method = "POST", path = "/run", body = [[return redis:blpop("q", 0)]] })
      loop.wait_until(function() return server:cli("client", "list"):find("cmd=blpop", 1, true) end)
      conn:close()
      loop.wait_until(function() return not server:cli("client", "list"):find("cmd=blpop", 1, true) end, 5000, "the end of BLPOP")
      server:cli("rpush", "q", "kept")
      assert.equal("kept", server:cli("lpop", "q"))
    end)
  end)

  it("streams messages to its subscribers by one connection, and unsubscribes when they go", function()
    loop.run(function()
      local conns = {}
      for i = 1, 30 do
        conns[i] = assert(http.connect { address = served.listen })
        conns[i]:send(http.build { path = "/events/news" .. (i % 2) })
        assert(conns[i]:take_through("ready\n\n", loop.now_ms() + 5000))
      end
      assert.equal("news0\n1\nnews1\n1", server:cli("pubsub", "numsub", "news0", "news1"))
      server:cli("publish", "news1", "hello")
      server:cli("publish", "news0", "world")
      for i = 1, 30 do assert(conns[i]:take_through(i % 2 == 1 and "data: hello\n\n" or "data: world\n\n", loop.now_ms() + 5000)) end
      for i = 2, 30, 2 do conns[i]:close() end
      loop.wait_until(function() return server:cli("pubsub", "channels") == "news1" end, 5000, "the end of a subscription")
      for i = 1, 30, 2 do conns[i]:close() end
      loop.wait_until(function() return server:cli("pubsub", "channels") == "" end, 5000, "the end of the other")
    end, 20000)
  end)

  it("hears by channels and patterns, and tells when nothing comes", function()
    loop.run(function()
      local got = run(served, [[local sub = redis:subscribe { channels = { "a" }, patterns = { "b.*" } }
        redis:publish("a", "1") redis:publish("b.x", "2") redis:publish("c", "3") redis:publish("a", "\0\255")
        local one, two, three = { sub:receive(2000) }, { sub:receive(2000) }, { sub:receive(2000) }
        local late = { sub:receive(20) }
        sub:close()
        return one, two, three[1] == "\0\255", late[3], pcall(sub.receive, sub)]])
      assert.same({ "1", "a" }, got[1])
      assert.same({ "2", "b.x", "b.*" }, got[2])
      assert.is_true(got[3])
      assert.equal("timeout", got[4])
      assert.is_false(got[5])
    end)
  end)

  it("does not hold more for a slow subscriber than it may, and says so", function()
    local own = start(server, { args = { "--set", "pool.redis.backlog_bytes=10000" } })
    loop.run(function()
      local got = run(own, [[local sub = redis:subscribe("a")
        for i = 1, 30 do redis:publish("a", ("x"):rep(1000)) end
        redis:ping()
        local n, code = 0
        repeat
          local payload, _, word = sub:receive(1000)
          if payload then n = n + 1 else code = word end
        until not payload
        redis:publish("a", "again")
        return n, code, (sub:receive(1000))]])
      assert.is_true(got[1] > 3 and got[1] < 11, got[1])
      assert.same({ "slow", "again" }, { got[2], got[3] })
    end)
    own:stop()
  end)

  it("goes on with its subscriptions and connections over a reload", function()
    local own = start(server)
    loop.run(function()
      local function id() return run(own, [[return redis:client_id()]])[1] end
      local before = id()
      local conn = assert(http.connect { address = own.listen })
      conn:send(http.build { path = "/events/kept" })
      assert(conn:take_through("ready\n\n", loop.now_ms() + 5000))
      own:write_rule("routes/other.lua", [[local app = require("perilune").app() app:get("/other", function() return "x" end) return app]])
      loop.wait_until(function() return own:get("/other").status == 200 end)
      assert.equal(before, id())
      server:cli("publish", "kept", "still here")
      assert(conn:take_through("data: still here\n\n", loop.now_ms() + 5000))
      conn:close()
      loop.wait_until(function() return server:cli("pubsub", "channels") == "" end)
    end, 20000)
    own:stop()
  end)

  it("counts commands by their name, and how often one request calls them", function()
    loop.run(function()
      run(served, [[for i = 1, 7 do redis:getex("counted") end redis:pipeline(function(p) p:getex("counted") p:client_info() end) return 1]])
      local found = {}
      for _, one in ipairs(served:admin_get("~/resources/pools/redis/statements").json.data.statements) do found[one.statement] = one end
      local one = assert(found.GETEX)
      assert.same({ 8, 0, 1, 8, 8 }, { one.calls, one.errors, one.requests, one.calls_per_request, one.most_per_request })
      assert.equal("POST /run", one.most_by_route)
      assert.equal(8, one.time_ms.count)
      assert.equal(1, found["CLIENT INFO"].calls)
      assert.is_truthy(json.encode(served:admin_get("~/stats?window=all").json.data):find('"redis"', 1, true))
    end)
  end)

  it("shows its pool as OpenTelemetry names it", function()
    loop.run(function()
      run(served, [[return redis:ping()]])
      local one = pool(served)
      assert.same({ "redis", "redis", "up", 20 }, { one.pool_type, one.system, one.health, one.max })
      local text = served:admin_get("/metrics").body
      assert.matches('db_client_connection_count{db_system_name="redis",db_client_connection_pool_name="redis",db_client_connection_state="idle"} %d', text)
      assert.matches('db_client_connection_max{db_system_name="redis",db_client_connection_pool_name="redis"} 20', text)
      assert.matches('db_client_connection_pending_requests{', text)
    end)
  end)

  it("is spoken to by a Unix socket, with a password and a database of its own", function()
    local own = redis.start { password = "p@ss/w:rd" }
    local url = ("unix://:p%%40ss%%2Fw%%3Ard@%s?db=3"):format(own.socket)
    local other = start(own, { url = url })
    loop.run(function()
      assert.same({ "OK" }, run(other, [[return redis:set("k", 1)]]))
      assert.matches("db3:keys=1", own:cli("info", "keyspace"))
      assert.is_nil((other:log() .. other:admin_get("~/resources/pools").raw):find("p@ss", 1, true))
      for address, text in pairs { [url] = "ok   redis redis +[^\n]*%?db=3\n", [server.url] = "ok   redis redis +127%.0%.0%.1:%d+/0\n",
        ["redis://127.0.0.1:1"] = "BAD  redis redis +127%.0%.0%.1:1/0 %- Connection refused; start it" } do
        local _, said = engine.run { args = { "doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0" }, env = { REDIS_URL = address } }
        assert.matches(text, said)
        assert.is_nil(said:find("p@ss", 1, true))
      end
    end)
    other:stop()
    own:stop()
  end)

  it("must be in the configuration, which is checked, and never shown", function()
    local folder = files.temporary("perilune-check")
    local function check(config, route)
      files.write_tree(folder, { ["perilune.lua"] = config, ["rules/routes/a.lua"] = route or "return require('perilune').app()" })
      return engine.run { args = { "check", "--config", folder .. "/perilune.lua" } }
    end
    local code, out = check("return {}", 'local p = require "perilune"\nlocal r = p.redis("shop")\nreturn p.app()')
    assert.equal(2, code)
    assert.matches("a%.lua:2: there is no Redis 'shop'", out)
    for config, text in pairs {
      ['redis = "rediss://:hush@host"'] = "TLS, which is not available",
      ['redis = "http://:hush@host"'] = "redis.redis: the address cannot be used",
      ['redis = "redis://hush@host"'] = "a user without a password",
      ['redis = "redis://:hush@host:x"'] = "the port is a number from 1 to 65535",
      ['redis = "redis://:hush@host/x"'] = "the database is a number",
      ['redis = "redis://:hu%sh@host"'] = "not followed by two hexadecimal digits",
      ['redis = "redis://host?hush=1"'] = "only db=NUMBER",
      ['redis = "unix://relative"'] = "absolute path",
      ['redis = { a = { url = "redis://x", maxx = 3 } }'] = "unknown key 'maxx', did you mean 'max'?",
      ['redis = { a = { url = "redis://x", max = 0 } }'] = "'max' is a whole number from 1 to 10000",
      ['redis = { a = { max = 2 } }'] = "it is missing",
      ['redis = { a = { url = "redis://x", min = 5, max = 2 } }'] = "min is above max",
      ['redis = 5'] = "redis is an address",
      ['redis = { a = 5 }'] = "redis.a: a server is",
      ['postgres = { a = "host=x" }, redis = { a = "redis://x" }'] = "a database has this name already",
    } do
      code, out = check("return { " .. config .. " }")
      assert.equal(2, code, config)
      assert.is_truthy(out:find(text, 1, true), out)
      assert.is_nil(out:find("hush@", 1, true))
    end
    files.remove(folder)
  end)
end)
