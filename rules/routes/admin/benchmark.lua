-- POST   benchmark     : { "endpoint": "/health", "concurrent_requests": 20, "iterations": 1000 } : 202, and where to look
--                        { "endpoint": "/x", "compare": { "setting": "compression.level", "a": 1, "b": 6 } } : by turns, with a verdict
-- GET    benchmark     : the last ones
-- GET    benchmark/:id : state, progress, and the result as `perilune bench -o json` has it
-- DELETE benchmark/:id : ends it; what was measured till then is its result
--
-- Targets are routes of this engine (endpoint), or a path of a configured upstream's peer (upstream, endpoint): no URL is taken.
local admin = require "perilune.admin"
local benchmark = require "perilune.benchmark"
local compare = require "perilune.benchmark.compare"
local p = require "perilune"
local app = admin.app()

local function now_ms() return admin.trials.now_ms() end

app:every(0.1, "runs benchmarks", function() benchmark.work(now_ms) end)

local most = benchmark.limits
local function whole(max) return { type = "integer", min = 1, max = max, hint = ("a whole number from 1 to %d"):format(max) } end
local function number(hint) return { type = "number", hint = hint } end

local fields = {
  endpoint = { type = "string", required = true, pattern = "^/[%w%-%._~!$&'()*+,;=:@/%%?]*$", hint = "a path of this engine, like \"/health\"" },
  upstream = { type = "string", hint = "the name of an upstream of the configuration: one of its peers is asked itself" },
  method = { type = "string", values = { "GET", "HEAD" }, hint = "GET or HEAD" },
  concurrent_requests = whole(most.connections),
  iterations = whole(most.iterations),
  repeats = whole(most.repeats),
  duration_s = number(("seconds, above 0, at most %d"):format(most.duration_s)),
  warmup_s = number(("seconds, 0 to %d"):format(most.warmup_s)),
  rate = number(("requests a second of an open loop, above 0, at most %d"):format(most.rate)),
  poisson = { type = "boolean", hint = "true: an open loop with gaps as of a Poisson process" },
  headers = { type = "object", hint = "an object of texts by name, as in {\"Accept-Encoding\": \"gzip\"}" },
  expect_body = { type = "string", most = 4096, pattern = "^.", hint = "what each body has in it, 1 to 4096 bytes" },
  compare = { type = "object", hint = "{ setting, a, b, pairs, block_s }: two values of a setting by turns, as in {\"setting\": \"compression.level\", \"a\": 1, \"b\": 6}" },
  expect_status = { type = "integer", min = 100, max = 599, hint = "a status" },
  find_capacity = { type = "boolean", hint = "true: looks for the highest rate that keeps slo_ms" },
  slo_ms = number "milliseconds that p99 may take, above 0, at most 60000",
}

local function invalid(name, detail)
  return admin.problem(422, "invalid_fields", detail, nil, { errors = p.json.array { { pointer = "/" .. name, detail = detail } } })
end

local bounds = { duration_s = { 0.1, most.duration_s }, warmup_s = { 0, most.warmup_s }, rate = { 0.1, most.rate }, slo_ms = { 0.01, 60000 } }

local own = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true, ["perilune-benchmark"] = true }

-- Header fields in the order of their names, as { name, value }; or nil, which is wrong and why.
local function fields_of(asked)
  local list = {}
  for name, value in pairs(asked or {}) do
    if type(name) ~= "string" or not name:find "^[%w%-_%.]+$" then return nil, tostring(name), "a header field's name is letters, digits, '-', '_' and '.'" end
    if own[name:lower()] then return nil, name, ("'%s' is made by the benchmark itself"):format(name) end
    if type(value) ~= "string" or #value > 4096 or value:find "[%c\128-\255]" then return nil, name, ("'%s' is a text without control characters"):format(name) end
    list[#list + 1] = { name, value }
  end
  if #list > 16 then return nil, list[17][1], "16 header fields are the most" end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- The first peer that answers, by its address.
local function peer_of(name)
  local names = {}
  for _, upstream in ipairs(admin.upstreams.list()) do
    names[#names + 1] = upstream.name
    if upstream.name == name then
      for _, peer in ipairs(upstream.peers) do
        if peer.state ~= "ejected" then return peer end
      end
      return nil, ("no peer of upstream '%s' is up"):format(name)
    end
  end
  return nil, ("there is no upstream '%s'; it is one of: %s"):format(name, #names > 0 and table.concat(names, ", ") or "none is configured")
end

local function show(one)
  local progress = benchmark.progress(one, now_ms())
  return { id = one.id, state = one.state, target = one.target, progress = progress or p.json.null, result = one.result or p.json.null, why = one.why or p.json.null,
    asked_at = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(one.asked_ms / 1000)), href = admin.path("benchmark/" .. one.id) }
end

app:post(admin.path "benchmark", {
  summary = "Runs a benchmark of a route or of an upstream; answers where to look",
  body = fields,
  answers = { [202] = "Benchmark" },
  errors = { [409] = "busy trial_running", [422] = "invalid_fields" },
}, function(req)
  local asked = req.input
  for name, range in pairs(bounds) do
    if asked[name] and not (asked[name] >= range[1] and asked[name] <= range[2]) then return invalid(name, ("'%s' is %s"):format(name, fields[name].hint)) end
  end
  if asked.endpoint:gsub("%%%x%x", ""):find("%", 1, true) then
    return invalid("endpoint", "'endpoint' has a '%' without two hexadecimal digits behind it")
  end
  if asked.poisson and not asked.rate and not asked.find_capacity then return invalid("poisson", "'poisson' needs a 'rate': in a closed loop requests come when the last was answered") end
  local headers, wrong, detail = fields_of(asked.headers)
  if not headers then return invalid("headers/" .. wrong:gsub("~", "~0"):gsub("/", "~1"), detail) end
  if asked.compare then
    for _, name in ipairs { "find_capacity", "iterations", "duration_s", "warmup_s", "repeats" } do
      if asked[name] then return invalid(name, ("'%s' does not go with 'compare', whose blocks have pairs and block_s"):format(name)) end
    end
    local plan, field, why = compare.new(asked.compare)
    if not plan then return invalid("compare/" .. field, why) end
    asked.compare = plan
    for _, one in ipairs(admin.stats.settings()) do
      if one.on_trial then return admin.problem(409, "trial_running", ("'%s' is on trial; wait for its end or abort it"):format(one.name)) end
    end
  end
  if benchmark.longest(asked) > most.all_s then
    local field = asked.compare and "compare/pairs" or asked.find_capacity and "duration_s" or "repeats"
    local fewer = asked.compare and "pairs or block_s" or "duration_s, warmup_s or repeats"
    return invalid(field, ("it may take %.0f s, and %d s are the most: ask for less %s"):format(benchmark.longest(asked), most.all_s, fewer))
  end
  local address = admin.control.data_address
  if asked.upstream then
    local peer, why = peer_of(asked.upstream)
    if peer and (peer.tls or (peer.url or ""):find "^https") then peer, why = nil, "its peers speak TLS, which is not measured" end
    if not peer then return invalid("upstream", why) end
    address = peer.address
  end
  local one, other = benchmark.ask({ target = ("http://%s%s"):format(address, asked.endpoint), connections = asked.concurrent_requests, rate = asked.rate, poisson = asked.poisson,
    iterations = asked.iterations, duration_s = asked.duration_s, warmup_s = asked.warmup_s, repeats = asked.repeats, method = asked.method,
    expect_status = asked.expect_status, expect_body = asked.expect_body, headers = headers, upstream = asked.upstream, compare = asked.compare, find_capacity = asked.find_capacity, slo_ms = asked.slo_ms }, now_ms())
  if not one then
    return admin.problem(409, "busy", ("%s is running, and one runs at a time; DELETE %s ends it"):format(other.id, admin.path("benchmark/" .. other.id)), { ["Retry-After"] = "5" })
  end
  return 202, p.json.encode(admin.envelope(show(one))), { ["Content-Type"] = "application/json", Location = admin.path("benchmark/" .. one.id) }
end)

app:get(admin.path "benchmark", {
  summary = "The last benchmarks, the newest first, and what one may ask for",
  answers = { [200] = { benchmarks = { "Benchmark" }, limits = { ["*"] = "number" } } },
}, function()
  local list = p.json.array {}
  for i, one in ipairs(benchmark.list()) do list[i] = show(one) end
  return admin.envelope { benchmarks = list, limits = most }
end)

local function missing() return admin.problem(404, "unknown_benchmark", "there is no benchmark of this id; see GET benchmark") end

app:get(admin.path "benchmark/:id", {
  summary = "One benchmark: state, progress, result",
  answers = { [200] = "Benchmark" },
  errors = { [404] = "unknown_benchmark" },
}, function(req)
  local one = benchmark.find(req.params.id)
  if not one then return missing() end
  return admin.envelope(show(one))
end)

app:delete(admin.path "benchmark/:id", {
  summary = "Ends a benchmark; what was measured till then is its result",
  answers = { [202] = "Benchmark" },
  errors = { [404] = "unknown_benchmark" },
}, function(req)
  local one = benchmark.find(req.params.id)
  if not one then return missing() end
  benchmark.cancel(one.id, now_ms())
  return 202, p.json.encode(admin.envelope(show(benchmark.find(one.id)))), { ["Content-Type"] = "application/json" }
end)

return app
