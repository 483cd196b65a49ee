--- What a span costs from interpreted Lua, an idle engine's memory, and compressing: prints one JSON object.
jit.off()
local perilune = require "perilune"
local function rss()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmRSS:%s+(%d+)"
    if kib then return tonumber(kib) end
  end
end
local before = rss()
local engine = assert(perilune.new {})
local idle = rss() - before
local SPANS = 1000000
local began = os.clock()
for _ = 1, SPANS do
  local span = engine:start("GET", "/users/:id")
  span:phase("db", 1)
  span:finish(200, 100)
end
local span_ns = (os.clock() - began) / SPANS * 1e9
local body = {}
for i = 1, 400 do body[i] = ('{"id":%d,"name":"user %d","total":%d}'):format(i, i, i * 7919 % 1000) end
body = table.concat(body, ",")
local out = {}
for _, coding in ipairs { "gzip", "zstd", "br" } do
  perilune.compress(body, { coding = coding })
  began = os.clock()
  for _ = 1, 300 do perilune.compress(body, { coding = coding }) end
  out[coding] = (os.clock() - began) / 300 * 1e6
end
print(perilune.json.encode { idle_kib = idle, span_ns = span_ns, compress_us = out, body_bytes = #body })
