--- What a failed test has started and not ended is ended, so that the next test does
-- not meet it: a pool that still holds its connections, a port, a lock.
-- A helper of busted (--helper): it lives as long as the whole run, whereas modules are
-- loaded anew for each file.
local busted = require "busted"

local before

local function process()
  return package.loaded["tests.support.process"]
end

busted.subscribe({ "test", "start" }, function()
  before = process() and process().running() or {}
  return nil, true
end)

busted.subscribe({ "test", "end" }, function(_, _, status)
  if status ~= "success" and process() then process().end_others(before) end
  return nil, true
end)
