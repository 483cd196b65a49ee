--- The one document of the first view, and the stream of events behind it.
local engine = require "tests.support.engine"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"

local API = "/api/v1/performance-optimization/"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/fast", function() return "x" end)
app:get("/slow", function() p.sleep(0.02) return "x" end)
app:get("/bad", function() return 500, "x" end)
return app
]]

--- A client of the stream: { conn, head, event(kind) }.
local function listen(served, headers)
  local conn = assert(http.connect { address = served.admin })
  local lines = { "GET " .. API .. "stream HTTP/1.1", "Host: " .. served.admin }
  for name, value in pairs(headers or {}) do lines[#lines + 1] = name .. ": " .. value end
  assert(conn:send(table.concat(lines, "\r\n") .. "\r\n\r\n"))
  local self = { conn = conn, head = assert(conn:take_through("\r\n\r\n", loop.now_ms() + 5000)) }
  --- The next event of a kind (any: nil): id, data, kind, text.
  function self.event(kind)
    local deadline = loop.now_ms() + 8000
    while true do
      local text = assert(conn:take_through("\n\n", deadline))
      local is = text:match "event: (%w+)"
      if is and (not kind or is == kind) then return text:match "id: ([%d-]+)", json.decode(text:match "data: ([^\n]*)"), is, text end
    end
  end
  return self
end

describe("the dashboard's document", function()
  local served

  setup(function() served = engine.start { rules = { ["routes/app.lua"] = APP } } end)
  teardown(function() loop.run(function() served:stop() end) end)

  it("says how to begin where nothing was asked for yet", function()
    loop.run(function()
      local data = served:admin_get("~/dashboard").json.data
      assert.equal("No request has come yet.", data.findings[1].text)
      assert.equal("#traffic", data.findings[1].link)
      assert.equal(served.listen, data.data_address)
      assert.same({}, data.routes)
    end)
  end)

  it("has findings, six tiles, and the routes by share of total time with their phases", function()
    loop.run(function()
      for _ = 1, 20 do
        for _, path in ipairs { "/fast", "/slow", "/bad" } do served:get(path) end
      end
      local data
      loop.wait_until(function()
        data = served:admin_get("~/dashboard").json.data
        return #data.routes == 3 and data.routes[1].rps > 0 and data.tiles[3].detail == "20 answers of 5xx"
      end, 5000, "three routes")
      assert.equal("GET /slow", data.routes[1].name)
      assert.is_true(data.routes[1].share > 0.8)
      local sum = 0
      for _, route in ipairs(data.routes) do
        sum = sum + route.share
        if route.name == "GET /bad" then assert.equal(1, route.error_rate) end
      end
      assert.is_true(math.abs(sum - 1) < 0.01, sum)
      local names = {}
      for i, tile in ipairs(data.tiles) do names[i] = tile.name end
      assert.same({ "traffic", "p95", "errors", "in_flight", "cpu", "memory" }, names)
      local errors = data.tiles[3]
      assert.equal("red", errors.level)
      assert.is_true(errors.value > 30 and errors.value < 34, errors.value)
      assert.equal(1, data.generation.active)
      for _, part in ipairs { "issues", "resources", "suggestions", "trials", "alerts", "markers", "learning" } do assert.is_table(data[part], part) end
      for _, finding in ipairs(data.findings) do
        assert.matches("^%u.*%.$", finding.text)
        assert.matches("^#[%w%-]+$", finding.link)
      end
    end)
  end)

  it("counts how many requests took how long", function()
    loop.run(function()
      local data
      loop.wait_until(function()
        data = served:admin_get("~/dashboard/latency?route=/slow&from=-60&step=60").json.data
        local n = 0
        for _, counts in ipairs(data.counts) do
          for _, count in ipairs(counts) do n = n + count end
        end
        return n == 20
      end, 5000, "20 requests")
      local late = 0
      for _, counts in ipairs(data.counts) do
        assert.equal(#data.bounds_ms + 1, #counts)
        for i = 1, 4 do late = late + counts[i] end -- up to 10 ms
      end
      assert.equal(0, late)
      assert.equal(404, served:admin_get("~/dashboard/latency?route=/none").status)
      assert.equal(400, served:admin_get("~/dashboard/latency?from=5&to=4").status)
      assert.equal(400, served:admin_get("~/dashboard/latency?from=-86400&step=1").status)
    end)
  end)

  it("counts in its tiles what the window has, not what there ever was", function()
    loop.run(function()
      local data
      loop.wait_until(function()
        data = served:admin_get("~/dashboard?window=1").json.data
        return data.tiles[1].detail:find "^0 in the last"
      end, 8000, "a window without requests")
      assert.same({ "nothing measured", "nothing measured" }, { data.tiles[2].detail, data.tiles[3].detail })
      assert.equal("20 answers of 5xx", served:admin_get("~/dashboard?window=all").json.data.tiles[3].detail)
    end)
  end)

  it("tells of a refused reload with its line, until it is put right", function()
    loop.run(function()
      served:write_rule("routes/broken.lua", "local p = require 'perilune'\nlocal = 1\n")
      local data
      loop.wait_until(function()
        data = served:admin_get("~/dashboard").json.data
        return data.findings[1].of == "reload" or data.findings[2] and data.findings[2].of == "reload"
      end, 8000, "the refusal")
      assert.matches("broken%.lua:2: ", json.encode(data.findings))
      assert.equal("refused", data.generation.history[1].result)
      served:remove_rule "routes/broken.lua"
      loop.wait_until(function() return not json.encode(served:admin_get("~/dashboard").json.data.findings):find "not in force" end, 8000, "it is right")
    end)
  end)

  it("refuses a window that is none, and gives browsers files but nobody else's data", function()
    loop.run(function()
      assert.equal(400, served:admin_get("~/dashboard?window=x").status)
      local page = served:admin_request { path = "/", headers = { Accept = "text/html" } }
      assert.equal("text/html; charset=utf-8", page.headers["content-type"])
      local policy = page.headers["content-security-policy"]
      for _, part in ipairs { "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'" } do assert.truthy(policy:find(part, 1, true), part) end
      assert.is_nil(policy:find "unsafe")
      assert.is_nil(page.body:find("https?://"), "an address outside")
      assert.is_nil(page.body:find("style=", 1, true))
      local again = served:admin_request { path = "/", headers = { Accept = "text/html", ["If-None-Match"] = page.headers.etag } }
      assert.equal(304, again.status)
      local plain, packed = served:admin_get "/ui/main.js", served:admin_request { path = "/ui/main.js", headers = { ["Accept-Encoding"] = "gzip" } }
      assert.equal("gzip", packed.headers["content-encoding"])
      assert.is_true(#packed.body < #plain.body / 2)
      assert.are_not.equal(plain.headers.etag, packed.headers.etag)
      assert.equal("text/javascript; charset=utf-8", plain.headers["content-type"])
      assert.equal(404, served:admin_get "/ui/none.js".status)
      assert.equal("application/json", served:admin_get "/".headers["content-type"])
      assert.equal(421, served:admin_request { path = API .. "dashboard", authority = "evil.example:80" }.status)
      assert.equal(403, served:admin_request { path = API .. "stream", headers = { Origin = "http://evil.example" } }.status)
    end)
  end)
end)

describe("the patterns of a service", function()
  it("are found in its history and named by what is different in them", function()
    local served = engine.start { rules = { ["routes/app.lua"] = APP } }
    loop.run(function()
      local early = served:admin_get("~/patterns?from=-60&step=1").json.data
      assert.is_false(early.enough)
      assert.same({}, early.patterns)
      local function load(path, seconds)
        local until_ms = loop.now_ms() + seconds * 1000
        while loop.now_ms() < until_ms do
          for _ = 1, 5 do assert.equal(200, served:get(path).status) end
          loop.sleep(50) -- the rate
        end
      end
      load("/fast", 16)
      load("/slow", 10)
      local data = served:admin_get("~/patterns?from=-60&step=1").json.data
      assert.is_true(data.enough)
      assert.is_true(#data.patterns >= 2, json.encode(data))
      local usual, other = data.patterns[1], nil
      for _, one in ipairs(data.patterns) do
        if one.name:find("mostly GET /slow", 1, true) then other = one end
      end
      assert.equal("usual", usual.name)
      assert.is_true(usual.routes["GET /fast"] > 0.9)
      assert.is_true(other.mean_ms > 15 and other.share > 0.2, json.encode(data))
      assert.same({ tonumber(os.date("!%H", os.time())) }, { other.hours[#other.hours] })
      assert.matches("^%d+%-%d+%-%d+T", other.last_seen)
      assert.equal(400, served:admin_get("~/patterns?from=5&to=4").status)
      assert.equal(400, served:admin_get("~/patterns?step=1").status)
      served:stop()
    end, 60000)
  end)
end)

describe("the stream of events", function()
  local served

  setup(function() served = engine.start { rules = { ["routes/app.lua"] = APP }, args = { "--set", "stream.events=10", "--set", "stream.clients=8" } } end)
  teardown(function() loop.run(function() served:stop() end) end)

  it("begins with when to come again, and has a tick a second, the same for all", function()
    loop.run(function()
      local one, other = listen(served), listen(served)
      for _, header in ipairs { "Content%-Type: text/event%-stream", "Cache%-Control: no%-store", "X%-Accel%-Buffering: no" } do assert.matches(header, one.head) end
      assert.matches("retry: 3000\n\n", assert(one.conn:take_through("\n\n", loop.now_ms() + 5000)))
      served:get "/fast"
      local id, _, _, text = one.event "tick"
      assert.matches("^%d+%-%d+$", id)
      local theirs
      repeat theirs = { other.event "tick" } until theirs[1] == id or tonumber(theirs[1]:match "%d+$") > tonumber(id:match "%d+$")
      if theirs[1] == id then assert.equal(text, theirs[4]) end
      local first, second = { one.event "tick" }, { one.event "tick" }
      assert.equal(1000, second[2].at_ms - first[2].at_ms)
      assert.equal(6, #second[2].tiles)
      one.conn:close()
      other.conn:close()
    end, 30000)
  end)

  it("goes on where a client has left, and says what was dropped", function()
    loop.run(function()
      local one = listen(served)
      local id = one.event "tick"
      local after = { one.event() }
      local again = listen(served, { ["Last-Event-ID"] = id })
      assert.equal(after[1], (again.event()))
      local epoch, n = id:match "^(%d+)%-(%d+)$"
      -- Ten are kept: whoever saw the first only has missed those between.
      loop.wait_until(function()
        local newest = one.event "tick"
        return tonumber(newest:match "%d+$") > tonumber(n) + 12
      end, 30000, "twelve events")
      local late = listen(served, { ["Last-Event-ID"] = id })
      local _, data, kind = late.event()
      assert.equal("dropped", kind)
      assert.is_true(data.dropped >= 3, json.encode(data))
      assert.equal(tonumber(n) + data.dropped + 1, tonumber(late.event():match "%d+$"))
      again.conn:close()
      late.conn:close()
      loop.wait_until(function()
        local stranger = listen(served, { ["Last-Event-ID"] = ("%d-%s"):format(epoch - 100, n) })
        if stranger.head:find " 200 " then
          local _, what, is = stranger.event()
          assert.equal("dropped", is)
          assert.is_nil(what.dropped) -- of another process: nobody knows how many
          stranger.conn:close()
          return true
        end
        stranger.conn:close()
      end, 5000, "a free place")
      one.conn:close()
    end, 60000)
  end)

  it("tells of reloads, over which it goes on", function()
    loop.run(function()
      local one = listen(served)
      local before = one.event "tick"
      served:write_rule("routes/more.lua", "local p = require 'perilune'\nlocal app = p.app()\napp:get('/more', function() return 'x' end)\nreturn app\n")
      local rest = assert(one.conn:take_through("\r\n0\r\n\r\n", loop.now_ms() + 10000)) -- the successor has the stream
      local ids = {}
      for id in rest:gmatch "id: ([%d-]+)" do ids[#ids + 1] = id end
      local last = ids[#ids] or before
      local again = listen(served, { ["Last-Event-ID"] = last })
      local told = rest:match "event: reload\ndata: ([^\n]*)"
      local record = told and json.decode(told) or select(2, again.event "reload")
      assert.equal(2, record.generation)
      assert.equal(last:match "^%d+", again.event():match "^%d+")
      served:write_rule("routes/more.lua", "return 1")
      local _, refused = again.event "reload"
      assert.equal("refused", refused.result)
      assert.matches("more%.lua", refused.problems[1].file)
      again.conn:close()
    end, 40000)
  end)
end)

describe("the stream's room", function()
  it("is for so many clients, and free again when one has left", function()
    local served = engine.start { args = { "--set", "stream.clients=3" } }
    loop.run(function()
      local clients = {}
      for _ = 1, 4 do assert.equal(200, served:admin_request({ method = "HEAD", path = API .. "stream" }).status) end
      for i = 1, 3 do
        clients[i] = listen(served)
        assert.matches(" 200 ", clients[i].head)
      end
      local refused = served:admin_get "~/stream"
      assert.same({ 503, "too_many_streams" }, { refused.status, refused.json.code })
      assert.equal("10", refused.headers["retry-after"])
      clients[1].conn:close()
      loop.wait_until(function()
        local one = listen(served)
        one.conn:close()
        return one.head:find " 200 "
      end, 10000, "its place")
      for _, one in ipairs(clients) do one.conn:close() end
      served:stop()
    end, 40000)
  end)
end)
