---@meta
--- Redis for handlers; what waits holds up nobody else.
--
--     local redis = require "perilune.redis"
--     local name, message, code = redis:get("user:42")          -- nil alone: there is none
--     redis:set("user:42", "Ada", "EX", 60)
--     redis:hset("cart:7", { apples = 3, pears = 1 })           -- lists and tables become arguments
--     redis:client_list(), redis:command("JSON.GET", "doc")     -- any command: words by "_", or by its name
--     redis:within(20):get("user:42")                           -- 20 ms for each command
--     local replies = redis:pipeline(function(p) p:incr("a") p:get("b") end)
--     local replies = redis:transaction(function(tx) tx:decr("stock") tx:incr("sold") end)
--     local left = redis:script("return redis.call('GET', KEYS[1])", { "stock" })
--     local news = redis:subscribe("news")                      -- news:receive(), news:messages()
--
-- A failure returns nil, a message and a code: the server's word ("WRONGTYPE", "LOADING", "READONLY",
-- "MOVED", "NOAUTH", "OOM", ...) or one of ours in small letters ("timeout", "connect", "lost", "busy",
-- "too_large", "protocol", "conflict"). A missing value is nil, inside of a list p.null. Integers above
-- 2^53 are strings. HGETALL is a table by field.

---@class perilune.Redis

---@class perilune.Redis
local methods = {}

--- Any command by its name: redis:command("JSON.GET", key).
function methods:command(name, ...) end

--- The same Redis with another time for each command.
---@param timeout_ms number
function methods:within(timeout_ms) end

--- Sends several commands at once. Returns their replies as a list: a missing value is p.null, an error
-- a table { error = message, code = code }; nil, message, code when not all were answered.
---@param commands fun(p: table)|table[]
function methods:pipeline(commands) end

--- MULTI ... EXEC of what fn calls on tx. With keys to watch, fn(tx, now) may read by `now` first; it is called
-- again when one of them changed meanwhile, `retries` times, then nil, message, "conflict" is returned. nil or
-- false as first value of fn gives it up.
---@param keys? string[]
---@param fn fun(tx: table, now: perilune.Redis): any
---@param options? {retries?: integer}
function methods:transaction(keys, fn, options) end

--- Runs a Lua script at the server: by its hash, and as a whole when the server does not know it yet.
---@param text string
---@param keys? string[]
function methods:script(text, keys, ...) end

---@class perilune.RedisSubscription

---@class perilune.RedisSubscription
local subscription = {}

--- Waits for a message: payload, channel and, when it came by a pattern, that. nil, message, code after timeout_ms
-- ("timeout"), and where messages are missing ("lost": the connection was away, "slow": they were not taken in time);
-- the subscription goes on.
---@param timeout_ms? number
function subscription:receive(timeout_ms) end

--- for payload, channel, pattern in subscription:messages() do ... end; goes on over gaps.
function subscription:messages() end

--- Ends it; so does the end of the request.
function subscription:close() end

--- Subscribes to channels, redis:subscribe("a", "b"), or redis:subscribe { channels = {...}, patterns = {...} }; returns
-- when the server has confirmed it.
---@return perilune.RedisSubscription?
function methods:subscribe(first, ...) end
