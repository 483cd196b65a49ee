-- Jobs are written in batches; how many make one is a setting that a rule may turn. Larger batches are cheaper here.
local perilune = require "perilune"
local rules, seconds = arg[1], tonumber(arg[2]) or 300

local engine = assert(perilune.new { rules = rules })
local batch
engine:setting { name = "writer.batch", type = "integer", unit = "jobs", default = 5, min = 1, max = 200, step = 10, settle_s = 1,
  doc = "jobs that are written together", apply = function(value, why)
    batch = value
    print(("%d s: writer.batch = %d (%s)"):format(os.clock(), value, why))
  end }
engine:on("suggestion", function(event) print(event.id, event.state, event.title, event.why or "") end)
engine:on("trial", function(event) print(event.id, event.phase, event.why or "") end)

local function busy(ms)
  local until_s = os.clock() + ms / 1000
  while os.clock() < until_s do end
end

local began, applied = os.time(), false
while os.time() - began < seconds do
  for _ = 1, 50 do -- a round trip is shared by the jobs of a batch
    local ms = 0.2 + 20 / batch * (0.9 + 0.2 * math.random())
    engine:start("JOB", "/write"):finish { status = 200, ms = ms }
  end
  busy(20)
  engine:tick()
  for _, suggestion in ipairs(applied and {} or engine:suggestions()) do
    if suggestion.rule == "batch_small" then applied = engine:apply(suggestion.id) ~= nil end
  end
  local trial = engine:trials()[1]
  if trial and trial.phase == "VERIFIED" then break end
end
for _, trial in ipairs(engine:trials()) do print(trial.id, trial.phase, trial.why) end
print("writer.batch is " .. tostring(engine:value "writer.batch"))
