--- A service with everything that can go wrong: the engine under test between clients and PostgreSQL, Redis and three instances
-- of an upstream (which are engines as well). Faults are switched by functions of the world, never by what the engine can read.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local postgres = require "tests.support.postgres"
local process = require "tests.support.process"
local redis = require "tests.support.redis"

local API = "/api/v1/performance-optimization/"

local UPSTREAM = [[
local p = require "perilune"
local app = p.app()
local fault, n = { delay_ms = 4, errors = 0, slow_share = 0, slow_ms = 0, cached_ms = 0, max_age = 600, size = 200, etag = false, status = 500 }, 0
app:post("/fault", function(req) for name, value in pairs(p.json.decode(req.body)) do fault[name] = value end return 200 end)
app:get("/*rest", function(req)
  n = n + 1
  local ms = n % 100 < fault.slow_share and fault.slow_ms or fault.delay_ms
  if fault.cached_ms > 0 and not req.path:find "items" then ms = fault.cached_ms end
  p.sleep(ms / 1000)
  if n % 100 < fault.errors then return fault.status, "fault" end
  local headers = { ["Cache-Control"] = "max-age=" .. fault.max_age, ETag = fault.etag and '"same"' or nil }
  if fault.etag and req.headers["if-none-match"] == '"same"' then return 304, "", headers end
  return 200, ("x"):rep(fault.size), headers
end)
return app
]]

local APP = [[
local p = require "perilune"
local tasks = require "perilune.tasks"
local db, redis = p.postgres "main", p.redis "sessions"
local app = p.app()
local fault = { spin = 2000, statements = 1, gets = 1, block_ms = 0, hold_ms = 0, lock_ms = 1, task_ms = 1, leak_kb = 0, live_mb = 0, churn = false, fail = 0 }
local leaked, live = {}, {}
app:post("/fault", function(req) for name, value in pairs(p.json.decode(req.body)) do fault[name] = value end return 200 end)
app:get("/db", function()
  local row
  for _ = 1, fault.statements do row = db:one("select work() w") end
  return row.w and "ok"
end)
app:get("/session", function()
  local got
  for _ = 1, fault.gets do got = redis:get "session" end
  return got and "ok" or "none"
end)
app:get("/lock", function()
  return db:transaction(function(tx)
    tx:one "select id from hot where id = 1 for update"
    tx:one(("select pg_sleep(%g)::text"):format(fault.lock_ms / 1000))
    return "ok"
  end)
end)
app:get("/held", function()
  return db:transaction(function(tx)
    tx:one "select 1 one"
    if fault.hold_ms > 0 then p.sleep(fault.hold_ms / 1000) end
    return "ok"
  end)
end)
local n = 0
-- Called by every handler of /cpu: the tables stay as long as the fault does.
local function weigh()
  if fault.leak_kb > 0 then leaked[#leaked + 1] = ("x"):rep(fault.leak_kb * 1024 - #tostring(#leaked)) .. #leaked else leaked = {} end
  local want = fault.live_mb * 7000 -- tables of about 150 bytes
  if want == 0 then live = {} end
  for i = #live + 1, math.min(want, #live + 20000) do live[i] = { i, { i } } end
  if fault.churn then for i = 1, 2000 do live[i % math.max(1, #live)] = { i, { i } } end end
end
app:get("/cpu", function()
  local sum = 0
  for i = 1, fault.spin do sum = sum + i % 7 end
  n = n + 1
  weigh()
  if n % 100 < fault.fail then return 500, { error = "planted" } end
  if fault.block_ms > 0 and n % 50 == 0 then
    local until_s = p.now() + fault.block_ms / 1000
    while p.now() < until_s do sum = sum + 1 end
  end
  return 200, tostring(sum)
end)
app:get("/task", function() return tasks:run { module = "lib.work", fn = "spin", fault.task_ms / 1000 } end)
local page = {}
for i = 1, 400 do page[i] = { id = i, name = "article " .. i, text = ("words that repeat, as words do, %d "):format(i):rep(4) } end
app:get("/page", function(req)
  local items = tonumber(req.query.items)
  return items and { unpack(page, 1, items) } or page
end)
local noise = {}
for i = 1, 3000 do noise[i] = string.char(math.random(0, 255)) end
noise = table.concat(noise)
app:get("/noise", function() return 200, noise:sub(n % 500) .. noise:reverse():sub(1, 1500), { ["Content-Type"] = "text/plain" } end)
app:proxy("/api/*rest", "service")
app:proxy("/cached/*rest", "service")
return app
]]

local WORK = [[
local p = require "perilune"
local work = {}
function work.spin(seconds)
  local until_s = p.now() + seconds
  while p.now() < until_s do end
  return "spun"
end
return work
]]

local world = { QUERY_MS = 12 } -- longer than pool.db.slow_ms: such statements have a connection for themselves
world.__index = world

local function work(ms) return ("create or replace function work() returns text as $$ select pg_sleep(%s)::text || 'x' $$ language sql"):format(ms / 1000) end

--- A whole number from lo to hi, and one of [0, 1): drawn from the seed.
function world:uniform()
  self.state = self.state * 16807 % 2147483647 -- Park and Miller, 1988
  return self.state / 2147483647
end
function world:draw(lo, hi) return lo + math.floor(self:uniform() * (hi - lo + 1)) end

--- Calls fn every so often; returns how to end it.
function world.every(_, ms, fn)
  local going = true
  local thread = loop.spawn(function()
    while going do
      fn()
      loop.sleep(ms)
    end
  end)
  return function()
    going = false
    loop.join(thread)
  end
end

--- n requests at once, again and again; returns how to end it.
function world:bursts(n, path, pause_ms)
  return self:every(pause_ms, function()
    local all = {}
    for i = 1, n do all[i] = function() self.served:get(path) end end
    loop.all(all)
  end)
end

--- Whether the clients that are always there stop asking.
function world:pause(on) self.paused = on end

--- A client that asks for a path (or fn(i)) again and again, pausing in between, until world.going is false or it is told to stop.
function world:client(path, pause_ms, headers, always)
  local one = { stop = false }
  one.thread = loop.spawn(function()
    local c, i = nil, 0
    while self.going and not one.stop do
      while always and self.paused and self.going do loop.sleep(50) end
      i = i + 1
      c = c or self.served:connect()
      local target = type(path) == "function" and path(i) or path
      if not c or not c:request { path = target, headers = headers } then
        if c then c:close() end
        c = nil
        loop.sleep(20)
      end
      if pause_ms > 0 then loop.sleep(pause_ms * (0.7 + 0.6 * math.random())) end
    end
    if c then c:close() end
  end)
  self.clients[#self.clients + 1] = one
  return one
end

function world:clients_of(n, ...)
  local list = {}
  for i = 1, n do list[i] = self:client(...) end
  return function()
    for _, one in ipairs(list) do one.stop = true end
    for _, one in ipairs(list) do loop.join(one.thread) end
  end
end

function world:post(path, body)
  local got = assert(self.served:admin_request { method = "POST", path = API .. path, json = body })
  assert(got.status < 300, got.body)
  return got.json.data
end

function world:patch(path, body)
  local got = assert(self.served:admin_request { method = "PATCH", path = API .. path, json = body })
  assert(got.status < 300, got.body)
end

function world:get(path) return assert(self.served:admin_get("~/" .. path)).json.data end

-- Each worker of an engine has its own values: all must hear.
local function tell(where, values)
  for _ = 1, 8 do assert(where:request { method = "POST", path = "/fault", body = require("dkjson").encode(values) }.status == 200) end
end
--- Plants values in the handlers, and again in those of each new generation: a setting that is kept makes one.
function world:handlers(values)
  for name, value in pairs(values) do self.planted[name] = value end
  tell(self.served, self.planted)
end

local function plant_again(self)
  local planted_in
  while self.going do
    local there, got = pcall(self.served.admin_get, self.served, "~/config/tasks.max") -- control may be away
    local generation = there and got and got.json and got.json.meta and got.json.meta.generation or nil
    if generation and planted_in and generation ~= planted_in and next(self.planted) then pcall(tell, self.served, self.planted) end
    planted_in = generation or planted_in
    loop.sleep(300)
  end
end

--- Plants values in upstream instance i (all: nil).
function world:instance(i, values)
  for at, one in ipairs(self.instances) do
    if not i or i == at then tell(one, values) end
  end
end
function world:query_ms(ms) self.pg:sql(work(ms)) end

-- A certificate of the upstream's own; returns what the instances and whoever asks them have in their configuration.
local function certificate(folder)
  local made = process.run { command = "openssl", timeout_ms = 20000, args = { "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-keyout", folder .. "/key.pem", "-out", folder .. "/ca.pem",
    "-subj", "/CN=service.test", "-days", "2", "-addext", "subjectAltName=DNS:service.test" } }
  assert(made == 0, "openssl made no certificate")
  return ("return { tls = { listen = '127.0.0.1:0', certificate = '%s/ca.pem', key = '%s/key.pem' } }"):format(folder, folder), ("tls = { ca = '%s/ca.pem', name = 'service.test' }"):format(folder)
end

--- options: mode (of tuning), args (more of them), upstream (more keys of it, as text), tls (true: it is asked over TLS), load (1: as below; 2: half the
--- pauses), seed, instances (what they are like from the beginning, as world:instance() has it), defaults (true: the engine learns as long as it does by default), patience_ms (that it may take to learn).
function world.start(options)
  local self = setmetatable({ going = true, clients = {}, instances = {}, planted = {}, state = options.seed or 1, load = options.load or 1 }, world)
  self.pg, self.redis = postgres.start {}, redis.start {}
  self:query_ms(world.QUERY_MS)
  self.pg:sql "create table hot (id int primary key); insert into hot values (1)"
  local addresses, of_instance, of_asking = {}, nil, options.upstream or ""
  if options.tls then
    self.folder = files.temporary "perilune-world"
    of_instance, of_asking = certificate(self.folder)
  end
  for i = 1, 3 do
    local one = engine.start { rules = { ["routes/app.lua"] = UPSTREAM }, config = of_instance, args = { "--workers", "1" } }
    self.instances[i] = one
    addresses[i] = ("%q"):format(options.tls and "https://" .. one.tls or "http://" .. one.listen)
  end
  if options.instances then self:instance(nil, options.instances) end
  local args = { "--workers", "1", "--set", "trials.quiet_s=0" }
  for _, value in ipairs(options.defaults and {} or { "analysis.min_samples=15", "analysis.window=40" }) do
    args[#args + 1] = "--set"
    args[#args + 1] = value
  end
  for _, arg in ipairs(options.args or {}) do args[#args + 1] = arg end
  self.served = engine.start {
    rules = { ["routes/app.lua"] = APP, ["lib/work.lua"] = WORK,
      ["policies/cache.lua"] = 'return { routes = { ["/cached/*rest"] = { mode = "on", ttl = 600 } } }',
      ["policies/tuning.lua"] = ("return { mode = %q }"):format(options.mode or "suggest") },
    config = ("return { upstreams = { service = { peers = { %s }, %s } }, postgres = { main = { dsn = %q, min = 4, max = 8 } }, redis = { sessions = %q } }")
      :format(table.concat(addresses, ", "), of_asking, self.pg.url, self.redis.url),
    args = args,
  }
  local function client(path, pause_ms, headers) self:client(path, pause_ms / self.load, headers, true) end
  client("/db", 20)
  client("/db", 20)
  client("/session", 20)
  client("/cpu", 20)
  client("/task", 30)
  client("/lock", 60)
  client("/held", 60)
  client("/page", 50, { ["Accept-Encoding"] = "gzip" })
  for _ = 1, 3 do client("/api/items", 15) end
  client(function(i) return "/cached/" .. i % 20 end, 20)
  loop.wait_until(function()
    local got = self.served:admin_request { method = "POST", path = API .. "analyze", json = {} }
    return got.json.data.learning.done
  end, options.patience_ms or 90000, "what is usual")
  self.clients[#self.clients + 1] = { thread = loop.spawn(function() plant_again(self) end) }
  return self
end

function world:stop()
  self.going = false
  for _, one in ipairs(self.clients) do loop.join(one.thread) end
  self.served:stop()
  for _, one in ipairs(self.instances) do one:stop() end
  self.pg:stop()
  self.redis:stop()
  if self.folder then files.remove(self.folder) end
end

return world
