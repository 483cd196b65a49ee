--- One primary-key select: pgbench as a bare client, ours over HTTP and inside
-- one worker, and a pool with ten times more requests than connections beside
-- pgbouncer. All on one PostgreSQL in a temporary folder, interleaved, medians of rates.
local BIN = "/usr/lib/postgresql/15/bin/"

local ROUTES = [[
local p = require "perilune"
local db = p.postgres("main")
local app = p.app()
local random = math.random
local SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1"
app:get("/one", function() return 200, tostring(db:one(SELECT, random(1, 1000000)).abalance) end)
app:get("/many", function()
  for _ = 1, 200 do assert(db:one(SELECT, random(1, 1000000))) end
  return 200
end)
app:get("/reads", function()
  for _ = 1, 200 do assert(db:read_one(SELECT, random(1, 1000000))) end
  return 200
end)
return app
]]

local BOUNCER = [[
[databases]
postgres = host=%s port=%d dbname=postgres user=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 1000
logfile = %s/log
pidfile = %s/pid
]]

return function(bench)
  local servers = bench.servers
  local home = servers.folder .. "/pg"
  local as = servers.capture "id -u":match "^0" and "setpriv --reuid=postgres --regid=postgres --clear-groups -- " or ""
  local port = servers.free_port()
  local function sh(command)
    local text = servers.capture(("cd / && { %s; } 2>&1; echo \"code $?\""):format(command))
    assert(text:match "code 0%s*$", command .. ":\n" .. text)
    return text
  end
  sh(("chmod 755 %s && mkdir -m 777 %s"):format(servers.folder, home))
  sh(("%s%sinitdb -D %s/data -U app --auth=trust --no-sync --locale=C -E UTF8"):format(as, BIN, home))
  local server = servers.start(("exec %s%spostgres -D %s/data -p %d -k %s -c listen_addresses=127.0.0.1 -c fsync=off -c autovacuum=off -c shared_buffers=256MB")
    :format(as, BIN, home, port, home))
  sh(("until %spg_isready -q -h %s -p %d; do sleep 0.05; done"):format(BIN, home, port))
  sh(("%spgbench -i -s 10 -q -h %s -p %d -U app postgres"):format(BIN, home, port))

  local function pgbench(clients, mode, where)
    return function()
      sh("rm -f " .. home .. "/latency.*")
      local text = sh(("%spgbench -n -S -M %s -c %d -j 1 -T %d -l --log-prefix=%s/latency -h 127.0.0.1 -p %d -U app postgres"):format(
        BIN, mode, clients, bench.seconds, home, where))
      local p99 = servers.capture(("awk '{ print $3 }' %s/latency.* | sort -n | awk '{ a[NR] = $1 } END { print a[int(NR * 0.99)] }'"):format(home))
      return tonumber(text:match "tps = ([%d.]+)"), tonumber(p99) / 1000
    end
  end

  local function engine_of(max, path)
    local folder = ("%s/pg-%d%s"):format(servers.folder, max, path:gsub("/", "-"))
    sh(("mkdir -p %s/rules/routes"):format(folder))
    servers.write(folder .. "/rules/routes/app.lua", ROUTES)
    servers.write(folder .. "/perilune.lua", ("return { postgres = { main = { dsn = 'host=127.0.0.1 port=%d dbname=postgres user=app', min = %d, max = %d } } }")
      :format(port, max, max))
    return servers.engine("pg-state-" .. max .. path:gsub("/", "-"), ("--config %s/perilune.lua --rules %s/rules"):format(folder, folder))
  end

  local function ours(max, path, connections, times)
    local engine = engine_of(max, path)
    return function()
      local text = servers.capture(("wrk -t1 -c%d -d%ds --timeout 10s --latency http://%s%s"):format(connections, bench.seconds, engine.address, path))
      local rate = tonumber(text:match "Requests/sec:%s+([%d.]+)")
      assert(rate and not text:match "Non%-2xx" and not text:match "Socket errors", text)
      local p99, unit = text:match "99%%%s+([%d.]+)(%a+)"
      return rate * (times or 1), times and 0 or tonumber(p99) * ({ us = 0.001, ms = 1, s = 1000 })[unit]
    end
  end

  -- wrk takes so much of the two cores that its percentiles are its own; this one takes less.
  local function ours_by_bench(max, path, connections)
    local engine = engine_of(max, path)
    return function()
      local text = servers.capture(("%s/release/perilune bench http://%s%s --connections %d --duration %d --warmup 0.2 -o json"):format(bench.build, engine.address, path,
        connections, bench.seconds))
      assert(text:match '"unexpected": 0,' and text:match '"broken": 0,', text)
      return tonumber(text:match '"requests_per_second": {"median": ([%d.]+)'), tonumber(text:match '"response_ms": {.-"p99": ([%d.]+)')
    end
  end

  local function compare(title, list)
    local results = {}
    for i = 1, #list do results[i] = { rate = {}, p99 = {} } end
    for round = 1, bench.rounds do
      for i = 1, #list do
        local which = (i + round) % #list + 1
        results[which].rate[round], results[which].p99[round] = list[which].run()
      end
    end
    local base = bench.median(results[#list].rate)
    for i, one in ipairs(list) do
      local rate, p99 = bench.median(results[i].rate), bench.median(results[i].p99)
      bench.say("| %s | %s | %.0f | %s | %s |", i == 1 and title or "", one.name, rate, p99 > 0 and ("%.1f"):format(p99) or "-",
        i == #list and "" or ("%.2fx"):format(rate / base))
    end
  end

  bench.columns("work", "client", "selects/s", "p99 ms", "of the last")
  local bare = pgbench(8, "prepared", port)
  compare("one primary-key select", {
    { name = "perilune, route over HTTP, 64 clients", run = ours(4, "/one", 64) },
    { name = "perilune, in one worker, a Sync each", run = ours(4, "/many", 32, 200) },
    { name = "perilune, in one worker, declared read-only", run = ours(2, "/reads", 32, 200) },
    { name = "pgbench -S -M prepared -c 8", run = bare },
  })
  local bouncer_port = servers.free_port()
  local bouncer = home .. "/bouncer"
  sh(("mkdir -m 777 %s"):format(bouncer))
  servers.write(bouncer .. "/ini", BOUNCER:format(home, port, bouncer_port, bouncer, bouncer))
  local peers = bench.build .. "/deps/peers"
  servers.start(("LD_LIBRARY_PATH=%s/libevent-2.1-7/usr/lib/x86_64-linux-gnu exec %s%s/pgbouncer/usr/sbin/pgbouncer -q %s/ini"):format(peers, as, peers, bouncer))
  sh(("until %spg_isready -q -h 127.0.0.1 -p %d; do sleep 0.05; done"):format(BIN, bouncer_port))
  compare("8 connections, 80 requests at once", {
    { name = "perilune, route over HTTP, asked by wrk", run = ours(8, "/one", 80) },
    { name = "perilune, route over HTTP, asked by perilune bench", run = ours_by_bench(8, "/one", 80) },
    { name = "pgbench -M extended > pgbouncer, transaction mode", run = pgbench(80, "extended", bouncer_port) },
  })
  servers.capture(("kill -INT %d"):format(server))
end
