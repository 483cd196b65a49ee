--- What goes wrong with processor, memory, tasks and compression. The keys of a fault: tests/scenarios/catalogue.lua.
local process = require "tests.support.process"

local GZIP = { ["Accept-Encoding"] = "gzip" }
local BR = { ["Accept-Encoding"] = "br" }

-- Settings, and then what else there is to plant, for the handlers of a new generation begin anew.
local function with_settings(w, values, plant)
  w:patch("config", { settings = values })
  local leave = plant()
  return function()
    leave()
    for name in pairs(values) do w:post("config/reset", { name = name }) end
  end
end

local function level_high(name, world)
  return { name = name, world = world, issue = { "cpu.compression", "cpu.saturated", "cpu.handler", "unknown" }, optional_issue = true, rules = { "level_high" },
    forbidden = { "uncompressed", "min_bytes_high" }, indicator = { "GET /page", "compress" }, cure = { setting = "compression.level", values = { 1, 3, 6 } },
    plant = function(w)
      w.served:write_rule("policies/compression.lua", "return { br = 9, gzip = 9, order = { 'br', 'gzip' }, cpu_high = 1, cpu_full = 1 }")
      return with_settings(w, { ["compression.level"] = 9 }, function()
        local leave = w:clients_of(10, "/page", 0, BR)
        return function()
          leave()
          w.served:remove_rule "policies/compression.lua"
        end
      end)
    end }
end

return {
  { name = "noisy_neighbour", machine = true, issue = { "host.contention" }, rules = { "noisy_neighbour" }, forbidden = { "slow_query", "pool_undersized", "tasks_small", "overload", "loop_blocked" },
    indicator = { "host", "mean_ms" },
    plant = function() -- processes that only compute
      local others = {}
      for i = 1, 6 do others[i] = process.start { command = "sh", args = { "-c", "while :; do :; done" } } end
      return function()
        for _, one in ipairs(others) do one:stop() end
      end
    end },
  { name = "burning_handler", issue = { "cpu.handler" }, rules = { "cpu_bound", "loop_blocked" }, forbidden = { "tasks_small" }, indicator = { "GET /cpu", "mean_ms" },
    plant = function(w)
      w:handlers { spin = w:draw(1200000, 1800000) }
      return function() w:handlers { spin = 2000 } end
    end },
  { name = "blocking_handler", issue = { "cpu.handler", "runtime.loop_block" }, rules = { "loop_blocked" }, forbidden = { "tasks_small", "pool_undersized" }, indicator = { "GET /cpu", "p99_ms" },
    plant = function(w)
      w:handlers { block_ms = w:draw(60, 120) }
      local leave = w:clients_of(3, "/cpu", 10)
      return function()
        leave()
        w:handlers { block_ms = 0 }
      end
    end },
  { name = "leaking_handler", issue = { "memory.lua" }, forbidden = { "cache_small", "pool_undersized" }, indicator = { "host", "lua_bytes" },
    plant = function(w)
      w:handlers { leak_kb = 20 }
      return function() w:handlers { leak_kb = 0 } end
    end },
  -- What is alive stays below the heap's limit, with its garbage it does not: each time it is collected at once.
  { name = "long_collections", issue = { "cpu.handler", "memory.lua", "unknown" }, optional_issue = true, rules = { "gc_pause" }, forbidden = { "hedge" }, indicator = { "host", "gc_pause_ms" },
    world = { args = { "--set", "script.memory_bytes=100663296" } },
    plant = function(w)
      w:handlers { live_mb = 60, churn = true }
      return function() w:handlers { live_mb = 0, churn = false } end
    end },
  { name = "overload", issue = { "overload.queueing", "cpu.handler" }, rules = { "overload", "cpu_bound" }, forbidden = { "hedge", "pool_undersized" }, indicator = { "GET /cpu", "p95_ms" },
    plant = function(w)
      w:handlers { spin = 250000 }
      local leave = w:clients_of(40, "/cpu", 5)
      return function()
        leave()
        w:handlers { spin = 2000 }
      end
    end },
  { name = "limit_low", world = { args = { "--set", "reload.guard_ms=0" } }, -- the guard would take such a policy back
    issue = { "overload.queueing", "errors.handler", "unknown" }, rules = { "limit_low" }, forbidden = { "overload", "cpu_bound" }, indicator = { "host", "limited" },
    plant = function(w)
      w.served:write_rule("policies/limits.lua", 'return { routes = { ["/db"] = { concurrency = 1, queue_ms = 5 } } }')
      local leave = w:clients_of(4, "/db", 10)
      return function()
        leave()
        w.served:remove_rule "policies/limits.lua"
      end
    end },
  { name = "task_pool_narrow", issue = { "async.queue", "overload.queueing", "unknown" }, rules = { "tasks_small" }, forbidden = { "pool_undersized" }, indicator = { "GET /task", "mean_ms" },
    cure = { setting = "tasks.threads", values = { 2, 3, 4 } },
    plant = function(w)
      return with_settings(w, { ["tasks.threads"] = 1 }, function()
        w:handlers { task_ms = w:draw(15, 25) }
        local leave = w:clients_of(4, "/task", 5)
        return function()
          leave()
          w:handlers { task_ms = 1 }
        end
      end)
    end },
  { name = "task_queue_short", world = { args = { "--set", "reload.guard_ms=0" } }, -- the guard would take that back, too
    issue = { "errors.handler", "overload.queueing" }, rules = { "task_queue_full" }, forbidden = { "pool_undersized" }, indicator = { "GET /task", "error_rate" },
    cure = { setting = "tasks.max", values = { 4, 20, 50 } },
    plant = function(w)
      return with_settings(w, { ["tasks.max"] = 1 }, function()
        w:handlers { task_ms = 5 }
        local leave = w:clients_of(3, "/task", 15)
        return function()
          leave()
          w:handlers { task_ms = 1 }
        end
      end)
    end },
  { name = "failing_handler", issue = { "errors.handler" }, forbidden = { "pool_undersized", "task_queue_full", "bad_instance" }, indicator = { "GET /cpu", "error_rate" },
    plant = function(w)
      w:handlers { fail = w:draw(25, 50) }
      return function() w:handlers { fail = 0 } end
    end },
  { name = "uncompressed", issue = {}, rules = { "uncompressed" }, forbidden = { "level_high" }, indicator = { "GET /page", "bytes_out" },
    cure = { setting = "compression.enabled", values = { true } },
    plant = function(w) return with_settings(w, { ["compression.enabled"] = false }, function() return w:clients_of(4, "/page", 5, GZIP) end) end },
  level_high("level_high"),
  level_high("level_high_of_four", { args = { "--workers", "4" } }), -- whose cure is tried by one of them beside the others
  { name = "incompressible", issue = { "cpu.compression", "unknown" }, optional_issue = true, rules = { "compression_in_vain", "compression_useless" }, forbidden = { "level_high", "uncompressed" }, indicator = { "GET /noise", "rps" },
    plant = function(w) return w:clients_of(8, "/noise", 0, BR) end },
  { name = "small_answers_plain", issue = {}, rules = { "min_bytes_high" }, forbidden = { "level_high" }, indicator = { "GET /page", "bytes_out" },
    cure = { setting = "compression.min_bytes", values = { 256, 1024, 3000 } },
    plant = function(w)
      return with_settings(w, { ["compression.min_bytes"] = 6000 }, function() return w:clients_of(3, "/page?items=12", 10, GZIP) end)
    end },
  { name = "traffic_spike", issue = { "overload.queueing", "unknown", "cpu.handler" }, optional_issue = true, rules = { "traffic_spike" }, forbidden = { "pool_undersized", "tasks_small" }, indicator = { "host", "rps" },
    plant = function(w) return w:clients_of(12, "/session", 0) end },
}
