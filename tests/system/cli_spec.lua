--- The commands that ask a running engine, completion, the manual page.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local RULE = [[
return {
  id = "always", title = function() return "turn it down" end, class = "resources", on = "route", issue = false, effort = "low", risk = 1,
  when = function(s) return s.name == "GET /x" end,
  impact = function(s) return { metric = "mean_ms", now = 10, predicted = 5, lo = 4, hi = 6, routes = { s.name }, formula = "half", inputs = {} } end,
  set = function() return { ["compression.level"] = 3 } end, explain = function() return "because" end,
}]]

local ALERT = [[
return { policies = { { name = "AnyAnswer", severity = "warning", on = "route", signal = "rps", above = 0.001, exit = 0.0005, for_ = "0s", min_events = 1,
  annotations = { summary = "{{labels.route}} answers" } } } }]]

describe("the command line", function()
  local served
  setup(function()
    served = engine.start { rules = { ["routes/x.lua"] = "local app = require('perilune').app() app:get('/x', function() return 'x' end) return app",
      ["suggestions/always.lua"] = RULE, ["alerts/always.lua"] = ALERT } }
  end)
  teardown(function() served:stop() end)

  local function run(...)
    return engine.run { args = { ... }, env = { PERILUNE_STATE = served.state } }
  end

  local function id()
    local found
    loop.wait_until(function()
      served:get "/x"
      for _, one in ipairs(assert(served:admin_get "~/suggestions").json.data.suggestions) do found = one.rule == "always" and one.id or found end
      return found
    end, 20000, "a suggestion")
    return found
  end

  it("shows, applies, takes back and dismisses suggestions", function()
    loop.run(function()
      local sug = id()
      local code, out = run("suggest", "ls")
      assert.equal(0, code)
      assert.matches("ID%s+STATE%s+PRIORITY%s+TARGET%s+GAIN%s+WHAT TO DO\n", out)
      assert.matches(sug:gsub("%-", "%%-") .. "%s+OPEN%s+%S+%s+GET /x%s+mean_ms 10 > 5%s+turn it down", out)
      assert.equal("always", json.decode((select(2, run("suggest", "ls", "-o", "json")))).suggestions[1].rule)
      code, out = run("suggest", "show", sug)
      assert.equal(0, code)
      assert.matches("sets      compression%.level: %d+ > 3", out)
      assert.equal(2, (run("suggest", "apply", sug, "compression.level=99")))
      code = run("suggest", "apply", sug, "compression.level=4")
      assert.equal(0, code)
      code, out = run("suggest", "rollback", sug)
      assert.equal(0, code)
      assert.matches("is taken back", out)
      local _, err
      code, _, err = run("suggest", "dismiss", sug)
      assert.equal(2, code)
      assert.matches("takes %-%-reason", err)
      code, _, err = run("suggest", "show", "sug-999")
      assert.equal(2, code)
      assert.matches("there is no suggestion of this id", err)
    end, 60000)
  end)

  it("shows what differs from the defaults, exports it as a configuration, and resets it", function()
    loop.run(function()
      assert.equal(200, served:admin_request { method = "PATCH", path = "/api/v1/performance-optimization/config", json = { settings = { ["stats.slow_ms"] = 77 } } }.status)
      local _, out = run("config", "diff")
      assert.matches("stats%.slow_ms%s+100%s+77%s+api", out)
      _, out = run("config", "export")
      assert.equal(77, assert(loadstring(out))().settings["stats.slow_ms"])
      local code
      code, out = run("config", "reset", "stats.slow_ms", "--reason", "enough")
      assert.equal(0, code)
      assert.matches("stats%.slow_ms: 77 > 100", out)
      assert.is_nil((select(2, run("config", "diff"))):find "stats.slow_ms")
    end, 30000)
  end)

  it("prints once what top shows when it is piped, and runs on a terminal until q", function()
    loop.run(function()
      for _ = 1, 5 do served:get "/x" end
      loop.wait_until(function() return (select(2, run "top")):find("GET /x", 1, true) end, 5000, "the route")
      assert.is_number(json.decode((select(2, run("top", "-o", "json")))).requests_per_second)
      -- script(1) gives it a terminal of 80 columns.
      local code, out = process.run { command = "/bin/sh", timeout_ms = 20000, args = { "-c",
        ("(sleep 2; printf q) | script -qec 'stty cols 100 rows 30; %s top --state %s' /dev/null"):format(engine.program(), served.state) } }
      assert.equal(0, code, out)
      assert.matches("\27%[%?1049h", out)
      assert.matches("GET /x", out)
      assert.matches("\27%[%?25h\27%[%?1049l", out)
    end, 40000)
  end)

  it("lists alerts", function()
    loop.run(function()
      loop.wait_until(function()
        served:get "/x"
        local code, out = run("alerts", "ls")
        assert.equal(0, code)
        return out:find "AnyAnswer%s+%a+%s+warning%s+GET /x%s+/x answers"
      end, 30000, "the alert")
    end, 40000)
  end)

  it("says what is wrong, and what to do", function()
    local function err(code, ...)
      local got, _, text = engine.run { args = { ... } }
      assert.equal(code, got, text)
      return text
    end
    assert.matches("no engine runs on /nowhere %(there is no ports.json%); name its folder with %-%-state", err(1, "top", "--state", "/nowhere"))
    assert.matches("does not answer; does the engine run", err(1, "suggest", "ls", "--admin", "127.0.0.1:1"))
    assert.matches("suggest takes one of 'ls show apply dismiss rollback', not 'lss'", err(2, "suggest", "lss"))
    assert.matches("%-o is json or table, not 'xml'", err(2, "top", "-o", "xml"))
    assert.matches("'x' is one word too many for suggest show", err(2, "suggest", "show", "sug-1", "x"))
    assert.matches("unknown command 'frob'; see", err(2, "help", "frob"))
    assert.matches('%-%-listen: listen is "foo", it must be HOST:PORT', err(2, "top", "--listen", "foo"))
    assert.matches("unknown command 'benhc', did you mean 'bench'", err(2, "benhc", "--help"))
    assert.matches("%-%-poisson takes no value", err(2, "bench", "/", "--poisson=1"))
    local code, _, text = process.run { command = "/bin/sh", args = { "-c", engine.program() .. " man > /dev/full" } }
    assert.equal(1, code)
    assert.matches("stdout cannot be written: No space left", text)
  end)

  it("finds a state folder or an access log that cannot be used, and leaves nothing behind", function()
    local folder = files.temporary "perilune-doctor"
    local function doctor(state, log)
      local code, out = engine.run { cwd = folder, args = { "doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", state },
        env = { PERILUNE_ACCESS_LOG = log } }
      assert.equal(out:find "BAD" and 1 or 0, code)
      return out
    end
    local out = doctor("a/b/state", folder .. "/access.log")
    assert.matches("ok   state +a/b/state\n", out)
    assert.matches("ok   access log +[^\n]+/access.log\n", out)
    assert.is_nil(files.read(folder .. "/access.log"))
    assert.is_nil(require "luv".fs_stat(folder .. "/a"))
    out = doctor("/proc/x", "/nonexistent/dir/a.log")
    assert.matches("BAD  state +/proc/x %- No such file or directory; let its user write there, or choose another with %-%-state\n", out)
    assert.matches("BAD  access log +/nonexistent/dir/a.log %- No such file or directory; make its folder", out)
    files.write(folder .. "/file", "kept")
    assert.matches("BAD  state +file %- Not a directory", doctor("file", ""))
    assert.matches("BAD  access log +%. %- Is a directory", doctor("state", "."))
    assert.matches("ok   access log +%-\n", doctor("state", "-"))
    assert.matches("ok   access log +%(none%)\n", doctor("state", ""))
    doctor("state", folder .. "/file")
    assert.equal("kept", files.read(folder .. "/file"))
    files.remove(folder)
  end)

  it("has JSON for programs where it has a table", function()
    local function of(...)
      local code, out, err = engine.run { args = { "-o", "json", ... } }
      assert.equal(0, code, err)
      return assert(json.decode(out), out)
    end
    local by = {}
    for _, one in ipairs(of("config", "show", "--set", "stats.slow_ms=7")) do by[one.name] = one end
    assert.same({ name = "stats.slow_ms", value = "7", unit = "ms", origin = "flag" }, by["stats.slow_ms"])
    assert.equal("default", by.workers.origin)
    local rules = of("rules", "ls")
    assert.is_true(#rules >= 30 and rules[1].class ~= nil and type(rules[1].executable) == "boolean")
    local code, out = engine.run { args = { "doctor", "-o", "json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0" } }
    local fine = true
    for _, one in ipairs(assert(json.decode(out), out)) do
      assert.same({ "boolean", "string", "string" }, { type(one.ok), type(one.what), type(one.value) })
      fine = fine and one.ok
    end
    assert.equal(fine and 0 or 1, code)
  end)

  it("completes in bash", function()
    local function complete(line, words, at)
      local script = ([[eval "$(%s completion bash)"; COMP_WORDS=(%s); COMP_CWORD=%d; _perilune; echo "${COMPREPLY[*]}"]]):format(engine.program(), words, at)
      local code, out, err = process.run { command = "/bin/bash", args = { "-c", script } }
      assert.equal(0, code, line .. err)
      return (out:gsub("\n$", ""))
    end
    assert.equal("suggest", complete("perilune sug", "perilune sug", 1))
    assert.equal("apply", complete("perilune suggest a", "perilune suggest a", 2))
    assert.equal("--listen", complete("perilune run --li", "perilune run --li", 2))
    assert.equal("--find-capacity", complete("perilune bench --fi", "perilune bench --fi", 2))
    assert.equal("html", complete("perilune replay --report h", "perilune replay --report h", 3))
    assert.equal("database", complete("perilune rules new x --class d", "perilune rules new x --class d", 5))
    assert.equal("", complete("perilune bench --rate ", "perilune bench --rate ''", 3))
    assert.equal("bench", complete("perilune help be", "perilune help be", 2))
    for _, shell in ipairs { "zsh", "fish" } do
      local code, out = engine.run { args = { "completion", shell } }
      assert.equal(0, code)
      assert.matches("suggest", out)
    end
  end)

  it("has a manual page that troff takes without a word", function()
    local code, out = engine.run { args = { "man" } }
    assert.equal(0, code)
    for name in ("run check doctor config replay top suggest alerts rules completion help"):gmatch "%a+" do assert.matches("\n%.B " .. name .. "\n", out) end
    local page = os.tmpname()
    local file = assert(io.open(page, "w"))
    file:write(out)
    file:close()
    local _, shown, err = process.run { command = "/usr/bin/env", args = { "groff", "-man", "-Tutf8", "-ww", page } }
    os.remove(page)
    assert.equal("", err)
    assert.matches("\n%s+%-%-config FILE\n", (shown:gsub("\27%[[%d;]*m", ""):gsub(".\b", "")))
    for _, name in ipairs { "poisson", "find%-capacity", "origin", "set NAME=VALUE" } do assert.matches("%-%-" .. name, (shown:gsub("\27%[[%d;]*m", ""):gsub(".\b", ""))) end
  end)
end)
