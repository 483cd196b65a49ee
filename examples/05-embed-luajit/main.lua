-- A program that does jobs, one of which becomes slow; the library says so and why.
local perilune = require "perilune"
local seconds = tonumber(arg[1]) or 120

local engine = assert(perilune.new {})
engine:on("issue", function(issue) print("issue " .. issue.what, issue.type, issue.target, issue.title) end)

local began, answers = os.time(), 0
local function busy(ms)
  local until_s = os.clock() + ms / 1000
  while os.clock() < until_s do end
end

while os.time() - began < seconds do
  local late = os.time() - began > seconds / 2
  local span = engine:start("JOB", "/resize")
  span:wrap("db", busy, late and 20 or 2)
  busy(1)
  span:finish { status = 200, bytes = 1000 }
  answers = answers + 1
  engine:tick()
end

local stats = engine:stats(0)
print(("%d jobs; p50 %.1f ms, p99 %.1f ms"):format(answers, stats.latency_ms.p50, stats.latency_ms.p99))
for _, route in ipairs(stats.routes) do print(route.method, route.route or route.name, route.requests) end
print(perilune.json.encode(engine:analyze().learning))
