--- What goes wrong between a handler and PostgreSQL or Redis. The keys of a fault: tests/scenarios/catalogue.lua.
local loop = require "tests.support.loop"

local DB, SESSION = { "GET /db", "mean_ms" }, { "GET /session", "mean_ms" }

local function pool(w, id, values, stable)
  w:patch("resources/pools/" .. id, values)
  return function() w:patch("resources/pools/" .. id, stable) end
end

return {
  { name = "pool_small", issue = { "db.pool_wait" }, rules = { "pool_undersized" }, forbidden = { "slow_query" }, indicator = DB, cure = { setting = "pool.main.max", values = { 2, 4, 8, 12, 16 } },
    plant = function(w)
      local widen = pool(w, "main", { min_size = 1, max_size = 1 }, { max_size = 8, min_size = 4 })
      local leave = w:clients_of(w:draw(5, 8), "/db", 5)
      return function()
        leave()
        widen()
      end
    end },
  { name = "pool_cold", issue = { "db.connect_churn", "db.pool_wait" }, rules = { "pool_cold", "pool_churn" }, forbidden = { "pool_undersized", "slow_query" }, indicator = DB,
    world = { args = { "--set", "pool.db.connect_ms=5000" } },
    plant = function(w)
      w:pause(true) -- only bursts, with time between them to close what is idle
      local shut = pool(w, "main", { min_size = 0, idle_timeout_ms = 300 }, { min_size = 4, idle_timeout_ms = 600000 })
      local leave = w:bursts(6, "/db", w:draw(700, 1000))
      return function()
        leave()
        shut()
        w:pause(false)
      end
    end },
  { name = "pool_churn", issue = { "db.connect_churn", "db.pool_wait" }, rules = { "pool_churn", "pool_cold" }, forbidden = { "pool_undersized", "slow_query" }, indicator = { "main", "opened" },
    plant = function(w) return pool(w, "main", { max_lifetime_ms = w:draw(100, 200) }, { max_lifetime_ms = 3600000 }) end },
  { name = "slow_query", issue = { "db.slow_query" }, rules = { "slow_query" }, forbidden = { "pool_undersized" }, indicator = DB,
    plant = function(w)
      w:query_ms(w:draw(60, 120))
      return function() w:query_ms(w.QUERY_MS) end
    end },
  { name = "hungry_query", machine = true, issue = { "db.slow_query" }, rules = { "slow_query" }, forbidden = { "noisy_neighbour", "pool_undersized", "hedge" }, indicator = DB,
    plant = function(w) -- it computes, on the machine that we are on
      w.pg:sql(("create or replace function work() returns text as $$ select count(sqrt(i))::text from generate_series(1, %d) i $$ language sql"):format(w:draw(300000, 500000)))
      return function() w:query_ms(w.QUERY_MS) end
    end },
  { name = "n_plus_one", issue = { "db.n_plus_one", "db.slow_query", "unknown" }, rules = { "n_plus_one" }, forbidden = { "pool_undersized" }, indicator = DB,
    plant = function(w)
      w:handlers { statements = w:draw(9, 14) }
      return function() w:handlers { statements = 1 } end
    end },
  { name = "lock_convoy", issue = { "db.slow_query", "db.lock" }, rules = { "lock_wait", "slow_query" }, forbidden = { "pool_undersized", "hedge", "timeout_short" }, indicator = { "GET /lock", "mean_ms" },
    plant = function(w)
      w:handlers { lock_ms = w:draw(60, 120) }
      local leave = w:clients_of(4, "/lock", 10)
      return function()
        leave()
        w:handlers { lock_ms = 1 }
      end
    end },
  { name = "idle_in_transaction", issue = { "db.pool_wait", "db.idle_in_tx", "unknown" }, rules = { "idle_in_transaction" }, first_not = { "pool_undersized" }, indicator = { "GET /held", "mean_ms" },
    plant = function(w)
      w:handlers { hold_ms = w:draw(150, 300) }
      local leave = w:clients_of(10, "/held", 10)
      return function()
        leave()
        w:handlers { hold_ms = 0 }
      end
    end },
  { name = "statements_cut_off", issue = { "db.errors", "db.slow_query" }, rules = { "statement_timeouts" }, forbidden = { "pool_undersized" }, indicator = { "GET /db", "error_rate" },
    plant = function(w)
      local longer = pool(w, "main", { statement_timeout_ms = 20 }, { statement_timeout_ms = 30000 })
      w:query_ms(w:draw(60, 90))
      return function()
        w:query_ms(w.QUERY_MS)
        longer()
      end
    end },
  { name = "database_refuses", issue = { "db.errors" }, forbidden = { "pool_undersized", "slow_query" }, indicator = { "GET /db", "error_rate" },
    plant = function(w)
      w.pg:sql "drop function work()"
      return function() w:query_ms(w.QUERY_MS) end
    end },
  { name = "redis_chatty", issue = { "redis.slow", "redis.roundtrips" }, rules = { "redis_chatty" }, forbidden = { "slow_query" }, indicator = SESSION,
    plant = function(w)
      w:handlers { gets = w:draw(150, 250) } -- a round trip takes 30 us here, a tenth of what it takes over a network
      return function() w:handlers { gets = 1 } end
    end },
  { name = "redis_slow", issue = { "redis.slow" }, rules = { "redis_slow" }, forbidden = { "slow_query", "redis_pool_undersized" }, indicator = SESSION,
    plant = function(w)
      local going, ms = true, w:draw(40, 80)
      local thread = loop.spawn(function()
        while going do
          w.redis:cli("CLIENT", "PAUSE", ms, "ALL")
          loop.sleep(2 * ms)
        end
      end)
      return function()
        going = false
        loop.join(thread)
      end
    end },
}
