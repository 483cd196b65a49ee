--- A Lua route that answers a short string, pipelined, and one that answers JSON.
local work = require "tests.bench.work"

local PIPELINE = [[
init = function(args)
  local one = wrk.format("GET", "/hello")
  local all = {}
  for i = 1, 16 do all[i] = one end
  request = function() return table.concat(all) end
end
request = function() end]]

return function(bench)
  local servers = bench.servers
  local route, constant, scripted, service = work.route(bench), work.constant(bench), work.nginx_lua(bench), work.haproxy_lua(bench)
  servers.write(servers.folder .. "/pipeline.lua", PIPELINE)
  bench.columns(unpack(bench.header))
  bench.compare("Lua route, short string, 64 connections", "/hello", { route, constant, scripted, service })
  bench.compare("the same, 16 requests pipelined", "/hello", { route, constant, scripted }, servers.folder .. "/pipeline.lua")
  bench.compare("Lua route, path parameter, 2 headers, JSON of 10 fields", "/users/42", { route, scripted })
end
