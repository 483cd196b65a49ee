--- Keys of rules/policies/compression.lua.

local CODINGS = { gzip = true, deflate = true, zstd = true, br = true }

local function level(least, most, what)
  return { type = "integer", min = least, max = most, default = 1, doc = "level of " .. what }
end

return {
  fields = {
    enabled = { type = "boolean", default = true, doc = "false: answers go out as they are" },
    types = { type = "strings", doc = "media types: whole (\"text/html\"), all of a kind (\"text/\"), all with a suffix (\"+json\")",
      default = {
        "text/", "application/json", "+json", "application/javascript", "application/xml", "+xml", "application/wasm",
        "application/x-ndjson",
      } },
    min_bytes = { type = "integer", min = 0, max = 1073741824, doc = "smaller bodies stay; the setting compression.min_bytes without it" },
    order = { type = "strings", default = { "zstd", "br", "gzip", "deflate" }, doc = "which coding of those the client likes equally well",
      check = function(list)
        for _, name in ipairs(list) do
          if not CODINGS[name] then return ("'order' holds gzip, deflate, zstd and br, not '%s'"):format(name) end
        end
      end },
    gzip = level(0, 12, "gzip"),
    deflate = level(0, 12, "deflate"),
    zstd = level(-7, 19, "zstd"),
    br = level(0, 11, "brotli"),
    cpu_high = { type = "number", min = 0, max = 1, default = 0.75, doc = "share of CPU from which on levels fall; 1: never" },
    cpu_full = { type = "number", min = 0, max = 1, default = 0.95, doc = "share of CPU at which they are lightest; 1: never, nor left as they are" },
    lag_full_ms = { type = "number", min = 0, max = 60000, default = 50,
      doc = "with the CPU full and the loop this late, answers go out as they are" },
    skip_set_cookie = { type = "boolean", default = false, doc = "leave answers that set a cookie" },
    skip_cross_site = { type = "boolean", default = true,
      doc = "leave answers to requests with credentials that another site made (BREACH)" },
  },
}
