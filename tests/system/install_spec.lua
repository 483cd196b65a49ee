--- make install, the unit, and what systemd is told.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local LISTENER = [[
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    for line in s.recv(4096).decode().split("\n"):
        print(line, flush=True)
]]

describe("systemd", function()
  it("is told of start, signs of life, reload and end", function()
    local folder = files.temporary "perilune-notify"
    files.write(folder .. "/listen.py", LISTENER)
    local listener = assert(process.start { command = "/usr/bin/env", args = { "python3", folder .. "/listen.py", folder .. "/notify" } })
    loop.run(function()
      local function wait(text) loop.wait_until(function() return listener:stdout():find(text, 1, true) end, 10000, text) end
      wait "bound"
      local served = engine.start { rules = { ["routes/x.lua"] = "local app = require('perilune').app() return app" },
        env = { NOTIFY_SOCKET = folder .. "/notify", WATCHDOG_USEC = "400000" } }
      wait "READY=1"
      wait("STATUS=serves http://" .. served.listen)
      wait "WATCHDOG=1"
      served.process:kill "sighup"
      wait "RELOADING=1"
      wait "STATUS=generation 2"
      served:stop()
      wait "STOPPING=1"
    end, 30000)
    listener:stop()
    files.remove(folder)
  end)
end)

describe("make install", function()
  it("puts everything in its place, and what it puts there works", function()
    local folder = files.temporary "perilune-install"
    local code, out, err = process.run { command = "/usr/bin/make", args = { "-s", "install", "DESTDIR=" .. folder, "PREFIX=/usr" }, env = { CI = "true" }, timeout_ms = 300000 }
    assert.equal(0, code, out .. err)
    local unit = assert(files.read(folder .. "/usr/lib/systemd/system/perilune.service"))
    assert.matches("ExecStart=/usr/bin/perilune run", unit)
    assert.is_nil(unit:find("@PREFIX@", 1, true))
    code, out = process.run { command = folder .. "/usr/bin/perilune", args = { "check", "--config", folder .. "/etc/perilune/perilune.lua" } }
    assert.equal(0, code, out)
    local env = { LUA_PATH = ";;", LUA_CPATH = folder .. "/usr/lib/lua/5.1/?.so" }
    code, out, err = process.run { command = "/usr/bin/luajit", env = env, args = { "-e", [[
      local p = require "perilune"
      print(p.version, p.tasks():run { kernel = "crc32", "abc" }, p.pool.postgres { dsn = "host=127.0.0.1 port=1" }:stats().health)]] } }
    assert.equal(0, code, err)
    assert.matches("\t352441c2\tunknown\n$", out)
    assert.is_table(json.decode(files.read(folder .. "/usr/share/perilune/grafana.json")))
    -- An edited configuration is kept.
    files.write(folder .. "/etc/perilune/perilune.lua", "return { workers = 1 }")
    assert.equal(0, (process.run { command = "/usr/bin/make", args = { "-s", "install", "DESTDIR=" .. folder, "PREFIX=/usr" }, env = { CI = "true" }, timeout_ms = 300000 }))
    assert.equal("return { workers = 1 }", files.read(folder .. "/etc/perilune/perilune.lua"))
    files.remove(folder)
  end)
end)
