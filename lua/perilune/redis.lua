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

local core = ...

local c = core.redis
local run, many = c.run, c.many
local null = core.json.null
local type, error, pcall, select, unpack, setmetatable, tostring, tonumber, pairs, ipairs =
  type, error, pcall, select, unpack, setmetatable, tostring, tonumber, pairs, ipairs

-- ---- which command is what -------------------------------------------------------

-- Names that have an underscore of their own.
local RO = { EVAL_RO = true, EVALSHA_RO = true, SORT_RO = true, FCALL_RO = true, BITFIELD_RO = true, GEORADIUS_RO = true,
  GEORADIUSBYMEMBER_RO = true }

-- They would change a connection that others share.
local REFUSED = {
  MULTI = "use redis:transaction(function(tx) ... end)", EXEC = "use redis:transaction(function(tx) ... end)",
  DISCARD = "use redis:transaction(function(tx) ... end)", WATCH = "use redis:transaction({ keys }, function(tx, now) ... end)",
  UNWATCH = "use redis:transaction({ keys }, function(tx, now) ... end)",
  SUBSCRIBE = "use redis:subscribe(channel)", PSUBSCRIBE = "use redis:subscribe { patterns = { ... } }",
  SSUBSCRIBE = "channels of shards are not offered; use redis:subscribe(channel)",
  UNSUBSCRIBE = "use subscription:close()", PUNSUBSCRIBE = "use subscription:close()", SUNSUBSCRIBE = "use subscription:close()",
  SELECT = "name the database in the address, redis://host:6379/1", AUTH = "name user and password in the address",
  HELLO = "the connection is set up by the engine", RESET = "the connection is set up by the engine",
  QUIT = "the connection is kept by the engine", MONITOR = "it would never end", SYNC = "it would never end",
  PSYNC = "it would never end", ASKING = "clusters are not offered", READONLY = "clusters are not offered",
  READWRITE = "clusters are not offered", ["CLIENT REPLY"] = "every command has a reply", ["CLIENT SETNAME"] = "the engine sets the name",
  ["CLIENT TRACKING"] = "it would send what nobody waits for", ["CLIENT NO-EVICT"] = "it would change the connection of others",
}

local function last_seconds(...) return tonumber((select(select("#", ...), ...))) end
local function first_seconds(...) return tonumber((...)) end
local function last_ms(...)
  local ms = tonumber((select(select("#", ...), ...)))
  return ms and ms / 1000
end

-- How long it may block, in seconds (0: for ever); nil: not at all.
local function block_option(...)
  for i = 1, select("#", ...) - 1 do
    local word = select(i, ...)
    if type(word) == "string" and word:upper() == "BLOCK" then
      local ms = tonumber((select(i + 1, ...)))
      return ms and ms / 1000
    end
    if type(word) == "string" and word:upper() == "STREAMS" then return nil end
  end
end

local BLOCKING = { BLPOP = last_seconds, BRPOP = last_seconds, BRPOPLPUSH = last_seconds, BLMOVE = last_seconds, BZPOPMIN = last_seconds,
  BZPOPMAX = last_seconds, BLMPOP = first_seconds, BZMPOP = first_seconds, XREAD = block_option, XREADGROUP = block_option,
  WAIT = last_ms, WAITAOF = last_ms }

local function by_field(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local MAPS = { HGETALL = true, ["CONFIG GET"] = true }

local function name_of(method)
  local name = method:upper()
  if RO[name] then return name end
  return (name:gsub("_", " "))
end

local function refuse(name, level)
  local why = REFUSED[name]
  if why then error(("%s is not sent as it stands: %s"):format(name, why), level + 1) end
end

-- The name of a command in capitals, its words apart by one space; and a second word that came as an argument is looked at.
local function check_name(name, first)
  if type(name) ~= "string" or not name:find "^[%w%.%-_]+[%w%.%-_ ]*$" then error("usage: redis:command(\"NAME\", ...)", 3) end
  local upper = name:upper():gsub("%s+", " "):gsub(" $", "")
  refuse(upper, 3)
  refuse(upper:match "^%S+", 3)
  if type(first) == "string" then refuse(upper .. " " .. first:upper(), 3) end
  return upper
end

-- Commands whose second word may be one that is refused.
local FAMILIES = { CLIENT = true }

-- ---- commands -----------------------------------------------------------------------

-- Fields that objects may lack; no command has such a name.
---@class perilune.Redis
local methods = { handle = false, hold = false, name = false, timeout_ms = 0 }

local default -- the Redis that require() gives

local function handle_of(self)
  local handle = self.handle or c.open(self.name or nil)
  if handle then
    if not self.handle and not self.name then default.handle = handle end
    return handle
  end
  local name = self.name or "redis"
  error(("there is no Redis '%s': name it in the configuration, redis = { %s = \"redis://host:6379\" }%s"):format(name, name,
    name == "redis" and ", or set REDIS_URL" or ""), 3)
end

-- Runs fn(hold) with a connection of one's own, and gives it back however that ends.
local function finish(hold, ok, ...)
  c.release(hold)
  if not ok then error((...), 0) end
  return ...
end

local function with_connection(handle, keeps, fn, ...)
  local hold = c.hold()
  local ok, message, code = c.lease(handle, hold, keeps)
  if not ok then
    c.release(hold)
    return nil, message, code
  end
  return finish(hold, pcall(fn, hold, ...))
end

local function blocked(hold, handle, timeout_ms, name, ...)
  return run(handle, hold, timeout_ms, name, ...)
end

local function block(self, handle, seconds, name, ...)
  local timeout_ms = -1
  if seconds > 0 then timeout_ms = seconds * 1000 + (self.timeout_ms > 0 and self.timeout_ms or 1000) end
  return with_connection(handle, true, blocked, handle, timeout_ms, name, ...)
end

local function mapped(list, message, code)
  if message then return list, message, code end
  return type(list) == "table" and by_field(list) or list
end

-- The method of a command, made when first used.
local function command(name)
  local seconds_of, is_map = BLOCKING[name], MAPS[name]
  if FAMILIES[name] then
    return function(self, first, ...)
      check_name(name, first)
      return run(handle_of(self), self.hold, self.timeout_ms, name, first, ...)
    end
  end
  if seconds_of then
    return function(self, ...)
      local handle, seconds = handle_of(self), seconds_of(...)
      if seconds then return block(self, handle, seconds, name, ...) end
      return run(handle, self.hold, self.timeout_ms, name, ...)
    end
  end
  if is_map then
    return function(self, ...) return mapped(run(self.handle or handle_of(self), self.hold, self.timeout_ms, name, ...)) end
  end
  return function(self, ...) return run(self.handle or handle_of(self), self.hold, self.timeout_ms, name, ...) end
end

local function add_method(_, method)
  if type(method) ~= "string" then return nil end
  local name = name_of(method)
  if method:find "^_" then return nil end
  check_name(name)
  local fn = command(name)
  methods[method] = fn
  return fn
end
setmetatable(methods, { __index = add_method })

local function view(fields)
  return setmetatable(fields, { __index = methods, __metatable = false })
end

--- Any command by its name: redis:command("JSON.GET", key).
function methods:command(name, ...)
  return command(check_name(name))(self, ...)
end

--- The same Redis with another time for each command.
---@param timeout_ms number
function methods:within(timeout_ms)
  if type(timeout_ms) ~= "number" or not (timeout_ms >= 1 and timeout_ms <= 86400000) then
    error("usage: redis:within(milliseconds)", 2)
  end
  return view { handle = handle_of(self), hold = self.hold, timeout_ms = timeout_ms }
end

-- ---- pipelines ------------------------------------------------------------------------

-- Collects commands instead of sending them.
local collectors = setmetatable({}, {
  __index = function(methods_of, method)
    if type(method) ~= "string" then return nil end
    local name = check_name(name_of(method))
    local function add(self, ...)
      local n = select("#", ...)
      local entry = { name, ... }
      check_name(name, entry[2])
      for i = 1, n do
        if entry[i + 1] == nil then error(("argument %d of %s is nil"):format(i, name), 2) end
      end
      self.list[#self.list + 1] = entry
    end
    methods_of[method] = add
    return add
  end,
})

function collectors:command(name, ...)
  local upper = check_name(name, (...))
  self.list[#self.list + 1] = { upper, ... }
end

local function refuse_blocking(list)
  for _, entry in ipairs(list) do
    local seconds_of = BLOCKING[entry[1]]
    if seconds_of and seconds_of(unpack(entry, 2)) then error(entry[1] .. " would hold up others in a pipeline or transaction", 3) end
  end
end

local function collector()
  return setmetatable({ list = {} }, { __index = collectors, __metatable = false })
end

local function to_list(commands)
  local list = {}
  for i, entry in ipairs(commands) do
    if type(entry) ~= "table" then error("usage: redis:pipeline { { \"get\", key }, { \"incr\", key } }", 3) end
    list[i] = { check_name(type(entry[1]) == "string" and name_of(entry[1]) or entry[1], entry[2]), unpack(entry, 2) }
  end
  return list
end

local function shape(list, replies)
  for i, entry in ipairs(list) do
    if MAPS[entry[1]] and type(replies[i]) == "table" and not replies[i].error then replies[i] = by_field(replies[i]) end
  end
  return replies
end

--- Sends several commands at once. Returns their replies as a list: a missing value is p.null, an error
-- a table { error = message, code = code }; nil, message, code when not all were answered.
---@param commands fun(p: table)|table[]
function methods:pipeline(commands)
  local handle, list = handle_of(self), nil
  if type(commands) == "function" then
    local p = collector()
    commands(p)
    list = p.list
  elseif type(commands) == "table" then
    list = to_list(commands)
  else
    error("usage: redis:pipeline(function(p) p:get(key) end), or a list { { \"get\", key }, ... }", 2)
  end
  refuse_blocking(list)
  if #list == 0 then return core.json.array {} end
  local replies, message, code = many(handle, self.hold, self.timeout_ms, list)
  if not replies then return nil, message, code end
  return shape(list, replies)
end

-- ---- transactions ----------------------------------------------------------------------

-- What MULTI ... EXEC answered: the list of replies; false: a watched key has changed.
local function executed(list, replies)
  local last = replies[#replies]
  if last == null then return false end
  if type(last) == "table" and last.error then
    for i = 2, #replies - 1 do
      if type(replies[i]) == "table" and replies[i].error then last = replies[i] break end
    end
    return nil, last.error, last.code
  end
  return shape(list, last)
end

local function exec(self, handle, hold, list)
  local all = { { "MULTI" } }
  for i, entry in ipairs(list) do all[i + 1] = entry end
  all[#all + 1] = { "EXEC" }
  local replies, message, code = many(handle, hold, self.timeout_ms, all)
  if not replies then return nil, message, code end
  return executed(list, replies)
end

-- One attempt on a connection of its own. "conflict" as code: a watched key has changed.
local function attempt(hold, self, handle, keys, fn)
  c.taint(hold, true)
  local ok, message, code = run(handle, hold, self.timeout_ms, "WATCH", keys)
  if not ok then return nil, message, code end
  local tx = collector()
  local now = view { handle = handle, hold = hold, timeout_ms = self.timeout_ms }
  local function undo(...)
    if run(handle, hold, self.timeout_ms, "UNWATCH") then c.taint(hold, false) end
    return ...
  end
  local function outcome(fine, ...)
    if not fine then
      undo()
      error((...), 0)
    end
    if select("#", ...) > 0 and not (...) then
      local _, why, word = ...
      return undo(nil, why or "given up", word or "given_up")
    end
    refuse_blocking(tx.list)
    if #tx.list == 0 then return undo(core.json.array {}) end
    local replies, why, word = exec(self, handle, hold, tx.list)
    if replies or replies == false or word == "EXECABORT" then c.taint(hold, false) end
    if replies == false then return nil, "a watched key was changed by somebody else", "conflict" end
    return replies, why, word
  end
  return outcome(pcall(fn, tx, now))
end

--- MULTI ... EXEC of what fn calls on tx. With keys to watch, fn(tx, now) may read by `now` first; it is called
-- again when one of them changed meanwhile, `retries` times, then nil, message, "conflict" is returned. nil or
-- false as first value of fn gives it up.
---@param keys? string[]
---@param fn fun(tx: table, now: perilune.Redis): any
---@param options? {retries?: integer}
function methods:transaction(keys, fn, options)
  if type(keys) == "function" then keys, fn, options = nil, keys, fn end
  if type(fn) ~= "function" or (keys and type(keys) ~= "table") then
    error("usage: redis:transaction(function(tx) ... end), or redis:transaction({ keys }, function(tx, now) ... end)", 2)
  end
  local handle, retries = handle_of(self), c.retries()
  for key, value in pairs(options or {}) do
    if key ~= "retries" or type(value) ~= "number" then error("a transaction takes the option retries, a number", 2) end
    retries = value
  end
  if self.hold then error("a transaction cannot begin inside of another", 2) end
  if not keys or #keys == 0 then
    local tx = collector()
    local go = { fn(tx) }
    if go[1] == false then return nil, go[2] or "given up", go[3] or "given_up" end
    refuse_blocking(tx.list)
    if #tx.list == 0 then return core.json.array {} end
    return exec(self, handle, nil, tx.list)
  end
  local replies, message, code
  for _ = 0, retries do
    replies, message, code = with_connection(handle, false, attempt, self, handle, keys, fn)
    if code ~= "conflict" then break end
  end
  if message == nil then return replies end
  return replies, message, code
end

-- ---- scripts -------------------------------------------------------------------------------

local hashes = setmetatable({}, { __mode = "k" })

--- Runs a Lua script at the server: by its hash, and as a whole when the server does not know it yet.
---@param text string
---@param keys? string[]
function methods:script(text, keys, ...)
  if type(text) ~= "string" or (keys ~= nil and type(keys) ~= "table") then error("usage: redis:script(text, { keys }, arguments...)", 2) end
  keys = keys or {}
  local hash = hashes[text]
  if not hash then
    hash = c.sha1(text)
    hashes[text] = hash
  end
  local handle = handle_of(self)
  local value, message, code = run(handle, self.hold, self.timeout_ms, "EVALSHA", hash, #keys, keys, ...)
  if code == "NOSCRIPT" then return run(handle, self.hold, self.timeout_ms, "EVAL", text, #keys, keys, ...) end
  if message == nil then return value end
  return value, message, code
end

-- ---- publish/subscribe -----------------------------------------------------------------------

---@class perilune.RedisSubscription
local subscription = {}
subscription.__index = subscription

--- Waits for a message: payload, channel and, when it came by a pattern, that. nil, message, code after timeout_ms
-- ("timeout"), and where messages are missing ("lost": the connection was away, "slow": they were not taken in time);
-- the subscription goes on.
---@param timeout_ms? number
function subscription:receive(timeout_ms)
  return c.receive(self.hold, timeout_ms)
end

--- for payload, channel, pattern in subscription:messages() do ... end; goes on over gaps.
function subscription:messages()
  return function()
    while true do
      local payload, channel, pattern = c.receive(self.hold)
      if payload then return payload, channel, pattern end
    end
  end
end

--- Ends it; so does the end of the request.
function subscription:close()
  c.release(self.hold)
end

--- Subscribes to channels, redis:subscribe("a", "b"), or redis:subscribe { channels = {...}, patterns = {...} }; returns
-- when the server has confirmed it.
---@return perilune.RedisSubscription?
function methods:subscribe(first, ...)
  local channels, patterns = { first, ... }, {}
  if type(first) == "table" then
    for key in pairs(first) do
      if key ~= "channels" and key ~= "patterns" then error("a subscription takes channels and patterns, not '" .. tostring(key) .. "'", 2) end
    end
    channels, patterns = first.channels or {}, first.patterns or {}
  end
  local hold = c.hold()
  local ok, message, code = c.subscribe(handle_of(self), hold, channels, patterns)
  if ok then return setmetatable({ hold = hold }, subscription) end
  c.release(hold)
  return nil, message, code
end

-- ---- the module --------------------------------------------------------------------------------

--- Another Redis of the configuration: redis("sessions").
---@param name? string
---@return perilune.Redis
local function named(_, name)
  if name ~= nil and type(name) ~= "string" then error("usage: redis(\"name\")", 2) end
  if name == nil then return default end
  local self = view { name = name }
  self.handle = handle_of(self)
  return self
end

--- The Redis named "redis" or of REDIS_URL, or the only one there is.
default = view {}
return setmetatable({}, {
  __index = default,
  __newindex = function() error("perilune.redis cannot be changed", 2) end,
  __call = named,
  __metatable = false,
})
