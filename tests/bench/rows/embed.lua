--- The library in other programs: what a span costs, what an idle engine takes, and nginx + Lua with our log handler beside the same without.
local SLICES = 3 -- more rounds than elsewhere: the difference looked for is small

return function(bench)
  local servers, library = bench.servers, bench.build .. "/release/lua"
  local function lua() return servers.capture(("LUA_PATH=';;' LUA_CPATH='%s/?.so;;' luajit tests/bench/spans.lua"):format(library)) end
  local c, spans, idle, mapped, compress = {}, {}, {}, {}, {}
  for round = 1, bench.rounds do
    c[round] = tonumber(servers.capture(bench.build .. "/release/tests/bench/spans"))
    local text = lua()
    spans[round], idle[round], mapped[round] = tonumber(text:match '"span_ns":([%d.]+)'), tonumber(text:match '"idle_kib":([%d.]+)'), tonumber(text:match '"mapped_kib":([%d.]+)')
    for coding, us in text:match('"compress_us":(%b{})'):gmatch '"(%a+)":([%d.]+)' do
      compress[coding] = compress[coding] or {}
      compress[coding][round] = tonumber(us)
    end
  end
  bench.columns("in another program", "measured")
  bench.say("| a span from C: begin, a phase, end | %.0f ns |", bench.median(c))
  bench.say("| a span from interpreted Lua: start, phase, finish | %.0f ns |", bench.median(spans))
  bench.say("| an idle engine, over the loaded library | %.0f KiB, and %.0f of code that is mapped |", bench.median(idle), bench.median(mapped))
  for _, coding in ipairs { "gzip", "zstd", "br" } do bench.say("| perilune.compress of 15 KB JSON, %s | %.0f us |", coding, bench.median(compress[coding])) end

  local content = "content_by_lua_block { ngx.header.content_type = 'text/plain' ngx.say('hello') }"
  local server = "server { listen 127.0.0.1:PORT; location / { " .. content .. " } }"
  local engine = servers.engine("embed", "")
  local socket = engine.state .. "/perilune.sock"
  local with = servers.nginx_lua("with log", ([[init_worker_by_lua_block { require("perilune").nginx.init_worker "%s" }
    log_by_lua_block { require("perilune").nginx.log() } ]]):format(socket) .. server)
  local without = servers.nginx_lua("without", server)
  local rates, cpus = {}, {}
  for round = 1, bench.rounds * SLICES do
    local first, second = with, without
    if round % 2 == 0 then first, second = without, with end
    local a, a_us = bench.measure(first, "/hello")
    local b, b_us = bench.measure(second, "/hello")
    if round % 2 == 0 then a, b, a_us, b_us = b, a, b_us, a_us end
    rates[round], cpus[round] = a / b, b_us / a_us
  end
  bench.say("| nginx + Lua with our log handler, throughput of the same without | %.3f |", bench.median(rates))
  bench.say("| the same in CPU time a request | %.3f |", bench.median(cpus))
end
