--- Reverse proxies before the same origin.
local work = require "tests.bench.work"

return function(bench)
  local proxies = work.proxies(bench, work.route(bench))
  bench.columns(unpack(bench.header))
  bench.compare("reverse proxy, 1 KB", "/1k", proxies)
  bench.compare("reverse proxy, 64 KB", "/64k", proxies)
end
