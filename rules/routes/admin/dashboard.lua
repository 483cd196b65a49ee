-- GET dashboard?window=60                             : all that the first view of the dashboard shows, as one document
-- GET dashboard/latency?from=&to=&step=&route=        : how many requests took how long, for the heatmap
-- GET /  and  GET /ui/:file                           : the dashboard itself, for browsers; others are told where to go from here
--
-- The files of the dashboard hold no secret, so they need no token; what they show does.
local admin = require "perilune.admin"
local bounds_ms = require "perilune.bounds"
local overview = require "perilune.overview"
local p = require "perilune"
local app = admin.open_app()

local STEPS_MOST, STEPS = 2000, 120

local function guarded(handler)
  return function(req) return admin.guard(req, handler) end
end

app:get(admin.path "dashboard", {
  summary = "All that the first view of the dashboard shows, as one document",
  query = { window = { type = "string", most = 20, hint = "a number of seconds up to 86400, or 'all'" } },
  answers = { [200] = "Dashboard" },
  errors = { [400] = "bad_window" },
}, guarded(function(req)
  local seconds, wrong = admin.window(req)
  if not seconds then return admin.problem(400, "bad_window", wrong) end
  local document, covered_s = overview.document(seconds)
  return admin.envelope(document, covered_s)
end))

local function time(text, fallback, now)
  if text == nil then return fallback end
  local seconds = tonumber(text)
  if not seconds or not (seconds > -1e10 and seconds < 1e11) then return nil end
  return seconds <= 0 and now + seconds or seconds
end

local function route_index(name)
  for _, thing in ipairs(admin.watch.things()) do
    if thing.kind == "route" and (thing.name == name or thing.route == name) then return thing.index end
  end
end

app:get(admin.path "dashboard/latency", {
  summary = "How many requests took how long, for a heatmap",
  query = {
    from = { type = "number", code = "bad_range", hint = "unix seconds, or seconds before now as in from=-3600" },
    to = { type = "number", code = "bad_range", hint = "unix seconds, or seconds before now" },
    step = { type = "integer", min = 1, max = 86400, hint = "a whole number of seconds, 1 to 86400" },
    route = { type = "string", hint = "a route as GET signals names it; without it all" },
  },
  answers = { [200] = "Latencies" },
  errors = { [400] = "bad_range bad_step too_many_steps", [404] = "unknown_route" },
}, guarded(function(req)
  local now, q = os.time(), req.query
  local from, to = time(q.from, now - 900, now), time(q.to, now, now)
  if not from or not to or from >= to or from < 0 then
    return admin.problem(400, "bad_range", "from and to are unix seconds, or seconds before now as in from=-3600, the earlier first")
  end
  local step = q.step and tonumber(q.step) or admin.default_step(to - from, STEPS)
  if not step or step < 1 or step > 86400 or step ~= math.floor(step) then return admin.problem(400, "bad_step", "step is a whole number of seconds, 1 to 86400") end
  if (to - from) / step > STEPS_MOST then
    return admin.problem(400, "too_many_steps", ("that are more than %d steps: ask for a shorter time or a longer step"):format(STEPS_MOST))
  end
  local index = q.route and route_index(q.route)
  if q.route and not index then return admin.problem(404, "unknown_route", "no request has come for this route; see GET signals for those there are") end
  local data = admin.watch.latencies(index, from * 1000, to * 1000, step, bounds_ms)
  data.bounds_ms, data.step_s, data.route = bounds_ms, step, q.route or p.json.null
  return admin.envelope(data)
end))

-- ---- files ----

local TYPES = { html = "text/html; charset=utf-8", js = "text/javascript; charset=utf-8", css = "text/css; charset=utf-8", svg = "image/svg+xml" }
local POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; " ..
  "frame-ancestors 'none'"

local function takes_gzip(req)
  for coding in (req.headers["accept-encoding"] or ""):gmatch "[^,]+" do
    local name, q = coding:match "^%s*([%w*]+)%s*;%s*q=([%d.]+)"
    name = name or coding:match "^%s*([%w*]+)"
    if name == "gzip" and tonumber(q or 1) > 0 then return true end
  end
end

local function file(req, name)
  local packed = takes_gzip(req) or false
  local bytes, hash = admin.asset(name, packed)
  if not bytes then return admin.problem(404, "unknown_file", "the dashboard has no such file") end
  local etag = ('"%s%s"'):format(hash, packed and "-gzip" or "")
  local headers = { ["Content-Type"] = TYPES[name:match "%.(%w+)$"], ETag = etag, ["Cache-Control"] = "no-cache", Vary = "Accept, Accept-Encoding",
    ["Content-Security-Policy"] = POLICY, ["X-Content-Type-Options"] = "nosniff", ["Referrer-Policy"] = "no-referrer",
    ["Cross-Origin-Opener-Policy"] = "same-origin", ["Cross-Origin-Resource-Policy"] = "same-origin" }
  for one in (req.headers["if-none-match"] or ""):gmatch '[^,%s]+' do
    if one:gsub("^W/", "") == etag or one == "*" then return 304, nil, headers end
  end
  if packed then headers["Content-Encoding"] = "gzip" end
  return 200, bytes, headers
end

local function listing()
  local base = admin.path ""
  return {
    dashboard = base .. "dashboard", stream = base .. "stream", patterns = base .. "patterns",
    stats = base .. "stats", metrics = "/metrics", generations = base .. "generations", config = base .. "config",
    resources = base .. "resources", tasks = base .. "resources/tasks", machine = base .. "resources/machine",
    upstreams = base .. "upstreams", limits = base .. "limits", compression = base .. "compression", cache = base .. "cache",
    pools = base .. "resources/pools", alerts = base .. "alerts", policies = base .. "alerts/policies",
    issues = base .. "issues", suggestions = base .. "suggestions", trials = base .. "trials", trends = base .. "trends", signals = base .. "signals",
    health = "/healthz", ready = "/readyz",
  }
end

app:get("/", {
  summary = "Where to go from here; for browsers, the dashboard",
  answers = { [200] = { ["*"] = "string" }, [304] = false }, plain = true, also = "text/html",
}, function(req)
  if (req.headers["accept"] or ""):find("text/html", 1, true) then return file(req, "index.html") end
  return admin.guard(req, listing)
end)

app:get("/ui/:file", {
  summary = "A file of the dashboard. Needs no token",
  answers = { [200] = "string", [304] = false }, produces = "text/*",
  errors = { [404] = "unknown_file" },
}, function(req) return file(req, req.params.file) end)

return app
