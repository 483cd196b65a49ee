--- doc/reference.md says what the program does.
local process = require "tests.support.process"
local uv = require "luv"

describe("the reference", function()
  it("is what the program says of itself", function()
    local code, out, err = process.run { command = uv.cwd() .. "/tests/support/reference", args = { "--check" }, timeout_ms = 60000 }
    assert.equal(0, code, out .. err)
  end)
end)
