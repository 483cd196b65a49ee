--- The program under test (env PERILUNE), in a temporary folder of its own.
local uv = require "luv"
local json = require "dkjson"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local process = require "tests.support.process"
local schema = require "tests.support.schema"

local engine = {}
engine.__index = engine

local API = "/api/v1/performance-optimization"

--- The path of the program.
function engine.program()
  return os.getenv("PERILUNE") or "build/release/perilune"
end

local function arguments(self, options)
  local args = { "run", "--listen", options.listen or "127.0.0.1:0", "--admin", options.admin or "127.0.0.1:0",
    "--state", self.state, "--rules", self.rules }
  local function add(...)
    for _, arg in ipairs { ... } do args[#args + 1] = tostring(arg) end
  end
  if options.workers ~= false then add("--workers", options.workers or 1) end
  if options.config then
    files.write(self.folder .. "/perilune.lua", options.config)
    add("--config", self.folder .. "/perilune.lua")
  end
  add(unpack(options.args or {}))
  return args
end

local function read_ports(self)
  local text = files.read(self.state .. "/ports.json")
  local ports = text and json.decode(text)
  if not ports then return end
  self.listen, self.admin, self.pid = ports.listen, ports.admin, ports.pid
  self.tls = ports.tls
  self.port, self.admin_port = tonumber(ports.listen:match("%d+$")), tonumber(ports.admin:match("%d+$"))
  return true
end

local document_of

local function launch(self)
  uv.fs_unlink(self.state .. "/ports.json") -- of an earlier run
  self.process = assert(process.start { command = engine.program(), args = arguments(self, self.options),
    env = self.options.env, cwd = self.options.cwd })
  local ok, why = pcall(loop.wait_until, function()
    return self.process:exited() or read_ports(self)
  end, self.options.timeout_ms or 10000, "ports.json")
  if ok and not self.process:exited() then return true end
  self.process:stop(1000)
  return nil, ("%s\n%s%s"):format(ok and ("it ended with %d"):format(self.process.code) or why,
    self.process:stdout(), self.process:stderr())
end

--- Starts the program and waits until it listens. options:
--   rules      {["routes/app.lua"] = text}, written below --rules
--   workers    (1; false leaves the flag away)
--   config     text of a perilune.lua
--   args, env  more of both
--   folder     of an engine that was stopped with keep = true
--   timeout_ms (10,000)
-- Fields: listen, admin ("127.0.0.1:4711"), port, admin_port, pid, folder,
-- state, rules (folders), process. Raises with its output when it does not come up.
function engine.start(options)
  options = options or {}
  local self = setmetatable({ options = options }, engine)
  self.folder = options.folder or files.temporary("perilune")
  self.state, self.rules = self.folder .. "/state", self.folder .. "/rules"
  uv.fs_mkdir(self.state, 448) -- 0700
  files.write_tree(self.rules, options.rules or {})
  local ok, why = launch(self)
  if ok then
    pcall(document_of, self, { timeout_ms = 3000 }) -- now, so that no spec waits for it where time counts
    return self
  end
  files.remove(self.folder)
  error("the engine did not start: " .. why, 2)
end

--- Runs the program with other arguments to its end. Returns exit code,
-- stdout, stderr. options: args, env, cwd, timeout_ms.
function engine.run(options)
  return process.run { command = engine.program(), args = options.args, env = options.env, cwd = options.cwd,
    timeout_ms = options.timeout_ms }
end

local function with_address(options, address)
  if type(options) == "string" then options = { path = options } end
  options.address = address
  return options
end

--- One request to the data port; a path or the options of http.request.
function engine:request(options)
  return http.request(with_address(options, self.listen))
end

function engine:get(path)
  return self:request { path = path }
end

--- A connection to the data port, see http.lua.
--- Resident bytes of the largest worker.
function engine:worker_bytes()
  local most = 0
  for _, one in ipairs(self:processes()) do
    if one.role == "worker" then most = math.max(most, one.rss_bytes) end
  end
  return most
end

function engine:connect()
  return http.connect { address = self.listen }
end

local documents = {} -- by program: what its own rules declare

local function has_own_routes(self)
  for path in pairs(self.options.rules or {}) do
    if path:find "^routes/admin/" then return true end
  end
end

-- The document of the engine's control API; nil where it cannot be had. Routes of a spec's own make it one of its own.
function document_of(self, options)
  local own = self.own_routes or has_own_routes(self)
  local known = own and self.document or documents[engine.program()]
  if known then return known end
  local token = options.headers and options.headers.Authorization
  local response = http.request { address = self.admin, authority = self.admin, path = "/openapi.json", timeout_ms = options.timeout_ms,
    headers = token and { Authorization = token } or nil }
  if not response or response.status ~= 200 or not response.body:find('"openapi"', 1, true) then return nil end -- a stand-in
  known = schema.read(response.body)
  if own then self.document = known else documents[engine.program()] = known end
  return known
end

-- Every answer is as the engine's own document says.
local function judge(self, options, response)
  local path = (options.path or "/"):gsub("[?#].*$", "")
  local document = document_of(self, options)
  if not document then return end
  local method = options.method or (options.body and "POST" or "GET")
  local wrong = schema.judge(document, method, path, response)
  if wrong then error(("%s %s: %d is not as /openapi.json says: %s\n%s"):format(method, options.path, response.status, wrong, response.body:sub(1, 2000)), 0) end
end

--- One request to the control port, whose answer is judged by the engine's own document unless `unjudged`. A JSON body is decoded into `json`; a
-- table given as `json` is sent as one.
function engine:admin_request(options)
  options = with_address(options, self.admin)
  options.authority = options.authority or self.admin -- the control API answers to its own name only
  if options.json then
    options.body = json.encode(options.json)
    options.headers = options.headers or {}
    options.headers["Content-Type"] = options.headers["Content-Type"] or "application/json"
  end
  local response, why = http.request(options)
  if response and (response.headers["content-type"] or ""):find("json", 1, true) then
    response.json = json.decode(response.body)
  end
  if response and not options.unjudged then judge(self, options, response) end
  return response, why
end

--- GET from the control port; "/stats" and other short paths that start with
-- "~" are below the API's root: "~/stats".
function engine:admin_get(path)
  return self:admin_request { path = (path:gsub("^~", API)) }
end

--- Writes a rule; the file appears whole.
function engine:write_rule(path, text)
  if path:find "^routes/admin/" then self.own_routes, self.document = true, nil end
  files.write(self.rules .. "/" .. path, text)
end

function engine:remove_rule(path)
  files.remove(self.rules .. "/" .. path)
end

--- The processes as the control API reports them: a list.
function engine:processes()
  local response = assert(self:admin_get("~/stats"))
  local stats = assert(response.json, "no JSON from stats: " .. response.raw)
  return assert(stats.processes or stats.data and stats.data.processes, "stats without processes")
end

--- What it has written to stderr so far.
function engine:log()
  return self.process:stderr()
end

--- Waits until the log has the plain text.
function engine:wait_log(text, timeout_ms)
  loop.wait_until(function() return self:log():find(text, 1, true) end, timeout_ms, ("%q in the log"):format(text))
end

--- Asks it to end, waits (timeout_ms, 10,000), removes the folder unless
-- options.keep. Returns exit code and signal; signal 9: it had to be killed.
function engine:stop(options)
  options = options or {}
  local code, signal = self.process:stop(options.timeout_ms)
  if not options.keep then files.remove(self.folder) end
  return code, signal
end

--- Stops it and starts it again on the same folder.
function engine:restart()
  self:stop { keep = true }
  local ok, why = launch(self)
  if not ok then error("the engine did not start again: " .. why, 2) end
end

--- Kills its supervisor and starts it again on the same folder, as what restarts services does.
function engine:crash()
  self.process:kill "sigkill"
  self.process:wait()
  local ok, why = launch(self)
  if not ok then error("the engine did not start again: " .. why, 2) end
end

return engine
