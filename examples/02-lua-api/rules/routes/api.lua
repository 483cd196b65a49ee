local p = require "perilune"
local app = p.app()

-- Runs around every route of this file.
app:use(function(req, next)
  if req.headers["x-blocked"] then return 403, { error = "blocked by middleware" } end
  return next(req)
end)

app:get("/", function()
  return { service = "example", try = { "/hello", "/api/users/42", "/api/report?rows=200", "/slow?ms=120", "/stream", "/echo" } }
end)

-- Next to nothing.
app:get("/hello", function() return "hello\n" end)

-- A path parameter, a header, a table as JSON.
app:get("/api/users/:id", function(req)
  local id = tonumber(req.params.id)
  if not id then return 404, { error = "no such user" } end
  return { id = id, name = "user " .. id, agent = req.headers["user-agent"] }
end)

-- CPU and a larger body.
app:get("/api/report", function(req)
  local rows, out = math.min(tonumber(req.query.rows) or 50, 5000), {}
  for i = 1, rows do
    out[i] = { id = i, label = ("row %05d"):format(i), total = math.floor(math.sin(i) * 1000) }
  end
  return { rows = out }
end)

-- Waits without holding up anybody else.
app:get("/slow", function(req)
  local ms = math.min(tonumber(req.query.ms) or 100, 5000)
  p.sleep(ms / 1000)
  return { slept_ms = ms }
end)

-- An answer in pieces.
app:get("/stream", function()
  return 200, function(write)
    for i = 1, 5 do
      write("piece " .. i .. "\n")
      p.sleep(0.05)
    end
  end, { ["Content-Type"] = "text/plain" }
end)

app:post("/echo", function(req)
  return 200, req.body, { ["Content-Type"] = req.headers["content-type"] or "application/octet-stream" }
end)

return app
