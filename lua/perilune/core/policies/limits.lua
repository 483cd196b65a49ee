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
    name = { type = "string", doc = "routes with the same name share one limit; else each has its own" },
  },
}
