--- A short run of the laboratory: a planted fault is named and its cure suggested, and without one nothing is.
local engine = require "tests.support.engine"
local process = require "tests.support.process"
local loop = require "tests.support.loop"

describe("the laboratory", function()
  it("scores a fault and a time without one", function()
    loop.run(function()
      local code, out, err = process.run { command = "tests/scenarios/run", args = { "n_plus_one", "steady" }, timeout_ms = 300000,
        env = { PERILUNE = engine.program(), HOLD = "45" } }
      assert.equal(0, code, out .. err)
      assert.matches("n_plus_one +right", out)
      assert.matches("steady +silent", out)
      assert.matches("suggestion in top 3 +100 %% of 1 scenarios", out)
    end, 310000)
  end)
end)
