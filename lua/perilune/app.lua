--- Routes: what a file in rules/routes/ declares and returns.
--
--     local p = require "perilune"
--     local app = p.app { prefix = "/api" }
--     app:use(function(req, next) return next(req) end)
--     app:get("/users/:id", function(req) return { id = req.params.id } end)
--     app:proxy("/legacy/*rest", "backend")
--     return app

local core = ...

local nearest = core.nearest
core.declared = {} -- "METHOD pattern": what the route says of itself

---@class perilune.App
local App = {}
-- A table of its own: files share the methods, so none may reach them.
local metatable = { __index = App, __metatable = false }

-- What may be told of a route, see perilune.admin.
local DECLARED = { summary = "string", role = "string", query = "table", body = "table", body_optional = "boolean", answers = "table", errors = "table",
  produces = "string", consumes = "string", also = "string", plain = "boolean", headers = "table" }

local function check_keys(options, allowed, what, level)
  for key in pairs(options) do
    if not allowed[key] then
      local names = {}
      for name in pairs(allowed) do names[#names + 1] = name end
      local near = type(key) == "string" and nearest(key, names)
      error(("unknown key '%s' in %s%s"):format(tostring(key), what, near and (", did you mean '%s'?"):format(near) or ""), level + 1)
    end
    if type(options[key]) ~= allowed[key] then
      error(("key '%s' of %s is a %s, it must be a %s"):format(key, what, type(options[key]), allowed[key]), level + 1)
    end
  end
end

--- A new app. Options: prefix (string, put before every path).
---@param options? {prefix: string}
---@return perilune.App
local function new(options)
  options = options or {}
  if type(options) ~= "table" then error("usage: perilune.app() or perilune.app { prefix = \"/api\" }", 2) end
  check_keys(options, { prefix = "string" }, "perilune.app", 2)
  if options.prefix and not options.prefix:find("^/") then error("prefix must begin with '/'", 2) end
  return setmetatable({ routes = {}, middleware = {}, prefix = (options.prefix or ""):gsub("/$", "") }, metatable)
end

local function check_self(self, level)
  if getmetatable(self) ~= false or type(self) ~= "table" or not rawget(self, "routes") then
    error("call it with a colon: app:get(...), not app.get(...)", level + 1)
  end
end

--- Runs before the handlers of this app, in the order of declaration. Return
-- next(req) to go on, or an answer to stop here.
---@param middleware fun(req: table, next: fun(req: table): any): any
function App:use(middleware)
  check_self(self, 2)
  if type(middleware) ~= "function" then
    error("app:use takes a function(req, next), not a " .. type(middleware), 2)
  end
  self.middleware[#self.middleware + 1] = middleware
  return self
end

-- `level` is that of the user's line, seen from here (callers end in a tail call).
local function add(self, method, path, handler, options, level)
  check_self(self, level)
  local declaration
  if type(handler) == "table" then declaration, handler, options = handler, options, nil end
  if type(path) ~= "string" then error("the path is a string like \"/users/:id\", not a " .. type(path), level) end
  if type(handler) ~= "function" then
    error("the handler of " .. method .. " " .. path .. " is a function(req), not a " .. type(handler), level)
  end
  if options ~= nil then check_keys(options, {}, "the options of a route", level) end
  if declaration then check_keys(declaration, DECLARED, "the declaration of a route", level) end
  local info = debug.getinfo(level, "l")
  self.routes[#self.routes + 1] = {
    method = method, path = self.prefix .. path, handler = handler, line = info and info.currentline or 0,
    declaration = declaration,
  }
  return self
end

-- app:get(path, handler), or app:get(path, declaration, handler) in files of routes/admin/ (see perilune.admin), and post, put, patch, delete, head, options, any.
for name, method in pairs { get = "GET", post = "POST", put = "PUT", patch = "PATCH", delete = "DELETE", head = "HEAD",
  options = "OPTIONS", any = "*" } do
  App[name] = function(self, path, handler, options) return add(self, method, path, handler, options, 2) end
end

--- Any method, or several: app:route({ "GET", "POST" }, path, handler).
function App:route(methods, path, handler, options)
  if type(methods) == "string" then methods = { methods } end
  if type(methods) ~= "table" or #methods == 0 then error("app:route takes a method or a list of methods first", 2) end
  for _, method in ipairs(methods) do
    if type(method) ~= "string" or not method:find("^[A-Z]+$") then error("methods are upper-case words like \"GET\"", 2) end
    add(self, method, path, handler, options, 3)
  end
  return self
end

--- Sends a path to an upstream of the configuration. With "*rest" at the end
-- only that rest is asked for; otherwise the whole path.
-- Options: timeout_ms (number), keep_path (boolean: ask for the whole path),
-- buffer_request (boolean: read the body before asking the upstream).
---@param path string
---@param upstream string
---@param options? {timeout_ms: number, keep_path: boolean, buffer_request: boolean}
function App:proxy(path, upstream, options)
  check_self(self, 2)
  options = options or {}
  if type(path) ~= "string" or type(upstream) ~= "string" then
    error("usage: app:proxy(\"/path/*rest\", \"name of an upstream\")", 2)
  end
  check_keys(options, { timeout_ms = "number", keep_path = "boolean", buffer_request = "boolean" }, "app:proxy", 2)
  local info = debug.getinfo(2, "l")
  self.routes[#self.routes + 1] = {
    method = "*", path = self.prefix .. path, upstream = upstream, timeout_ms = options.timeout_ms,
    buffer_request = options.buffer_request,
    rest = not options.keep_path and path:match("%*([%w_]+)$") or nil, line = info and info.currentline or 0,
  }
  return self
end

--- Runs fn() every so many seconds in the control process, never twice at once. Only files of
-- rules/routes/admin/ may. What it raises is logged, and the next turn comes as if nothing had been.
---@param seconds number  0.1 to 86400
---@param name string     for people
---@param fn fun()
function App:every(seconds, name, fn)
  check_self(self, 2)
  if type(seconds) ~= "number" or not (seconds >= 0.1 and seconds <= 86400) or type(name) ~= "string" or type(fn) ~= "function" then
    error("usage: app:every(10, \"what it does\", function() ... end), every 0.1 to 86400 seconds", 2)
  end
  local info = debug.getinfo(2, "l")
  self.routes[#self.routes + 1] = {
    method = "every", path = name, seconds = seconds, handler = function() fn() end, line = info and info.currentline or 0,
  }
  return self
end

local function compose(middleware, handler)
  for i = #middleware, 1, -1 do
    local this, following = middleware[i], handler
    handler = function(req) return this(req, following) end
  end
  return handler
end

--- File and line of the last instruction of a chunk, its "return".
local function end_of(chunk)
  local info = debug.getinfo(chunk, "SL")
  local last = 0
  for line in pairs(info.activelines) do last = math.max(last, line) end
  return info.source:sub(2) .. ":" .. last .. ": "
end

local function is_route(route)
  return type(route) == "table" and type(route.method) == "string" and type(route.path) == "string" and
    (type(route.handler) == "function" or type(route.upstream) == "string")
end

--- The routes of an app with its middleware around each handler; or nil and
-- why what the chunk returned is no app.
local function collect(app, chunk)
  if type(app) ~= "table" or getmetatable(app) ~= false or type(rawget(app, "routes")) ~= "table" then
    return nil, end_of(chunk) .. "a route file returns its app (\"return app\" at the end), not a " .. type(app)
  end
  for _, route in ipairs(app.routes) do
    if not is_route(route) then return nil, end_of(chunk) .. "app.routes is the engine's; add routes with app:get(...)" end
  end
  local out = {}
  for i, route in ipairs(app.routes) do
    local handler = route.handler
    if not route.seconds then core.declared[route.method .. " " .. route.path] = route.declaration or {} end
    if route.upstream and #app.middleware > 0 then
      local name, rest = route.upstream, route.rest
      handler = function(req) return core.forward(name, rest and "/" .. req.raw_params[rest] or nil) end
    end
    local info = handler and debug.getinfo(handler, "u")
    local bare = handler and #app.middleware == 0 and info.nparams == 0 and not info.isvararg
    if route.seconds then
      bare = true
    elseif handler and #app.middleware > 0 then
      handler = compose(app.middleware, handler)
    end
    out[i] = {
      method = route.method, path = route.path, handler = handler, upstream = route.upstream, rest = route.rest,
      timeout_ms = route.timeout_ms, buffer_request = route.buffer_request, line = route.line, bare = bare, every_s = route.seconds,
    }
  end
  return out
end

return { new = new, collect = collect }
