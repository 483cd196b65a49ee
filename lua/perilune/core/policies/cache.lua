--- Keys of rules/policies/cache.lua.
local name = "^[%w!#$%%&'*+.^_`|~-]+$"

local function names(what)
  return function(value)
    for _, one in pairs(value) do
      if not one:find(name) then return ("%s: '%s' is no name"):format(what, one) end
    end
    if #table.concat(value, ",") > 1000 then return what .. ": at most 1000 characters together" end
  end
end

return {
  fields = {
    mode = { type = "choice", values = { "off", "on" }, default = "off", doc = "on: answers of the route may be stored" },
    ttl = { type = "number", min = 0, max = 31536000, doc = "seconds an answer is fresh that does not say so itself; none without it" },
    force_ttl = { type = "number", min = 0, max = 31536000,
      doc = "seconds every answer is fresh, whatever it says; private, no-store and Set-Cookie still hold" },
    ttl_by_status = { type = "table", doc = "{ [404] = 10, [503] = 1 }: errors, too, for so many seconds",
      check = function(value)
        for status, ttl in pairs(value) do
          if type(status) ~= "number" or status < 200 or status > 599 or status % 1 ~= 0 then
            return ("'ttl_by_status' has statuses from 200 to 599 as keys, not %s"):format(tostring(status))
          end
          if type(ttl) ~= "number" or not (ttl >= 0 and ttl <= 31536000) then
            return ("'ttl_by_status[%d]' is seconds from 0 to 31536000, not %s"):format(status, tostring(ttl))
          end
        end
      end },
    stale_while_revalidate = { type = "number", min = 0, max = 31536000, default = 0,
      doc = "seconds behind its end that an answer is still served while a new one is fetched, if it does not say so itself" },
    stale_if_error = { type = "number", min = 0, max = 31536000, default = 0,
      doc = "seconds behind its end that an answer is served in place of an error of the origin" },
    heuristic = { type = "number", min = 0, max = 1, default = 0,
      doc = "share of the time since Last-Modified that an answer is fresh which says nothing; 0: off" },
    heuristic_max = { type = "number", min = 0, max = 31536000, default = 86400, doc = "at most so many seconds of it" },
    query = { type = "choice", values = { "all", "none", "keep", "ignore" }, default = "all",
      doc = "which parameters are part of the key; the others are hidden from the origin" },
    query_names = { type = "strings", doc = "for query = \"keep\" or \"ignore\"", check = function(value)
      for _, one in pairs(value) do
        if one:find("[,&=]") or one == "" then return ("'query_names': '%s' is no name of a parameter"):format(one) end
      end
      if #table.concat(value, ",") > 1000 then return "'query_names': at most 1000 characters together" end
    end },
    key_headers = { type = "strings", doc = "request headers that are part of the key", check = names "'key_headers'" },
    key_cookies = { type = "strings", doc = "cookies that are part of the key", check = names "'key_cookies'" },
    cookies = { type = "choice", values = { "bypass", "strip" }, default = "bypass",
      doc = "requests with other cookies pass the cache by, or lose their cookies" },
    tag_header = { type = "string", default = "surrogate-key", doc = "response header with tags to purge by; \"\" for none",
      check = function(value)
        if #value > 60 or value ~= "" and not value:find(name) then return "'tag_header' is the name of a header" end
        if value ~= value:lower() then return "'tag_header' is written in lower case" end
      end },
    max_object_bytes = { type = "integer", min = 0, max = 1073741824, default = 1048576, doc = "larger bodies are not stored" },
    collapse = { type = "number", min = 0, max = 3600, default = 5,
      doc = "seconds a request waits for another's fetch of the same key before it asks the origin itself; 0: never" },
    early = { type = "number", min = 0, max = 10, default = 0,
      doc = "fetch hot entries again before they end, with this weight on what a fetch takes (XFetch's beta; 1 is usual); 0: off" },
    heed_request = { type = "boolean", default = false,
      doc = "a client's Cache-Control and Pragma count; else a client cannot make the origin work" },
    status_header = { type = "boolean", default = true, doc = "tell what happened in Cache-Status (RFC 9211)" },
  },
}
