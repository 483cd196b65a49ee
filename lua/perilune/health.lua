--- How everything that handlers lean on is: pools, task threads, caches, the machine, processes; and a sentence for whatever is
-- out of line.
local core, require = ...

local admin = require "perilune.admin"

local M = {}

-- From which value on a figure is out of line: { section, name, warning, critical, what it means }.
local MACHINE = {
  { "cpu", "share", 0.85, 0.97, "the CPUs are busy to %s: requests wait for each other" },
  { "cpu", "steal_share", 0.05, 0.2, "the hypervisor gives %s of the CPU time to other machines" },
  { "cpu", "throttled_share", 0.05, 0.25, "the CPU quota ran out in %s of its periods: raise it, or use fewer workers" },
  { "memory", "share", 0.85, 0.95, "%s of the memory limit is in use" },
  { "pressure", "memory_full_10s", 0.05, 0.2, "all work waited for memory in %s of the last 10 seconds" },
  { "pressure", "io_full_10s", 0.2, 0.5, "all work waited for a disk in %s of the last 10 seconds" },
  { "disk", "share", 0.85, 0.95, "%s of the disk of the state folder is in use" },
  { "disk", "inodes_share", 0.85, 0.95, "%s of the inodes of the state folder's disk are in use" },
}
local LAG_MS, LAG_CRITICAL_MS = 50, 250
local TASKS_BUSY, TASKS_QUEUE = 0.9, 0.8
local DESCRIPTORS = 0.8

local RANK = { ok = 1, warning = 2, critical = 3 }

local Findings = {}
Findings.__index = Findings

function Findings:add(part, severity, sentence, ...)
  self.list[#self.list + 1] = { part = part, severity = severity, message = sentence:format(...) }
  if RANK[severity] > RANK[self.health[part] or "ok"] then self.health[part] = severity end
end

local function percent(share) return ("%.0f %%"):format(share * 100) end

local function look_at_machine(found, machine)
  for _, rule in ipairs(MACHINE) do
    local value = machine[rule[1]] and machine[rule[1]][rule[2]]
    if value and value >= rule[3] then found:add("machine", value >= rule[4] and "critical" or "warning", rule[5], percent(value)) end
  end
  local most = machine.descriptors and machine.descriptors.process_max
  for _, process in ipairs(machine.processes) do
    local lag = process.loop_lag_ms
    if lag and lag >= LAG_MS then
      found:add("machine", lag >= LAG_CRITICAL_MS and "critical" or "warning",
        "the loop of %s was late by %.0f ms: something holds it up, or the CPUs are busy", process.name, lag)
    end
    if most and process.open_fds and process.open_fds >= most * DESCRIPTORS then
      found:add("machine", "critical", "%s has %d of at most %d descriptors open: raise LimitNOFILE", process.name, process.open_fds, most)
    end
  end
end

local function look_at_pools(found, pools)
  for _, pool in ipairs(pools) do
    if pool.health == "unreachable" then
      found:add("pools", "critical", "pool %s cannot reach its server: %s", pool.id, pool.reason)
    elseif pool.pending_requests > 0 and pool.used >= pool.max then
      found:add("pools", "warning", "%d requests wait for pool %s: all of its %d connections are in use", pool.pending_requests, pool.id, pool.max)
    end
  end
end

local function look_at_tasks(found, tasks)
  for _, process in ipairs(tasks.processes) do
    if process.lost > 0 then
      found:add("tasks", "critical", "%d task threads of %s do not come back from their task (see the log)", process.lost, process.name)
    end
    if process.queued + process.running >= process.max * TASKS_QUEUE and process.max > 0 then
      found:add("tasks", "warning", "%d tasks of %s wait or run, of at most %d: more will be refused as busy",
        process.queued + process.running, process.name, process.max)
    elseif process.utilization >= TASKS_BUSY and process.queued > 0 then
      found:add("tasks", "warning", "the task threads of %s are busy to %s and %d tasks wait: raise tasks.threads if there are CPUs left",
        process.name, percent(process.utilization), process.queued)
    end
  end
end

local function machine_view()
  local machine = { not_available = {}, processes = admin.machine.processes() }
  for _, figure in ipairs(admin.machine.figures()) do
    machine[figure.section] = machine[figure.section] or {}
    machine[figure.section][figure.name] = figure.value
    if not figure.value then machine.not_available[figure.section .. "." .. figure.name] = figure.why end
  end
  return machine
end

local function cache_view()
  local cache = admin.cache.view()
  if not cache then return { available = false, reason = "there is no cache: cache.bytes is 0, or its folder cannot be used" } end
  return { available = true, bytes = cache.bytes, limit_bytes = cache.limit_bytes, entries = cache.entries, evictions = cache.evictions }
end

local function look_at_store(found, store)
  if not store.enabled then
    found.health.store = "absent"
  elseif store.trouble then
    found:add("store", "warning", "history cannot be written, it is kept in memory meanwhile: %s", store.trouble)
  end
end

--- { health, health_of = { part = health }, findings = { { part, severity, message } }, pools, tasks, cache, store, machine }.
function M.look()
  local found = setmetatable({ list = core.json.array {}, health = { machine = "ok", pools = "ok", tasks = "ok", cache = "ok", store = "ok" } }, Findings)
  local machine, pools, tasks, cache, store = machine_view(), admin.pools.list(), admin.task_stats(), cache_view(), admin.store.state()
  look_at_machine(found, machine)
  look_at_pools(found, pools)
  look_at_tasks(found, tasks)
  look_at_store(found, store)
  if not cache.available then found.health.cache = "absent" end
  local health = "ok"
  for _, finding in ipairs(found.list) do
    if RANK[finding.severity] > RANK[health] then health = finding.severity end
  end
  return { health = health, health_of = found.health, findings = found.list, pools = pools, tasks = tasks, cache = cache, store = store, machine = machine }
end

return M
