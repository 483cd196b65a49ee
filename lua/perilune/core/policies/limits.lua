--- Keys of rules/policies/limits.lua.
return {
  fields = {
    mode = { type = "choice", values = { "off", "observe", "on" }, default = "on",
      doc = "observe counts what would be refused and lets it pass" },
    rate = { type = "number", min = 0.001, max = 1000000, doc = "requests a second for each key; none without it" },
    burst = { type = "integer", min = 1, max = 1000000, doc = "requests that may come at once; a second's worth without it" },
    key = { type = "string", default = "address", doc = "\"address\", \"all\", or \"header:NAME\"",
      check = function(value)
        if value ~= "address" and value ~= "all" and not value:find("^header:[%w!#$%%&'*+.^_`|~-]+$") then
          return ("'key' is \"address\", \"all\" or \"header:NAME\", not \"%s\""):format(value)
        end
      end },
    concurrency = { type = "any", doc = "requests under way at once: a number, or \"adaptive\"; any number without it",
      check = function(value)
        if value ~= "adaptive" and not (type(value) == "number" and value >= 1 and value <= 1000000 and value % 1 == 0) then
          return ("'concurrency' is \"adaptive\" or a whole number from 1, not %s"):format(tostring(value))
        end
      end },
    initial = { type = "integer", min = 1, max = 1000000, default = 20, doc = "where an adaptive limit begins" },
    least = { type = "integer", min = 1, max = 1000000, default = 4, doc = "lower bound of an adaptive limit" },
    most = { type = "integer", min = 1, max = 1000000, default = 1000, doc = "upper bound of an adaptive limit" },
    queue = { type = "integer", min = 0, max = 100000, default = 100, doc = "requests that may wait in a worker" },
    queue_ms = { type = "integer", min = 0, max = 600000, default = 0,
      doc = "for how long; 0: half of what a request takes when nothing waits" },
    priority = { type = "choice", values = { "critical", "high", "normal", "low" }, default = "normal",
      doc = "who waits in front, and who makes room in a full queue" },
    name = { type = "string", doc = "routes with the same name share one limit; else each has its own" },
  },
}
