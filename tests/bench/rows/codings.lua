--- Size against CPU time of every coding and level, on the JSON of the compression row.
local work = require "tests.bench.work"

return function(bench)
  local servers = bench.servers
  local sizes = { 10000, 100000 }
  local files = {}
  for i, bytes in ipairs(sizes) do
    files[i] = ("%s/json-%d"):format(servers.folder, bytes)
    servers.write(files[i], work.json(bytes))
  end
  local order, by_name = {}, {}
  for line in servers.capture(bench.build .. "/release/tests/bench/codings " .. table.concat(files, " ")):gmatch "[^\n]+" do
    local coding, level, file, bytes, us = line:match "^(%S+) (%S+) (%S+) (%S+) (%S+)$"
    local name = coding .. " " .. level
    if not by_name[name] then
      by_name[name] = {}
      order[#order + 1] = name
    end
    by_name[name][file] = { bytes = tonumber(bytes), us = tonumber(us) }
  end
  bench.columns("coding and level", "10 KB: bytes", "us", "x zlib 6 in speed", "100 KB: bytes", "us", "x zlib 6 in speed")
  local reference = by_name["zlib 6"]
  for _, name in ipairs(order) do
    local cells = {}
    for _, file in ipairs(files) do
      local r = by_name[name][file]
      cells[#cells + 1] = ("%d | %.1f | %.1f"):format(r.bytes, r.us, reference[file].us / r.us)
    end
    bench.say("| %s | %s |", name, table.concat(cells, " | "))
  end
end
