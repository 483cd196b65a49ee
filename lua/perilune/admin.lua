--- What every route of the control API shares: who may ask, what may be asked, and the envelope.
--
--     local admin = require "perilune.admin"
--     local app = admin.app()
--     app:get(admin.path "things", {
--       summary = "The things there are",
--       query = admin.paged { state = { type = "string", values = { "on", "off" }, hint = "on or off" } },
--       answers = { [200] = { things = { { id = "string", size = "integer" } } } },
--       errors = { [404] = "unknown_thing" },
--     }, function(req) return admin.envelope { things = list_of(req.asked.state) } end)
--
-- The declaration judges what is asked before the handler sees it (req.asked: the values of the query, req.input: those of the
-- body; see perilune.admin.check for what a field may be) and is what GET /openapi.json says of the route (see perilune.openapi
-- for the shapes of answers). All of it may be left out; then the route judges for itself and is known by its name alone.
--   summary, query, body (fields), body_optional (none is as good as {}), answers ({ [status] = shape, or false: no body }),
--   errors ({ [status] = "code code" }), role ("read", "operate", "admin"; that of the method without it: read for GET, else
--   operate), produces, consumes (another content type than JSON's; what it consumes are measurements, which are not audited), also (one besides), plain (the answer has no envelope), headers ({ Name = "what it does" })

local core, require = ...

local perilune = {}
perilune.app = require "perilune.app".new

local check, once, audit = require "perilune.admin.check", require "perilune.admin.once", require "perilune.admin.audit"

local ANSWER_MOST = 65536 -- of an answer that is kept for its Idempotency-Key

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

-- ---- who may ----

local RANK = { read = 1, operate = 2, admin = 3 }
local SLOW_S, SLOW_MOST_S, FORGET_S = 0.02, 0.5, 10
local failures, failed_at = 0, 0

-- Who guesses waits longer each time; nobody else does.
local function slow_down()
  local now = core.now()
  failures = now - failed_at > FORGET_S and 1 or failures + 1
  failed_at = now
  core.sleep(math.min(SLOW_MOST_S, SLOW_S * failures))
end

local AUDIT_S = 1 -- of requests nobody can be held to, one is written down in so long
local audited_at = -math.huge

local function note_stranger(req, given)
  local now = core.now()
  if now - audited_at < AUDIT_S then return end
  audited_at = now
  audit.note({ actor = given and "(wrong token)" or "(no token)", role = "none", method = req.method, path = req.path }, 401, "unauthorized")
end

-- Actor and role; or nil and the answer.
local function who(req)
  local given = (req.headers["authorization"] or ""):match("^[Bb]earer (.+)$")
  local actor, role = control.token(given)
  if actor then return actor, role end
  note_stranger(req, given)
  if given then slow_down() end
  local why = given and "the bearer token is not one that this engine knows" or "a bearer token is needed"
  return nil, { problem(401, "unauthorized", why, { ["WWW-Authenticate"] = "Bearer" }) }
end

local function judge_role(role, needed)
  if RANK[role] >= RANK[needed] then return nil end
  return { problem(403, "forbidden_role", ("this takes a token of role '%s', and this one is of role '%s'"):format(needed, role), nil, { role_needed = needed }) }
end

-- ---- what may be asked ----

local UNDECLARED = {}

local function declared_of(req, method)
  return core.declared[method .. " " .. req.route] or core.declared["* " .. req.route] or UNDECLARED
end

-- What is wrong with where it comes from, as an answer.
local function stranger(req)
  if not host_is_ours(req.host) then return { problem(421, "wrong_host", "the Host of this request is not this control API") } end
  if req.headers["sec-fetch-site"] == "cross-site" then return { problem(403, "cross_site", "requests from other sites are refused") } end
  local origin = req.headers["origin"]
  if origin and origin:lower() ~= "http://" .. req.host then return { problem(403, "wrong_origin", "requests from other origins are refused") } end
end

local function judged(status, code, detail, errors)
  return { problem(status, code, detail, nil, errors and { errors = errors }) }
end

-- Sets req.asked and req.input. Returns the answer when something is wrong with them.
local function judge(req, declared, mutates)
  if declared.query or declared.summary then
    local asked, status, code, detail, errors = check.query(req.query, declared.query or {})
    if not asked then return judged(status, code, detail, errors) end
    req.asked = asked
  end
  local coding = mutates and req.headers["content-encoding"]
  if coding and coding:lower() ~= "identity" then
    local why = "bodies of this API are not compressed: send them without Content-Encoding"
    return { problem(415, "wrong_encoding", why, { ["Accept-Encoding"] = "identity" }) }
  end
  local content_type = req.headers["content-type"] or req.body and req.body ~= "" and "none is named" or nil
  local wanted = declared.consumes or "application/json"
  if mutates and content_type and content_type:lower():match "^([^;%s]+)%s*;?" ~= wanted then
    return judged(415, "wrong_type", ("bodies %s are %s: send Content-Type: %s"):format(declared.consumes and "here" or "of this API", wanted, wanted))
  end
  if not declared.body then return end
  local text = req.body or ""
  if text == "" and declared.body_optional then text = "{}" end
  local input, status, code, detail, errors = check.body(text, declared.body)
  if not input then return judged(status, code, detail, errors) end
  req.input = input
end

-- ---- what is done ----

-- Status, body and headers of what a handler returned, where that is plain; its status alone where it is not.
local function flat(first, second, third)
  if type(first) == "table" and (not getmetatable(first) or getmetatable(first) == "array") then
    return 200, core.json.encode(first), { ["Content-Type"] = "application/json" }
  end
  if type(first) == "string" then return 200, first, { ["Content-Type"] = "text/plain; charset=utf-8" } end
  if type(first) ~= "number" then return 200 end
  if type(second) == "table" and not getmetatable(second) then second = core.json.encode(second) end
  if second == nil or type(second) == "string" then return first, second or "", third end
  return first
end

local function code_of(status, body)
  return status >= 400 and type(body) == "string" and body:match '"code": ?"([%w_]+)"' or nil
end

-- Runs the handler; what it raises leaves nothing under way.
local function run(req, next, failed)
  local results = { pcall(next, req) }
  if not results[1] then
    failed()
    error(results[2], 0)
  end
  return results[2], results[3], results[4]
end

-- As run(), but a request that is asked again with its key gets the answer it got.
local function run_once(req, next, actor, failed)
  local given = req.headers["idempotency-key"]
  if not given or req.method ~= "POST" then return run(req, next, failed) end
  local key = once.key(given)
  if not key then return problem(400, "bad_idempotency_key", "Idempotency-Key is 1 to 255 visible characters") end
  local id = control.digest(actor .. "\n" .. key)
  local state, one = once.begin(id, control.digest(("%s?%s\n%s"):format(req.path, req.query_string or "", req.body or "")), os.time())
  if state == "other" then return problem(422, "key_reused", "this Idempotency-Key came with another request before") end
  if state == "in_flight" then return problem(409, "in_flight", "the request of this Idempotency-Key is under way", { ["Retry-After"] = "1" }) end
  if state == "again" then
    local headers = {}
    for name, value in pairs(one.headers or {}) do headers[name] = value end
    headers["Idempotent-Replayed"] = "true"
    return one.status, one.body, headers
  end
  local first, second, third = run(req, next, function()
    once.finish(id, os.time())
    failed()
  end)
  local status, body, headers = flat(first, second, third)
  local kept = body and status < 500 and #body <= ANSWER_MOST -- what failed for now may be tried again
  once.finish(id, os.time(), kept and status or nil, body, headers)
  return first, second, third
end

local function guard(req, next)
  local strange = stranger(req)
  if strange then return unpack(strange) end
  local actor, role = who(req)
  if not actor then return unpack(role) end
  local method = req.method == "HEAD" and "GET" or req.method
  local mutates, declared = method ~= "GET", declared_of(req, method)
  local needed = declared.role or (mutates and "operate" or "read")
  local first, second, third
  local refused = judge_role(role, needed) or judge(req, declared, mutates)
  if not mutates then
    if refused then return unpack(refused) end
    return next(req)
  end
  local path = req.path -- the client may be gone by the end
  local function note(status, code)
    audit.note({ actor = actor, role = role, method = method, path = path, query = req.asked, body = req.input }, status, code)
  end
  req.actor = actor
  if refused then
    first, second, third = unpack(refused)
  else
    first, second, third = run_once(req, next, actor, function() note(500, "handler_failed") end)
  end
  local status = type(first) == "number" and first or 200
  if not declared.consumes or status >= 400 then note(status, code_of(status, second)) end
  return first, second, third
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

--- { data, meta } as every answer has it. `more` is the cursor of the next page, nil when there is none.
local function envelope(data, window_s, more)
  return {
    data = data,
    meta = {
      as_of = rfc3339(), window_s = window_s, generation = stats.generation().active, node = core.node, next = more,
    },
  }
end

--- The JSON object of a request, and nothing wrong with it as far as `fields` tell (see perilune.admin.check).
--- Returns the table; or nil and the answer that names every field that is wrong.
local function body(req, fields)
  local asked, status, code, detail, errors = check.body(req.body or "", fields)
  if not asked then return nil, judged(status, code, detail, errors) end
  return asked
end

-- ---- pages ----

--- Parameters of a list that comes by pages, with `more` besides. limit: how many come without being asked for; most.
local function paged(more, limit, most)
  local query = { limit = { type = "integer", min = 1, max = most or 1000, default = limit or 50, hint = ("a whole number, 1 to %d"):format(most or 1000) },
    cursor = { type = "string", most = 500, hint = "what the answer before gave as meta.next" } }
  for name, field in pairs(more or {}) do query[name] = field end
  return query
end

local function cursor_of(offset, id)
  return "p" .. (("%d:%s"):format(offset, id):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function read_cursor(text)
  local hex = text:match "^p(%x+)$"
  local plain = hex and #hex % 2 == 0 and hex:gsub("..", function(c) return string.char(tonumber(c, 16)) end) or ""
  local offset, id = plain:match "^(%d+):(.*)$"
  return tonumber(offset), id
end

--- The page that req.asked is for, and the cursor of the next one (nil: this was the last); or nil, nil and the answer.
-- A page goes on behind the entry the one before ended with, wherever that stands by now. id_of(entry) names it.
local function page(req, list, id_of)
  local from = 0
  if req.asked.cursor then
    local offset, id = read_cursor(req.asked.cursor)
    if not offset then return nil, nil, { problem(400, "bad_cursor", "cursor is what the answer before gave as meta.next") } end
    from = math.min(offset, #list)
    if not list[from] or id_of(list[from]) ~= id then
      for i, one in ipairs(list) do
        if id_of(one) == id then from = i end
      end
    end
  end
  local out, last = core.json.array(), math.min(#list, from + req.asked.limit)
  for i = from + 1, last do out[#out + 1] = list[i] end
  return out, last < #list and cursor_of(last, id_of(list[last])) or nil
end

--- The value of a setting in force, nil when there is none of that name.
local function setting(name)
  for _, one in ipairs(stats.settings()) do
    if one.name == name then return one.value end
  end
end

--- Whether the If-Match of a request, if it has one, lets through what has this ETag: "*", or a list that has it.
local function if_match(req, etag)
  local asked = req.headers["if-match"]
  if not asked then return true end
  for one in asked:gmatch "[^,]+" do
    one = one:match "^%s*(.-)%s*$"
    if one == "*" or one == etag then return true end
  end
  return false
end

local windows = { all = 0 }

local STEP_MOST = 86400

--- The step for a time of so many seconds that was asked for without one: about so many steps, none longer than the longest.
local function default_step(seconds, steps, least)
  return math.min(STEP_MOST, math.max(least or 1, math.ceil(seconds / steps)))
end

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
  paged = paged, page = page, if_match = if_match, default_step = default_step, declared = function() return core.declared end, audit = audit.read,
  path = function(name) return base .. name end,
  control = control, stats = stats, upstreams = core.upstreams, pools = core.pools, decode = core.json.decode,
  compression = core.compression, cache = core.cache, task_stats = core.task_stats, machine = core.machine, limits = core.limits,
  nearest = core.nearest, journal = core.journal, watch = core.watch, keep = core.keep, modules = core.modules, trials = core.trials, benchmark = core.benchmark, asset = core.asset,
  command = core.command, command_end = core.command_end,
  store = core.store, guests = core.guests, version = core.version,
}
