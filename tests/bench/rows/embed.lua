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
  local handlers = {
    with = ([[init_worker_by_lua_block { require("perilune").nginx.init_worker "%s" }
    log_by_lua_block { require("perilune").nginx.log() } ]]):format(socket),
    empty = "log_by_lua_block { } ", -- what nginx itself takes to call one
  }
  local without = servers.nginx_lua("without", server)
  for name, lines in pairs(handlers) do handlers[name] = servers.nginx_lua(name, lines .. server) end
  local rates, cpus = { with = {}, empty = {} }, { with = {}, empty = {} }
  for round = 1, bench.rounds * SLICES do
    local reference, reference_us
    local function plain() reference, reference_us = bench.measure(without, "/hello") end
    if round % 2 == 1 then plain() end
    local got = {}
    for name, one in pairs(handlers) do got[name] = { bench.measure(one, "/hello") } end
    if round % 2 == 0 then plain() end
    for name, one in pairs(got) do rates[name][round], cpus[name][round] = one[1] / reference, reference_us / one[2] end
  end
  for name, title in pairs { with = "our log handler", empty = "a log handler that does nothing" } do
    bench.say("| nginx + Lua with %s, throughput of the same without | %.3f |", title, bench.median(rates[name]))
    bench.say("| the same in CPU time a request | %.3f |", bench.median(cpus[name]))
  end
end
