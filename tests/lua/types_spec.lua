--- The declarations for language servers say what there is: nothing more, nothing less.
local engine = require "tests.support.engine"
local json = require "dkjson"
local loop = require "tests.support.loop"
local process = require "tests.support.process"
local uv = require "luv"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- Names that a file of declarations has for a table: functions, values and, of a class, fields.
local function declared(file, owner, class)
  local names, inside = {}, false
  for line in read("lua/perilune/types/" .. file .. ".lua"):gmatch "[^\n]+" do
    local name = line:match("^function " .. owner .. "[%.:]([%a_]+)%(") or line:match("^" .. owner .. "%.([%a_]+) = ")
    if line:find "^%-%-%-@class" then inside = class ~= nil and line:match "^%-%-%-@class (%S+)" == class end
    name = name or (inside and line:match "^%-%-%-@field ([%a_]+)")
    if name then names[name] = true end
  end
  local list = {}
  for name in pairs(names) do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("declarations for language servers", function()
  it("are what the comments of the modules say", function()
    local code, out = process.run { command = uv.cwd() .. "/tests/support/types", args = { "--check" } }
    assert.equal(0, code, out)
  end)

  it("name what scripts of the engine see", function()
    local served = engine.start { rules = { ["routes/keys.lua"] = [[
      local p = require "perilune"
      local app = p.app()
      local function keys(t)
        local list = p.json.array()
        for name in pairs(t) do list[#list + 1] = tostring(name) end
        table.sort(list)
        return list
      end
      local all = { perilune = keys(p), ml = keys(require "perilune.ml"), tasks = keys(require "perilune.tasks"), http = keys(p.http), json = keys(p.json), text = keys(p.text), log = keys(p.log) }
      local methods = p.json.array()
      for _, name in ipairs { "get", "post", "put", "patch", "delete", "head", "options", "any", "use", "route", "proxy", "every" } do
        if type(app[name]) == "function" then methods[#methods + 1] = name end
      end
      all.app = methods
      app:get("/keys", function() return all end)
      return app
    ]] } }
    loop.run(function()
      local seen = json.decode(served:get("/keys").body)
      assert.same(seen.perilune, declared("perilune", "p", "perilune.server"))
      assert.same(seen.ml, declared("ml", "ml"))
      assert.same(seen.tasks, declared("tasks", "tasks"))
      assert.same(seen.http, declared("http", "http"))
      local app = declared("app", "App", "perilune.App")
      for _, name in ipairs(declared("perilune", "-", "perilune.App")) do app[#app + 1] = name end
      table.sort(app)
      table.sort(seen.app)
      assert.same(seen.app, app)
    end)
    served:stop()
  end)

  it("name what the library gives", function()
    local script = os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write [[
      local perilune = require "perilune"
      local seen = { module = {}, nginx = {}, testing = {}, missing = {} }
      for name in pairs(perilune) do seen.module[#seen.module + 1] = name end
      for name in pairs(perilune.testing) do seen.testing[#seen.testing + 1] = name end
      for name in pairs(perilune.nginx) do seen.nginx[#seen.nginx + 1] = name end
      local engine = assert(perilune.new {})
      local span = engine:start("GET", "/x")
      local of = { engine = engine, span = span, tasks = perilune.tasks(), db = perilune.pool.postgres { dsn = "host=nowhere.invalid" } }
      seen.pool = {}
      for name in pairs(perilune.pool) do seen.pool[#seen.pool + 1] = name end
      for kind, name in arg[1]:gmatch "(%a+)%.([%a_]+)" do
        if type(of[kind][name]) ~= "function" then seen.missing[#seen.missing + 1] = kind .. "." .. name end
      end
      print(perilune.json.encode(seen))
    ]]
    file:close()
    local words = {}
    for _, name in ipairs(declared("host", "Engine", "perilune.Engine")) do words[#words + 1] = "engine." .. name end
    for _, name in ipairs(declared("host", "Span", "perilune.Span")) do words[#words + 1] = "span." .. name end
    for _, name in ipairs(declared("host", "-", "perilune.HostTasks")) do words[#words + 1] = "tasks." .. name end
    for _, name in ipairs(declared("host", "-", "perilune.HostDatabase")) do words[#words + 1] = "db." .. name end
    for _, name in ipairs { "query", "one", "exec", "read", "read_one", "each", "transaction" } do words[#words + 1] = "db." .. name end
    assert.is_true(#words > 30)
    local program = engine.program()
    local env = { LUA_PATH = ";;", LUA_CPATH = program:match "^(.*)/[^/]+$" .. "/lua/?.so;;" }
    if program:find("/asan/", 1, true) then
      local _, out = process.run { command = "/usr/bin/gcc", args = { "-print-file-name=libasan.so" } }
      env.LD_PRELOAD, env.ASAN_OPTIONS = out:gsub("%s+$", ""), "verify_asan_link_order=0"
    end
    local code, out, err = process.run { command = "/usr/bin/luajit", args = { script, table.concat(words, " ") }, env = env }
    os.remove(script)
    assert.equal(0, code, err)
    local seen = json.decode(out)
    assert.same({}, seen.missing)
    local known = { version = true, json = true, text = true, ml = true, nginx = true, testing = true, middleware = true, pool = true }
    for _, name in ipairs(declared("host", "M")) do known[name] = true end
    for _, name in ipairs(seen.module) do assert.is_true(known[name], name .. " is not declared") end
    local function names(list)
      local out_list = {}
      for _, name in ipairs(list) do if name ~= "options" and name ~= "peers" then out_list[#out_list + 1] = name end end
      table.sort(out_list)
      return out_list
    end
    assert.same(seen.pool, declared("host", "pool"))
    assert.same(names(seen.testing), declared("testing", "M"))
    assert.same(names(seen.nginx), declared("nginx", "M"))
  end)
end)
