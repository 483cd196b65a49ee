-- A small HTTP server on luv that compresses and measures.
local perilune = require "perilune"
local uv = require "luv"

local engine = assert(perilune.new {})
local ticks = uv.new_timer()
ticks:start(0, 250, function() engine:tick() end)

local body = {}
for i = 1, 300 do body[i] = ("%d: a line that compresses well"):format(i) end
body = table.concat(body, "\n")

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", tonumber(arg[1]) or 8080))
server:listen(128, function(err)
  assert(not err, err)
  local client = uv.new_tcp()
  server:accept(client)
  local input = ""
  client:read_start(function(_, chunk)
    if not chunk then return client:close() end
    input = input .. chunk
    local head, rest = input:match "^(.-\r\n\r\n)(.*)$"
    if not head then return end
    input = rest
    local method, path = head:match "^(%u+) ([^ ?]+)"
    local span = engine:start(method or "GET", path == "/stats" and "/stats" or "/text")
    local answer, coding
    if path == "/stats" then
      answer = perilune.json.encode { requests = engine:stats(0).requests_total }
    else
      answer, coding = span:wrap("compress", perilune.compress, body, { accept = head:lower():match "accept%-encoding: ([^\r]+)" or "" })
    end
    client:write(("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n"):format(#answer,
      coding and "Content-Encoding: " .. coding .. "\r\n" or "") .. answer)
    span:finish { status = 200, bytes = #answer }
  end)
end)
print("http://127.0.0.1:" .. server:getsockname().port)
io.stdout:flush()
uv.run()
