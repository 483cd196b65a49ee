--- What a span costs from interpreted Lua, an idle engine's memory, and compressing: prints one JSON object.
jit.off()
local perilune = require "perilune"
-- What is the process's own, and pages of files: code, which is shared, and of which the kernel maps more or less around each that is used.
local function memory()
  local kib = {}
  for line in io.lines "/proc/self/status" do
    local name, value = line:match "^(Rss%a+):%s+(%d+)"
    if name then kib[name] = tonumber(value) end
  end
  return kib.RssAnon + kib.RssShmem, kib.RssFile
end
local own, mapped = memory()
local engine = assert(perilune.new {})
local own_after, mapped_after = memory()
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
print(perilune.json.encode { idle_kib = own_after - own, mapped_kib = mapped_after - mapped, span_ns = span_ns, compress_us = out, body_bytes = #body })
