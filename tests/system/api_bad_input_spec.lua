--- The control API under requests that are wrong: each is answered, with what is wrong, and nothing of it does harm.
--
-- Requests are made for every operation that /openapi.json has, from a seed (PERILUNE_SEED, printed when something fails), and go
-- pipelined over connections that are kept. Left out is only GET stream, whose right answer never ends.
local engine = require "tests.support.engine"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"

local API = "/api/v1/performance-optimization/"
local RULES = { ["routes/app.lua"] = 'return require "perilune".app():get("/", function() return "x" end)' }
local REQUESTS, CONNECTIONS, BATCH, ANSWER_MS = tonumber(os.getenv "PERILUNE_BAD_REQUESTS") or 10000, 4, 25, 60000

-- A generator of its own: math.random differs between runs of other specs in one process.
local function random_from(seed)
  local state = seed
  return function(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n + 1
  end
end

local function operations(served)
  local list = {}
  for path, methods in pairs(served:admin_get("/openapi.json").json.paths) do
    for method, operation in pairs(methods) do
      if path ~= API .. "stream" then list[#list + 1] = { method = method:upper(), path = path, operation = operation, key = method .. path } end
    end
  end
  table.sort(list, function(a, b) return a.key < b.key end)
  return list
end

local SEGMENTS = { "x", "%zz", "%", "%0", "%00", "%c0%80", "%ff%fe", "%2f", "%2e%2e", "..", "a%20b", ("y"):rep(3000), "-1", "0", "1e9", "nan", "999999999999999999999", "%ed%a0%80", "'\"", "<b>",
  "server.fields", "all", "%0d%0a", "*", ":id", "{id}" }
local WORDS = { "", "x", "-1", "0", "nan", "inf", "-inf", "1e999", "0x10", "1.5", "99999999999999999999", "true", "null", "%00", "%ff", "%zz", "[]", "{}", ("9"):rep(400), "%f0%9f%98%80", "p", "p3a", "pzz",
  "p39393939393a78", "-1e300", "1e300" }
local METHODS = { "PUT", "PATCH", "DELETE", "POST", "GET", "OPTIONS", "HEAD", "BREW", "PROPFIND" }
local TYPES = { "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "application/json-patch+json", "text/json", "x", ";", "application/json ; charset=utf-16x,text/plain" }
local VALUES = { "null", "true", "false", "0", "-1", "1.5", "1e308", "1e999", "-0", "99999999999999999999999", '""', '"x"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\255\254"', '"\192\128"', "[]", "{}", "[1,2]",
  '{"a":{"b":[null]}}', '"' .. ("z"):rep(5000) .. '"', '"%s%d%n"', '"../../etc/passwd"', '"\\u0000env:HOME"', "{\"\":1}", "nul", "'x'", "01", "+1", ".5", '"unclosed', "[1,]", "{\"a\":1,}", '"\0"', '"\n"' }
local BODIES = { "", " ", "{", "}", "[", "[1", "null", "1", '"x"', "true", "{}{}", "{}x", "\239\187\191{}", "\0", "\255\255", '{"a"}', '{"a":}', "{'a':1}", ("["):rep(100), ("["):rep(20000), ('{"a":'):rep(5000), "[]", "[[]]", "[{}]",
  "PLF1", "PLF1" .. ("\0"):rep(60), ("{"):rep(40), '{"a":"\\x41"}', "NaN", "{\"a\":Infinity}", "/**/{}", ("a"):rep(70000) }

-- The names of the fields of its body, and the type that a body has.
local function fields_of(operation)
  local kind, content = next(operation.requestBody and operation.requestBody.content or {})
  local names = {}
  for name in pairs(content and content.schema.properties or {}) do names[#names + 1] = name end
  table.sort(names)
  return names, kind or "application/json"
end

-- One wrong request for an operation.
local function wrong_request(one, random)
  local function pick(list) return list[random(#list)] end
  local path = one.path:gsub("{[%w_]+}", function() return pick(SEGMENTS) end)
  local request = { method = one.method, path = path, headers = {}, keep_alive = true }
  local names, kind = fields_of(one.operation)
  request.headers["Content-Type"] = kind
  local what = random(8)
  if one.method ~= "GET" then request.body = "{}" end
  if what == 1 then
    request.path = path .. "?" .. pick { "zzz=1", "=", "&&&", "limit", "limit=%zz", "%00=1", "limit[]=1", ("q"):rep(2000) .. "=1", "forse=true", "dry_run=true&dry_run=%ff&x" }
  elseif what == 2 and #one.operation.parameters > 0 then
    local parameter = pick(one.operation.parameters)
    if parameter["in"] == "query" then request.path = ("%s?%s=%s"):format(path, parameter.name, pick(WORDS)) else request.path = path .. "?nonsense=" .. pick(WORDS) end
  elseif what == 3 then
    request.method = pick(METHODS)
    if request.method == one.method then request.path = path .. "?nonsense=1" end
  elseif what == 4 then
    request.headers["Content-Type"] = pick(TYPES)
    if one.method == "GET" then request.path = path .. "/" .. pick(SEGMENTS) end
  elseif what == 5 then
    request.path = path .. pick { "/", "//", "/%2e%2e/x", "/" .. pick(SEGMENTS), "%20", "%zz" }
  elseif what == 6 or #names == 0 then
    request.body = pick(BODIES)
  else
    local members = {}
    for _ = 1, random(3) do members[#members + 1] = ("%s:%s"):format(random(6) == 1 and pick { '"nonsense"', '"\\u0000"', '""', '"a/b~c"' } or json.encode(pick(names)), pick(VALUES)) end
    if random(4) == 1 then members[#members + 1] = members[1] end -- the same twice
    request.body = "{" .. table.concat(members, ",") .. "}"
  end
  if random(20) == 1 then request.headers["If-Match"] = pick { "", "x", '"', "W/\"1\"", ("e"):rep(4000), '"g1", "g2"' } end
  if random(20) == 1 then request.headers["Idempotency-Key"] = pick { '"', " ", "a b", ("k"):rep(256), "k", '"k"' } end
  if random(40) == 1 then request.headers.Authorization = pick { "Bearer", "Basic x", "Bearer \128" } end
  return request
end

local function describe_request(request)
  return ("%s %s\n%s"):format(request.method, request.path:sub(1, 300), (request.body or ""):sub(1, 300))
end

-- Sends requests behind each other over one connection. A connection that the engine closes with an answer is followed by another.
local function send_all(served, requests, judge)
  local at = 1
  while at <= #requests do
    local conn = assert(http.connect { address = served.admin })
    local bytes = {}
    for i = at, #requests do
      requests[i].authority = served.admin
      bytes[#bytes + 1] = http.build(requests[i])
    end
    conn:send(table.concat(bytes), ANSWER_MS)
    local from = at
    while at <= #requests do
      local response, why = conn:read_response { method = requests[at].method, timeout_ms = ANSWER_MS }
      if not response then
        -- what was sent behind an answer that ends the connection was not looked at
        assert(why ~= "timeout" and at > from, ("no answer (%s) to %s"):format(tostring(why), describe_request(requests[at])))
        break
      end
      judge(requests[at], response)
      at = at + 1
      if response.headers.connection == "close" then break end
    end
    conn:close()
  end
end

describe("the control API", function()
  it("answers wrong requests with what is wrong, whatever they are", function()
    local served = engine.start { rules = RULES }
    local seed = tonumber(os.getenv "PERILUNE_SEED") or 20240611
    local counts = {}
    local function judge(request, response)
      local status = response.status
      counts[status] = (counts[status] or 0) + 1
      local known = status < 500 or (status == 501 and (request.method == "BREW" or request.method == "PROPFIND"))
      assert(known, ("seed %d: %d for %s\n%s"):format(seed, status, describe_request(request), response.body))
      if status >= 400 and request.method ~= "HEAD" then
        assert.equal("application/problem+json", response.headers["content-type"], describe_request(request))
        local problem = json.decode(response.body)
        assert(type(problem) == "table" and type(problem.code) == "string" and problem.status == status,
          ("%d without a code for %s\n%s"):format(status, describe_request(request), response.body))
      end
    end
    loop.run(function()
      local list, batches, random = operations(served), {}, random_from(seed)
      assert.is_true(#list > 50)
      for i = 1, REQUESTS do
        if (i - 1) % BATCH == 0 then batches[#batches + 1] = {} end
        table.insert(batches[#batches], wrong_request(list[(i - 1) % #list + 1], random))
      end
      local tasks = {}
      for c = 1, CONNECTIONS do
        tasks[c] = function()
          for b = c, #batches, CONNECTIONS do send_all(served, batches[b], judge) end
        end
      end
      loop.all(tasks)
      assert.is_true(((counts[400] or 0) + (counts[422] or 0) + (counts[404] or 0)) > REQUESTS / 2, json.encode(counts))
      assert.equal(200, served:get("/").status)
      assert.equal(200, served:admin_get("~/stats").status)
      assert.equal("ok\n", served:admin_request { path = "/readyz" }.body)
    end, 540000)
    assert.is_nil(served:log():find("traceback", 1, true), served:log():sub(1, 3000))
    local code, signal = served:stop()
    assert.same({ 0, 0 }, { code, signal })
  end)

  it("loses no change of many who change the same at once", function()
    local served = engine.start { rules = RULES }
    loop.run(function()
      local function generation() return served:admin_get("~/generations").json.data.active end
      local before, done, refused, tasks = generation(), 0, 0, {}
      for c = 1, 8 do
        tasks[c] = function()
          local conn = assert(http.connect { address = served.admin })
          for i = 1, 6 do
            local read = assert(conn:request { path = API .. "config/server.fields", authority = served.admin, timeout_ms = ANSWER_MS })
            local got = assert(conn:request { method = "PATCH", path = API .. "config", authority = served.admin, timeout_ms = ANSWER_MS,
              headers = { ["Content-Type"] = "application/json", ["If-Match"] = read.headers.etag },
              body = json.encode { settings = { ["server.fields"] = 30 + c * 8 + i }, reason = ("%d %d"):format(c, i) } })
            assert.is_true(got.status == 200 or got.status == 412, got.raw)
            if got.status == 200 then done = done + 1 else refused = refused + 1 end
          end
          conn:close()
        end
      end
      loop.all(tasks)
      local changes = served:admin_get("~/config/journal?limit=1000").json.data.changes
      assert.equal(48, done + refused)
      assert.is_true(done >= 6)
      assert.equal(done, #changes)
      assert.equal(done, generation() - before)
      for i, change in ipairs(changes) do
        if changes[i + 1] then assert.equal(changes[i + 1].changes[1].to, change.changes[1].from) end -- each began where the one before ended
      end
    end, 300000)
    served:stop()
  end)
end)
