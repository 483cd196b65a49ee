-- The machine, of what we may use of it.
local function resource(name, signal, what, for_)
  return {
    name = name, severity = "warning", on = "host", signal = signal, above = 0.85, exit = 0.75, for_ = for_, keep_firing_for = "1m", no_data = "keep",
    annotations = { summary = ("{{value}} of the %s is in use, more than {{threshold}}"):format(what) },
  }
end

return {
  policies = {
    resource("HighCpu", "cpu_share", "processor time", "5m"),
    resource("HighMemory", "memory_share", "memory", "2m"),
    resource("DiskFull", "disk_share", "disk", "2m"),
  },
}
