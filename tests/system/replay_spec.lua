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

  it("shows no times of a log that has none", function()
    local text = LINE:format(0, 0, 1, 200) .. "\n"
    local _, out = replay(text)
    assert.matches("1 +100.0%% +%- +%- +%- +0.00 +GET /users/:id", out)
    _, out = replay(text, "--report", "md")
    assert.matches("| +1 | +100.0%% | +%- | +%- | +%- | +0.00 |", out)
    _, out = replay(text, "--report", "html")
    assert.matches("<td>100.0 %%<td>%-<td>%-<td>%-<td>0.00<td>", out)
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

  it("judges several limits, also of one route", function()
    local text = log(steady)
    local code, _, err = replay(text, "--fail-on", "GET /users/:id p95>10ms", "--fail-on", "errors>1%")
    assert.equal(3, code)
    assert.truthy(err:find("failed: GET /users/:id p95>10ms", 1, true), err)
    assert.falsy(err:find("errors>1%", 1, true), err)
    assert.equal(0, (replay(text, "--fail-on", "GET /users/:id p95>100ms", "--fail-on", "errors>1%")))
    code, _, err = replay(text, "--fail-on", "GET /nowhere p95>100ms")
    assert.equal(3, code)
    assert.truthy(err:find("no such route", 1, true), err)
  end)

  it("finds the format by name, and says which there are", function()
    local text = LINE:format(0, 0, 1, 200) .. "\n"
    local code, out = replay(text, "--format", "combined")
    assert.equal(0, code)
    assert.truthy(out:find("why: --format says so", 1, true), out)
    local _, _, err = replay(text, "--format", "combine")
    assert.truthy(err:find("'combine' is not known", 1, true), err)
    _, out = replay(text, "--format", "list")
    for _, name in ipairs { "caddy", "traefik", "envoy", "haproxy", "haproxy-json", "nginx-json", "ltsv", "alb", "combined-us" } do
      assert.truthy(out:find("%f[%w-]" .. name:gsub("%-", "%%-") .. " "), name)
    end
  end)

  it("guesses from a later line when the first ones are garbage", function()
    local code, out = replay("started\nready {\n" .. LINE:format(0, 0, 1, 200) .. "\n")
    assert.equal(0, code)
    assert.truthy(out:find("3 lines, 2 of them bad", 1, true), out)
    assert.truthy(out:find("why: line 3 reads as", 1, true), out)
    assert.equal(4, (replay(("nothing\n"):rep(50))))
  end)

  it("is not led astray by lines out of order and clocks that jump", function()
    local lines = {}
    for line in log(steady):gmatch "[^\n]+" do lines[#lines + 1] = line end
    for i = 1, #lines - 20, 20 do lines[i], lines[i + 19] = lines[i + 19], lines[i] end
    for i = 1, 10 do
      table.insert(lines, i * 100, (lines[i]:gsub("23/Nov/2026", i % 2 == 0 and "01/Jan/1970" or "31/Dec/9999")))
    end
    table.insert(lines, 1, (lines[5]:gsub("23/Nov/2026", "01/Jan/1970")))
    local code, out = replay(table.concat(lines, "\n"))
    assert.equal(0, code)
    assert.truthy(out:find("2026-11-23T10:00:00.000Z to 2026-11-23T10:20:00.000Z", 1, true), out)
    assert.truthy(out:find("1211 lines, 0 of them bad", 1, true), out)
    assert.falsy(out:find("went from", 1, true), out)
  end)

  it("takes names for ids when a folder has many", function()
    local lines = {}
    for i = 0, 199 do lines[#lines + 1] = (LINE:gsub("/users/%%d", "/u/name%%d")):format(i / 60, i % 60, i, 200) end
    local _, out = replay(table.concat(lines, "\n"), "--report", "json")
    assert.truthy(out:find('"route": "GET /u/:name", "requests": 200', 1, true), out)
  end)

  it("tells patterns apart", function()
    local _, out = replay(log(function(s)
      local slow = s % 480 >= 240
      return slow and 4 * steady(s) or steady(s), slow and s % 10 == 0 and 503 or 200
    end))
    assert.truthy(out:find("usual: %d+ %% of the minutes, 1.0 requests/s"), out)
    assert.truthy(out:find("slow, failing: %d+ %% of the minutes"), out)
  end)

  it("names begin and end of a burst, and puts it first", function()
    local _, out = replay(log(function(s) return steady(s), s >= 400 and s < 460 and 502 or 200 end), "--report", "json")
    assert.truthy(out:find('"bursts": [\n  {"from": "2026-11-23T10:06:40.000Z", "to": "2026-11-23T10:07:40.000Z", "requests": 60, "errors": 60}]', 1, true), out)
    assert.truthy(out:find('"look_at": [\n  "From 2026-11-23T10:06:40Z to 2026-11-23T10:07:40Z, 60 of 60 requests failed', 1, true), out)
  end)

  it("writes HTML that stands alone and shows no byte of the log as markup", function()
    local text = log(steady) .. LINE:gsub("/users/%%d%?q=1", "/<script>alert(1)</script>"):format(5, 0, 200) .. " 0.1\n"
    local code, out = replay(text, "--report", "html")
    assert.equal(0, code)
    assert.truthy(out:find("<svg", 1, true) and out:find("prefers-color-scheme:dark", 1, true))
    assert.falsy(out:find("<script", 1, true) or out:find("http://", 1, true) or out:find("https://", 1, true) or out:find(" src=", 1, true))
    assert.truthy(out:find("&#60;script&#62;", 1, true))
  end)

  it("writes Markdown, refuses other kinds, and says when it cannot write", function()
    local code, out = replay(log(steady), "--report", "md")
    assert.equal(0, code)
    assert.truthy(out:find("| GET /users/:id |", 1, true) or out:find("|  GET /users/:id |", 1, true), out)
    assert.equal(2, (replay(log(steady), "--report", "pdf")))
    local _, _, err = replay(log(steady), "--output", "/nowhere/report")
    assert.truthy(err:find("cannot write /nowhere/report", 1, true), err)
  end)

  it("reads odd JSON: nested, escaped, unicode, arrays, any order", function()
    local lines = {
      [[{"request_time":0.5,"x":{"status":999,"a":[{"uri":"/no","}":"]"}]},"uri":"\/caf\u00e9\/\"7\"","method":"GET","status":"200","time":"2026-11-23T10:00:00+01:00"}]],
      [[ { "time" : "2026-11-23T09:00:01Z" , "request" : "GET /a\\b?c HTTP/1.1" , "status" : 200 , "request_time" : 5e-1 } ]],
      [[{"time":1795424402.5,"method":"GET","uri":"/n","status":200,"request_time":null}]],
      [[{"time":"2026-11-23T10:00:00+01:00","uri":"/cut","status":200]],
      [[{"time":"2026-11-23T10:00:00+01:00","uri":"/more","status":200} {}]],
      "[\"time\"]",
      ("{\"a\":"):rep(100) .. "1" .. ("}"):rep(100),
    }
    local code, out, err = replay(table.concat(lines, "\n"), "--report", "json")
    assert.equal(0, code)
    assert.truthy(out:find('"format": "nginx-json", "lines": 7, "bad": 4', 1, true), out)
    for _, route in ipairs { [[GET /caf??/\"7\"]], [[GET /a\\b]], "GET /n" } do
      assert.truthy(out:find('"route": "' .. route .. '", "requests": 1', 1, true), route .. out)
    end
    assert.truthy(err:find("line 4", 1, true), err)
  end)

  it("takes JSON lines of requests that could not be read, but tells no format by them", function()
    local refused = [[{"time_iso8601":"2026-11-23T10:00:0%d.000Z","remote_addr":"127.0.0.1","status":400,"body_bytes_sent":0,"request_time":0.001}]]
    local read = [[{"time_iso8601":"2026-11-23T10:00:00.000Z","request_method":"GET","request_uri":"/a","status":200,"request_time":0.002}]]
    local code, out = replay(table.concat({ read, refused:format(1), refused:format(2) }, "\n"), "--report", "json")
    assert.equal(0, code)
    assert.truthy(out:find('"format": "nginx-json", "lines": 3, "bad": 0', 1, true), out)
    assert.truthy(out:find('"route": "(no path)", "requests": 2', 1, true), out)
    assert.equal(4, (replay((refused:format(1) .. "\n"):rep(30))))
    assert.equal(0, (replay(refused:format(1) .. "\n", "--format", "nginx-json")))
  end)

  --- Runs a shell command in a folder that holds a.log and b.log.gz, ten lines each. $P is the program.
  local function shell(command)
    local code, out, err
    loop.run(function()
      local folder = files.temporary("replay")
      local lines = {}
      for i = 0, 9 do lines[#lines + 1] = LINE:format(0, i, i, 200) .. "\n" end
      files.write(folder .. "/a.log", table.concat(lines))
      files.write(folder .. "/b.log", table.concat(lines))
      code, out, err = process.run { command = "sh", args = { "-c", "gzip b.log; " .. command }, cwd = folder,
        env = { P = os.getenv "PERILUNE" }, timeout_ms = 8000 }
      files.remove(folder)
    end)
    return code, out, err
  end

  it("reads several files, gz among them, globs and stdin", function()
    for command, lines in pairs {
      ["$P replay a.log b.log.gz"] = 20, ["$P replay '*.log*'"] = 20, ["cat b.log.gz | $P replay"] = 10, ["cat a.log | $P replay - b.log.gz"] = 20,
      ["cp a.log 'c[1].log'; $P replay 'c[1].log'"] = 10,
    } do
      local code, out, err = shell(command)
      assert.equal(0, code, err)
      assert.truthy(out:find(lines .. " lines, 0 of them bad", 1, true), command .. "\n" .. out)
    end
  end)

  it("says which file cannot be read, and when a gz file is cut short", function()
    local code, _, err = shell "$P replay a.log nothing*.log"
    assert.equal(1, code)
    assert.truthy(err:find("nothing*.log: No such file", 1, true), err)
    local out
    for _, path in ipairs { ".", "nothing.log", "nothing.log --report json --output out", "nothing.log --report html" } do
      code, out, err = shell("$P replay " .. path .. "; code=$?; test ! -e out && exit $code")
      assert.same({ 1, "" }, { code, out }, err)
    end
    code, _, err = shell "head -c 60 b.log.gz > c.gz; $P replay a.log c.gz"
    assert.equal(1, code)
    assert.truthy(err:find("c.gz: the gz file is cut short", 1, true), err)
  end)
end)
