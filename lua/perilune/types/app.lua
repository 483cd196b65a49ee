---@meta
--- Routes: what a file in rules/routes/ declares and returns.
--
--     local p = require "perilune"
--     local app = p.app { prefix = "/api" }
--     app:use(function(req, next) return next(req) end)
--     app:get("/users/:id", function(req) return { id = req.params.id } end)
--     app:proxy("/legacy/*rest", "backend")
--     return app

---@class perilune.App

---@class perilune.App
local App = {}

--- Runs before the handlers of this app, in the order of declaration. Return
-- next(req) to go on, or an answer to stop here.
---@param middleware fun(req: table, next: fun(req: table): any): any
function App:use(middleware) end

--- Any method, or several: app:route({ "GET", "POST" }, path, handler).
function App:route(methods, path, handler, options) end

--- Sends a path to an upstream of the configuration. With "*rest" at the end
-- only that rest is asked for; otherwise the whole path.
-- Options: timeout_ms (number), keep_path (boolean: ask for the whole path),
-- buffer_request (boolean: read the body before asking the upstream).
---@param path string
---@param upstream string
---@param options? {timeout_ms: number, keep_path: boolean, buffer_request: boolean}
function App:proxy(path, upstream, options) end

--- Runs fn() every so many seconds in the control process, never twice at once. Only files of
-- rules/routes/admin/ may. What it raises is logged, and the next turn comes as if nothing had been.
---@param seconds number  0.1 to 86400
---@param name string     for people
---@param fn fun()
function App:every(seconds, name, fn) end
