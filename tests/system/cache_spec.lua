--- The shared cache in front of an origin that says and counts what the spec wants.
local engine = require "tests.support.engine"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"

local POLICY = 'return { mode = "on" }'

--- An origin whose answers are functions by path: fn(request, n) -> {status, headers, body};
-- n counts from 1. Fields: hits by path, last request by path.
local function start_origin()
  local self = { answers = {}, hits = {}, last = {} }
  self.peer = peer.start { answer = function(request)
    local path = request.target:match "^[^?]*"
    self.hits[path] = (self.hits[path] or 0) + 1
    self.last[path] = request
    local fn = self.answers[path]
    if not fn then return { status = 404, body = "nothing here" } end
    return fn(request, self.hits[path])
  end }
  return self
end

local function date(offset)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + offset)
end

local function with(policy, test, options)
  return function()
    loop.run(function()
      local origin = start_origin()
      options = options or {}
      local args = { "--upstream", "http://" .. origin.peer.address }
      for _, arg in ipairs(options.args or {}) do args[#args + 1] = arg end
      local served = engine.start { rules = { ["policies/cache.lua"] = policy or POLICY }, args = args, workers = options.workers }
      --- A request; returns the response and what Cache-Status says.
      local function ask(path, headers, method)
        local r = assert(served:request { path = path, headers = headers, method = method })
        return r, r.headers["cache-status"] or ""
      end
      local function entries()
        return served:admin_get("~/cache").json.data.entries
      end
      --- Asks once, waits until the answer is in the store (another thread writes it), and asks
      -- again: so the origin was asked once, or not at all.
      local function until_hit(path, headers)
        local before = entries()
        local response, status = ask(path, headers)
        if status:find("hit", 1, true) then return response end
        loop.wait_until(function() return entries() > before end, 5000, "the store to have " .. path)
        response, status = ask(path, headers)
        assert.truthy(status:find("hit", 1, true), status)
        return response
      end
      test(served, origin, ask, until_hit)
      served:stop()
      origin.peer:stop(true)
    end, 30000)
  end
end

local next_path = 0
local function fresh_path()
  next_path = next_path + 1
  return "/p" .. next_path
end

-- ---- RFC 9111, section by section ------------------------------------------------

-- Each answer is asked for twice, the second time once the first has had its
-- chance to be stored. `stored`: the second comes from the cache.
local STORING = {
  -- section, what, status, headers, request headers, stored
  { "3", "max-age", 200, { ["Cache-Control"] = "max-age=60" }, nil, true },
  { "3", "s-maxage", 200, { ["Cache-Control"] = "s-maxage=60" }, nil, true },
  { "3", "nothing said", 200, {}, nil, false },
  { "3", "404 with a lifetime", 404, { ["Cache-Control"] = "max-age=60" }, nil, true },
  { "3", "301 with a lifetime", 301, { ["Cache-Control"] = "max-age=60", Location = "/x" }, nil, true },
  { "3", "500 with a lifetime", 500, { ["Cache-Control"] = "max-age=60" }, nil, false },
  { "3", "400 with a lifetime", 400, { ["Cache-Control"] = "max-age=60" }, nil, false },
  { "3.5", "Authorization", 200, { ["Cache-Control"] = "max-age=60" }, { Authorization = "Bearer x" }, false },
  { "3.5", "Authorization and public", 200, { ["Cache-Control"] = "public, max-age=60" }, { Authorization = "Bearer x" }, true },
  { "3.5", "Authorization and s-maxage", 200, { ["Cache-Control"] = "s-maxage=60" }, { Authorization = "Bearer x" }, true },
  { "3.5", "Authorization and must-revalidate", 200, { ["Cache-Control"] = "must-revalidate, max-age=60" },
    { Authorization = "Bearer x" }, true },
  { "4.2.1", "s-maxage over max-age", 200, { ["Cache-Control"] = "max-age=0, s-maxage=60" }, nil, true },
  { "4.2.1", "max-age over Expires", 200, { ["Cache-Control"] = "max-age=60", Expires = "0" }, nil, true },
  { "4.2.1", "Expires in the future", 200, { Expires = date(60), Date = date(0) }, nil, true },
  { "4.2.1", "Expires in the past", 200, { Expires = date(-60), Date = date(0) }, nil, false },
  { "4.2.1", "Expires that is no date", 200, { Expires = "0" }, nil, false },
  { "4.2.1", "max-age=0", 200, { ["Cache-Control"] = "max-age=0" }, nil, false },
  { "4.2.1", "two max-age, the shorter first", 200, { ["Cache-Control"] = "max-age=0, max-age=60" }, nil, false },
  { "4.2.1", "a negative max-age", 200, { ["Cache-Control"] = "max-age=-60" }, nil, false },
  { "4.2.1", "a max-age that is no number", 200, { ["Cache-Control"] = "max-age=abc" }, nil, false },
  { "4.2.1", "a quoted max-age", 200, { ["Cache-Control"] = 'max-age="60"' }, nil, true },
  { "4.2.1", "directives in capitals", 200, { ["Cache-Control"] = "Max-Age=60" }, nil, true },
  { "4.2.1", "a max-age beyond all numbers", 200, { ["Cache-Control"] = "max-age=99999999999999999999" }, nil, true },
  { "4.2.3", "an Age above max-age", 200, { ["Cache-Control"] = "max-age=60", Age = "100" }, nil, false },
  { "4.2.3", "a Date long ago", 200, { ["Cache-Control"] = "max-age=60", Date = date(-3600) }, nil, false },
  { "5.2.2.5", "no-store", 200, { ["Cache-Control"] = "no-store, max-age=60" }, nil, false },
  { "5.2.2.7", "private", 200, { ["Cache-Control"] = "private, max-age=60" }, nil, false },
  { "5.2.2.7", "private with a field", 200, { ["Cache-Control"] = 'private="x-user", max-age=60' }, nil, false },
  { "5.2.2.4", "no-cache without validator", 200, { ["Cache-Control"] = "no-cache, max-age=60" }, nil, false },
  { "5.2.2.3", "must-understand with no-store", 200, { ["Cache-Control"] = "must-understand, no-store, max-age=60" }, nil, true },
  { "5.2.3", "an unknown directive", 200, { ["Cache-Control"] = "community=\"x, y\", max-age=60" }, nil, true },
  { "7.3", "Set-Cookie", 200, { ["Cache-Control"] = "max-age=60", ["Set-Cookie"] = "a=1" }, nil, false },
  { "4.1", "Vary: *", 200, { ["Cache-Control"] = "max-age=60", Vary = "*" }, nil, false },
  { "9213 2.1", "CDN-Cache-Control over Cache-Control", 200,
    { ["Cache-Control"] = "no-store", ["CDN-Cache-Control"] = "max-age=60" }, nil, true },
  { "9213 2.1", "CDN-Cache-Control that forbids", 200,
    { ["Cache-Control"] = "max-age=60", ["CDN-Cache-Control"] = "no-store" }, nil, false },
  { "9213 2.2", "CDN-Cache-Control that is malformed", 200,
    { ["Cache-Control"] = "max-age=60", ["CDN-Cache-Control"] = "max-age=;;" }, nil, true },
}

describe("what is stored", function()
  for _, case in ipairs(STORING) do
    local section, what, status, headers, request, stored = unpack(case, 1, 6)
    it(("RFC %s: %s: %s"):format(section:find "^9213" and section or "9111 " .. section, what, stored and "yes" or "no"),
      with(nil, function(_, origin, ask, until_hit)
        local path, barrier = fresh_path(), fresh_path()
        origin.answers[path] = function(_, n) return { status = status, headers = headers, body = "answer " .. n } end
        origin.answers[barrier] = function() return { headers = { ["Cache-Control"] = "max-age=60" } } end
        local first = ask(path, request)
        assert.equal("answer 1", first.body)
        until_hit(barrier) -- the writer works in order: the first one is stored by now, or never
        local second, cache_status = ask(path, request)
        assert.equal(stored and "answer 1" or "answer 2", second.body, cache_status)
        assert.equal(status, second.status)
        assert.equal(stored, cache_status:find("perilune; hit", 1, true) == 1)
        assert.equal(stored and 1 or 2, origin.hits[path])
      end))
  end
end)

local function cached(fields)
  return function(_, n)
    local headers = { ["Cache-Control"] = "max-age=60" }
    for name, value in pairs(fields or {}) do headers[name] = value end
    return { headers = headers, body = "answer " .. n }
  end
end

describe("a hit", function()
  it("has Age, the stored fields and the Cache-Status of RFC 9211", with(nil, function(_, origin, ask, until_hit)
    origin.answers["/a"] = cached { ["X-Own"] = "1", ["Content-Type"] = "text/plain", Age = "7" }
    local first, status = ask "/a"
    assert.equal("perilune; fwd=uri-miss; fwd-status=200; stored", status)
    assert.equal("7", first.headers.age)
    local hit = until_hit "/a"
    assert.matches("^perilune; hit; ttl=%d+$", hit.headers["cache-status"])
    assert.is_true(tonumber(hit.headers.age) >= 7 and tonumber(hit.headers.age) <= 12, hit.headers.age)
    assert.equal("1", hit.headers["x-own"])
    assert.equal("text/plain", hit.headers["content-type"])
    assert.equal("8", hit.headers["content-length"])
    assert.is_string(hit.headers.date)
  end))

  it("is told apart by query, host and method, and serves HEAD", with(nil, function(_, origin, ask, until_hit)
    origin.answers["/a"] = cached()
    assert.equal("answer 1", until_hit("/a").body)
    assert.equal("answer 2", ask("/a?x=1").body)
    assert.equal("answer 3", ask("/a", { Host = "other.example" }).body)
    local head = ask("/a", nil, "HEAD")
    assert.equal("", head.body)
    assert.equal("8", head.headers["content-length"])
    assert.matches("hit", head.headers["cache-status"])
    assert.equal("answer 1", ask("/a").body)
    assert.equal("answer 1", ask("/%61").body) -- the same resource
    assert.equal("answer 1", ask("/x/../a").body)
  end))

  it("answers conditions and ranges itself", with(nil, function(_, origin, ask, until_hit)
    local modified = date(-1000)
    origin.answers["/a"] = cached { ETag = '"v1"', ["Last-Modified"] = modified, ["Content-Type"] = "text/plain" }
    until_hit "/a"
    for _, headers in ipairs { { ["If-None-Match"] = '"v1"' }, { ["If-None-Match"] = 'W/"v1"' }, { ["If-None-Match"] = '"x", "v1"' },
      { ["If-None-Match"] = "*" }, { ["If-Modified-Since"] = modified }, { ["If-Modified-Since"] = date(0) } } do
      local r = ask("/a", headers)
      assert.equal(304, r.status)
      assert.equal('"v1"', r.headers.etag)
      assert.is_nil(r.headers["content-type"])
      assert.equal("", r.body)
    end
    for _, headers in ipairs { { ["If-None-Match"] = '"v2"' }, { ["If-Modified-Since"] = date(-2000) },
      { ["If-None-Match"] = '"v2"', ["If-Modified-Since"] = date(0) } } do
      assert.equal(200, ask("/a", headers).status)
    end
    for range, expected in pairs { ["bytes=0-2"] = "ans", ["bytes=-1"] = "1", ["bytes=7-"] = "1", ["bytes=3-999"] = "wer 1" } do
      local r = ask("/a", { Range = range })
      assert.equal(206, r.status)
      assert.equal(expected, r.body, range)
      assert.matches("^bytes %d+%-%d+/8$", r.headers["content-range"])
    end
    assert.equal(416, ask("/a", { Range = "bytes=8-" }).status)
    for _, headers in ipairs { { Range = "bytes=5-2" }, { Range = "lines=1-2" }, { Range = "bytes=0-1,3-4" },
      { Range = "bytes=0-2", ["If-Range"] = '"v2"' }, { Range = "bytes=0-2", ["If-Range"] = 'W/"v1"' } } do
      local r = ask("/a", headers)
      assert.equal(200, r.status)
      assert.equal("answer 1", r.body)
    end
    assert.equal(206, ask("/a", { Range = "bytes=0-2", ["If-Range"] = '"v1"' }).status)
    assert.equal(1, origin.hits["/a"])
  end))

  it("is chosen by what Vary names (RFC 9111 4.1)", with(nil, function(_, origin, ask, until_hit)
    origin.answers["/a"] = function(request, n)
      return { headers = { ["Cache-Control"] = "max-age=60", Vary = "Accept-Language, X-Kind" },
        body = (request.headers["accept-language"] or "none") .. n }
    end
    assert.equal("de1", until_hit("/a", { ["Accept-Language"] = "de" }).body)
    assert.equal("en2", until_hit("/a", { ["Accept-Language"] = "en" }).body)
    assert.equal("de1", ask("/a", { ["Accept-Language"] = "de" }).body)
    assert.equal("de3", until_hit("/a", { ["Accept-Language"] = "de", ["X-Kind"] = "b" }).body)
    assert.equal("none4", until_hit("/a").body)
    assert.equal(4, origin.hits["/a"])
  end))

  it("is compressed for whom it likes, though the store has the plain body", with(nil, function(_, origin, ask, until_hit)
    local text = ("a line of text\n"):rep(500)
    origin.answers["/a"] = function() return { headers = { ["Cache-Control"] = "max-age=60", ["Content-Type"] = "text/plain" }, body = text } end
    local first = ask("/a", { ["Accept-Encoding"] = "gzip" })
    assert.equal("gzip", first.headers["content-encoding"])
    assert.is_true(until_hit("/a").body == text)
    local coded = ask("/a", { ["Accept-Encoding"] = "gzip" })
    assert.equal("gzip", coded.headers["content-encoding"])
    assert.matches("hit", coded.headers["cache-status"])
    assert.is_true(#coded.body < #text / 5)
    assert.is_nil(ask("/a").headers["content-encoding"])
    assert.equal(1, origin.hits["/a"])
  end))

  it("is shared by all workers and outlives a restart", with(nil, function(served, origin, ask, until_hit)
    origin.answers["/a"] = cached()
    until_hit "/a"
    for _ = 1, 20 do assert.equal("answer 1", ask("/a").body) end -- each on a new connection, to either worker
    served:restart()
    assert.equal("answer 1", ask("/a").body)
    assert.equal(1, origin.hits["/a"])
  end, { workers = 2 }))
end)

describe("validation", function()
  it("asks with validators and takes a 304 for the old body with new fields", with(nil, function(_, origin, ask)
    local modified = date(-1000)
    origin.answers["/a"] = function(request, n)
      if request.headers["if-none-match"] == '"v1"' then
        assert(request.headers["if-modified-since"] == modified)
        return { status = 304, headers = { ["Cache-Control"] = "max-age=60", ETag = '"v1"', ["X-Count"] = tostring(n) } }
      end
      return { headers = { ["Cache-Control"] = "no-cache", ETag = '"v1"', ["Last-Modified"] = modified, ["X-Count"] = tostring(n),
        ["X-Stays"] = "s" }, body = "the body" }
    end
    ask "/a"
    local r
    loop.wait_until(function()
      r = ask "/a"
      return origin.last["/a"].headers["if-none-match"]
    end)
    assert.equal(200, r.status)
    assert.equal("the body", r.body)
    assert.equal("s", r.headers["x-stays"])
    assert.equal(tostring(origin.hits["/a"]), r.headers["x-count"])
    assert.matches("fwd%-status=304", r.headers["cache-status"])
    loop.wait_until(function()
      local _, status = ask "/a"
      return status:find("; hit", 1, true)
    end)
  end))

  it("does not take a 304 about another entity into the store", with(nil, function(_, origin, ask)
    origin.answers["/a"] = function(request, n)
      if request.headers["if-none-match"] then return { status = 304, headers = { ["Cache-Control"] = "max-age=60", ETag = '"v2"' } } end
      return { headers = { ["Cache-Control"] = "no-cache", ETag = '"v1"' }, body = "body " .. n }
    end
    ask "/a"
    loop.wait_until(function()
      ask "/a"
      return origin.last["/a"].headers["if-none-match"]
    end)
    loop.wait_until(function() -- it is forgotten, and fetched as a whole again
      local _, status = ask "/a"
      assert.is_nil(status:find("; hit", 1, true))
      return not origin.last["/a"].headers["if-none-match"]
    end)
  end))

  it("keeps a client's own conditions to itself", with(nil, function(_, origin, ask)
    origin.answers["/a"] = cached { ETag = '"v1"' }
    local r = ask("/a", { ["If-None-Match"] = '"v1"' })
    assert.equal(304, r.status)
    assert.is_nil(origin.last["/a"].headers["if-none-match"])
    assert.equal(200, ask("/b").status == 404 and 200) -- the connection is well
    loop.wait_until(function() return ask("/a").body == "answer 1" end)
    assert.equal(1, origin.hits["/a"])
  end))
end)

describe("invalidation (RFC 9111 4.4)", function()
  for _, method in ipairs { "POST", "PUT", "DELETE", "PATCH" } do
    it("follows a successful " .. method, with(nil, function(served, origin, ask, until_hit)
      origin.answers["/a"] = cached()
      origin.answers["/b"] = cached()
      origin.answers["/write"] = function() return { status = 201, headers = { Location = "/b" } } end
      until_hit "/a"
      until_hit "/b"
      assert(served:request { method = method, path = "/a", body = "x" })
      assert.equal(3, tonumber(ask("/a").body:match "%d+"))
      assert(served:request { method = method, path = "/write", body = "x" })
      loop.wait_until(function() return ask("/b").body == "answer 2" end)
    end))
  end

  it("does not follow a failed one, or one of another target", with(nil, function(served, origin, ask, until_hit)
    origin.answers["/a"] = cached()
    until_hit "/a"
    origin.answers["/a"] = function() return { status = 500 } end
    assert(served:request { method = "POST", path = "/a", body = "x" })
    origin.answers["/other"] = function() return { headers = { Location = "http://elsewhere.example/a" } } end
    assert(served:request { method = "POST", path = "/other", body = "x" })
    assert.equal("answer 1", ask("/a").body)
  end))
end)

describe("a stale answer", function()
  it("is served while a new one is fetched", with('return { mode = "on", stale_while_revalidate = 60 }',
    function(_, origin, ask)
      origin.answers["/a"] = function(_, n) return { headers = { ["Cache-Control"] = "max-age=1" }, body = "answer " .. n } end
      ask "/a"
      local saw_stale
      loop.wait_until(function() -- one second later the old one is still served, and soon the next
        local r, status = ask "/a"
        saw_stale = saw_stale or status:find("; hit; ttl=0", 1, true) or status:find("; hit; ttl=-", 1, true)
        return r.body == "answer 2"
      end)
      assert.truthy(saw_stale)
    end))

  it("stands in for an error, and for an origin that is gone, if it may", with('return { mode = "on" }', function(_, origin, ask)
    origin.answers["/a"] = function(_, n)
      if n > 1 then return { status = 503, body = "down" } end
      return { headers = { ["Cache-Control"] = "max-age=1, stale-if-error=60" }, body = "answer" }
    end
    origin.answers["/b"] = function(_, n)
      if n > 1 then return { status = 503, body = "down" } end
      return { headers = { ["Cache-Control"] = "max-age=1" }, body = "answer" }
    end
    origin.answers["/cut"] = function(_, n)
      if n > 1 then return "HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhalf", "close" end
      return { headers = { ["Cache-Control"] = "max-age=1, stale-if-error=60" }, body = "answer" }
    end
    for _, path in ipairs { "/a", "/b", "/cut" } do ask(path) end
    loop.wait_until(function() ask "/b" return origin.hits["/b"] > 1 end)
    assert.equal(503, ask("/b").status)
    loop.wait_until(function() ask "/a" return origin.hits["/a"] > 1 end)
    local r = ask "/a"
    assert.same({ 200, "answer" }, { r.status, r.body })
    loop.wait_until(function() ask "/cut" return origin.hits["/cut"] > 1 end)
    r = ask "/cut"
    assert.same({ 200, "answer" }, { r.status, r.body })
    origin.peer:stop(true)
    r = ask "/a"
    assert.same({ 200, "answer" }, { r.status, r.body })
  end))

  it("is not served when it must be revalidated", with('return { mode = "on", stale_while_revalidate = 60, stale_if_error = 60 }',
    function(_, origin, ask)
      origin.answers["/a"] = function(_, n)
        if n > 1 then return { status = 503 } end
        return { headers = { ["Cache-Control"] = "max-age=1, must-revalidate" }, body = "answer" }
      end
      ask "/a"
      loop.wait_until(function() return ask("/a").status == 503 end)
    end))
end)

describe("requests for one key at once", function()
  it("are one request to the origin", with(nil, function(served, origin, ask)
    local gate = false
    origin.answers["/a"] = function(_, n)
      loop.wait_until(function() return gate end)
      return { headers = { ["Cache-Control"] = "max-age=60" }, body = "answer " .. n }
    end
    local bodies, done = {}, 0
    for i = 1, 20 do
      loop.spawn(function()
        bodies[i] = ask("/a").body
        done = done + 1
      end)
    end
    loop.wait_until(function() return origin.hits["/a"] == 1 and served:admin_get("~/stats").json.data.in_flight >= 20 end)
    gate = true
    loop.wait_until(function() return done == 20 end)
    for i = 1, 20 do assert.equal("answer 1", bodies[i]) end
    assert.equal(1, origin.hits["/a"])
    local stats = served:admin_get("~/stats?window=all").json.data
    assert.equal(19, stats.counters.cache_collapsed)
    local phases = stats.routes[1].phases_ms -- they waited in the cache, and nowhere that has no name
    assert.is_true(phases.cache.share > 0.8 and phases.cache.count >= 19, json.encode(phases))
  end))

  it("go on by themselves when the answer is not for others, or does not come", with('return { mode = "on", collapse = 0.2 }',
    function(_, origin, ask)
      local gate = false
      origin.answers["/private"] = function(_, n)
        loop.wait_until(function() return gate end)
        return { headers = { ["Cache-Control"] = "private" }, body = "answer " .. n }
      end
      local done = 0
      for _ = 1, 5 do loop.spawn(function() ask "/private" done = done + 1 end) end
      loop.wait_until(function() return origin.hits["/private"] == 5 end) -- after 0.2 s nobody waits for the first any more
      gate = true
      loop.wait_until(function() return done == 5 end)
    end))

  it("lose nothing when the one that leads goes away", with(nil, function(served, origin, ask)
    local gate = false
    origin.answers["/a"] = function(_, n)
      loop.wait_until(function() return gate or n > 1 end)
      return { headers = { ["Cache-Control"] = "max-age=60" }, body = "answer " .. n }
    end
    local leader = served:connect()
    leader:send(http.build { path = "/a" })
    loop.wait_until(function() return origin.hits["/a"] == 1 end)
    local body
    loop.spawn(function() body = ask("/a").body end)
    loop.wait_until(function() return served:admin_get("~/stats").json.data.in_flight >= 2 end)
    leader:abort()
    loop.wait_until(function() return body end)
    assert.equal("answer 2", body)
    gate = true
  end))
end)

describe("a policy", function()
  it("says how long, and for which statuses", with('return { mode = "on", ttl = 60, ttl_by_status = { [503] = 60 } }',
    function(_, origin, _, until_hit)
      origin.answers["/plain"] = function(_, n) return { body = "answer " .. n } end
      origin.answers["/down"] = function(_, n) return { status = 503, body = "answer " .. n } end
      assert.equal("answer 1", until_hit("/plain").body)
      assert.equal("answer 1", until_hit("/down").body)
    end))

  it("may overrule what the origin says, but not private", with('return { mode = "on", force_ttl = 60 }', function(_, origin, ask, until_hit)
    origin.answers["/a"] = function(_, n) return { headers = { ["Cache-Control"] = "max-age=0" }, body = "answer " .. n } end
    origin.answers["/b"] = function(_, n) return { headers = { ["Cache-Control"] = "private" }, body = "answer " .. n } end
    assert.equal("answer 1", until_hit("/a").body)
    ask "/b"
    assert.equal("answer 2", ask("/b").body)
  end))

  it("may guess from Last-Modified, up to a bound (RFC 9111 4.2.2)", with('return { mode = "on", heuristic = 0.1, heuristic_max = 60 }',
    function(_, origin, ask, until_hit)
      local function modified(offset)
        return function(_, n) return { headers = { ["Last-Modified"] = date(offset), Date = date(0) }, body = "answer " .. n } end
      end
      origin.answers["/old"], origin.answers["/new"] = modified(-86400), modified(0)
      until_hit "/old"
      local ttl = tonumber(select(2, ask "/old"):match "ttl=(%d+)")
      assert.is_true(ttl > 50 and ttl <= 60)
      ask "/new"
      assert.equal("answer 2", ask("/new").body)
    end))

  it("has hot entries fetched again before they end", with('return { mode = "on", early = 10 }', function(_, origin, ask, until_hit)
    origin.answers["/a"] = function(_, n)
      loop.sleep(60) -- what a fetch takes is what makes it worth while
      return { headers = { ["Cache-Control"] = "max-age=4" }, body = "answer " .. n }
    end
    until_hit "/a"
    loop.wait_until(function()
      local r, status = ask "/a"
      assert.matches("hit", status, 1, true)
      return r.body ~= "answer 1"
    end, 4000, "a new answer without a miss")
  end))

  it("makes the key", with([[return { mode = "on", ttl = 60, query = "keep", query_names = { "q" }, cookies = "strip",
    key_headers = { "X-Tenant" } }]], function(_, origin, ask, until_hit)
    origin.answers["/a"] = function(request, n) return { body = request.target .. " " .. (request.headers.cookie or "-") .. " " .. n } end
    assert.equal("/a?q=1 - 1", until_hit("/a?utm=7&q=1", { Cookie = "s=1" }).body)
    assert.equal("/a?q=1 - 1", ask("/a?q=1&utm=8").body)
    assert.equal("/a?q=2 - 2", ask("/a?q=2").body)
    assert.equal("/a?q=1 - 3", ask("/a?q=1", { ["X-Tenant"] = "t" }).body)
  end))

  it("leaves requests with cookies alone unless it says other", with('return { mode = "on", ttl = 60 }', function(_, origin, ask, until_hit)
    origin.answers["/a"] = function(_, n) return { body = "answer " .. n } end
    until_hit "/a"
    local r, status = ask("/a", { Cookie = "session=1" })
    assert.equal("answer 2", r.body)
    assert.equal("perilune; fwd=bypass", status)
    assert.equal("answer 1", ask("/a").body)
  end))

  it("hides what is no part of the key from the origin", with('return { mode = "on", ttl = 60 }', function(_, origin, ask)
    origin.answers["/a"] = function() return { body = "a" } end
    ask("/a", { ["X-Forwarded-Host"] = "evil.example", ["X-Original-URL"] = "/admin", ["X-HTTP-Method-Override"] = "POST" })
    local seen = origin.last["/a"].headers
    assert.is_nil(seen["x-original-url"])
    assert.is_nil(seen["x-http-method-override"])
    assert.not_equal("evil.example", seen["x-forwarded-host"])
  end))

  it("lets a client decide only if it says so", with('return { mode = "on", heed_request = true }', function(_, origin, ask, until_hit)
    origin.answers["/a"] = cached()
    until_hit "/a"
    assert.equal("answer 2", ask("/a", { ["Cache-Control"] = "no-cache" }).body)
    assert.equal(504, ask("/never", { ["Cache-Control"] = "only-if-cached" }).status)
    assert.is_nil(origin.hits["/never"])
  end))

  it("does not let a client make the origin work by default", with(nil, function(_, origin, ask, until_hit)
    origin.answers["/a"] = cached()
    until_hit "/a"
    for _, value in ipairs { "no-cache", "no-store", "max-age=0" } do
      assert.equal("answer 1", ask("/a", { ["Cache-Control"] = value }).body)
    end
    assert.equal("answer 1", ask("/a", { Pragma = "no-cache" }).body)
  end))

  it("keeps large bodies out, and the store in its bounds", with('return { mode = "on", max_object_bytes = 200000 }',
    function(served, origin, ask)
      local big = ("0123456789"):rep(10000)
      origin.answers["/huge"] = function(_, n) return { headers = { ["Cache-Control"] = "max-age=60" }, body = big:rep(3) .. n } end
      ask "/huge"
      assert.equal("2", ask("/huge").body:sub(-1))
      for i = 1, 200 do
        origin.answers["/big" .. i] = function() return { headers = { ["Cache-Control"] = "max-age=60" }, body = big } end
        assert.equal(#big, #ask("/big" .. i).body)
      end
      loop.wait_until(function() return served:admin_get("~/cache").json.data.evictions > 0 end)
      assert.is_true(served:admin_get("~/cache").json.data.bytes <= 4194304)
    end, { args = { "--set", "cache.bytes=4194304" } }))
end)

describe("the control API", function()
  it("shows what the cache did, and purges by URL, prefix and tag", with('return { mode = "on", ttl = 60 }',
    function(served, origin, ask, until_hit)
      for _, path in ipairs { "/a", "/b/1", "/b/2", "/c" } do
        origin.answers[path] = function(_, n) return { headers = path == "/c" and { ["Surrogate-Key"] = "news all" } or {}, body = "answer " .. n } end
        until_hit(path)
      end
      local view = served:admin_get("~/cache").json.data
      assert.equal(4, view.entries)
      assert.is_true(view.bytes > 0 and view.bytes < view.limit_bytes)
      local route = view.routes[1]
      assert.equal(4, route.misses)
      assert.is_true(route.hits >= 4 and route.hit_ratio > 0 and route.hit_ratio < 1)
      local function purge(json)
        return served:admin_request { method = "POST", path = "/api/v1/performance-optimization/cache/purge", json = json }
      end
      local url = "http://LOCALHOST:80"
      assert.equal(1, purge({ url = url .. "/a" }).json.data.purged)
      assert.equal("answer 2", ask("/a").body)
      assert.equal(2, purge({ prefix = url .. "/b/" }).json.data.purged)
      assert.equal("answer 2", ask("/b/1").body)
      assert.equal("answer 1", ask("/c").body)
      assert.equal(1, purge({ tag = "news" }).json.data.purged)
      assert.equal("answer 2", ask("/c").body)
      assert.equal(0, purge({ tag = "unknown" }).json.data.purged)
      until_hit "/c"
      assert.is_true(purge({ all = true }).json.data.purged >= 1)
      local asked = origin.hits["/c"]
      assert.equal("answer " .. asked + 1, ask("/c").body)
      for _, bad in ipairs { { json = {} }, { json = { url = "/a" } }, { json = { url = 5 } }, { json = { uri = url } },
        { json = { all = false } }, { json = { url = url, tag = "x" } } } do
        local r = purge(bad.json)
        assert.equal(422, r.status)
        assert.equal("bad_purge", r.json.code)
      end
      local r = served:admin_request { method = "POST", path = "/api/v1/performance-optimization/cache/purge", body = "{",
        headers = { ["Content-Type"] = "application/json" } }
      assert.equal(400, r.status)
      local metrics = served:admin_get("/metrics").body
      assert.matches("\nperilune_cache_hits_total %d+\n", metrics)
      assert.matches("\nperilune_cache_stored_bytes %d+\n", metrics)
      assert.matches("\nperilune_cache_limit_bytes " .. view.limit_bytes .. "\n", metrics)
    end))

  it("tells what other sizes of cache would miss, from a sample", with('return { mode = "on", ttl = 60 }', function(served, origin, _, until_hit)
    for i = 1, 60 do
      origin.answers["/k" .. i] = function() return { body = ("x"):rep(1000) } end
      until_hit("/k" .. i)
    end
    local view = served:admin_get("~/cache").json.data
    local curve = view.routes[1].miss_ratio_curve
    local before = { bytes = 0, miss_ratio = 1 }
    for _, point in ipairs(curve) do
      assert.is_true(point.bytes > before.bytes and point.miss_ratio <= before.miss_ratio)
      before = point
    end
    assert.is_true(before.bytes > view.limit_bytes)
    -- every key was asked for once in vain; all fit
    assert.is_true(before.miss_ratio > 0.1 and before.miss_ratio < 0.9)
  end))

  it("says so when there is no cache", with(nil, function(served, origin, ask)
    origin.answers["/a"] = cached()
    ask "/a"
    assert.equal("answer 2", ask("/a").body)
    assert.equal(404, served:admin_get("~/cache").status)
  end, { args = { "--set", "cache.bytes=0" } }))
end)
