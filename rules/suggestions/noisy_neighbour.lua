-- Others take the CPU away from us: the hypervisor steals it, or a quota throttles us. No setting of ours changes that, and what is
-- measured meanwhile tells nothing about our settings: while this is open nothing else is suggested.
local STEAL, THROTTLED = 0.10, 0.10

return {
  id = "noisy_neighbour",
  title = function() return "the host takes CPU away from this machine" end,
  class = "resources",
  on = "host",
  issue = { "host.contention" },
  when = function(s)
    local slow = s:above("mean_ms", 1.3, 1)
    return slow and ((s.now.steal_share or 0) >= STEAL and (s.now.steal_share or 0) >= 2 * (s.usual.steal_share or 0) or (s.now.throttled_share or 0) >= THROTTLED)
  end,
  impact = function() return nil end,
  advise = function(s)
    return (s.now.throttled_share or 0) >= THROTTLED and "Raise the CPU quota of the container, or the number of its CPUs: the kernel stops it in some of its periods."
      or "Move to another host or a class of machine with CPUs of its own; steal_share is what the hypervisor gave to others."
  end,
  effort = "medium",
  risk = 0,
  inhibits = { "*" },
  explain = function(s)
    return ("%.0f %% of the CPU time was taken by others, %.0f %% of the periods were throttled, and requests take %s, usually %s"):format((s.now.steal_share or 0) * 100,
      (s.now.throttled_share or 0) * 100, s:show "mean_ms", s:show_usual "mean_ms")
  end,
}
