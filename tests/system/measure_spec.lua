-- What the engine says about its traffic, against what its clients saw.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local http = require "tests.support.http"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local uv = require "luv"

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello", function() return "hello\n" end)
app:get("/work", function()
  local sum = 0
  for i = 1, 6000 do sum = sum + i % 7 end
  return { sum = sum }
end)
app:get("/users/:id", function(req) return req.params.id end)
app:get("/sleep/:ms", function(req) p.sleep(tonumber(req.params.ms) / 1000) return "woke" end)
app:get("/status/:code", function(req) return tonumber(req.params.code), "x" end)
app:get("/bytes/:n", function(req) return ("x"):rep(tonumber(req.params.n)) end)
app:get("/fail", function() error("on purpose") end)
return app
]]
local RULES = { ["routes/app.lua"] = APP }

local PERCENTILES = [[
done = function(_, latency)
  for _, p in ipairs { 50, 95, 99 } do io.write(("exact p%d %d us\n"):format(p, latency:percentile(p))) end
end
]]

local function stats(e, window)
  local response = assert(e:admin_get("~/stats?window=" .. (window or "all")))
  assert.equal(200, response.status, response.body)
  return response.json.data, response.json.meta
end

local function route_named(data, name)
  for _, route in ipairs(data.routes) do
    if route.route == name then return route end
  end
end

--- Waits until everything that has begun has ended.
local function settled(e)
  return loop.wait_until(function()
    local data = stats(e)
    return data.in_flight == 0 and data
  end, 5000, "no request in flight")
end

--- Tells a worker to leave and waits until another serves in its place.
local function replace_worker(e)
  local left
  local function serving()
    local found
    for _, process in ipairs(e:processes()) do
      if process.role == "worker" then
        if process.pid == 0 or process.pid == left or process.generation == 0 then return nil end
        found = found or process.pid
      end
    end
    return found
  end
  local pid = loop.wait_until(serving, 10000, "all workers")
  uv.kill(pid, "sigterm")
  left = pid
  loop.wait_until(serving, 30000, "a worker in place of " .. pid)
end

describe("latency", function()
  local upstream, folder

  setup(function()
    upstream = engine.start { rules = RULES }
    folder = files.temporary("perilune-wrk")
    files.write(folder .. "/percentiles.lua", PERCENTILES)
  end)
  teardown(function()
    upstream:stop()
    files.remove(folder)
  end)

  --- Measures once and takes from `open` (name -> complaint) what lies within 5 % or 0.2 ms of wrk's own.
  local function measure(options, open)
    local e = engine.start { rules = options.rules, args = options.args }
    local r = assert(load.wrk { address = e.listen, path = options.path, connections = options.connections, seconds = 2, urgent = true,
      script = folder .. "/percentiles.lua" })
    local data = settled(e)
    e:stop()
    -- wrk hangs up on at most one request per connection when its time is over.
    assert.is_true(data.requests_total >= r.requests and data.requests_total <= r.requests + options.connections,
      ("wrk: %d, engine: %d"):format(r.requests, data.requests_total))
    for p in pairs(open) do
      local theirs = tonumber(r.text:match(("exact p%d (%%d+) us"):format(p))) / 1000
      local ours = data.latency_ms["p" .. p]
      open[p] = ("p%d: wrk %.3f ms, engine %.3f ms"):format(p, theirs, ours)
      if math.abs(ours - theirs) <= math.max(0.05 * theirs, 0.2) then open[p] = nil end
    end
  end

  -- What wrk waits for its own turn on the CPU nobody but wrk can see. So it
  -- goes first, and one undisturbed run for each quantile is enough; a wrong clock fails them all.
  local function agrees(options)
    local open = {}
    for _, p in ipairs(options.quantiles or { 50, 95, 99 }) do open[p] = "" end
    for _ = 1, 40 do
      measure(options, open)
      if not next(open) then return end
    end
    error(select(2, next(open)), 0)
  end

  it("is what 64 clients at once see on a Lua route", function()
    agrees { rules = RULES, path = "/work", connections = 64 }
  end)

  it("is what 8 clients at once see on a Lua route", function()
    -- Its p99 is not asked for: with eight clients that is wrk's own wait for a CPU.
    agrees { rules = RULES, path = "/work", connections = 8, quantiles = { 50, 95 } }
  end)

  it("is what 64 clients at once see through a proxy", function()
    agrees { path = "/work", connections = 64, args = { "--upstream", "http://" .. upstream.listen } }
  end)

  it("begins when a request arrives, not when its turn comes", function()
    local e = engine.start { rules = { ["routes/app.lua"] = [[
local app = require("perilune").app()
app:get("/busy", function() local t = os.clock() while os.clock() - t < 0.08 do end return "done" end)
app:get("/quick", function() return "quick" end)
return app]] } }
    --- One quick request sent while a busy one has the loop; how long the slowest of them took.
    local function overtake()
      loop.run(function()
        local a, b = e:connect(), e:connect()
        assert.equal(200, a:request("/quick").status)
        assert.equal(200, b:request("/quick").status)
        a:send(http.build { path = "/busy", keep_alive = true })
        loop.sleep(20)
        assert.equal("quick", b:request("/quick").body)
        assert.equal("done", a:read_response().body)
        a:close() b:close()
      end)
      return route_named(stats(e), "/quick")
    end
    -- A client that sleeps too long itself comes when the loop is free again: so up to ten times.
    local quick
    for _ = 1, 10 do
      quick = overtake()
      if quick.latency_ms.max > 30 then break end
    end
    assert.is_true(quick.latency_ms.max > 30, "it waited 60 ms: " .. quick.latency_ms.max)
    assert.is_true(quick.phases_ms.queue.mean * quick.phases_ms.queue.count > 30)
    e:stop()
  end)
end)

describe("the count of requests", function()
  it("is exactly what a counting client sent, over many connections", function()
    local e = engine.start { rules = RULES, workers = 2 }
    local r = load.run { address = e.listen, path = "/hello", connections = 40, requests = 20000 }
    assert.same({ 20000, 0 }, { r.ok, r.failed })
    local data = settled(e)
    assert.same({ 20000, 20000, 0 }, { data.requests_total, route_named(data, "/hello").status["2xx"], data.aborted_total })
    e:stop()
  end)

  it("is exact while workers are told to leave, and nobody is cut off", function()
    local e, over, r = engine.start { rules = RULES, workers = 2 }, false, nil
    loop.run(function()
      loop.all {
        function() r = load.run { address = e.listen, path = "/work", connections = 64, stop = function() return over end } end,
        function()
          for _ = 1, 3 do
            replace_worker(e)
          end
          over = true
        end,
      }
    end, 60000)
    assert.same({ 0, {} }, { r.failed, r.messages })
    assert.equal(r.ok, settled(e).requests_total)
    e:stop()
  end)

  it("is exact for a million requests and a worker that is replaced in the middle", function()
    local e = engine.start { rules = RULES, workers = 2 }
    local connections, sent, answered, cut = 64, 0, 0, 0
    loop.run(function()
      local tasks = {}
      -- Pipelines of 50: a million requests need no million turns of the client.
      local batch, last = {}, http.build { path = "/hello", keep_alive = true }
      for i = 1, 50 do batch[i] = last end
      batch = table.concat(batch)
      local TOTAL = 1000000
      local function client()
        local c
        while answered < TOTAL do
          c = c or assert(e:connect())
          local expected, got = 50, 0
          sent = sent + 50
          local ok = c:send(batch)
          while ok and got < expected do
            ok = c:fill()
            if ok then
              local _, n = c.buffer:gsub("\r\n\r\nhello\n", "")
              local tail = c.buffer:match(".*\r\n\r\nhello\n()")
              if tail then c.buffer = c.buffer:sub(tail) end
              got = got + n
            end
          end
          answered = answered + got
          if got < expected then
            cut = cut + expected - got
            c:close()
            c = nil
          end
        end
        if c then c:close() end
      end
      for i = 1, connections do tasks[i] = client end
      tasks[#tasks + 1] = function()
        loop.wait_until(function() return answered > TOTAL / 3 end, 60000, "a third of the requests")
        replace_worker(e)
      end
      loop.all(tasks)
    end, 120000)
    local data = settled(e)
    assert.equal(sent, answered + cut)
    assert.is_true(answered >= 1000000)
    local hello = route_named(data, "/hello")
    -- What was cut off by the draining worker was never read, or is counted.
    local told = ("answered %d, cut %d, total %d, 2xx %d, aborted %d"):format(answered, cut, data.requests_total, hello.status["2xx"],
      data.aborted_total)
    assert.equal(answered, hello.status["2xx"], told)
    assert.is_true(data.requests_total <= sent, told)
    e:stop()
  end)
end)

describe("routes", function()
  it("are named by template, whatever the paths are", function()
    local upstream = engine.start { rules = RULES }
    local e = engine.start { rules = { ["routes/app.lua"] = [[
local app = require("perilune").app()
app:get("/users/:id", function(req) return req.params.id end)
app:proxy("/legacy/*rest", "old")
return app]] }, config = ('return { upstreams = { old = "http://%s" } }'):format(upstream.listen) }
    local odd = { "%00", "%2e%2e", "//", ";a=b", "'", "%ff", "?q=1", "~", "%C3%A4", "a.php" }
    local r = load.run { address = e.listen, connections = 8, requests = 3000, request = function(i)
      local path = odd[i % #odd + 1] .. i
      return { path = (i % 3 == 0 and "/legacy/" or i % 3 == 1 and "/none/" or "/users/") .. path, keep_alive = true }
    end }
    assert.equal(3000, r.ok)
    local data = settled(e)
    local names = {}
    for _, route in ipairs(data.routes) do names[#names + 1] = route.route end
    assert.is_true(#names <= 6, table.concat(names, " "))
    assert.is_not_nil(route_named(data, "/users/:id"))
    assert.is_not_nil(route_named(data, "/legacy/*rest"))
    assert.equal(3000, data.requests_total)
    e:stop()
    upstream:stop()
  end)

  it("fall into (other) when there are more than the setting allows", function()
    local lines = { 'local app = require("perilune").app()' }
    for i = 1, 80 do lines[#lines + 1] = ('app:get("/r%d", function() return "x" end)'):format(i) end
    lines[#lines + 1] = "return app"
    local e = engine.start { rules = { ["routes/app.lua"] = table.concat(lines, "\n") }, args = { "--set", "stats.routes_max=16" } }
    for i = 1, 80 do assert.equal(200, e:get("/r" .. i).status) end
    local data = settled(e)
    assert.is_true(#data.routes <= 16)
    local sum = 0
    for _, route in ipairs(data.routes) do sum = sum + route.requests end
    assert.same({ 80, 80 }, { sum, data.requests_total })
    assert.is_true(assert(route_named(data, "(other)"), "no (other)").requests >= 64)
    e:stop()
  end)
end)

describe("windows", function()
  local e
  setup(function() e = engine.start { rules = RULES, args = { "--set", "stats.slow_ms=30" } } end)
  teardown(function() e:stop() end)

  it("cover seconds or everything, and agree on what is young", function()
    for _ = 1, 20 do e:get("/hello") end
    settled(e)
    loop.wait_until(function() return route_named(stats(e, 10), "/hello") end, 5000, "the frame of this second")
    local young, meta = stats(e, 10)
    local all = stats(e, "all")
    assert.same({ 20, 20 }, { young.requests_total, all.requests_total })
    assert.is_true(meta.window_s <= 11)
    assert.is_true(route_named(young, "/hello").latency_ms.p50 > 0)
  end)

  it("that make no sense are refused with a problem", function()
    for _, window in ipairs { "zz", "-1", "0x", "1e99", "", "nan", "all%20" } do
      local r = e:admin_get("~/stats?window=" .. window)
      assert.same({ 400, "bad_window" }, { r.status, r.json and r.json.code }, window)
      assert.equal("application/problem+json", r.headers["content-type"])
    end
  end)

  it("show slow requests with trace id and phases", function()
    local id = ("0af7651916cd43dd8448eb211c80319c")
    e:request { path = "/sleep/60", headers = { traceparent = "00-" .. id .. "-b7ad6b7169203331-01" } }
    settled(e)
    local slow = assert(stats(e).slow_requests[1], "no slow request")
    assert.same({ id, "GET", 200, "/sleep/:ms" }, { slow.trace_id, slow.method, slow.status, slow.route })
    assert.is_true(slow.latency_ms >= 59 and slow.latency_ms < 1000)
    assert.is_table(slow.phases_ms)
    assert.is_true(slow.phases_ms.lua < slow.latency_ms)
  end)
end)

describe("figures", function()
  local e
  before_each(function() e = engine.start { rules = RULES } end)
  after_each(function() e:stop() end)

  it("tell status classes, the error rate and sizes", function()
    for _ = 1, 6 do e:get("/hello") end
    for _ = 1, 2 do e:get("/fail") end
    e:get("/nowhere")
    e:get("/status/302")
    e:get("/bytes/20000")
    e:get("/bytes/2000000")
    local data = settled(e)
    assert.equal(12, data.requests_total)
    assert.is_true(math.abs(data.error_rate - 2 / 12) < 1e-4)
    assert.same({ 2, 1 }, { route_named(data, "/fail").status["5xx"], route_named(data, "/fail").error_rate })
    assert.equal(1, route_named(data, "/status/:code").status["3xx"])
    assert.same({ small = 0, medium = 1, large = 1 }, route_named(data, "/bytes/:n").response_sizes)
    assert.is_true(data.bytes_out > 2020000)
  end)

  it("show what is in flight, and who left before the answer", function()
    loop.run(function()
      local c = e:connect()
      c:send(http.build { path = "/sleep/2000" })
      loop.wait_until(function() return stats(e).in_flight == 1 end, 2000, "one in flight")
      c:abort()
      local data = settled(e)
      assert.same({ 1, 1 }, { data.aborted_total, route_named(data, "/sleep/:ms").status.none })
    end)
  end)

  it("are the same for Prometheus", function()
    for i = 1, 7 do e:get("/users/" .. i) end
    e:get("/fail")
    local data = settled(e)
    local r = e:admin_get("/metrics")
    assert.matches("^text/plain; version=0%.0%.4", r.headers["content-type"])
    local series, typed = {}, {}
    for line in r.body:gmatch("([^\n]*)\n") do
      local name, labels, value = line:match("^([%a_:][%w_:]*)(%b{}) ([%d.eE+-]+)$")
      if not name then name, value = line:match("^([%a_:][%w_:]*) ([%d.eE+-]+)$") end
      local metric, kind = line:match("^# TYPE (%S+) (%a+)$")
      if metric then
        assert.is_nil(typed[metric], "typed twice: " .. metric)
        typed[metric] = kind
      else
        assert.is_true(name ~= nil or line:match("^# HELP %S+ .+") ~= nil, "bad line: " .. line)
        if name then series[name .. (labels or "")] = tonumber(value) end
      end
    end
    assert.equal(data.requests_total, series.perilune_requests_total)
    assert.equal(data.aborted_total, series.perilune_aborted_total)
    assert.equal(7, series['http_server_request_duration_seconds_count{http_request_method="GET",http_route="/users/:id"}'])
    assert.equal(7, series['http_server_request_duration_seconds_bucket{http_request_method="GET",http_route="/users/:id",le="+Inf"}'])
    assert.equal(1, series['perilune_responses_total{http_request_method="GET",http_route="/fail",status_class="5xx"}'])
  end)

  it("are OpenMetrics when that is asked for", function()
    e:get("/hello")
    local r = e:admin_request { path = "/metrics", headers = { Accept = "application/openmetrics-text; version=1.0.0" } }
    assert.matches("^application/openmetrics%-text", r.headers["content-type"])
    assert.matches("\n# EOF\n$", r.body)
    assert.is_nil(e:admin_get("/metrics").body:find("# EOF", 1, true))
    for accept, kind in pairs { ["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"] = "application/openmetrics%-text",
      ["application/openmetrics-text;q=0.2, text/plain"] = "text/plain", ["application/openmetrics-text;q=0, */*"] = "text/plain" } do
      assert.matches("^" .. kind, e:admin_request({ path = "/metrics", headers = { Accept = accept } }).headers["content-type"])
    end
  end)
end)
