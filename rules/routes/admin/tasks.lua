-- GET resources/tasks : the task threads of all workers: what waits, runs, and how it ended, by kind and priority
local admin = require "perilune.admin"
local app = admin.app()

local function totals(processes)
  local sum = { width = 0, threads = 0, lost = 0, max = 0, queued = 0, running = 0 }
  local busy = 0
  for _, process in ipairs(processes) do
    for name in pairs(sum) do sum[name] = sum[name] + process[name] end
    busy = busy + process.utilization * process.width
  end
  sum.utilization = sum.width > 0 and busy / sum.width or 0
  return sum
end

app:get(admin.path "resources/tasks", {
  summary = "The task threads of all workers: what waits, runs, and how it ended",
  answers = { [200] = "Tasks" },
}, function()
  local stats = admin.task_stats()
  local data = totals(stats.processes)
  data.processes, data.kinds = stats.processes, stats.kinds
  return admin.envelope(data)
end)

return app
