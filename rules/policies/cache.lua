-- Caching. Nothing is stored until a route's mode is "on".
--
--   return {
--     routes = {
--       ["/api/catalog/*"] = { mode = "on", ttl = 60, stale_while_revalidate = 30, stale_if_error = 3600 },
--       ["GET /search"] = { mode = "on", ttl = 5, query = "keep", query_names = { "q", "page" } },
--       ["/pages/*"] = { mode = "on", cookies = "strip", key_headers = { "accept-language" } },
--     },
--   }
return {}
