--- Keys of rules/policies/compression.lua.

local CODINGS = { gzip = true, deflate = true, zstd = true, br = true }

local STEPS = 4

local function is_level(value, least, most)
  return type(value) == "number" and value == math.floor(value) and value >= least and value <= most
end

--- A level for all sizes, or one for each: { { level = 6, up_to = 32768 }, { level = 4 } }.
local function level(name, least, most, what)
  local function wrong(text, ...)
    return ("'%s' " .. text):format(name, ...)
  end
  local function check(value)
    if is_level(value, least, most) then return end
    if type(value) == "number" and value == math.floor(value) then return wrong("is from %d to %d, not %d", least, most, value) end
    if type(value) ~= "table" then return wrong("is a whole number from %d to %d, or a list of levels by size", least, most) end
    if #value == 0 or #value > STEPS then return wrong("lists one to %d levels, not %d", STEPS, #value) end
    local before = -1
    for i, step in ipairs(value) do
      if type(step) ~= "table" or not is_level(step.level, least, most) then
        return wrong("number %d is { level = %d to %d, up_to = bytes }", i, least, most)
      end
      for key in pairs(step) do
        if key ~= "level" and key ~= "up_to" then return wrong("number %d has 'level' and 'up_to', not '%s'", i, tostring(key)) end
      end
      if i == #value and step.up_to then return wrong("number %d is for all larger bodies and has no 'up_to'", i) end
      if i < #value and not (type(step.up_to) == "number" and step.up_to > before) then
        return wrong("number %d needs 'up_to', in bytes and more than that before it", i)
      end
      before = step.up_to
    end
  end
  return { type = "any", default = 1, check = check,
    doc = ("level of %s, or a list by size: { { level = 6, up_to = 32768 }, { level = 4 } }"):format(what) }
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
    gzip = level("gzip", 0, 12, "gzip"),
    deflate = level("deflate", 0, 12, "deflate"),
    zstd = level("zstd", -7, 19, "zstd"),
    br = level("br", 0, 11, "brotli"),
    cpu_high = { type = "number", min = 0, max = 1, default = 0.75, doc = "share of CPU from which on levels fall; 1: never" },
    cpu_full = { type = "number", min = 0, max = 1, default = 0.95, doc = "share of CPU at which they are lightest; 1: never, nor left as they are" },
    lag_full_ms = { type = "number", min = 0, max = 60000, default = 50,
      doc = "with the CPU full and the loop this late, answers go out as they are" },
    skip_set_cookie = { type = "boolean", default = false, doc = "leave answers that set a cookie" },
    skip_cross_site = { type = "boolean", default = true,
      doc = "leave answers to requests with credentials that another site made (BREACH)" },
    decode_requests = { type = "boolean", default = false,
      doc = "take the coding off request bodies: handlers and upstreams get them plain; other codings get 415" },
  },
}
