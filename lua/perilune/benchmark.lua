--- The benchmark that the control API runs: one at a time, in a process of its own (`perilune bench`), against this engine's
--- routes or a peer of a configured upstream and nothing else. What it was asked and what came out outlives a reload.
---
--- While one runs nothing is learnt, no issue is judged and no trial is on: its traffic is nobody's.

local core, require = ...

local admin = require "perilune.admin"

local M = {}

local KEPT, KEEP = "benchmarks", 10
local JOURNAL = "benchmark"
local SPARE_S = 30       -- for connecting and for what is under way at the end
local SETTLE_MS = 3000   -- until samples hold none of its requests

M.limits = { connections = 256, rate = 50000, iterations = 1000000, duration_s = 60, warmup_s = 30, repeats = 10, all_s = 600 }

local function load()
  local text = admin.keep.get(KEPT)
  return text and core.json.decode(text) or { next_id = 1, list = {} }
end

local function save(all)
  while #all.list > KEEP do table.remove(all.list) end
  admin.keep.put(KEPT, core.json.encode(all))
end

local function ended(one) return one.state ~= "queued" and one.state ~= "running" end

--- The newest first.
function M.list() return load().list end

function M.find(id)
  for _, one in ipairs(load().list) do
    if one.id == id then return one end
  end
end

--- Whether one is under way, or just was.
function M.running(now_ms)
  local first = load().list[1]
  return first ~= nil and now_ms < (first.ended_ms and first.ended_ms + SETTLE_MS or first.until_ms)
end

local function change(id, fields)
  local all = load()
  for _, one in ipairs(all.list) do
    if one.id == id then
      for name, value in pairs(fields) do one[name] = value end
    end
  end
  save(all)
end

local STEPS, STEP_S, STEP_WARMUP_S = 19, 3, 0.5 -- of find_capacity, as core/engine/bench_run.c has them

--- How long it may take, in seconds.
local function longest(asked)
  if asked.find_capacity then return STEPS * ((asked.duration_s or STEP_S) + (asked.warmup_s or STEP_WARMUP_S)) + SPARE_S end
  local each = (asked.warmup_s or 1) + (asked.duration_s or asked.iterations and M.limits.duration_s or 10)
  return each * (asked.repeats or 1) + SPARE_S
end
M.longest = longest

--- asked: target (URL), connections, rate, poisson, iterations, duration_s, warmup_s, repeats, method, expect_status, find_capacity,
--- slo_ms. Returns the operation; or nil and the one that is running.
function M.ask(asked, now_ms)
  local all = load()
  local first = all.list[1]
  if first and not ended(first) and now_ms < first.until_ms then return nil, first end
  if first and not ended(first) then first.state, first.ended_ms = "failed", now_ms end
  local one = { id = "bench-" .. all.next_id, state = "queued", asked = asked, target = asked.target, asked_ms = now_ms, until_ms = now_ms + longest(asked) * 1000 }
  all.next_id = all.next_id + 1
  table.insert(all.list, 1, one)
  save(all)
  return one
end

--- Share of the time that has gone, where the time is known.
function M.progress(one, now_ms)
  if ended(one) then return 1 end
  local asked = one.asked
  if asked.iterations or asked.find_capacity or not one.started_ms then return nil end
  return math.min(0.99, (now_ms - one.started_ms) / 1000 / (longest(asked) - SPARE_S))
end

local function arguments(asked, output)
  local list = { "/proc/self/exe", "bench", asked.target, "-o", "json", "--output", output, "--header", "User-Agent: perilune-benchmark" }
  local function add(name, value)
    if value == nil then return end
    list[#list + 1], list[#list + 2] = name, ("%.14g"):format(value)
  end
  add("--connections", asked.connections)
  add("--rate", asked.rate)
  add("--iterations", asked.iterations)
  add("--duration", asked.duration_s or asked.iterations and M.limits.duration_s or nil)
  add("--warmup", asked.warmup_s)
  add("--repeats", asked.repeats)
  add("--expect-status", asked.expect_status)
  add("--slo", asked.slo_ms)
  if asked.method then list[#list + 1], list[#list + 2] = "--method", asked.method end
  if asked.poisson then list[#list + 1] = "--poisson" end
  if asked.find_capacity then list[#list + 1] = "--find-capacity" end
  return list
end

-- The report is one line, written where a journal of this name would be, so that it is read like one.
local function result()
  local lines = admin.journal.read(JOURNAL)
  return lines[1] and core.json.decode(lines[#lines]) or nil
end

--- Runs what is queued to its end; called again and again.
function M.work(clock_ms)
  local first = load().list[1]
  if not first or first.state ~= "queued" then return end
  change(first.id, { state = "running", started_ms = clock_ms() })
  admin.watch.hold(first.until_ms)
  local output = ("%s/%s.journal"):format(admin.control.state, JOURNAL)
  local code, why = admin.command(arguments(first.asked, output), "", math.max(1, first.until_ms - clock_ms()), first.id)
  local now = clock_ms()
  admin.watch.hold(now + SETTLE_MS)
  local cancelled = (M.find(first.id) or {}).cancelled
  if (code == 0 or code == 3) and not cancelled then change(first.id, { state = "done", ended_ms = now, result = result() })
  elseif cancelled then change(first.id, { state = "cancelled", ended_ms = now, result = (code == 0 or code == 3) and result() or nil })
  else
    change(first.id, { state = "failed", ended_ms = now, why = why or code == 1 and "the target cannot be reached; the log has the reason" or ("it ended with %s"):format(tostring(code)) })
  end
end

--- Asks a running one to end with what it has. False: it had ended.
function M.cancel(id, now_ms)
  local one = M.find(id)
  if not one or ended(one) then return false end
  change(id, one.state == "queued" and { cancelled = true, state = "cancelled", ended_ms = now_ms } or { cancelled = true })
  admin.command_end(id)
  return true
end

return M
