--- perilune replay: what an access log says, through the real command.
local files = require "tests.support.files"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

--- Exit code, stdout and stderr of a replay of `text`.
local function replay(text, ...)
  local args = { "replay", ... }
  local code, out, err
  loop.run(function()
    local folder = files.temporary("replay")
    files.write(folder .. "/access.log", text)
    args[#args + 1] = folder .. "/access.log"
    code, out, err = process.run { command = os.getenv("PERILUNE"), args = args, timeout_ms = 8000 }
    files.remove(folder)
  end)
  return code, out, err
end

local LINE = '1.2.3.4 - - [23/Nov/2026:10:%02d:%02d +0000] "GET /users/%d?q=1 HTTP/1.1" %d 512 "-" "curl"'

--- Twenty minutes with a request a second; of(second) gives seconds and status.
local function log(of)
  local lines = {}
  for second = 0, 1199 do
    local time, status = of(second)
    lines[#lines + 1] = (LINE .. " %.3f"):format(second / 60, second % 60, second, status or 200, time)
  end
  return table.concat(lines, "\n") .. "\n"
end

local function steady(second) return 0.030 + second * 7 % 11 / 1000 end

describe("replay", function()
  it("names a regression with its time", function()
    local code, out = replay(log(function(s) return steady(s) * (s >= 800 and 3 or 1) end))
    assert.equal(0, code)
    assert.truthy(out:find("2026-11-23T10:13:20.000Z: mean latency went from", 1, true), out)
    assert.truthy(out:find("/users/:id", 1, true), out)
  end)

  it("finds an error burst", function()
    local _, out = replay(log(function(s) return steady(s), s >= 400 and s < 460 and 502 or 200 end))
    assert.truthy(out:find("2026-11-23T10:06:40.000Z: share of 5xx went from 0.0 to 100.0 %", 1, true), out)
  end)

  it("raises nothing on a steady log", function()
    local code, out = replay(log(steady))
    assert.equal(0, code)
    assert.falsy(out:find("went from", 1, true), out)
  end)

  it("counts and shows bad lines, garbage and lines above 64 KiB, and goes on", function()
    local good = LINE:format(0, 0, 1, 200)
    local code, out, err = replay(good .. "\n\0\255\27[2J\n" .. ("x"):rep(200000) .. "\n" .. good .. "\n" .. good:sub(1, 40))
    assert.equal(0, code)
    assert.truthy(out:find("5 lines, 3 of them bad", 1, true), out)
    assert.truthy(out:find("no request time", 1, true), out)
    assert.falsy(err:find("\27", 1, true))
  end)

  it("ends with 4 and a caret when no format fits", function()
    local code, _, err = replay("1.2.3.4 - x {\n")
    assert.equal(4, code)
    assert.truthy(err:find("1.2.3.4 - x {\n             ^", 1, true), err)
  end)

  it("reads what --log-format describes, and refuses what cannot work", function()
    local text = '200|23/Nov/2026:10:00:00 +0000|POST /a HTTP/1.1|0.25\n'
    local code, out = replay(text, "--log-format", "$status|$time_local|$request|$request_time")
    assert.equal(0, code)
    assert.truthy(out:find("1 lines, 0 of them bad", 1, true), out)
    assert.equal(2, (replay(text, "--log-format", "$status$request")))
  end)

  it("judges by --fail-on", function()
    local text = log(steady)
    assert.equal(0, (replay(text, "--fail-on", "p99>250ms")))
    local code, _, err = replay(text, "--fail-on", "p50>10ms")
    assert.equal(3, code)
    assert.truthy(err:find("failed: p50>10ms", 1, true), err)
    assert.equal(2, (replay(text, "--fail-on", "p99")))
  end)

  it("reports an empty log as such", function()
    local code, out = replay("")
    assert.equal(0, code)
    assert.truthy(out:find("the log is empty", 1, true), out)
  end)
end)
