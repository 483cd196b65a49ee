--- Settings over the API: changed while it runs, journaled first, kept, taken back, and refused with their mistake.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"

local API = "/api/v1/performance-optimization/"

local function start(options)
  options = options or {}
  options.rules = { ["routes/app.lua"] = 'return require "perilune".app():get("/", function() return "x" end)' }
  return engine.start(options)
end

local function send(served, method, path, body, headers)
  return served:admin_request { method = method, path = API .. path, json = body, headers = headers }
end

local function patch(served, settings, more) return send(served, "PATCH", "config" .. (more or ""), { settings = settings, reason = "a test" }) end
local function one(served, name) return served:admin_get("~/config/" .. name).json.data end
local function journal(served) return served:admin_get("~/config/journal").json.data.changes end

describe("the configuration over the API", function()
  it("changes live settings, says from what to what, and keeps them over a restart", function()
    loop.run(function()
      local served = start()
      local before = one(served, "server.head_bytes")
      assert.same({ 32768, "default" }, { before.value, before.origin })
      local got = patch(served, { ["server.head_bytes"] = 2048, ["compression.enabled"] = false })
      assert.equal(200, got.status, got.body)
      assert.equal(1, got.json.data.seq)
      local now = one(served, "server.head_bytes")
      assert.same({ 2048, "api", 1, 32768, 2048, "a test" },
        { now.value, now.origin, #now.changes, now.changes[1].from, now.changes[1].to, now.changes[1].reason })
      assert.equal(431, served:request { path = "/", headers = { ["X-Long"] = ("a"):rep(3000) } }.status) -- it is in force in the worker
      served:restart()
      assert.same({ 2048, "api" }, { one(served, "server.head_bytes").value, one(served, "server.head_bytes").origin })
      assert.is_false(one(served, "compression.enabled").value)
      local undone = send(served, "POST", "config/undo", { seq = 1 })
      assert.equal(200, undone.status, undone.body)
      assert.same({ 32768, "default" }, { one(served, "server.head_bytes").value, one(served, "server.head_bytes").origin })
      assert.same({ 2, 1 }, { journal(served)[1].seq, journal(served)[1].undoes })
      served:stop()
    end, 40000)
  end)

  it("resets one or all, and shows before it does", function()
    loop.run(function()
      local served = start()
      patch(served, { ["server.head_bytes"] = 2048 })
      patch(served, { ["server.fields"] = 50, ["server.drain_ms"] = 1000 })
      local shown = send(served, "POST", "config/reset?dry_run=true", {})
      assert.same({ 3, true }, { #shown.json.data.changes, shown.json.data.dry_run })
      assert.equal(2048, one(served, "server.head_bytes").value)
      assert.equal(200, patch(served, { ["server.fields"] = 40 }, "?dry_run=true").status)
      assert.equal(50, one(served, "server.fields").value)
      assert.equal(200, send(served, "POST", "config/reset", { name = "server.fields" }).status)
      assert.same({ 100, 2048 }, { one(served, "server.fields").value, one(served, "server.head_bytes").value })
      assert.equal(200, send(served, "POST", "config/reset").status)
      assert.same({ 32768, 30000 }, { one(served, "server.head_bytes").value, one(served, "server.drain_ms").value })
      assert.equal(0, #send(served, "POST", "config/reset").json.data.changes) -- nothing is left
      assert.equal(409, send(served, "POST", "config/undo", { seq = 2 }).status) -- others came after it
      served:stop()
    end, 40000)
  end)

  it("goes back to the file's value, and says so", function()
    loop.run(function()
      local served = start { config = "return { settings = { ['server.fields'] = 60 } }" }
      assert.same({ 60, "file" }, { one(served, "server.fields").value, one(served, "server.fields").origin })
      local function told(got) return { got.status, got.json.data.changes[1].from, got.json.data.changes[1].to } end
      patch(served, { ["server.fields"] = 70 })
      patch(served, { ["server.fields"] = 80 })
      local none = { ["server.fields"] = json.null }
      assert.same({ 200, 80, 60 }, told(patch(served, none, "?dry_run=true")))
      assert.same({ 200, 80, 60 }, told(send(served, "POST", "config/reset?dry_run=true", {})))
      assert.same({ 200, 80, 60 }, told(patch(served, none)))
      assert.same({ 80, 60 }, { journal(served)[1].changes[1].from, journal(served)[1].changes[1].to })
      assert.equal(60, one(served, "server.fields").value)
      patch(served, { ["server.fields"] = 90 })
      assert.same({ 200, 90, 60 }, told(send(served, "POST", "config/reset", { name = "server.fields" })))
      assert.same({ 90, 60 }, { journal(served)[1].changes[1].from, journal(served)[1].changes[1].to })
      served:stop()
    end, 40000)
  end)

  it("lets one of two who read the same be first", function()
    loop.run(function()
      local served = start()
      local tag = served:admin_get("~/config").headers.etag
      assert.matches('^"g%d+%-%d+%-%x+"$', tag)
      local function change(value) return send(served, "PATCH", "config", { settings = { ["server.fields"] = value } }, { ["If-Match"] = tag }) end
      local results = loop.all { function() return change(50) end, function() return change(60) end }
      local codes = { results[1].status, results[2].status }
      table.sort(codes)
      assert.same({ 200, 412 }, codes)
      assert.equal(412, change(70).status)
      assert.not_equal(tag, served:admin_get("~/config").headers.etag)
      assert.is_true(one(served, "server.fields").value == 50 or one(served, "server.fields").value == 60)
      served:stop()
    end, 40000)
  end)

  it("knows after a restart that somebody else was first", function()
    loop.run(function()
      local served = start()
      local tag = served:admin_get("~/config").headers.etag
      assert.equal(200, patch(served, { ["server.fields"] = 50 }).status)
      served:restart()
      assert.equal(1, served:admin_get("~/config").json.meta.generation)
      local function change(value, match) return send(served, "PATCH", "config", { settings = { ["server.fields"] = value } }, { ["If-Match"] = match }).status end
      assert.equal(412, change(60, tag))
      local now = served:admin_get("~/config").headers.etag
      served:restart() -- nothing was changed
      assert.equal(412, change(70, '"g1", ' .. tag))
      assert.equal(200, change(70, '"g1", ' .. now .. " , " .. tag))
      assert.equal(200, change(80, "*"))
      served:stop()
    end, 40000)
  end)

  it("refuses what is wrong, with its place, and changes nothing", function()
    loop.run(function()
      local served = start { args = { "--set", "server.fields=60" } }
      local function refused(status, settings, pointer, words)
        local got = patch(served, settings)
        assert.equal(status, got.status, got.body)
        assert.equal("application/problem+json", got.headers["content-type"])
        assert.matches(words, got.json.detail, 1, true)
        if pointer then assert.equal(pointer, got.json.errors[1].pointer) end
      end
      refused(422, { ["server.head_byte"] = 1 }, "/settings/server.head_byte", "did you mean 'server.head_bytes'?")
      refused(422, { ["server.head_bytes"] = 1 }, "/settings/server.head_bytes", "1024 to 65536 bytes")
      refused(422, { ["server.head_bytes"] = "big" }, "/settings/server.head_bytes", "is a number")
      refused(422, { ["server.head_bytes"] = 2000.5 }, "/settings/server.head_bytes", "whole number")
      refused(422, { ["compression.enabled"] = 1 }, "/settings/compression.enabled", "true or false")
      refused(409, { ["server.fields"] = 50 }, nil, "set by a flag")
      for path, status in pairs { config = 422, ["config/undo"] = 422, ["config/reset"] = 422 } do
        assert.equal(status, send(served, path == "config" and "PATCH" or "POST", path, { nonsense = 1 }).status, path)
      end
      assert.equal(404, served:admin_get("~/config/nothing").status)
      assert.equal(404, send(served, "POST", "config/undo", { seq = 7 }).status)
      assert.equal(400, served:admin_get("~/config/journal?limit=0").status)
      assert.equal(400, patch(served, { ["server.drain_ms"] = 1000 }, "?dry_run=maybe").status)
      assert.equal(0, #journal(served))
      served:stop()
    end, 40000)
  end)

  it("changes nothing that it cannot journal, and reads past a line that a crash cut off", function()
    loop.run(function()
      local served = start()
      assert.equal(200, patch(served, { ["server.head_bytes"] = 2048 }).status)
      local path = served.state .. "/settings.journal"
      local whole = files.read(path)
      assert.equal(1, json.decode(whole:match "^[^\n]+").seq)
      files.write(path, whole .. '{"seq":2,"chan')
      assert.equal(1, #journal(served))
      assert.equal(200, patch(served, { ["server.head_bytes"] = 4096 }).status)
      assert.same({ 2, 2 }, { #journal(served), journal(served)[1].seq })
      files.remove(path)
      require "luv".fs_mkdir(path, 448)
      local got = patch(served, { ["server.head_bytes"] = 8192 })
      assert.same({ 503, "not_journaled" }, { got.status, got.json.code })
      assert.equal(4096, one(served, "server.head_bytes").value)
      served:stop()
    end, 40000)
  end)
end)
