-- Others take the CPU away from us: the hypervisor steals it, a quota throttles us, or other processes of this machine compute. No
-- setting of ours changes that, and what is measured meanwhile tells nothing about our settings: while this is open nothing else is suggested.
local STEAL, THROTTLED, FULL = 0.10, 0.10, 0.85

local function stolen(s) return (s.now.steal_share or 0) >= STEAL and (s.now.steal_share or 0) >= 2 * (s.usual.steal_share or 0) end
local function throttled(s) return (s.now.throttled_share or 0) >= THROTTLED end
local function crowded(s, f) return f:issue "host.contention" ~= nil and (s.now.cpu_share or 0) >= FULL end

return {
  id = "noisy_neighbour",
  title = function(s) return stolen(s) and "the host takes CPU away from this machine" or throttled(s) and "a quota takes CPU away from us" or "other processes take CPU away from us" end,
  class = "resources",
  on = "host",
  issue = { "host.contention" },
  when = function(s, f) return s:above("mean_ms", 1.3, 1) and (stolen(s) or throttled(s) or crowded(s, f)) end,
  impact = function() return nil end,
  advise = function(s)
    if throttled(s) then return "Raise the CPU quota of the container, or the number of its CPUs: the kernel stops it in some of its periods." end
    if stolen(s) then return "Move to another host or a class of machine with CPUs of its own; steal_share is what the hypervisor gave to others." end
    return "See who computes (ps -eo pid,pcpu,args --sort=-pcpu | head), and give it less: CPUWeight= or AllowedCPUs= of its systemd unit, a quota, or another machine."
  end,
  effort = "medium",
  risk = 0,
  inhibits = { "*" },
  explain = function(s)
    return ("%.0f %% of the CPU time was taken by others, %.0f %% of the periods were throttled, %s of what we may use is in use, of which our workers use %.2f cores; requests take %s, usually %s"):format(
      (s.now.steal_share or 0) * 100, (s.now.throttled_share or 0) * 100, s:show "cpu_share", s.now.worker_cpu or 0, s:show "mean_ms", s:show_usual "mean_ms")
  end,
}
