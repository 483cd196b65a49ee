--- Faults, and what the engine should say about each. plant(w) returns how to heal it.
--   issue      reason codes, any of which is right; {}: none may be raised
--   rules      the suggestion that is right, and those that are accepted as well; nil: only the issue is scored
--   forbidden  suggestions that would make it worse, or miss the cause
--   indicator  what must move by a fifth for the run to count: signal of a route, or of the host
local loop = require "tests.support.loop"

return {
  { name = "pool_small", issue = { "db.pool_wait" }, rules = { "pool_undersized" }, forbidden = { "slow_query" }, indicator = { "GET /db", "mean_ms" },
    plant = function(w)
      w:patch("resources/pools/main", { min_size = 1, max_size = 1 })
      local heal = w:clients_of(6, "/db", 5)
      return function()
        heal()
        w:patch("resources/pools/main", { max_size = 8, min_size = 4 })
      end
    end },
  { name = "slow_query", issue = { "db.slow_query" }, rules = { "slow_query" }, forbidden = { "pool_undersized" }, indicator = { "GET /db", "mean_ms" },
    plant = function(w)
      w:query_ms(80)
      return function() w:query_ms(w.QUERY_MS) end
    end },
  { name = "n_plus_one", issue = { "db.n_plus_one", "db.slow_query", "unknown" }, rules = { "n_plus_one" }, forbidden = { "pool_undersized" }, indicator = { "GET /db", "mean_ms" },
    plant = function(w)
      w:handlers { statements = 10 }
      return function() w:handlers { statements = 1 } end
    end },
  { name = "redis_chatty", issue = { "redis.slow", "redis.roundtrips" }, rules = { "redis_chatty" }, forbidden = { "slow_query" }, indicator = { "GET /session", "mean_ms" },
    plant = function(w)
      w:handlers { gets = 60 }
      return function() w:handlers { gets = 1 } end
    end },
  { name = "slow_upstream", issue = { "upstream.slow" }, rules = { "timeout_wrong", "upstream_slow" }, forbidden = { "bad_instance", "hedge", "pool_undersized" },
    indicator = { "GET /api/*rest", "mean_ms" },
    plant = function(w)
      w:instance(nil, { delay_ms = 80 })
      return function() w:instance(nil, { delay_ms = 4 }) end
    end },
  { name = "bad_instance", issue = { "upstream.instance", "upstream.slow", "upstream.errors" }, rules = { "bad_instance" }, forbidden = { "retry_storm" },
    indicator = { "GET /api/*rest", "p95_ms" },
    plant = function(w)
      w:instance(2, { delay_ms = 120 })
      return function() w:instance(2, { delay_ms = 4 }) end
    end },
  { name = "heavy_tail", issue = { "upstream.slow", "upstream.tail" }, rules = { "hedge" }, forbidden = { "bad_instance" }, indicator = { "GET /api/*rest", "p99_ms" },
    plant = function(w)
      w:instance(nil, { slow_share = 3, slow_ms = 150 })
      return function() w:instance(nil, { slow_share = 0 }) end
    end },
  { name = "error_burst", issue = { "upstream.errors" }, forbidden = { "pool_undersized", "uncompressed" }, indicator = { "GET /api/*rest", "error_rate" },
    plant = function(w)
      w:instance(nil, { errors = 50 })
      return function() w:instance(nil, { errors = 0 }) end
    end },
  { name = "burning_handler", issue = { "cpu.handler" }, rules = { "cpu_bound", "loop_blocked" }, forbidden = { "tasks_small" }, indicator = { "GET /cpu", "mean_ms" },
    plant = function(w)
      w:handlers { spin = 1500000 }
      return function() w:handlers { spin = 2000 } end
    end },
  { name = "task_pool_narrow", issue = { "async.queue", "overload.queueing", "unknown" }, rules = { "tasks_small" }, forbidden = { "pool_undersized" }, indicator = { "GET /task", "mean_ms" },
    plant = function(w)
      w:patch("config", { settings = { ["tasks.threads"] = 1 } })
      w:handlers { task_ms = 20 }
      local heal = w:clients_of(4, "/task", 5)
      return function()
        heal()
        w:handlers { task_ms = 1 }
        w:post("config/reset", { name = "tasks.threads" })
      end
    end },
  { name = "uncompressed", issue = {}, rules = { "uncompressed" }, forbidden = { "level_high" }, indicator = { "GET /page", "bytes_out" },
    plant = function(w)
      w:patch("config", { settings = { ["compression.enabled"] = false } })
      local heal = w:clients_of(4, "/page", 5, { ["Accept-Encoding"] = "gzip" })
      return function()
        heal()
        w:post("config/reset", { name = "compression.enabled" })
      end
    end },

  -- Nothing is wrong.
  { name = "steady", control = true, plant = function() return function() end end },
  { name = "more_load", control = true, plant = function(w)
    local heals = {}
    for i, path in ipairs { "/db", "/session", "/api/items" } do heals[i] = w:clients_of(1, path, 20) end
    return function() for _, heal in ipairs(heals) do heal() end end
  end },
  { name = "reload", control = true, plant = function(w)
    w.served:write_rule("lib/other.lua", "return {}")
    return function() w.served:remove_rule "lib/other.lua" end
  end },
  { name = "scan_of_404", control = true, plant = function(w) return w:clients_of(2, function(i) return "/none/" .. i end, 20) end },
  { name = "clients_that_leave", control = true, plant = function(w)
    local going = true
    local thread = loop.spawn(function()
      while going do
        local c = w.served:connect()
        c:send "GET /task HTTP/1.1\r\nHost: x\r\n\r\n"
        c:close()
        loop.sleep(50)
      end
    end)
    return function()
      going = false
      loop.join(thread)
    end
  end },
}
