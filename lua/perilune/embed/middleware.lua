--- Measures requests of a Lua framework.
--
--     app:use(perilune.middleware(engine))                      -- function(req, next)
--     local hooks = perilune.middleware.hooks(engine)           -- before and after, as Lapis has them
--     app:before_filter(hooks.before)                           -- self.req, self.route_name
--
-- The route must be a template. It is taken from options.route(req), else from req.route, req.route_name or req.matched_path; requests
-- without one are counted as "(unmatched)".

local _, perilune = ...

local function route_of(req)
  return req.route or req.route_name or req.matched_path or "(unmatched)"
end

local function name_of(options, req)
  local name = (options.route or route_of)(req)
  return type(name) == "string" and name or "(unmatched)"
end

-- Status and size of what handlers return: a response table, a status, or status, body, headers; text is 200.
local function result_of(first, second)
  if type(first) == "table" then
    local body = first.body
    return tonumber(first.status) or 200, type(body) == "string" and #body or 0
  end
  if type(first) == "number" then return first, type(second) == "string" and #second or 0 end
  return 200, type(first) == "string" and #first or 0
end

local function finish(span, ok, ...)
  if not ok then
    span:finish(500)
    error((...), 0)
  end
  local status, bytes = result_of(...)
  if status ~= 0 and (status < 100 or status > 599) then status = 200 end
  span:finish(status, bytes)
  return ...
end

local M = {}

--- function(req, next). Options: route = function(req) -> template. The span is req.span while the handler runs.
function M.new(engine, options)
  options = options or {}
  return function(req, next)
    local span = engine:start(req.method or "GET", name_of(options, req))
    req.span = span
    return finish(span, pcall(next, req))
  end
end

--- { before = function(context), after = function(context) } for frameworks that call hooks around an action. The span is
-- context.perilune_span meanwhile.
function M.hooks(engine, options)
  options = options or {}
  return {
    before = function(context)
      local req = context.req or context
      context.perilune_span = engine:start(req.method or req.cmd_mth or "GET", name_of(options, context))
    end,
    after = function(context)
      local span = context.perilune_span
      if not span then return end
      context.perilune_span = nil
      local res = context.res or context
      span:finish(tonumber(res.status) or 200, type(res.content) == "string" and #res.content or 0)
    end,
  }
end

perilune.middleware = setmetatable(M, { __call = function(_, engine, options) return M.new(engine, options) end })
return perilune.middleware
