--- What a script cannot reach: one spec for each way out.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local loop = require "tests.support.loop"

-- Each case is the body of a function; it returns what the spec wants to see.
local EVAL = [[
local p = require "perilune"
local app = p.app()
app:post("/eval", function(req)
  local fn, why = load(req.body, "=case")
  if not fn then return 400, "does not load: " .. tostring(why) end
  return tostring(fn(req, p))
end)
app:post("/try", function(req)
  local fn = assert(load(req.body, "=case"))
  local ok, why = pcall(fn, req, p)
  return ok and "no error" or tostring(why)
end)
app:get("/", function() return "ok" end)
return app
]]

-- One file that does its worst to what it shares with the other.
local VANDAL = [[
local p = require "perilune"
local app = p.app()
string.format, string.rep, table.concat, math.floor, os.time = nil, nil, nil, nil, nil
coroutine.wrap, bit.band = nil, nil
_G.pairs = nil
rawset(_G, "tostring", function() return "vandal" end)
rawset(_G, "leaked", "leaked")
p.sleep, p.app, p.json.encode, p.text.trim, p.log.info, p.http = nil, nil, nil, nil, nil, nil
app.get2 = app.get
local methods = app.__index
if methods then methods.get, methods.use = nil, nil end
app:get("/vandal", function() return ("%d"):format(7) end)
return app
]]

local VICTIM = [[
local p = require "perilune"
local app = p.app()
app:get("/victim", function()
  local names = {}
  for _, name in ipairs { "format", "rep" } do names[#names + 1] = type(string[name]) end
  names[#names + 1] = type(table.concat) .. type(math.floor) .. type(os.time) .. type(coroutine.wrap) .. type(bit.band)
  names[#names + 1] = type(pairs) .. tostring(1) .. tostring(rawget(_G, "leaked"))
  names[#names + 1] = type(p.sleep) .. type(p.app) .. type(p.json.encode) .. type(p.text.trim) .. type(p.log.info) .. type(p.http)
  return table.concat(names, " ")
end)
return app
]]

local e
local function post(path, code)
  return loop.run(function()
    local answer = assert(e:request { method = "POST", path = path, body = code })
    assert.equal(200, answer.status, answer.body)
    return answer.body
  end)
end
local function eval(code) return post("/eval", code) end
local function failure(code) return post("/try", code) end

describe("the sandbox", function()
  setup(function()
    e = engine.start { workers = 1, rules = { ["routes/app.lua"] = EVAL, ["routes/a_vandal.lua"] = VANDAL,
      ["routes/victim.lua"] = VICTIM, ["lib/shared.lua"] = "return { n = 1 }\n", ["lib/bad.lua"] = "local x = io\nreturn x\n" } }
  end)
  teardown(function() e:stop() end)

  for _, name in ipairs { "ffi", "debug", "io", "jit", "package", "dofile", "loadfile", "module", "getfenv", "setfenv", "newproxy" } do
    it("has no " .. name .. " and says so", function()
      assert.matches("case:1: '" .. name .. "' is not available: ", failure("return " .. name))
      assert.equal("nil", eval(("return rawget(_G, %q)"):format(name)))
    end)
  end

  for _, name in ipairs { "execute", "exit", "getenv", "remove", "rename", "tmpname", "setlocale" } do
    it("has no os." .. name, function() assert.equal("nil", eval("return os." .. name)) end)
  end

  it("has no string.dump, by no name", function()
    assert.equal("nil nil nil", eval('return tostring(string.dump) .. " " .. tostring((""). dump) .. " " .. tostring(string.gfind)'))
  end)

  it("loads no bytecode", function()
    assert.equal("nil", eval([[return (load("\27LJ\2\0"))]]))
    assert.equal("nil", eval([[return (loadstring("\27LJ\2\0"))]]))
    assert.equal("nil", eval([[return (load("\27Lua"))]]))
    assert.equal("nil", eval([[return (load("\27LJ\2\0", "x", "b"))]]))
    assert.equal("nil", eval([[return (load("\27LJ\2\0", "x", "bt"))]]))
    assert.equal("nil", eval([[return (load("return 1", "x", "b"))]]))
    assert.equal("nil", eval([[local i = 0 return (load(function() i = i + 1 return ({ "\27LJ", "\2\0" })[i] end))]]))
    assert.matches("wrong mode", eval([[return select(2, load("\27LJ\2\0"))]]))
  end)

  it("loads text into its own environment", function()
    assert.equal("3", eval("return load('return 1 + 2')()"))
    assert.equal("3", eval("return load('return a + 2', 'x', 't', { a = 1 })()"))
    assert.matches("'io' is not available", failure("return load('return io.open')()"))
    assert.matches("globals are not allowed", failure("return load('a = 1')()"))
  end)

  it("keeps the metatable of strings private", function()
    assert.equal("false", eval("return getmetatable('')"))
    assert.matches("protected metatable", failure("setmetatable('', {})") .. " protected metatable")
    assert.equal("no", eval("local ok = pcall(setmetatable, '', {}) return ok and 'yes' or 'no'"))
    assert.equal("no", eval("local ok = pcall(function() local s = '' s.upper = nil end) return ok and 'yes' or 'no'"))
    assert.equal("A", eval("return ('a'):upper()"))
  end)

  it("keeps the guard of globals private", function()
    assert.equal("false", eval("return getmetatable(_G)"))
    assert.matches("protected metatable", failure("setmetatable(_G, {})"))
    assert.matches("globals are not allowed: write 'local x = ...'", failure("x = 1"))
    assert.matches("unknown name 'undeclared'", failure("return undeclared"))
  end)

  it("requires nothing but its own modules and those of the rules", function()
    for _, name in ipairs { "ffi", "io", "os", "debug", "bit", "string", "jit", "jit.util", "package", "perilune.core.boot",
      "perilune.core.sandbox", "perilune/core/boot", "../x", "..x", "/etc/passwd", "lib/../../x", "lib....etc.passwd", "",
      "lib.", "perilune.", "perilune..core.boot" } do
      local says = failure(("return require %q"):format(name))
      assert.is_true(says:find("there is no module", 1, true) ~= nil or says:find("can only be required while", 1, true) ~= nil,
        name .. ": " .. says)
    end
  end)

  it("stops nobody's collector", function()
    for _, what in ipairs { "stop", "restart", "collect", "step", "setpause", "setstepmul" } do
      assert.matches("collectgarbage takes only 'count' here", failure(("collectgarbage %q"):format(what)))
    end
    assert.equal("number", eval("return type(collectgarbage('count'))"))
  end)

  it("gives each file libraries, globals and modules of its own", function()
    loop.run(function()
      assert.equal("7", e:get("/vandal").body)
      assert.equal("function function functionfunctionfunctionfunctionfunction function1nil " ..
        "functionfunctionfunctionfunctionfunctiontable", e:get("/victim").body)
      assert.equal(200, e:admin_get("~/stats").status)
    end)
  end)

  it("keeps what rawset puts among the globals in that file", function()
    assert.equal("1", eval("rawset(_G, 'mine', 1) return mine"))
    loop.run(function() assert.matches("nil", e:get("/victim").body) end)
  end)

  it("does not hand out the engine's coroutines", function()
    assert.equal("nil", eval("return coroutine.running()"))
    assert.equal("thread", eval("return type(coroutine.wrap(function() return coroutine.running() end)())"))
    assert.matches("^%d+$", eval([[local p = select(2, ...)
      local co = coroutine.create(function() p.sleep(0.01) coroutine.yield(4) return 5 end)
      local _, a = coroutine.resume(co) local _, b = coroutine.resume(co) return a .. b]]))
  end)

  it("lets no wait of the engine out of a coroutine", function()
    assert.equal("1 nil nil", eval([[local p = select(2, ...)
      local seen = {}
      for value in coroutine.wrap(function() p.sleep(0.01) coroutine.yield(1) p.sleep(0.01) end) do seen[#seen + 1] = value end
      return table.concat(seen, ",") .. " " .. tostring(seen[2]) .. " " .. tostring(coroutine.wrap(function() p.sleep(0) end)())]]))
    loop.run(function()
      for _ = 1, 3 do
        local answer = e:request { method = "POST", path = "/eval", body = "coroutine.yield(1) return 1" }
        assert.equal(500, answer.status)
        assert.equal("ok", e:get("/").body)
      end
      e:wait_log("coroutine.yield was called by the handler itself")
    end)
  end)

  it("keeps request objects closed", function()
    assert.equal("false", eval("return getmetatable((...))"))
    assert.equal("false", eval("return getmetatable((...).headers)"))
    assert.equal("false", eval("local p = select(2, ...) return getmetatable(p.app())"))
    assert.equal("array", eval("local p = select(2, ...) return getmetatable(p.json.array())"))
    assert.is_nil(eval("local p = select(2, ...) return type(getmetatable(p.forward('x')))"):find("table", 1, true))
  end)

  it("survives error objects of any kind", function()
    loop.run(function()
      for _, thrown in ipairs { "nil", "false", "1", "{}", "function() end", "p", "coroutine.create(print)",
        "setmetatable({}, { __tostring = function() error('twice') end })", "setmetatable({}, { __tostring = function() return 1 end })",
        "setmetatable({}, { __index = error, __tostring = error })" } do
        local answer = assert(e:request { method = "POST", path = "/eval", body = "local p = select(2, ...) error(" .. thrown .. ")" })
        assert.equal(500, answer.status)
        assert.equal("application/problem+json", answer.headers["content-type"])
        assert.equal("ok", e:get("/").body)
      end
      for _, process in ipairs(e:processes()) do assert.equal(0, process.restarts) end
    end)
  end)

  it("survives answers of any kind", function()
    loop.run(function()
      for _, answered in ipairs { "nil", "true", "coroutine.create(print)", "(...)", "99", "600", "200.5", "0/0", "200, true",
        "200, 'x', 5", "200, 'x', { [1] = 'y' }", "200, 'x', { a = {} , b = { {} } }", "200, 'x', { ['a b'] = 'c' }",
        "200, 'x', { a = 'b\\r\\nc: d' }", "200, 'x', { ['content-length'] = 5 }" } do
        local answer = assert(e:request { method = "POST", path = "/raw", body = answered })
        assert.is_true(answer.status == 404 or answer.status == 500)
        answer = assert(e:request { method = "POST", path = "/eval", body = "return " .. answered })
        assert.is_true(answer.status == 200 or answer.status == 500)
      end
      assert.equal("ok", e:get("/").body)
    end)
  end)
end)

describe("a stream's write function", function()
  it("is worth nothing to another request", function()
    loop.run(function()
      local other = engine.start { workers = 1, rules = { ["routes/app.lua"] = [[
local p = require "perilune"
local app = p.app()
local kept
app:get("/keep", function() return function(write) kept = write write("mine") end end)
app:get("/use", function() return tostring(pcall(kept, "stolen")) end)
app:get("/use-in-stream", function() return function(write) write("a") pcall(kept, "stolen") write("b") end end)
return app
]] } }
      for _ = 1, 3 do
        assert.equal("mine", other:get("/keep").body)
        assert.equal("false", other:get("/use").body)
        assert.equal("mine", other:get("/keep").body)
        assert.equal("ab", other:get("/use-in-stream").body)
      end
      other:stop()
    end)
  end)
end)

describe("a coroutine that is kept", function()
  it("cannot be resumed by another request while it waits", function()
    loop.run(function()
      local other = engine.start { workers = 1, rules = { ["routes/app.lua"] = [[
local p = require "perilune"
local app = p.app()
local co
app:get("/wait", function()
  co = coroutine.create(function() p.sleep(0.2) return "slept" end)
  return select(2, coroutine.resume(co))
end)
app:get("/meddle", function()
  if not co then return "not yet" end
  return tostring(coroutine.resume(co, "early"))
end)
return app
]] } }
      local waiting = loop.spawn(function() return other:get("/wait") end)
      loop.wait_until(function() return other:get("/meddle").body == "false" end, 150, "the other request to wait")
      assert.equal("slept", assert(loop.join(waiting)).body)
      other:stop()
    end)
  end)
end)

describe("the configuration file", function()
  it("reaches nothing but its own few names", function()
    loop.run(function()
      local folder = files.temporary("perilune")
      for _, name in ipairs { "io", "os", "require", "load", "debug", "ffi", "getfenv", "_G", "package", "dofile" } do
        files.write(folder .. "/perilune.lua", "return {\n  rules = " .. name .. ",\n}\n")
        local code, out = engine.run { args = { "check", "--config", folder .. "/perilune.lua" } }
        assert.equal(2, code, name)
        assert.truthy(out:find("perilune.lua:2: unknown name '" .. name .. "'", 1, true), out)
      end
      files.remove(folder)
    end, 20000)
  end)
end)
