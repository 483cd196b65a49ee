--- User memory of 10,000 idle keep-alive connections, each of which has had an answer.
local work = require "tests.bench.work"

local CONNECTIONS = 10000

local CLIENT = [[
local uv = require "luv"
local port, wanted = tonumber(arg[1]), tonumber(arg[2])
local begun, answered, held = 0, 0, {}
local function open()
  if begun == wanted then return end
  begun = begun + 1
  local tcp = uv.new_tcp()
  held[begun] = tcp
  tcp:connect("127.0.0.1", port, function(err)
    assert(not err, err)
    tcp:write "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    tcp:read_start(function(failed, chunk)
      assert(not failed and chunk and chunk:find("200", 1, true), failed or "no answer")
      tcp:read_stop()
      answered = answered + 1
      if answered == wanted then io.stdout:write "ready\n" io.stdout:flush() end
      open()
    end)
  end)
end
for _ = 1, 50 do open() end
uv.run()
]]

local function private_dirty(bench, pid)
  local total = 0
  for kb in bench.servers.capture(("cat /proc/%d/smaps_rollup $(pgrep -P %d | sed 's#.*#/proc/&/smaps_rollup#')"):format(pid, pid))
    :gmatch "Private_Dirty:%s+(%d+) kB" do total = total + tonumber(kb) * 1024 end
  return total
end

return function(bench)
  local servers = bench.servers
  servers.write(servers.folder .. "/idle.lua", CLIENT)
  local function measure(server)
    for _ = 1, 3 do servers.capture(("h2load --h1 -c 10 -n 1000 http://%s/hello"):format(server.address)) end
    local before = private_dirty(bench, server.pid)
    local client = io.popen(("echo $$; exec luajit %s/idle.lua %s %d 2>&1"):format(servers.folder, server.address:match "%d+$", CONNECTIONS))
    local pid, word = client:read "*l", client:read "*l"
    assert(word == "ready", word)
    local bytes = (private_dirty(bench, server.pid) - before) / CONNECTIONS
    os.execute("kill " .. pid)
    client:close()
    return bytes
  end
  bench.columns("10,000 idle keep-alive connections", "bytes of user memory each, as it grew", "and what was set aside for it before")
  local slots = work.constant(bench)
  bench.say("| perilune | %.0f | 0 |", measure(work.route(bench)))
  bench.say("| nginx | %.0f | 424 (a slot of worker_connections) |", measure(slots))
  bench.say("| HAProxy | %.0f | |", measure(work.haproxy_lua(bench)))
end
