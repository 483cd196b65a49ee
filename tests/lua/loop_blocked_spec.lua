--- Whose fault it is that the loop lags: a handler that computes for long, or others that have the processor.
local view = assert(loadfile "lua/perilune/analyzer/view.lua")()
local rule = assert(loadfile "rules/suggestions/loop_blocked.lua")()

describe("the suggestion to give work to a task", function()
  --- Whether it is raised: a handler's mean in ms, how often it is asked, the lag, cores of the workers; usually 0.4 ms and `before` cores.
  local function raised(lua, rps, lag_ms, cores, before)
    local host = view.new({ kind = "host", name = "host", moved = {}, now = { loop_lag_ms = lag_ms, worker_cpu = cores, cpu_share = 0.95 },
      usual = { loop_lag_ms = 2, worker_cpu = before } }, {})
    local route = view.new({ kind = "route", name = "GET /x", moved = {}, now = { lua = lua, rps = rps }, usual = { lua = 0.4, rps = rps } }, {})
    return rule.when(host, { host = host, routes = { route } })
  end

  it("is raised of a handler that always computes for long, and of a few requests that do", function()
    assert.is_true(raised(12, 40, 30, 0.6, 0.1))
    assert.is_true(raised(12, 40, 30))
    assert.is_true(raised(2, 200, 90, 0.4, 0.1))
    assert.is_true(raised(2, 200, 90, 0.4))
  end)

  it("is not raised of a handler that is stretched because others have the processor", function()
    assert.is_false(raised(1, 60, 67.4, 0.017, 0.017))
    assert.is_false(raised(1, 60, 67.4, 0.017))
    assert.is_false(raised(6, 10, 67.4, 0.017))
    assert.is_false(raised(1, 400, 67.4, 0.3, 0.29))
  end)

  it("is not raised of a handler that takes too little in all to hold the loop up for so long", function()
    assert.is_false(raised(1, 20, 67.4, 0.5, 0.1))
    assert.is_false(raised(6, 2, 67.4, 0.5, 0.1))
  end)
end)
