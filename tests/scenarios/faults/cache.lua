--- What goes wrong with the cache. The keys of a fault: tests/scenarios/catalogue.lua.
local CACHED = "GET /cached/*rest"

--- Keys of a Zipf-like popularity: most requests for few of them.
local function popular(w, keys)
  return function() return "/cached/z" .. math.floor(keys ^ w:uniform()) end
end

return {
  { name = "cache_flushed", issue = { "cache.cold" }, forbidden = { "cache_small", "pool_undersized" }, indicator = { CACHED, "mean_ms" },
    plant = function(w)
      return w:every(150, function() w:post("cache/purge", { all = true }) end)
    end },
  { name = "cache_small", issue = { "cache.cold", "unknown" }, optional_issue = true, rules = { "cache_small" }, forbidden = { "ttl_low", "key_pollution" },
    indicator = { CACHED, "mean_ms" }, world = { args = { "--set", "cache.bytes=4194304" } },
    plant = function(w)
      w:instance(nil, { size = 20000, delay_ms = 10 })
      local leave = w:clients_of(4, popular(w, 3000), 0)
      return function()
        leave()
        w:instance(nil, { size = 200, delay_ms = 4 })
      end
    end },
  { name = "ttl_low", issue = { "cache.cold", "unknown" }, optional_issue = true, rules = { "ttl_low" }, forbidden = { "cache_small", "key_pollution" }, indicator = { CACHED, "mean_ms" },
    plant = function(w)
      w:instance(nil, { max_age = 1, etag = true, delay_ms = w:draw(15, 30) })
      w:post("cache/purge", { all = true })
      local leave = w:clients_of(2, function() return "/cached/" .. w:draw(0, 39) end, 20) -- in turn they would ask for the same at the same time
      return function()
        leave()
        w:instance(nil, { max_age = 600, etag = false, delay_ms = 4 })
        w:post("cache/purge", { all = true })
      end
    end },
  { name = "stampede", issue = { "cache.stampede" }, rules = { "stampede" }, forbidden = { "overload", "cache_small" }, indicator = { CACHED, "p95_ms" },
    plant = function(w)
      w:instance(nil, { max_age = 1, cached_ms = w:draw(300, 500) })
      w:post("cache/purge", { all = true })
      local leave = w:clients_of(12, "/cached/hot", 40)
      return function()
        leave()
        w:instance(nil, { max_age = 600, cached_ms = 0 })
        w:post("cache/purge", { all = true })
      end
    end },
  { name = "key_pollution", issue = { "cache.cold", "unknown" }, optional_issue = true, rules = { "key_pollution" }, forbidden = { "cache_small", "ttl_low" }, indicator = { CACHED, "mean_ms" },
    plant = function(w)
      w:instance(nil, { delay_ms = 10 })
      local leave = w:clients_of(4, function(i) return ("/cached/%d?utm=%d"):format(i % 20, w:draw(1, 1e9)) end, 5)
      return function()
        leave()
        w:instance(nil, { delay_ms = 4 })
      end
    end },
}
