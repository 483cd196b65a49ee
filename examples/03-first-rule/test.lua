-- The rule and the route under test, without a server.
local testing = require("perilune").testing
local snapshot = testing.healthy()
assert(#testing.rule("rules/suggestions/large_answers.lua", snapshot) == 0, "raised for a healthy engine")
snapshot.a.now.bytes_out = 500000
local found = testing.rule("rules/suggestions/large_answers.lua", snapshot)
assert(#found == 1 and found[1].target == "GET /a", "not raised for large answers")
print(found[1].title, found[1].explanation)

local response = testing.app("rules/routes/list.lua"):request "/list?rows=3"
assert(response.status == 200 and #response.json.rows == 3)
print("GET /list", response.status, #response.body .. " bytes")
