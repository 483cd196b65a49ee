--- Times in which nothing is wrong: nothing may be suggested above P4, and no setting may move.
local loop = require "tests.support.loop"

return {
  { name = "steady", plant = function() return function() end end },
  { name = "more_load", plant = function(w)
    local leaves = {}
    for i, path in ipairs { "/db", "/session", "/api/items" } do leaves[i] = w:clients_of(1, path, 20) end
    return function() for _, leave in ipairs(leaves) do leave() end end
  end },
  { name = "reload", plant = function(w)
    w.served:write_rule("lib/other.lua", "return {}")
    return function() w.served:remove_rule "lib/other.lua" end
  end },
  { name = "scan_of_404", plant = function(w) return w:clients_of(2, function(i) return "/none/" .. i end, 20) end },
  { name = "clients_that_leave", plant = function(w)
    return w:every(50, function()
      local c = w.served:connect()
      c:send "GET /task HTTP/1.1\r\nHost: x\r\n\r\n"
      c:close()
    end)
  end },
  { name = "little_traffic", plant = function(w)
    w:pause(true)
    local leave = w:clients_of(1, "/api/items", 1000)
    return function()
      leave()
      w:pause(false)
    end
  end },
  { name = "cold_cache", plant = function(w)
    w:post("cache/purge", { all = true })
    return function() end
  end },
  { name = "a_day_s_curve", plant = function(w) -- load that comes and goes
    local going, leaves = true, {}
    local thread = loop.spawn(function()
      while going do
        if #leaves < 3 then leaves[#leaves + 1] = w:clients_of(1, "/api/items", 30)
        else
          for _, leave in ipairs(leaves) do leave() end
          leaves = {}
        end
        loop.sleep(4000)
      end
    end)
    return function()
      going = false
      loop.join(thread)
      for _, leave in ipairs(leaves) do leave() end
    end
  end },
}
