--- Names of settings that are of one pool or of one upstream, and which setting stands for all that have none of their own.
--
--     pool.main.max             of the pool main                for all: pool.db.max, pool.redis.max
--     upstream.api.retries      of the upstream api             for all: upstream.retries
--
-- What a pool and an upstream are called may have dots, what is set of them has none.
local setting_names = {}

--- The pool whose bound a name is, and which: "pool.main.max" > "main", "max". nil: it is none.
function setting_names.of_pool(name) return name:match "^pool%.(.+)%.(m[ai][xn])$" end

--- What that bound is called for all pools of a kind ("postgres", "redis").
function setting_names.of_pools(pool_type, bound) return ("pool.%s.%s"):format(pool_type == "redis" and "redis" or "db", bound) end

--- "api", "upstream.retries" > "upstream.api.retries".
function setting_names.of_upstream(upstream, name) return ("upstream.%s.%s"):format(upstream, name:match "^upstream%.(.+)$") end

--- "upstream.api.retries" > "upstream.retries"; nil: it is not one upstream's.
function setting_names.of_upstreams(name)
  local key = name:match "^upstream%..+%.([%w_]+)$"
  return key and "upstream." .. key
end

return setting_names
