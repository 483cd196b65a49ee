--- A helper of busted (--helper): it lives as long as the whole run, whereas modules are loaded anew for each file.
--
-- What a failed test has started and not ended is ended, so that the next test does not meet it: a pool that still holds
-- its connections, a port, a lock. And at the end it tells which files took longest, for who wants the suite to be faster.
local busted = require "busted"

local SHOWN = 12

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

local files, began = {}, nil

busted.subscribe({ "file", "start" }, function()
  began = busted.monotime()
  return nil, true
end)

busted.subscribe({ "file", "end" }, function(file)
  files[#files + 1] = { name = tostring(file.name), seconds = busted.monotime() - began }
  return nil, true
end)

busted.subscribe({ "suite", "end" }, function()
  table.sort(files, function(a, b) return a.seconds > b.seconds end)
  for i = 1, #files > 1 and math.min(SHOWN, #files) or 0 do
    print(("%s%4.0f s  %s"):format(i == 1 and "\nlongest: " or "         ", files[i].seconds, files[i].name))
  end
  return nil, true
end)
