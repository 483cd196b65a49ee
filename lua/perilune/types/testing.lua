---@meta
--- Rules and routes under test, in any test runner, without a server: perilune.testing
--
--     local testing = require("perilune").testing
--
--     local app = testing.app("rules/routes/api.lua", { clock = clock, postgres = { main = fake } })
--     local response = app:request { method = "GET", path = "/users/7", headers = { accept = "text/html" } }
--     assert.equal(200, response.status)  assert.same({ id = "7" }, response.json)
--
--     local snapshot = testing.healthy()              -- or testing.recorded "facts.json", which GET suggestions/facts gave
--     snapshot.a.now.db = 80                          -- the route of a golden fixture: its parts are named
--     local found = testing.rule("rules/suggestions/mine.lua", snapshot)
--     assert.equal("GET /a", found[1].target)
--
-- A route runs as it does in the server, as far as a handler can tell, but on the test's own stack: what waits there (sleep) moves the
-- clock here, and what would ask somebody else (http, postgres, redis) asks what the test puts into its place.

---@class perilune.testing.Clock

---@class perilune.testing
local M = {}

--- A clock that stands until it is moved. `at` in seconds (1,000).
function M.clock(at) end

---@class perilune.testing.App

--- Loads a route file. options: clock, http, postgres and redis (tables of fakes by name), modules (by the name that require takes), rules (its folder,
-- for lib/; taken from the path when that has "/routes/"). `app.log` has what was logged: { level, text } each.
function M.app(path, options) end

---@class perilune.App
local App = {}

--- Asks a handler. request: method ("GET"), path (with "?query"), headers, body (a table is sent as JSON), host, remote_address. Returns { status, headers
-- (lower case), body, json } or { forwarded_to, path }; a handler that raises answers 500 with `error`, no route answers 404.
function App:request(request) end

--- A snapshot of a healthy engine under load, in which no rule is raised: a route GET /a with the database and GET /b with an upstream, two pools, three
-- peers, a cache. Its parts are fields, too: host, a, b, main, redis, p1, p2, up, task, statement. Change what should be wrong.
function M.healthy() end

--- A snapshot that GET suggestions/facts gave: a path or the decoded table.
function M.recorded(from) end

--- What a rule says of a snapshot: a list of { target, title, operations or advice, impact, explanation }; empty when it is not raised. The rule is a path or
-- a table. settings: those of an application by name, as { default, min, max, type }. A rule that is malformed or raises is an error of the test.
function M.rule(rule, snapshot, settings) end
