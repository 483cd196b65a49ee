--- The task pool beside libuv's own pool: tests/bench/tasks.c, both in one process by turns.
local THREADS = 2

return function(bench)
  local text = bench.servers.capture(("%s/release/tests/bench/tasks %d %d"):format(bench.build, THREADS, bench.rounds))
  local values = {}
  for who, what, value in text:gmatch "(%l+) (%l+) ([%d.]+)" do
    local key = who .. " " .. what
    values[key] = values[key] or {}
    table.insert(values[key], tonumber(value))
  end
  local function quantile(key, q)
    table.sort(values[key])
    return values[key][math.max(1, math.ceil(#values[key] * q))]
  end
  bench.columns("task threads", "measure", "ours", "libuv's pool", "ours is")
  local ours, libuv = bench.median(values["ours throughput"]), bench.median(values["libuv throughput"])
  bench.say("| %d | tasks of 10 us, a second | %.0f | %.0f | %.2fx |", THREADS, ours, libuv, ours / libuv)
  for _, q in ipairs { 0.5, 0.99 } do
    local a, b = quantile("ours start", q), quantile("libuv start", q)
    bench.say("| %d | critical task behind 200 of 100 us starts after, p%d | %.1f us | %.1f us | %.0fx sooner |", THREADS, q * 100, a, b, b / a)
  end
end
