--- For nginx with its Lua module: three lines make its workers part of a running engine's service.
--
--     lua_package_cpath "/usr/local/lib/lua/5.1/?.so;;";
--     init_worker_by_lua_block { require("perilune").nginx.init_worker "/var/lib/perilune/perilune.sock" }
--     log_by_lua_block         { require("perilune").nginx.log() }
--
--     body_filter_by_lua_block { require("perilune").nginx.body_filter() }      -- and header_filter: compression
--     balancer_by_lua_block    { require("perilune").nginx.balancer { ... } }
--
-- The name of a route is what options.route() says; if that is nothing or "", $uri with what looks like an id replaced ("/users/42" is "/users/:id"), so
-- that paths do not become routes. Phases come from nginx's own timings.

local core, perilune = ...

local M = {}

local engine, why_not
local prepare
local ngx = rawget(_G, "ngx")

--- In init_worker. The path is that of the engine's socket, or the address of the control API of one on another machine
-- ("http://10.0.0.5:8001"); an engine that is not there costs nothing, and is looked for again every 5 s, also when it was restarted.
-- options: token (for another machine), route = function() -> template, as in
-- { route = function() return ngx.var.perilune_route end } with `set $perilune_route "/users/:id";` in the location.
function M.init_worker(path, options)
  M.options = options or {}
  local told
  local function look(premature)
    if premature then return end
    if engine then
      local _, why = engine:tick()
      why_not = why
    else
      engine, why_not = perilune.attach(path, { lazy = true, token = M.options.token })
      if engine then prepare() end
    end
    if why_not ~= told and why_not then ngx.log(ngx.WARN, "perilune: ", why_not) end
    told = why_not
    ngx.timer.at(5, look)
  end
  look()
end

--- The engine, or nil and why there is none.
function M.engine() return engine, why_not end

--- The route that a path is taken for.
function M.template(path) return core.nginx_template(path) end

-- nginx lists one time for each upstream that was tried: "0.004, 0.120"; a dash for one that gave none.
local function sum_ms(text)
  local total = 0
  for one in text:gmatch "[%d%.]+" do total = total + (tonumber(one) or 0) * 1000 end
  return total
end

local function upstream_phases(var, response)
  local connect, header = sum_ms(var.upstream_connect_time or ""), sum_ms(var.upstream_header_time or "")
  return connect, math.max(0, header - connect), math.max(0, sum_ms(response) - header)
end

local function named()
  local name = M.options.route and M.options.route()
  return name ~= "" and name or nil
end

-- By the API of Lua, where there is no FFI or nginx does not let its functions be seen.
local function span_of_variables()
  local var = ngx.var
  local ms, status = (ngx.now() - ngx.req.start_time()) * 1000, ngx.status
  if status == 499 then status = 0 elseif status < 100 or status > 599 then status = 500 end
  local span = engine:start(ngx.req.get_method(), named() or M.template(var.uri))
  local response = var.upstream_response_time
  if response then
    local connect, first_byte, body = upstream_phases(var, response)
    span:phase("upstream_connect", connect):phase("upstream_first_byte", first_byte):phase("upstream_body", body)
  end
  local trace = (var.http_traceparent or ""):match "^%x%x%-(%x+)%-%x+%-%x%x"
  -- nginx counts in whole milliseconds: what took less is taken for half of one
  span:finish(status, tonumber(var.bytes_sent), tonumber(var.request_length), ms > 0 and ms or 0.5, trace and #trace == 32 and trace or nil)
end

local record, recorder, request -- see core/embed/nginx.h

function prepare()
  local has_ffi, ffi = pcall(require, "ffi")
  local has_base, base = pcall(require, "resty.core.base")
  local where, fn = core.nginx_recorder(engine)
  if not has_ffi or not has_base or not where then return end
  record = ffi.cast("void (*)(void *, void *, const char *, size_t)", fn)
  recorder, request = where, base.get_request
end

--- In log: one span for the request that has ended. Kept so that LuaJIT compiles it whole: no closures, no functions of the Lua API.
function M.log()
  if not engine then return end
  if not record then return span_of_variables() end
  local name = named()
  if name then record(recorder, request(), name, #name) else record(recorder, request(), nil, 0) end
end

-- ---- compression ----

local TYPES = { ["application/json"] = true, ["application/javascript"] = true, ["application/xml"] = true, ["image/svg+xml"] = true }
local BODY_MOST = 8 * 1024 * 1024

local function is_text(mime)
  mime = (mime or ""):match "^[^;%s]*"
  return mime:find "^text/" ~= nil or TYPES[mime] or mime:find "%+json$" ~= nil or mime:find "%+xml$" ~= nil
end

--- In header_filter: decides, by the engine's settings compression.enabled and compression.min_bytes when one is there.
function M.header_filter()
  local header, length = ngx.header, tonumber(ngx.header.content_length)
  local least = engine and engine:value "compression.min_bytes" or 1024
  if engine and engine:value "compression.enabled" == false then return end
  if not length or length < least or length > BODY_MOST or header.content_encoding or ngx.status ~= 200 or ngx.req.get_method() == "HEAD" or not is_text(header.content_type) then return end
  if (header.cache_control or ""):lower():find("no-transform", 1, true) then return end
  local codec = require "perilune.codec"
  local coding = codec.choose(ngx.var.http_accept_encoding or "", { "zstd", "br", "gzip" })
  local vary = header.vary
  header.vary = vary and vary .. ", Accept-Encoding" or "Accept-Encoding"
  if coding == "identity" then return end
  ngx.ctx.perilune = { coding = coding, parts = {}, at = core.now() }
  header.content_length, header.content_encoding = nil, coding
  local etag = header.etag
  if etag and not etag:find "^W/" then header.etag = "W/" .. etag end
end

--- In body_filter: the whole body, compressed when its last part has come.
function M.body_filter()
  local state = ngx.ctx.perilune
  if not state then return end
  local part, last = ngx.arg[1], ngx.arg[2]
  if part and part ~= "" then state.parts[#state.parts + 1] = part end
  if not last then
    ngx.arg[1] = nil
    return
  end
  local levels = { zstd = 3, br = 5, gzip = engine and engine:value "compression.level" or 6 }
  local body = require("perilune.codec").compress(table.concat(state.parts), state.coding, levels[state.coding])
  ngx.ctx.perilune = nil
  ngx.arg[1] = body
end

-- ---- balancing ----

--- In balancer: the peer with the fewest requests under way of two that are picked by chance; one that failed twice in a row
-- is left out for 10 s. peers: list of { host, port }.
function M.balancer(peers)
  local balancer = require "ngx.balancer"
  local state = M.peers or {}
  M.peers = state
  local at = core.now()
  local function of(i)
    local key = peers[i][1] .. ":" .. peers[i][2]
    state[key] = state[key] or { busy = 0, failures = 0, until_s = 0 }
    return state[key]
  end
  local before = ngx.ctx.perilune_peer
  if before then
    before.busy, before.failures = math.max(0, before.busy - 1), before.failures + 1
    if before.failures >= 2 then before.until_s = at + 10 end
  else
    balancer.set_more_tries(#peers - 1)
  end
  local fit = {}
  for i = 1, #peers do
    if of(i).until_s <= at and of(i) ~= before then fit[#fit + 1] = i end
  end
  if #fit == 0 then
    for i = 1, #peers do fit[i] = i end
  end
  local a, b = fit[math.random(#fit)], fit[math.random(#fit)]
  local i = of(a).busy <= of(b).busy and a or b
  local peer = of(i)
  peer.busy = peer.busy + 1
  ngx.ctx.perilune_peer = peer
  return assert(balancer.set_current_peer(peers[i][1], peers[i][2]))
end

--- In log, when balancer() is used: the request is not under way any more.
function M.balanced()
  local peer = ngx.ctx.perilune_peer
  if not peer then return end
  peer.busy = math.max(0, peer.busy - 1)
  if ngx.status < 500 then peer.failures = 0 end
end

return M
