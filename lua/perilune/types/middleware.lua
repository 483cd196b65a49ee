---@meta
--- Measures requests of a Lua framework.
--
--     app:use(perilune.middleware(engine))                      -- function(req, next)
--     local hooks = perilune.middleware.hooks(engine)           -- before and after, as Lapis has them
--     app:before_filter(hooks.before)                           -- self.req, self.route_name
--
-- The route must be a template. It is taken from options.route(req), else from req.route, req.route_name or req.matched_path; requests
-- without one are counted as "(unmatched)".

---@class perilune.middleware
local M = {}

--- function(req, next). Options: route = function(req) -> template. The span is req.span while the handler runs.
function M.new(engine, options) end

--- { before = function(context), after = function(context) } for frameworks that call hooks around an action. The span is
-- context.perilune_span meanwhile.
function M.hooks(engine, options) end
