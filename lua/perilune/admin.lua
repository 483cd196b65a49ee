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

local function problem(status, code, detail, headers)
  headers = headers or {}
  headers["Content-Type"] = "application/problem+json"
  headers["Cache-Control"] = "no-store"
  return status, core.json.encode { type = "about:blank", title = detail, status = status, code = code, detail = detail }, headers
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
  app = app, open_app = open_app, envelope = envelope, problem = problem, window = window,
  path = function(name) return base .. name end,
  control = control, stats = stats, upstreams = core.upstreams, pools = core.pools, decode = core.json.decode,
  compression = core.compression, cache = core.cache, task_stats = core.task_stats, limits = core.limits,
}
