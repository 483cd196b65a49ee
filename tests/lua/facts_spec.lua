--- What the rules of suggestions are told of the machine, and what those about CPU make of it: no engine.
local need = require "tests.support.analyzer" {}

local facts = need "perilune.suggestions.facts"
local golden = need "perilune.suggestions.golden"
local cpu_bound, overload = assert(loadfile "rules/suggestions/cpu_bound.lua")(), assert(loadfile "rules/suggestions/overload.lua")()

--- The healthy engine of the golden cases with some signals of the host, workers and task threads changed.
local function engine(host, workers, threads)
  local x = golden.base {}
  for name, value in pairs(host) do x.host.now[name] = value end
  for name, value in pairs { p95_ms = 50, in_flight = 10 } do
    x.host.usual[name], x.host.moved[name] = value, { direction = "up" }
  end
  x.host.now.p95_ms, x.host.now.in_flight = 400, 200
  x.workers, x.limits.concurrency = workers, {}
  x.tasks.processes = {}
  for i = 1, workers do x.tasks.processes[i] = { name = "worker " .. i - 1, width = threads } end
  x.tasks.processes[workers + 1] = { name = "control", width = 8 }
  return facts.new(x, {}, {})
end

describe("what computes for requests", function()
  it("is full when each loop is, though the machine is not", function()
    local f = engine({ cpu_share = 0.4, worker_cpu = 1, task_busy_share = 0 }, 1, 2)
    assert.same({ 1, 1 }, { f:loops_busy(), f:busy() })
    assert.is_true(cpu_bound.when(f.host, f) and overload.when(f.host, f))
    assert.equal("run 4 workers instead of 1", cpu_bound.title(f.host, f))
  end)

  it("may have nothing in flight that is not read yet", function()
    local f = engine({ cpu_share = 0.6, worker_cpu = 1, task_busy_share = 0 }, 1, 2)
    f.host.now.in_flight = 6
    assert.is_false(overload.when(f.host, f))
    f.host.now.connections, f.host.usual.connections, f.host.moved.connections = 52, 12, { direction = "up" }
    assert.is_true(overload.when(f.host, f))
  end)

  it("is not full when task threads take the time", function()
    local f = engine({ cpu_share = 0.5, worker_cpu = 2, task_busy_share = 0.9 }, 1, 2)
    assert.is_true(math.abs(f:loops_busy() - 0.2) < 1e-9 and f:busy() == 0.5)
    assert.is_false(cpu_bound.when(f.host, f) or overload.when(f.host, f))
  end)

  it("is not full when one of two loops is", function()
    local f = engine({ cpu_share = 0.3, worker_cpu = 1, task_busy_share = 0 }, 2, 2)
    assert.equal(0.5, f:loops_busy())
    assert.is_false(cpu_bound.when(f.host, f))
  end)

  it("asks for more CPUs where each core has its worker", function()
    local f = engine({ cpu_share = 0.97, worker_cpu = 3.8, task_busy_share = 0 }, 4, 2)
    assert.is_true(cpu_bound.when(f.host, f))
    assert.equal("add CPUs, or profile the hottest route", cpu_bound.title(f.host, f))
  end)
end)
