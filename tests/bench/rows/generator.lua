--- Our load generator beside wrk: requests a CPU second of the generator itself, at the same server, interleaved.
local CONNECTIONS = 32

return function(bench)
  local servers = bench.servers
  local address = servers.nginx("constant", "server { listen 127.0.0.1:PORT; location / { return 200 'hello'; } }").address
  local target = ("http://%s/hello"):format(address)
  local function ours()
    local text = servers.capture(("%s/release/perilune bench %s --connections %d --duration %d --warmup 0 -o json"):format(bench.build, target, CONNECTIONS, bench.seconds))
    return tonumber(text:match '"answered": (%d+)') / tonumber(text:match '"cpu_s": ([%d.]+)')
  end
  local function wrk()
    local text = servers.capture(("bash -c 'TIMEFORMAT=\"cpu %%U %%S\"; time wrk -t1 -c%d -d%d %s' 2>&1"):format(CONNECTIONS, bench.seconds, target))
    local user, system = text:match "cpu ([%d.]+) ([%d.]+)"
    return tonumber(text:match "(%d+) requests in") / (tonumber(user) + tonumber(system))
  end
  local own, other, ratio = {}, {}, {}
  for round = 1, bench.rounds do
    if round % 2 == 0 then own[round], other[round] = ours(), wrk() else other[round], own[round] = wrk(), ours() end
    ratio[round] = own[round] / other[round]
  end
  bench.columns("load generator, requests a CPU second of its own", "perilune bench", "wrk", "ratio")
  bench.say("| closed loop, %d connections | %.0f | %.0f | %.2f |", CONNECTIONS, bench.median(own), bench.median(other), bench.median(ratio))
end
