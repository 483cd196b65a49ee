--- What every route of the control API shares: who may ask, and the envelope.
--
--     local admin = require "perilune.admin"
--     local app = admin.app()
--     app:get(admin.path "stats", function(req) return admin.envelope({ ... }, 60) end)

local core, require = ...

local perilune = {}
perilune.app = require "perilune.app".new

local control, stats = core.control, core.stats
local base = "/api/v1/performance-optimization/"

--- An error (RFC 9457). `more` are further members, as `errors`: a list of { pointer, detail } (RFC 6901).
local function problem(status, code, detail, headers, more)
  headers = headers or {}
  headers["Content-Type"] = "application/problem+json"
  headers["Cache-Control"] = "no-store"
  local body = { type = "about:blank", title = detail, status = status, code = code, detail = detail }
  for name, value in pairs(more or {}) do body[name] = value end
  return status, core.json.encode(body), headers
end

--- Host must name this very listener: a page that rebinds its own name to
-- 127.0.0.1 is turned away.
local function host_is_ours(host)
  if not control then return true end
  local port = control.address:match(":(%d+)$")
  local name, given = host:match("^(.-):(%d+)$")
  if not name then name, given = host, "80" end
  if given ~= port then return false end
  local own = control.address:match("^(.*):%d+$")
  return name == "localhost" or name == "127.0.0.1" or name == "[::1]" or name == own or own == "0.0.0.0" or own == "[::]"
end

local function guard(req, next)
  local headers = req.headers
  if not host_is_ours(req.host) then return problem(421, "wrong_host", "the Host of this request is not this control API") end
  if headers["sec-fetch-site"] == "cross-site" then return problem(403, "cross_site", "requests from other sites are refused") end
  local origin = headers["origin"]
  if origin and origin:lower() ~= "http://" .. req.host then
    return problem(403, "wrong_origin", "requests from other origins are refused")
  end
  if not control.token_matches((headers["authorization"] or ""):match("^[Bb]earer (.+)$")) then
    return problem(401, "unauthorized", "a bearer token is needed", { ["WWW-Authenticate"] = "Bearer" })
  end
  if req.method ~= "GET" and req.method ~= "HEAD" and headers["content-type"] and
    not headers["content-type"]:lower():find("^application/json") then
    return problem(415, "wrong_type", "bodies of this API are application/json")
  end
  return next(req)
end

--- An app whose routes are guarded.
local function app()
  return perilune.app():use(guard)
end

--- An app without the guard, for health checks.
local function open_app()
  return perilune.app()
end

local function rfc3339()
  return os.date("!%Y-%m-%dT%H:%M:%SZ")
end

--- { data, meta } as every answer has it.
local function envelope(data, window_s)
  return {
    data = data,
    meta = {
      as_of = rfc3339(), window_s = window_s, generation = stats.generation().active, node = core.node,
    },
  }
end

--- The JSON object of a request, and nothing wrong with it as far as `fields` tell:
--- { name = { type, min, max, values, pattern, hint, required } }, type being Lua's or "integer".
--- Returns the table; or nil and the answer that names every field that is wrong.
local function body(req, fields)
  local asked = core.json.decode(req.body)
  if type(asked) ~= "table" then
    return nil, { problem(400, "bad_json", "the body is a JSON object") }
  end
  local errors, names = core.json.array(), {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  local function wrong(name, detail) errors[#errors + 1] = { pointer = "/" .. tostring(name):gsub("~", "~0"):gsub("/", "~1"), detail = detail } end
  local given = {}
  for name in pairs(asked) do given[#given + 1] = tostring(name) end
  table.sort(given)
  for _, name in ipairs(given) do
    if not fields[name] then
      local near = core.nearest(name, names)
      wrong(name, ("unknown field '%s'%s"):format(name, near and (", did you mean '%s'?"):format(near) or ""))
    end
  end
  for _, name in ipairs(names) do
    local field, value = fields[name], asked[name]
    if value == nil or value == core.json.null then
      asked[name] = nil
      if field.required then wrong(name, ("'%s' is missing: %s"):format(name, field.hint)) end
    else
      local fits = type(value) == (field.type == "integer" and "number" or field.type)
      if fits and field.type == "integer" then fits = value == math.floor(value) and value >= field.min and value <= field.max end
      if fits and field.pattern then fits = value:find(field.pattern) ~= nil end
      if fits and field.values then
        fits = false
        for _, one in ipairs(field.values) do fits = fits or one == value end
      end
      if not fits then wrong(name, ("'%s' is %s"):format(name, field.hint)) end
    end
  end
  if #errors > 0 then
    return nil, { problem(422, "invalid_fields", errors[1].detail, nil, { errors = errors }) }
  end
  return asked
end

--- The value of a setting in force, nil when there is none of that name.
local function setting(name)
  for _, one in ipairs(stats.settings()) do
    if one.name == name then return one.value end
  end
end

local windows = { all = 0 }

--- The window a request asks for in seconds (0: since the start), 60 by default; or nil and the
-- answer that says what is wrong.
local function window(req)
  local asked = req.query.window
  if asked == nil then return 60 end
  local seconds = windows[asked] or tonumber((asked:gsub("s$", "")))
  if not seconds or not (seconds >= 0 and seconds <= 86400) then -- nan is neither
    return nil, "window is a number of seconds up to 86400, or 'all'"
  end
  return seconds
end

return {
  app = app, open_app = open_app, guard = guard, envelope = envelope, problem = problem, window = window, body = body, setting = setting,
  path = function(name) return base .. name end,
  control = control, stats = stats, upstreams = core.upstreams, pools = core.pools, decode = core.json.decode,
  compression = core.compression, cache = core.cache, task_stats = core.task_stats, machine = core.machine, limits = core.limits,
  nearest = core.nearest, journal = core.journal, watch = core.watch, keep = core.keep, modules = core.modules, trials = core.trials, asset = core.asset,
  command = core.command, command_end = core.command_end,
  store = core.store,
}
