---@meta
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

---@class perilune.nginx
local M = {}

--- In init_worker. The path is that of the engine's socket, or the address of the control API of one on another machine
-- ("http://10.0.0.5:8001"); an engine that is not there costs nothing, and is looked for again every 5 s, also when it was restarted.
-- options: token (for another machine), route = function() -> template, as in
-- { route = function() return ngx.var.perilune_route end } with `set $perilune_route "/users/:id";` in the location.
function M.init_worker(path, options) end

--- The engine, or nil and why there is none.
function M.engine() end

--- The route that a path is taken for.
function M.template(path) end

--- In log: one span for the request that has ended. Kept so that LuaJIT compiles it whole: no closures, no functions of the Lua API.
function M.log() end

--- In header_filter: decides, by the engine's settings compression.enabled and compression.min_bytes when one is there.
function M.header_filter() end

--- In body_filter: the whole body, compressed when its last part has come.
function M.body_filter() end

--- In balancer: the peer with the fewest requests under way of two that are picked by chance; one that failed twice in a row
-- is left out for 10 s. peers: list of { host, port }.
function M.balancer(peers) end

--- In log, when balancer() is used: the request is not under way any more.
function M.balanced() end
