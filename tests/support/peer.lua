--- A TCP server that remembers every byte it receives, for standing in as an
-- upstream. What arrives is parsed strictly: a proxy that forwards anything
-- malformed fails the spec.
local uv = require "luv"
local http = require "tests.support.http"
local loop = require "tests.support.loop"

local peer = {}
peer.__index = peer

-- ---- the strict parser -------------------------------------------------------------

local function chunked_body(bytes, at)
  local body = {}
  while true do
    local first, last = bytes:find("\r\n", at, true)
    if not first then return nil, "incomplete" end
    local size = bytes:sub(at, first - 1):match("^(%x+)$")
    if not size then return nil, ("malformed: chunk size %q"):format(bytes:sub(at, first - 1)) end
    size, at = tonumber(size, 16), last + 1
    if size == 0 then break end
    if #bytes < at + size + 1 then return nil, "incomplete" end
    if bytes:sub(at + size, at + size + 1) ~= "\r\n" then return nil, "malformed: a chunk without its end" end
    body[#body + 1] = bytes:sub(at, at + size - 1)
    at = at + size + 2
  end
  if bytes:sub(at, at + 1) == "\r\n" then return table.concat(body), at + 2, {} end
  local _, last = bytes:find("\r\n\r\n", at, true)
  if not last then return nil, "incomplete" end
  local trailers, why = http.parse_headers(bytes:sub(at, last - 2))
  if not trailers then return nil, why end
  return table.concat(body), last + 1, trailers
end

local function count(list, name)
  local n = 0
  for _, header in ipairs(list) do
    if header[1]:lower() == name then n = n + 1 end
  end
  return n
end

local function body_of(request, bytes, at)
  local length, encoding = request.headers["content-length"], request.headers["transfer-encoding"]
  if length and encoding then return nil, "malformed: content-length and transfer-encoding" end
  if encoding then
    if encoding ~= "chunked" then return nil, "malformed: transfer-encoding " .. encoding end
    local body, next_at, trailers = chunked_body(bytes, at)
    request.trailers = trailers
    return body, next_at
  end
  if not length then return "", at end
  if count(request.header_list, "content-length") > 1 or not length:find("^%d+$") then
    return nil, "malformed: content-length " .. length
  end
  local size = tonumber(length)
  if #bytes < at + size - 1 then return nil, "incomplete" end
  return bytes:sub(at, at + size - 1), at + size
end

--- Parses one request at `at`. Returns {method, target, version, headers,
-- header_list, body, raw, trailers?} and where the next one starts; or nil and
-- "incomplete" or "malformed: ...".
function peer.parse(bytes, at)
  at = at or 1
  local _, last = bytes:find("\r\n\r\n", at, true)
  if not last then return nil, "incomplete" end
  local line_end = bytes:find("\r\n", at, true)
  local line = bytes:sub(at, line_end - 1)
  local method, target, version = line:match("^([%w!#$%%&'*+%-.^_`|~]+) ([!-~]+) HTTP/(1%.[01])$")
  if not method then return nil, ("malformed: request line %q"):format(line) end
  local headers, list = http.parse_headers(bytes:sub(line_end + 2, last - 2))
  if not headers then return nil, list end
  if version == "1.1" and count(list, "host") ~= 1 then return nil, "malformed: not exactly one Host" end
  local request = { method = method, target = target, version = version, headers = headers, header_list = list }
  local body, next_at = body_of(request, bytes, last + 1)
  if not body then return nil, next_at end
  request.body, request.raw = body, bytes:sub(at, next_at - 1)
  return request, next_at
end

--- Splits a recorded stream into requests; raises on anything malformed and on
-- a rest that is no whole request.
function peer.split(bytes)
  local requests, at = {}, 1
  while at <= #bytes do
    local request, next_at = peer.parse(bytes, at)
    if not request then error(("%s in byte %d of %q"):format(next_at, at, bytes), 2) end
    requests[#requests + 1] = request
    at = next_at
  end
  return requests
end

--- The bytes of a response with Content-Length.
function peer.response(status, headers, body)
  body = body or ""
  local lines = { ("HTTP/1.1 %d Status"):format(status) }
  for name, value in pairs(headers or {}) do lines[#lines + 1] = name .. ": " .. value end
  lines[#lines + 1] = "Content-Length: " .. #body
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

-- ---- the server ----------------------------------------------------------------------

local record = {}
record.__index = record

--- All bytes received on this connection.
function record:bytes()
  return table.concat(self.chunks)
end

--- Its requests, strictly.
function record:requests()
  return peer.split(self:bytes())
end

local function answer_requests(self, entry)
  local c = entry.conn
  while true do
    local request, next_at = peer.parse(c.buffer)
    if request then
      c.buffer = c.buffer:sub(next_at)
      self.seen = self.seen + 1
      local answer, after = self.options.answer, nil
      if type(answer) == "function" then answer, after = answer(request, entry) end
      if type(answer) == "table" then answer = peer.response(answer.status or 200, answer.headers, answer.body) end
      if answer and not c:send(answer) then return end
      if after == "close" or request.headers.connection == "close" then return end
    elseif next_at ~= "incomplete" then
      entry.malformed = next_at
      self.errors[#self.errors + 1] = next_at
      return
    elseif not c:fill(self.options.idle_ms or 60000) then
      return
    end
  end
end

local function serve(self, entry)
  local speak = self.options.connection
  local ok, why = pcall(speak or answer_requests, speak and entry.conn or self, entry)
  if not ok then self.errors[#self.errors + 1] = tostring(why) end
  entry.conn:close()
  entry.closed = true
end

local function accept(self)
  local tcp = uv.new_tcp()
  if self.listener:accept(tcp) ~= 0 then return tcp:close() end
  tcp:nodelay(true)
  local entry = setmetatable({ chunks = {}, closed = false }, record)
  entry.conn = http.wrap(tcp, function(chunk) entry.chunks[#entry.chunks + 1] = chunk end)
  self.connections[#self.connections + 1] = entry
  loop.spawn(function() serve(self, entry) end)
end

--- Starts a server on a port the kernel picks. options, one of:
--   answer      bytes sent for each request, or fn(request, entry) -> bytes or
--               {status, headers, body} or nil for no answer[, "close"]; it may wait
--   connection  fn(conn, entry): speaks for itself with http.lua's connection
-- and port (0), host, idle_ms. Fields: port, address, connections (list of
-- entries with chunks, closed, malformed, :bytes(), :requests()), seen
-- (requests so far), errors.
function peer.start(options)
  options = options or {}
  if not options.connection and not options.answer then
    options = { answer = peer.response(200, {}, "ok"), port = options.port, host = options.host }
  end
  local self = setmetatable({ options = options, connections = {}, errors = {}, seen = 0 }, peer)
  self.host = options.host or "127.0.0.1"
  self.listener = uv.new_tcp()
  assert(self.listener:bind(self.host, options.port or 0))
  assert(self.listener:listen(1024, function(err) if not err then accept(self) end end))
  self.port = self.listener:getsockname().port
  self.address = ("%s:%d"):format(self.host, self.port)
  return self
end

--- All requests of all connections, strictly, in the order of connections.
function peer:requests()
  local all = {}
  if self.errors[1] then error(self.errors[1], 2) end
  for _, entry in ipairs(self.connections) do
    for _, request in ipairs(entry:requests()) do all[#all + 1] = request end
  end
  return all
end

function peer:open_connections()
  local n = 0
  for _, entry in ipairs(self.connections) do
    if not entry.closed then n = n + 1 end
  end
  return n
end

--- Stops listening; open connections stay. start again with {port = old.port}.
function peer:stop_listening()
  if not self.listener:is_closing() then self.listener:close() end
end

--- Closes all. Raises what went wrong in handlers, unless `quiet`.
function peer:stop(quiet)
  self:stop_listening()
  for _, entry in ipairs(self.connections) do entry.conn:close() end
  loop.settle()
  if self.errors[1] and not quiet then error(self.errors[1], 2) end
end

return peer
