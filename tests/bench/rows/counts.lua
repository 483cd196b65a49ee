--- What does not depend on the machine's mood: user instructions (callgrind)
--- and system calls (strace) a request, and what measuring costs.
local work = require "tests.bench.work"

--- Requests that wrk says were answered in so many seconds.
local function load(bench, server, path, seconds)
  local text = bench.servers.capture(("wrk -t1 -c64 -d%ds http://%s%s"):format(seconds, server.address, path))
  assert(not text:find "Non%-2xx" and not text:find "Socket errors", text)
  return tonumber(text:match "(%d+) requests in")
end

--- Instructions that the workers of a server spend from start to end, and requests.
local function instructions(bench, start, path, seconds)
  local servers = bench.servers
  local prefix = servers.folder .. "/callgrind"
  os.execute(("rm -f %s.*"):format(prefix))
  local server = start(("exec valgrind -q --tool=callgrind --trace-children=yes --callgrind-out-file=%s.%%p"):format(prefix))
  local pids = servers.workers(server)
  local requests = load(bench, server, path, seconds)
  servers.stop_all()
  local total = 0
  for _, pid in ipairs(pids) do
    total = total + tonumber(servers.capture(("grep -h '^summary:' %s.%d"):format(prefix, pid)):match "%d+")
  end
  return total, requests
end

--- Two runs that differ only in how many requests they serve.
local function instructions_a_request(bench, start, path)
  local less, few = instructions(bench, start, path, 2)
  local more, many = instructions(bench, start, path, 8)
  return (more - less) / (many - few)
end

local function calls_a_request(bench, server, path)
  local servers = bench.servers
  local log, pid = servers.folder .. "/strace", servers.workers(server)[1]
  load(bench, server, path, 1)
  local tracer = servers.capture(("strace -c -f -o %s -p %d >/dev/null 2>&1 & echo $!"):format(log, pid))
  servers.capture(("for i in $(seq 200); do grep -q '^TracerPid:.*[1-9]' /proc/%d/status && break; sleep 0.02; done"):format(pid))
  local requests = load(bench, server, path, 2)
  servers.capture(("kill -INT %d; tail --pid=%d -f /dev/null"):format(tracer, tracer))
  for line in io.lines(log) do
    local calls = line:match "^%s*100%.00%s+%S+%s+%S+%s+(%d+)" or line:match "^%s*100%.00%s+%S+%s+(%d+)"
    if calls then return tonumber(calls) / requests end
  end
  error("strace said nothing: " .. servers.capture("cat " .. log), 0)
end

local function build_bare(bench)
  return bench.build .. "/bare/perilune"
end

return function(bench)
  local servers = bench.servers
  local slow = " --set worker.hang_ms=60000 --set script.cpu_ms=10000 --set script.load_ms=60000"
  local bare = build_bare(bench)
  bench.columns("user instructions a request (callgrind), Lua route, 64 connections", "instructions")
  for _, one in ipairs {
    { "perilune", function(prefix) return work.route(bench, nil, prefix, slow) end },
    { "perilune, measuring compiled out", function(prefix) return work.route(bench, bare, prefix, slow) end },
    { "nginx return 200", function(prefix) return work.constant(bench, prefix) end },
    { "nginx + Lua", function(prefix) return work.nginx_lua(bench, prefix) end },
  } do
    bench.say("| %s | %.0f |", one[1], instructions_a_request(bench, one[2], "/hello"))
  end

  bench.columns("system calls a request", "calls")
  local route = work.route(bench)
  local proxies = work.proxies(bench, route)
  bench.say("| perilune, Lua route | %.2f |", calls_a_request(bench, route, "/hello"))
  bench.say("| nginx return 200 | %.2f |", calls_a_request(bench, work.constant(bench), "/hello"))
  for _, proxy in ipairs(proxies) do
    bench.say("| %s, proxied | %.2f |", proxy == proxies[1] and "perilune" or proxy.name, calls_a_request(bench, proxy, "/hello"))
  end
  servers.stop_all()

  bench.columns(unpack(bench.header))
  local without = work.route(bench, bare)
  without.name = "the same, measuring compiled out"
  bench.compare("cost of measuring", "/hello", { work.route(bench), without }, nil, 4) -- a small difference takes many rounds
end
