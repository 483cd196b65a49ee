-- Which answers are compressed, for clients that accept it, and how densely.
--
--   return {
--     gzip = 6, min_bytes = 2048,
--     routes = { ["/downloads/*"] = false, ["GET /api/report"] = { order = { "br", "gzip" }, br = 5 } },
--   }
return {}
