-- A small HTTP server on luv that compresses, measures, counts words on a task thread and asks a database, if DATABASE_URL names one.
local perilune = require "perilune"
local uv = require "luv"

local here = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path -- where tasks look for their modules, too

local engine = assert(perilune.new {})
local ticks = uv.new_timer()
ticks:start(0, 250, function() engine:tick() end)

local tasks = assert(perilune.tasks { threads = 2, loop = uv })
local url = os.getenv "DATABASE_URL"
local db = url and assert(perilune.pool.postgres { dsn = url, max = 4, loop = uv })

local body = {}
for i = 1, 300 do body[i] = ("%d: a line that compresses well"):format(i) end
body = table.concat(body, "\n")

-- Each answers with a status and a body, in a coroutine: what waits holds up nobody else.
local routes = {}
routes["/text"] = function() return 200, body end
routes["/stats"] = function() return 200, perilune.json.encode { requests = engine:stats(0).requests_total } end
routes["/words"] = function(span)
  local count, why = span:wrap("task", tasks.run, tasks, { module = "words", fn = "count", body, deadline_ms = 1000 })
  if not count then return 503, why end
  return 200, perilune.json.encode { words = count }
end
routes["/now"] = function(span)
  if not db then return 404, "start it with DATABASE_URL=postgresql://user:password@host/database" end
  local row, why = span:wrap("db", db.one, db, "select now() as now, version() as version")
  if not row then return 503, why end
  return 200, perilune.json.encode(row)
end

local reasons = { [200] = "OK", [404] = "Not Found", [503] = "Service Unavailable" }

local function answer(client, method, path, head)
  local route = routes[path]
  local span = engine:start(method, route and path or "/")
  local status, text = 404, "there are /text, /stats, /words and /now"
  if route then status, text = route(span) end
  local smaller, coding = span:wrap("compress", perilune.compress, text, { accept = head:lower():match "accept%-encoding: ([^\r]+)" or "" })
  if not client:is_closing() then
    client:write(("HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n"):format(status, reasons[status], #smaller,
      coding and "Content-Encoding: " .. coding .. "\r\n" or "") .. smaller)
  end
  span:finish { status = status, bytes = #smaller }
end

-- The requests of a connection, one after the other.
local function serve(client, next_head)
  for head in next_head do
    local method, path = head:match "^(%u+) ([^ ?]+)"
    if not method then break end
    answer(client, method, path, head)
  end
  if not client:is_closing() then client:close() end
end

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", tonumber(arg[1]) or 8080))
server:listen(128, function(err)
  assert(not err, err)
  local client = uv.new_tcp()
  server:accept(client)
  local input, over, waiting = "", false, nil
  client:read_start(function(_, chunk)
    input, over = input .. (chunk or ""), not chunk
    if waiting then
      local thread = waiting
      waiting = nil
      assert(coroutine.resume(thread))
    end
  end)
  coroutine.wrap(serve)(client, function()
    while true do
      local head, rest = input:match "^(.-\r\n\r\n)(.*)$"
      if head then
        input = rest
        return head
      end
      if over then return nil end
      waiting = coroutine.running()
      coroutine.yield()
    end
  end)
end)
print("http://127.0.0.1:" .. server:getsockname().port)
io.stdout:flush()
uv.run()
