-- Memory that only grows.
local function leaking(s, t, signal)
  if not s:rose(signal, 1, t.leak_bytes) then return false end
  local tau, growth = s.trend(signal, t.leak_window_s)
  return tau >= t.leak_trend and growth >= t.leak_bytes / 4
end

return {
  symptoms = {
    {
      name = "memory_growth", on = "host", type = "MEMORY_LEAK",
      when = function(s, t)
        if s:above("rps", t.load_ratio, 5) or s:above("connections", t.load_ratio, 4) then return false end
        return leaking(s, t, "lua_bytes") or leaking(s, t, "rss_bytes")
      end,
      severity = function(s) return math.min(1, 0.4 + (s.now.memory_share or 0) / 2) end,
      title = function(s)
        return ("the workers' memory grows without more traffic: %s resident (usually %s), %s of it Lua (usually %s)"):format(
          s:show "rss_bytes", s:show_usual "rss_bytes", s:show "lua_bytes", s:show_usual "lua_bytes")
      end,
    },
    {
      name = "memory_pressure", on = "host", type = "MEMORY_LEAK",
      when = function(s, t) return (s.now.memory_share or 0) >= t.memory_share end,
      severity = function(s) return s.now.memory_share or 0 end,
      title = function(s) return ("%s of the memory we may use is in use"):format(s:show "memory_share") end,
    },
  },
  causes = {
    {
      code = "memory.lua", of = "memory_growth", type = "MEMORY_LEAK", target = "host",
      score = function(s, t) return leaking(s, t, "lua_bytes") and 0.9 or 0 end,
      says = function(s) return ("tables or strings of a script are kept for ever: the Lua heaps hold %s%s"):format(s:show "lua_bytes", s:usually "lua_bytes") end,
    },
    {
      code = "memory.process", of = "memory_growth", type = "MEMORY_LEAK", target = "host",
      score = function(s, t) return leaking(s, t, "lua_bytes") and 0.1 or 0.8 end,
      says = function(s) return ("the workers hold %s outside of Lua%s"):format(s:show "rss_bytes", s:usually "rss_bytes") end,
    },
    {
      code = "mem.pressure", of = "memory_pressure", type = "MEMORY_LEAK", target = "host",
      score = function() return 0.9 end,
      says = function(s) return ("%s of the memory limit is in use"):format(s:show "memory_share") end,
    },
  },
}
