--- The engine's public module: local p = require "perilune"
--
--     p.app(options)             routes of a file, see perilune.app
--     p.sleep(seconds)           waits without holding up other requests
--     p.http.get(url, options)   requests to other services, see perilune.http
--     p.postgres(name)           a database of the configuration, see perilune.postgres
--     p.redis(name)              a Redis of the configuration, see perilune.redis
--     p.null                     NULL of databases and JSON
--     p.forward(name, path)      answer with what an upstream answers
--     p.json.encode / .decode / .null / .array
--     p.text.trim / split / starts_with / ends_with   linear-time string work
--     p.log.error / warn / info / debug (text)
--     p.now()                    seconds, monotonic, for measuring
--     p.generation               number of the generation this file belongs to

local core, require = ...

local log = {}
for _, level in ipairs { "error", "warn", "info", "debug" } do
  log[level] = function(text) core.log(level, tostring(text)) end
end

return {
  app = require("perilune.app").new,
  sleep = core.sleep,
  http = require "perilune.http",
  postgres = require "perilune.postgres",
  redis = require "perilune.redis",
  null = core.json.null,
  forward = core.forward,
  json = core.json,
  text = core.text,
  log = log,
  now = core.now,
  generation = core.generation,
  version = core.version,
}
