--- The control API as a whole: its document, who may do what, requests that come twice, lists by pages, and the record of changes.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local json = require "dkjson"
local loop = require "tests.support.loop"
local schema = require "tests.support.schema"

local API = "/api/v1/performance-optimization/"
local RULES = { ["routes/app.lua"] = 'return require "perilune".app():get("/", function() return "x" end)' }

local function with(options, fn)
  options.rules = options.rules or RULES
  local served = engine.start(options)
  local ok, why = pcall(loop.run, function() fn(served) end, 60000)
  served:stop()
  if not ok then error(why, 0) end
end

local function ask(served, method, path, more)
  local options = { method = method, path = API .. path }
  for name, value in pairs(more or {}) do options[name] = value end
  return served:admin_request(options)
end

describe("the document of the API", function()
  it("has every route with an id of its own, what it takes, and what it answers", function()
    with({}, function(served)
      local got = served:admin_get "/openapi.json"
      local document = got.json
      assert.matches("^3%.1%.", document.openapi)
      assert.equal("https://json-schema.org/draft/2020-12/schema", document.jsonSchemaDialect)
      local ids, n = {}, 0
      for path, operations in pairs(document.paths) do
        for method, operation in pairs(operations) do
          local id = operation.operationId
          assert.is_nil(ids[id], id)
          ids[id], n = true, n + 1
          assert.truthy(operation.summary, method .. " " .. path)
          assert.truthy(operation.responses.default, method .. " " .. path)
          for _, parameter in ipairs(operation.parameters) do
            if parameter["in"] == "path" then assert.truthy(path:find("{" .. parameter.name .. "}", 1, true)) end
          end
        end
      end
      assert.is_true(n > 50, n)
      for _, name in ipairs { "Problem", "Meta", "Pool", "Stats" } do assert.truthy(document.components.schemas[name], name) end
      -- every reference leads somewhere
      for reference in got.body:gmatch '"%$ref": ?"([^"]+)"' do assert.truthy(schema.resolve(document, reference)) end
      local again = served:admin_request { path = "/openapi.json", headers = { ["If-None-Match"] = got.headers.etag } }
      assert.same({ 304, "" }, { again.status, again.body })
    end)
  end)

  it("has the routes of a user's own, judged as they declare", function()
    local rules = { ["routes/admin/mine.lua"] = [[
      local admin = require "perilune.admin"
      local app = admin.app()
      app:get(admin.path "mine/:id", { summary = "Mine", query = { size = { type = "integer", min = 1, max = 9, hint = "a whole number, 1 to 9" } },
        answers = { [200] = { id = "string", size = "integer" } } }, function(req)
        return admin.envelope { id = req.params.id, size = req.asked.size or 1 }
      end)
      app:get(admin.path "plain", function() return admin.envelope { any = 1 } end)
      return app
    ]], ["routes/app.lua"] = RULES["routes/app.lua"] }
    with({ rules = rules }, function(served)
      local document = served:admin_get("/openapi.json").json
      assert.equal("Mine", document.paths[API .. "mine/{id}"].get.summary)
      assert.truthy(document.paths[API .. "plain"].get)
      assert.same({ id = "a", size = 4 }, ask(served, "GET", "mine/a?size=4").json.data)
      local refused = ask(served, "GET", "mine/a?size=40")
      assert.same({ 400, "bad_size", "size" }, { refused.status, refused.json.code, refused.json.errors[1].parameter })
      refused = ask(served, "GET", "mine/a?sise=4")
      assert.same({ 400, "unknown_parameter" }, { refused.status, refused.json.code })
      assert.matches("did you mean 'size'?", refused.json.detail, 1, true)
      served:write_rule("routes/admin/mine.lua", 'return require("perilune.admin").app():get("/x", { sumary = "x" }, function() end)')
      served:wait_log "unknown key 'sumary' in the declaration of a route, did you mean 'summary'?"
    end)
  end)
end)

describe("a request with an Idempotency-Key", function()
  it("is done once and answered alike, also over a reload, and not lent to another request", function()
    with({}, function(served)
      local function post(key, body, path)
        return ask(served, "POST", path or "alerts/silences", { json = body, headers = { ["Idempotency-Key"] = key } })
      end
      local function silence(comment) return { matchers = { alertname = "X" }, ttl = "1h", author = "me", comment = comment } end
      local first = post("one", silence "a")
      assert.equal(201, first.status, first.body)
      local again = post("one", silence "a")
      assert.same({ 201, first.body, "true", first.headers.location }, { again.status, again.body, again.headers["idempotent-replayed"], again.headers.location })
      assert.is_nil(first.headers["idempotent-replayed"])
      local other = post("one", silence "b")
      assert.same({ 422, "key_reused" }, { other.status, other.json.code })
      assert.equal(200, ask(served, "POST", "reload").status)
      assert.equal(first.body, post('"one"', silence "a").body)
      assert.equal(1, #ask(served, "GET", "alerts/silences").json.data.silences)
      assert.equal(201, post("two", silence "a").status)
      assert.equal(400, post(("k"):rep(300), silence "a").status)
      -- what was refused before the handler holds no key
      assert.equal(422, post("three", { ttl = "1h" }).status)
      assert.equal(201, post("three", silence "c").status)
    end)
  end)

  it("is refused while the first is under way", function()
    local rules = { ["routes/app.lua"] = RULES["routes/app.lua"], ["routes/admin/slow.lua"] = [[
      local admin = require "perilune.admin"
      local p = require "perilune"
      local app, open, seen = admin.app(), false, 0
      app:post(admin.path "slow", { summary = "Slow", answers = { [200] = { n = "integer" } } }, function()
        seen = seen + 1
        while not open do p.sleep(0.01) end
        return admin.envelope { n = seen }
      end)
      app:post(admin.path "raises", { summary = "Raises", answers = { [200] = "any" } }, function() error "on purpose" end)
      app:get(admin.path "seen", { summary = "Seen", answers = { [200] = { n = "integer" } } }, function() return admin.envelope { n = seen } end)
      app:post(admin.path "open", { summary = "Open", answers = { [200] = "object" } }, function() open = true return admin.envelope { open = true } end)
      return app
    ]] }
    with({ rules = rules }, function(served)
      local headers = { ["Idempotency-Key"] = "k" }
      local first = loop.spawn(function() return ask(served, "POST", "slow", { headers = headers }) end)
      loop.wait_until(function() return ask(served, "GET", "seen").json.data.n == 1 end, 10000, "the first at work")
      local second = ask(served, "POST", "slow", { headers = headers })
      assert.same({ 409, "in_flight" }, { second.status, second.json.code })
      ask(served, "POST", "open")
      assert.equal(1, loop.join(first).json.data.n)
      local third = ask(served, "POST", "slow", { headers = headers })
      assert.same({ 1, "true" }, { third.json.data.n, third.headers["idempotent-replayed"] })
      for _ = 1, 2 do assert.equal(500, ask(served, "POST", "raises", { headers = { ["Idempotency-Key"] = "r" } }).status) end -- it is tried again
    end)
  end)
end)

describe("a list by pages", function()
  it("is whole when one goes from cursor to cursor, also when something comes in between", function()
    with({}, function(served)
      local function change(value) return ask(served, "PATCH", "config", { json = { settings = { ["server.fields"] = value } } }) end
      for value = 51, 55 do assert.equal(200, change(value).status) end
      local seen, cursor = {}, nil
      repeat
        local got = ask(served, "GET", "config/journal?limit=2" .. (cursor and "&cursor=" .. cursor or "")).json
        for _, one in ipairs(got.data.changes) do seen[#seen + 1] = one.seq end
        cursor = got.meta.next
        if #seen == 2 then change(60) end
      until not cursor
      assert.same({ 5, 4, 3, 2, 1 }, seen)
      for _, path in ipairs { "config/journal", "issues", "alerts", "suggestions", "audit" } do
        local refused = ask(served, "GET", path .. "?cursor=nonsense")
        assert.same({ 400, "bad_cursor" }, { refused.status, refused.json.code }, path)
        assert.equal(400, ask(served, "GET", path .. "?limit=0").status)
        assert.equal(200, ask(served, "GET", path .. "?limit=1").status)
      end
    end)
  end)
end)

local TOKENS = [[return { admin_tokens = {
  { name = "grafana", role = "read", token = "env:READ_TOKEN" },
  { name = "deploy", role = "operate", token = "a-token-to-operate" },
  { name = "root", role = "admin", token = "a-token-for-all-of-it" },
  { name = "root-new", role = "admin", token = "the-next-token-for-all" },
} }]]

describe("tokens", function()
  it("let each role do its own, and say which role is needed", function()
    with({ config = TOKENS, env = { READ_TOKEN = "a-token-to-read-with" } }, function(served)
      local function by(token, method, path, body)
        return ask(served, method, path, { json = body, headers = { Authorization = token and "Bearer " .. token } })
      end
      local read, operate, root = "a-token-to-read-with", "a-token-to-operate", "a-token-for-all-of-it"
      assert.equal(401, by(nil, "GET", "stats").status)
      assert.equal(401, by("wrong", "GET", "stats").status)
      assert.equal("a bearer token is needed", by(nil, "GET", "stats").json.detail)
      assert.equal("the bearer token is not one that this engine knows", by("wrong", "GET", "stats").json.detail)
      assert.equal("Bearer", by(nil, "GET", "stats").headers["www-authenticate"])
      for _, token in ipairs { read, operate, root, "the-next-token-for-all" } do assert.equal(200, by(token, "GET", "stats").status, token) end
      local change = { settings = { ["server.fields"] = 50 } }
      local refused = by(read, "PATCH", "config", change)
      assert.same({ 403, "forbidden_role", "operate" }, { refused.status, refused.json.code, refused.json.role_needed })
      assert.equal(200, by(operate, "PATCH", "config", change).status)
      for _, path in ipairs { "reload", "generations/1/restore" } do
        assert.same({ 403, "admin" }, { by(operate, "POST", path).status, by(operate, "POST", path).json.role_needed }, path)
        assert.equal(200, by(root, "POST", path).status, path)
      end
      assert.equal(403, by(operate, "GET", "audit").status)
      local entries = by(root, "GET", "audit").json.data.entries
      assert.same({ "root", "POST", 200 }, { entries[1].actor, entries[1].method, entries[1].status })
      local by_actor = {}
      for _, entry in ipairs(entries) do by_actor[entry.actor] = entry end -- the oldest of each
      local e = by_actor.grafana
      assert.same({ "PATCH", 403, "forbidden_role" }, { e.method, e.status, e.code })
      e = by_actor["(no token)"]
      assert.same({ "GET", 401, "unauthorized", "none" }, { e.method, e.status, e.code, e.role })
    end)
  end)

  it("change with the configuration, without a restart", function()
    with({ config = TOKENS, env = { READ_TOKEN = "a-token-to-read-with" } }, function(served)
      local function status(token) return ask(served, "GET", "stats", { headers = { Authorization = "Bearer " .. token } }).status end
      assert.equal(200, status "a-token-for-all-of-it")
      files.write(served.folder .. "/perilune.lua", 'return { admin_tokens = { { name = "root", role = "admin", token = "the-next-token-for-all" } } }')
      loop.wait_until(function() return status "a-token-for-all-of-it" == 401 end, 20000, "the old token to be gone")
      assert.equal(200, status "the-next-token-for-all")
    end)
  end)

  it("are refused with their mistake", function()
    for text, words in pairs {
      ['{ { name = "a", role = "reader", token = "0123456789abcdef" } }'] = "'role' is \"read\", \"operate\" or \"admin\"",
      ['{ { name = "a", role = "read", token = "short" } }'] = "16 bytes at least",
      ['{ { name = "a", role = "read", token = "env:NO_SUCH_VARIABLE" } }'] = "cannot be read",
      ['{ { name = "a", rule = "read", token = "0123456789abcdef" } }'] = "unknown key 'rule', did you mean 'role'?",
      ['{ { role = "read", token = "0123456789abcdef" } }'] = "'name' is a name",
      ['"x"'] = "it is a list",
    } do
      local folder = files.temporary "perilune"
      files.write(folder .. "/perilune.lua", "return { admin_tokens = " .. text .. " }")
      local code, out, err = engine.run { args = { "check", "--config", folder .. "/perilune.lua" } }
      assert.equal(2, code, text)
      assert.matches(words, out .. err, 1, true)
      files.remove(folder)
    end
  end)
end)

describe("a body", function()
  it("is JSON, says so, and is not deeper than anybody needs", function()
    with({}, function(served)
      local function status(body, headers)
        return served:admin_request { method = "POST", path = API .. "analyze", body = body, headers = headers or {} }
      end
      assert.same({ 415, "wrong_type" }, { status("{}").status, status("{}").json.code })
      assert.equal(415, status("{}", { ["Content-Type"] = "text/plain" }).status)
      assert.equal(200, status("{}", { ["Content-Type"] = "application/json; charset=utf-8" }).status)
      local json_type = { ["Content-Type"] = "application/json" }
      local function nested(depth) return ('{"endpoint": '):rep(depth) .. "1" .. ("}"):rep(depth) end
      assert.equal(422, status(nested(32), json_type).status)
      local deep = status(nested(33), json_type)
      assert.same({ 400, "bad_json" }, { deep.status, deep.json.code })
    end)
  end)
end)

describe("the record of changes", function()
  it("has who, what and how it went, and no secret", function()
    with({}, function(served)
      ask(served, "PATCH", "config", { json = { settings = { ["server.fields"] = 50 }, reason = "a test" } })
      ask(served, "PATCH", "config", { json = { settings = { ["server.feelds"] = 50 } } })
      ask(served, "POST", "resources/pools", { json = { pool_id = "one", pool_type = "database", dsn = "postgresql://u:hidden-one@127.0.0.1:1/x", password = "hidden-two" } })
      ask(served, "GET", "stats")
      local entries = ask(served, "GET", "audit").json.data.entries
      assert.equal(3, #entries)
      assert.same({ "loopback", "PATCH", API .. "config", 200, 50, "a test" },
        { entries[3].actor, entries[3].method, entries[3].path, entries[3].status, entries[3].fields.settings["server.fields"], entries[3].fields.reason })
      assert.same({ 422, "invalid_settings" }, { entries[2].status, entries[2].code })
      assert.same({ "***", "***", "one" }, { entries[1].fields.dsn, entries[1].fields.password, entries[1].fields.pool_id })
      local text = files.read(served.state .. "/audit.journal")
      assert.is_nil(text:find("hidden", 1, true))
      assert.equal("PATCH", json.decode(text:match "^[^\n]+").method)
    end)
  end)
end)

describe("a time without a step", function()
  it("is of a day at most, and refused where that is not enough", function()
    with({}, function(served)
      for _, path in ipairs { "trends", "dashboard/latency", "patterns" } do
        local year = ask(served, "GET", path .. "?from=-70000000")
        assert.same({ 200, 86400 }, { year.status, year.json.data.step_s }, path)
        local long = ask(served, "GET", path .. "?from=-1000000000")
        assert.same({ 400, "too_many_steps" }, { long.status, long.json.code }, path)
        long = ask(served, "GET", path .. "?from=-7000000000&to=-6990000000&step=86400")
        assert.same({ 400, "bad_range" }, { long.status, long.json.code }, path)
      end
    end)
  end)
end)

describe("a body", function()
  it("is refused where it says that it is compressed", function()
    with({}, function(served)
      local function change(coding) return ask(served, "PATCH", "config", { json = { settings = { ["server.fields"] = 50 } }, headers = { ["Content-Encoding"] = coding } }) end
      local got = change "gzip"
      assert.same({ 415, "wrong_encoding", "identity" }, { got.status, got.json.code, got.headers["accept-encoding"] })
      assert.equal("default", ask(served, "GET", "config/server.fields").json.data.origin)
      assert.equal(200, change("identity").status)
    end)
  end)
end)

describe("the path of a benchmark", function()
  it("has no broken escape", function()
    with({}, function(served)
      for _, path in ipairs { "/%zz", "/a%2", "/%", "/x?y=%g0" } do
        local got = ask(served, "POST", "benchmark", { json = { endpoint = path, iterations = 1, concurrent_requests = 1 } })
        assert.same({ 422, "invalid_fields" }, { got.status, got.json.code }, path)
        assert.equal("/endpoint", got.json.errors[1].pointer)
      end
      assert.equal(202, ask(served, "POST", "benchmark", { json = { endpoint = "/%2F?x=%20", iterations = 1, concurrent_requests = 1 } }).status)
    end)
  end)
end)
