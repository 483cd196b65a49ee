--- Compressing JSON: ours by policy, nginx by its gzip module, the same bytes in. Ours may not get
--- lighter here, however busy the machine is: every answer has its level.
local work = require "tests.bench.work"

local ROUTES = [[
local app = require("perilune").app()
JSON_FUNCTION
local TYPE = { ["Content-Type"] = "application/json" }
local small, large = json(10000), json(100000)
app:get("/hello", function() return "hello" end)
app:get("/10k", function() return 200, small, TYPE end)
app:get("/100k", function() return 200, large, TYPE end)
return app
]]
ROUTES = ROUTES:gsub("JSON_FUNCTION", function() return work.JSON end)

return function(bench)
  local servers = bench.servers
  local function ours(name, policy)
    local folder = servers.folder .. "/" .. name:gsub("%W", "-")
    os.execute(("mkdir -p %s/routes %s/policies"):format(folder, folder))
    servers.write(folder .. "/routes/app.lua", ROUTES)
    servers.write(folder .. "/policies/compression.lua", policy)
    local server = servers.engine(name:gsub("%W", "-"), "--set tasks.max=1000 --rules " .. folder)
    server.name = "perilune, " .. name
    return server
  end
  local plain = ours("plain", "return { enabled = false }")
  local files = servers.folder .. "/files"
  os.execute("mkdir -p " .. files)
  for _, path in ipairs { "hello", "10k", "100k" } do
    os.execute(("curl -s -o %s/%s http://%s/%s"):format(files, path, plain.address, path))
  end
  local function nginx(level)
    return servers.nginx("nginx gzip " .. level, ([[server { listen 127.0.0.1:PORT; root %s; default_type application/json;
      gzip on; gzip_comp_level %d; gzip_types application/json; gzip_min_length 100; open_file_cache max=10; }]]):format(files, level))
  end
  local light, dense, zstd = ours("default", "return { cpu_high = 1, cpu_full = 1 }"), ours("gzip 6", "return { gzip = 6, cpu_high = 1, cpu_full = 1 }"), ours("zstd 1", "return { zstd = 1, cpu_high = 1, cpu_full = 1 }")
  local one, six = nginx(1), nginx(6)
  for _, coding in ipairs { "gzip", "zstd" } do
    servers.write(servers.folder .. "/" .. coding .. ".lua", ('wrk.headers["Accept-Encoding"] = "%s"'):format(coding))
  end
  local function row(title, path, list)
    local results = {}
    for i = 1, #list do results[i] = { bytes = {} } end
    for round = 1, bench.rounds do
      for i = 1, #list do
        local which = (i + round) % #list + 1
        local r = results[which]
        local _
        _, r[round], _, r.bytes[round] = bench.measure(list[which][1], path, servers.folder .. "/" .. list[which][2] .. ".lua")
      end
    end
    local own_us, own_bytes = bench.median(results[1]), bench.median(results[1].bytes)
    for i, one_of in ipairs(list) do
      local us, bytes = bench.median(results[i]), bench.median(results[i].bytes)
      bench.say("| %s | %s | %d | %.1f (%.1f to %.1f) | %s | %s |", i == 1 and title or "", one_of[1].name, bytes, us, results[i][1],
        results[i][#results[i]], i == 1 and "" or ("%.2fx"):format(us / own_us), i == 1 and "" or ("%+.1f %%"):format((own_bytes / bytes - 1) * 100))
    end
  end
  bench.columns("compressing JSON", "server", "bytes a request as sent under this load", "us CPU a request (spread)", "ours is, in requests a CPU second", "our bytes")
  for _, path in ipairs { "/10k", "/100k" } do
    row(path:sub(2) .. " gzip, default policy", path, { { light, "gzip" }, { one, "gzip" } })
    row(path:sub(2) .. " gzip, denser policy", path, { { dense, "gzip" }, { six, "gzip" } })
    row(path:sub(2) .. " zstd 1", path, { { zstd, "zstd" }, { six, "gzip" } })
  end
end
