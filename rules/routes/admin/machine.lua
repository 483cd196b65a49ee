-- GET resources/machine : CPU, memory, pressure, disks, network, files and our processes, as of the last second;
-- what this host does not tell stands in not_available with the reason
local admin = require "perilune.admin"
local app = admin.app()

local function seconds_between_records()
  for _, setting in ipairs(admin.stats.settings()) do
    if setting.name == "resource.interval_s" then return setting.value end
  end
end

app:get(admin.path "resources/machine", {
  summary = "CPU, memory, pressure, disks, network, files and our processes, as of the last second",
  answers = { [200] = "Machine" },
}, function()
  local data = { not_available = {}, processes = admin.machine.processes(), recorded_every_s = seconds_between_records(), sampled_every_s = 1 }
  for _, figure in ipairs(admin.machine.figures()) do
    local section = data[figure.section] or {}
    data[figure.section] = section
    if figure.value then
      section[figure.name] = figure.value
    else
      data.not_available[figure.section .. "." .. figure.name] = figure.why
    end
  end
  return admin.envelope(data)
end)

return app
