---@meta
--- The public module inside of the engine: local p = require "perilune". Written by hand; what scripts see is compared with it by a test.

---@class perilune.server
---@field version string
---@field generation integer   number of the generation that this file belongs to
---@field null userdata        NULL of databases and of JSON
---@field http perilune.http
local p = {}

--- Routes of a file. Options: prefix, put before every path.
---@param options? {prefix?: string}
---@return perilune.App
function p.app(options) end

--- Waits without holding up other requests.
---@param seconds number   0 to 86400
function p.sleep(seconds) end

--- Seconds, monotonic, for measuring.
---@return number
function p.now() end

--- What a handler returns to be answered by an upstream of the configuration.
---@param upstream string
---@param path? string
function p.forward(upstream, path) end

--- A database of the configuration.
---@param name? string
---@return perilune.Database
function p.postgres(name) end

--- A Redis of the configuration: p.redis(name); p.redis itself is the default one.
---@type perilune.Redis|fun(name?: string): perilune.Redis
p.redis = nil

--- JSON. array(t) marks a list, so that an empty one is written as [].
---@type {encode: (fun(value: any): string), decode: (fun(text: string): any, string?), null: userdata, array: (fun(t?: table): table)}
p.json = nil

--- String work in linear time.
---@type {trim: (fun(s: string): string), split: (fun(s: string, separator: string): string[]), starts_with: (fun(s: string, prefix: string): boolean), ends_with: (fun(s: string, suffix: string): boolean)}
p.text = nil

---@type {error: fun(text: string), warn: fun(text: string), info: fun(text: string), debug: fun(text: string)}
p.log = nil

---@alias perilune.Handler fun(req: perilune.Request): any, any, any

--- What a handler is given. Headers, query and body are read from the wire when they are asked for. Any other field may be set, for the handlers down the chain.
---@class perilune.Request
---@field method string
---@field path string
---@field query_string string
---@field host string
---@field remote_address string
---@field trace_id string
---@field generation integer
---@field route string                  template of the route
---@field params table<string, string>  parameters of the route, decoded
---@field raw_params table<string, string>
---@field query table<string, string>   first value of each name, decoded
---@field headers table<string, string> names in any case; repeated ones joined by ", "
---@field body string                   waits for the whole body

---@class perilune.App
---@field get fun(self, path: string, handler: perilune.Handler): perilune.App
---@field post fun(self, path: string, handler: perilune.Handler): perilune.App
---@field put fun(self, path: string, handler: perilune.Handler): perilune.App
---@field patch fun(self, path: string, handler: perilune.Handler): perilune.App
---@field delete fun(self, path: string, handler: perilune.Handler): perilune.App
---@field head fun(self, path: string, handler: perilune.Handler): perilune.App
---@field options fun(self, path: string, handler: perilune.Handler): perilune.App
---@field any fun(self, path: string, handler: perilune.Handler): perilune.App

return p
