--- A raw HTTP/1.1 client: sends exactly the bytes it is told to, reads
-- responses one by one. Functions that can fail return nil and a word:
-- "timeout", "eof", "closed", "ECONNREFUSED", "malformed: ...".
local uv = require "luv"
local loop = require "tests.support.loop"

local http = {}

local conn = {}
conn.__index = conn

local TIMEOUT_MS = 5000

-- ---- connections ---------------------------------------------------------------

--- Makes a connection object of a connected luv stream. on_bytes(chunk) sees
-- all that is received.
function http.wrap(tcp, on_bytes)
  return setmetatable({ tcp = tcp, buffer = "", on_bytes = on_bytes }, conn)
end

local function split_address(options)
  if not options.address then return options.host or "127.0.0.1", assert(options.port, "port or address") end
  local host, port = options.address:match("^%[?(.-)%]?:(%d+)$")
  return assert(host, "address is host:port"), tonumber(port)
end

--- Connects. options: address ("127.0.0.1:80") or host and port, timeout_ms (5,000),
-- from (the local address to use).
function http.connect(options)
  local host, port = split_address(options)
  local tcp = uv.new_tcp()
  if options.from then assert(tcp:bind(options.from, 0)) end
  local ok, why = loop.await(function(resume)
    local started, err = tcp:connect(host, port, function(err) resume(not err, err) end)
    if not started then resume(nil, err) end
  end, options.timeout_ms or TIMEOUT_MS)
  if ok then
    tcp:nodelay(true)
    return http.wrap(tcp)
  end
  if not tcp:is_closing() then tcp:close() end
  return nil, (tostring(why):match("^%u%w+") or why)
end

--- Sends bytes and waits until the kernel has them.
function conn:send(bytes, timeout_ms)
  if self.tcp:is_closing() then return nil, "closed" end
  return loop.await(function(resume)
    local started, err = self.tcp:write(bytes, function(err)
      if err then resume(nil, (err:match("^%u%w+") or err)) else resume(true) end
    end)
    if not started then resume(nil, err) end
  end, timeout_ms or TIMEOUT_MS)
end

--- Waits for more bytes in self.buffer. Reading goes on only while somebody
-- waits here, so a spec that does not read is a slow reader.
function conn:fill(timeout_ms)
  if self.ended then return nil, self.ended end
  if self.tcp:is_closing() then return nil, "closed" end
  local ok, why = loop.await(function(resume)
    self.waiting = resume
    self.tcp:read_start(function(err, chunk)
      self.tcp:read_stop()
      if chunk then
        self.buffer = self.buffer .. chunk
        if self.on_bytes then self.on_bytes(chunk) end
        return resume(true)
      end
      self.ended = err and (err:match("^%u%w+") or err) or "eof"
      resume(nil, self.ended)
    end)
  end, timeout_ms or TIMEOUT_MS)
  self.waiting = nil
  if why == "timeout" and not self.tcp:is_closing() then self.tcp:read_stop() end
  return ok, why
end

local function left(deadline)
  return math.max(0, deadline - loop.now_ms())
end

--- Reads what comes until the other side closes or timeout_ms is over.
-- Returns the bytes and why it ended ("eof", "timeout", "ECONNRESET").
function conn:read_until_close(timeout_ms)
  local deadline = loop.now_ms() + (timeout_ms or TIMEOUT_MS)
  local parts = {}
  while true do
    parts[#parts + 1] = self.buffer
    self.buffer = ""
    local ok, why = self:fill(left(deadline))
    if not ok then return table.concat(parts), why end
  end
end

--- Takes exactly n bytes.
function conn:take(n, deadline)
  local parts, have = {}, 0
  while true do
    local piece = self.buffer:sub(1, n - have)
    self.buffer = self.buffer:sub(#piece + 1)
    parts[#parts + 1], have = piece, have + #piece
    if have == n then return table.concat(parts) end
    local ok, why = self:fill(left(deadline))
    if not ok then return nil, why, table.concat(parts) end
  end
end

--- Takes up to and with the first `mark`.
function conn:take_through(mark, deadline)
  local from = 1
  while true do
    local _, last = self.buffer:find(mark, from, true)
    if last then
      local bytes = self.buffer:sub(1, last)
      self.buffer = self.buffer:sub(last + 1)
      return bytes
    end
    from = math.max(1, #self.buffer - #mark + 2)
    local ok, why = self:fill(left(deadline))
    if not ok then return nil, why end
  end
end

function conn:is_open()
  return not self.tcp:is_closing() and not self.ended
end

local function finish(self)
  local waiting = self.waiting
  self.waiting = nil
  if waiting then waiting(nil, "closed") end
end

function conn:close()
  if not self.tcp:is_closing() then self.tcp:close() end
  finish(self)
end

--- Closes with a reset instead of a FIN.
function conn:abort()
  if not self.tcp:is_closing() then self.tcp:close_reset() end
  finish(self)
end

--- Says that we send no more; reading goes on.
function conn:shutdown()
  return loop.await(function(resume)
    self.tcp:shutdown(function(err) resume(not err, err) end)
  end, TIMEOUT_MS)
end

-- ---- messages --------------------------------------------------------------------

--- Parses "Name: value\r\n" lines, strictly. Returns a table by lower-case
-- name (equal names joined with ", ") and a list of {name, value}; or nil and
-- what is wrong.
function http.parse_headers(lines)
  local by_name, list = {}, {}
  for line, ending in lines:gmatch("([^\n]*)(\n?)") do
    if line == "" and ending == "" then break end
    if line:sub(-1) ~= "\r" then return nil, "malformed: a header line ends without CR" end
    local name, value = line:match("^([%w!#$%%&'*+%-.^_`|~]+):[ \t]*(.-)[ \t]*\r$")
    if not name or value:find("[%z\1-\8\10-\31\127]") then
      return nil, ("malformed: header line %q"):format(line)
    end
    list[#list + 1] = { name, value }
    name = name:lower()
    by_name[name] = by_name[name] and by_name[name] .. ", " .. value or value
  end
  return by_name, list
end

local function read_chunked(self, raw, deadline)
  local body = {}
  local function take(fn, argument)
    local bytes, why = fn(self, argument, deadline)
    if bytes then raw[#raw + 1] = bytes end
    return bytes, why
  end
  while true do
    local line, why = take(self.take_through, "\r\n")
    if not line then return nil, why end
    local size = tonumber(line:match("^(%x+)[;\r]") or "", 16)
    if not size then return nil, ("malformed: chunk size %q"):format(line) end
    if size == 0 then break end
    local chunk
    chunk, why = take(self.take, size + 2)
    if not chunk then return nil, why end
    if chunk:sub(-2) ~= "\r\n" then return nil, "malformed: a chunk without its end" end
    body[#body + 1] = chunk:sub(1, -3)
  end
  local trailers = {}
  while true do
    local line, why = take(self.take_through, "\r\n")
    if not line then return nil, why end
    if line == "\r\n" then break end
    trailers[#trailers + 1] = line
  end
  return table.concat(body), nil, (http.parse_headers(table.concat(trailers)))
end

local function read_body(self, response, method, raw, deadline)
  local status, headers = response.status, response.headers
  if method == "HEAD" or status < 200 or status == 204 or status == 304 then return "" end
  if (headers["transfer-encoding"] or ""):lower():find("chunked", 1, true) then
    local body, why, trailers = read_chunked(self, raw, deadline)
    response.trailers = trailers
    return body, why
  end
  local body, why
  if headers["content-length"] then
    local size = tonumber(headers["content-length"]:match("^%d+$"))
    if not size then return nil, "malformed: content-length " .. headers["content-length"] end
    local part
    body, why, part = self:take(size, deadline)
    response.partial = part
  else
    body, why = self:read_until_close(left(deadline))
    if why ~= "eof" then return nil, why end
    response.until_close, why = true, nil
  end
  raw[#raw + 1] = body
  return body, why
end

--- Reads one response. options: method (the request's; HEAD has no body),
-- timeout_ms (5,000), informational (true: return 1xx responses too).
-- Returns {status, reason, version, headers, header_list, body, raw,
-- trailers?, informational = list of 1xx before it}, or nil and why.
function conn:read_response(options)
  options = options or {}
  local deadline = loop.now_ms() + (options.timeout_ms or TIMEOUT_MS)
  local informational = {}
  while true do
    local head, why = self:take_through("\r\n\r\n", deadline)
    if not head then return nil, why end
    local version, status, reason, lines = head:match("^HTTP/(%d%.%d) (%d%d%d) ?([^\r\n]*)\r\n(.*)\r\n$")
    if not version then return nil, ("malformed: response head %q"):format(head:sub(1, 200)) end
    local headers, list = http.parse_headers(lines)
    if not headers then return nil, list end
    local response = { version = version, status = tonumber(status), reason = reason, headers = headers,
      header_list = list, informational = informational }
    local raw = { head }
    response.body, why = read_body(self, response, options.method, raw, deadline)
    response.raw = table.concat(raw)
    if not response.body then return nil, why, response end
    if response.status >= 200 or response.status == 101 or options.informational then return response end
    informational[#informational + 1] = response
  end
end

--- The bytes of a request. options: method (GET), path (/), host, headers
-- (table by name or list of {name, value}), body (string), chunks (list: sent
-- chunked), keep_alive (default false: Connection: close), version ("1.1").
function http.build(options)
  local method = options.method or (options.body and "POST" or "GET")
  local lines = { ("%s %s HTTP/%s"):format(method, options.path or "/", options.version or "1.1") }
  local given = {}
  local function add(name, value)
    given[name:lower()] = true
    lines[#lines + 1] = ("%s: %s"):format(name, value)
  end
  for name, value in pairs(options.headers or {}) do
    if type(name) == "number" then add(value[1], value[2]) else add(name, value) end
  end
  if not given.host then add("Host", options.authority or "localhost") end
  local body = options.body or ""
  if options.chunks then
    if not given["transfer-encoding"] then add("Transfer-Encoding", "chunked") end
    local parts = {}
    for i, chunk in ipairs(options.chunks) do parts[i] = ("%x\r\n%s\r\n"):format(#chunk, chunk) end
    body = table.concat(parts) .. "0\r\n\r\n"
  elseif options.body and not given["content-length"] and not given["transfer-encoding"] then
    add("Content-Length", #options.body)
  end
  if not options.keep_alive and not given.connection then add("Connection", "close") end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

--- Sends a request on this connection and reads its response; keeps it open.
function conn:request(options)
  if type(options) == "string" then options = { path = options } end
  if options.keep_alive == nil then
    local copy = { keep_alive = true }
    for k, v in pairs(options) do copy[k] = v end
    options = copy
  end
  local ok, why = self:send(http.build(options), options.timeout_ms)
  if not ok then return nil, why end
  return self:read_response { method = options.method, timeout_ms = options.timeout_ms }
end

--- Sends requests back to back in one write, then reads their responses in
-- order. Returns the list of responses; or nil, why and those that came.
function conn:pipeline(requests, timeout_ms)
  local bytes, responses = {}, {}
  for i, request in ipairs(requests) do
    if type(request) == "string" then request = { path = request, keep_alive = true } end
    if request.keep_alive == nil then request.keep_alive = true end
    bytes[i] = http.build(request)
  end
  local ok, why = self:send(table.concat(bytes), timeout_ms)
  if not ok then return nil, why, responses end
  for i, request in ipairs(requests) do
    responses[i], why = self:read_response { method = request.method, timeout_ms = timeout_ms }
    if not responses[i] then return nil, why, responses end
  end
  return responses
end

--- One request on a connection of its own. Takes the options of http.connect
-- and http.build. Returns the response, or nil and why.
function http.request(options)
  local c, why = http.connect(options)
  if not c then return nil, why end
  local ok
  ok, why = c:send(http.build(options), options.timeout_ms)
  local response, partial
  if ok then
    response, why, partial = c:read_response { method = options.method, timeout_ms = options.timeout_ms }
  end
  c:close()
  return response, why, partial
end

--- Sends raw bytes on a connection of its own; returns all that comes back
-- until the other side closes, and why the reading ended.
function http.exchange(options, bytes)
  local c, why = http.connect(options)
  if not c then return nil, why end
  local ok
  ok, why = c:send(bytes, options.timeout_ms)
  local answer = ""
  if ok then answer, why = c:read_until_close(options.timeout_ms) end
  c:close()
  return answer, why
end

return http
