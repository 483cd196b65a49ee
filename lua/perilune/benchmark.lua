--- The benchmark that the control API runs: one at a time, in a process of its own (`perilune bench`), against this engine's
--- routes or a peer of a configured upstream and nothing else. What it was asked and what came out outlives a reload.
---
--- Its requests carry a text that nobody else knows, by which workers leave them out of all statistics, and with that out of
-- alerts, objectives and models. What they cost the machine is felt by other traffic all the same: while one runs nothing is
-- learnt, no issue is judged and no trial is on.

local core, require = ...

local admin = require "perilune.admin"
local compare = require "perilune.benchmark.compare"

local M = {}

local KEPT, KEEP = "benchmarks", 10
local JOURNAL = "benchmark"
local SPARE_S = 30       -- for connecting and for what is under way at the end
local SETTLE_MS = 3000   -- until samples hold none of its requests

M.limits = { connections = 256, rate = 50000, iterations = 1000000, duration_s = 60, warmup_s = 30, repeats = 10, all_s = 600 }

local function ended(one) return one.state ~= "queued" and one.state ~= "running" end

-- Whoever ran the first one may be gone: then it has ended with its time.
local function load()
  local text = admin.keep.get(KEPT)
  local all = text and core.json.decode(text) or { next_id = 1, list = {} }
  local first = all.list[1]
  if first and not ended(first) and admin.trials.now_ms() > first.until_ms + SETTLE_MS then
    first.state, first.ended_ms, first.why = "failed", first.until_ms, "nobody ran it to its end: a reload or a restart came in between"
  end
  return all
end

local function save(all)
  while #all.list > KEEP do table.remove(all.list) end
  admin.keep.put(KEPT, core.json.encode(all))
end

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
  if asked.compare then return compare.longest(asked.compare) + SPARE_S end
  if asked.find_capacity then return STEPS * ((asked.duration_s or STEP_S) + (asked.warmup_s or STEP_WARMUP_S)) + SPARE_S end
  local each = (asked.warmup_s or 1) + (asked.duration_s or asked.iterations and M.limits.duration_s or 10)
  return each * (asked.repeats or 1) + SPARE_S
end
M.longest = longest

--- asked: target (URL), connections, rate, poisson, iterations, duration_s, warmup_s, repeats, method, expect_status, expect_body,
--- headers ({ name, value }), upstream, find_capacity, slo_ms, compare (see compare.new). Returns the operation; or nil and the one that is running.
function M.ask(asked, now_ms)
  local all = load()
  local first = all.list[1]
  if first and not ended(first) then return nil, first end
  local one = { id = "bench-" .. all.next_id, state = "queued", asked = asked, target = asked.target, asked_ms = now_ms, until_ms = now_ms + longest(asked) * 1000 }
  all.next_id = all.next_id + 1
  table.insert(all.list, 1, one)
  save(all)
  return one
end

--- Share of what is to be done that is done, where that is known: of blocks, of requests to us, of the time.
function M.progress(one, now_ms)
  if ended(one) then return 1 end
  local asked = one.asked
  if not one.started_ms then return 0 end
  if asked.compare then return math.min(0.99, (one.blocks or 0) / (2 * asked.compare.pairs)) end
  if asked.iterations and not asked.upstream then
    return math.min(0.99, (admin.benchmark.requests() - (one.requests_before or 0)) / (asked.iterations * (asked.repeats or 1)))
  end
  if asked.iterations or asked.find_capacity then return nil end
  return math.min(0.99, (now_ms - one.started_ms) / 1000 / (longest(asked) - SPARE_S))
end

local function arguments(asked, output, tag)
  local list = { "/proc/self/exe", "bench", asked.target, "-o", "json", "--output", output, "--header", "User-Agent: perilune-benchmark" }
  if not asked.upstream then list[#list + 1], list[#list + 2] = "--header", "Perilune-Benchmark: " .. tag end
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
  for _, field in ipairs(asked.headers or {}) do list[#list + 1], list[#list + 2] = "--header", ("%s: %s"):format(field[1], field[2]) end
  if asked.expect_body then list[#list + 1], list[#list + 2] = "--expect-body", asked.expect_body end
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

-- One run of the generator: whether it measured, and if not why.
local function generate(one, clock_ms, asked)
  asked = asked or one.asked
  local output = ("%s/%s.journal"):format(admin.control.state, JOURNAL)
  local code, why = admin.command(arguments(asked, output, one.tag), "", math.max(1, one.until_ms - clock_ms()), one.id)
  if code == 0 or code == 3 then return result() end
  return nil, why or code == 1 and "the target cannot be reached; the log has the reason" or ("it ended with %s"):format(tostring(code))
end

local function cancelled(id) return (M.find(id) or {}).cancelled end

local function run_blocks(one, clock_ms)
  local c, asked = one.asked.compare, {}
  for name, value in pairs(one.asked) do asked[name] = value end
  asked.duration_s, asked.warmup_s = c.block_s, c.settle_s
  local why
  while not compare.over(c) and not why and not cancelled(one.id) do
    local value, refused = compare.begin(c)
    if value == nil then why = refused break end
    local measured, failed = generate(one, clock_ms, asked)
    if cancelled(one.id) then break end -- half a block says nothing
    if not compare.add(c, value, measured) then why = failed or "a block was not answered at all" end
    change(one.id, { blocks = #c.blocks })
  end
  if why then return nil, why end
  return compare.result(c)
end

--- Runs what is queued to its end; called again and again.
function M.work(clock_ms)
  local one = load().list[1]
  if not one or one.state ~= "queued" then return end
  one.tag = admin.benchmark.begin()
  change(one.id, { state = "running", started_ms = clock_ms(), requests_before = admin.benchmark.requests() })
  admin.watch.hold(one.until_ms)
  local fine, got, why = pcall(one.asked.compare and run_blocks or generate, one, clock_ms)
  if not fine then got, why = nil, got end
  admin.benchmark.finish()
  if one.asked.compare then compare.finish(one.asked.compare) end
  local now = clock_ms()
  admin.watch.hold(now + SETTLE_MS)
  if cancelled(one.id) then change(one.id, { state = "cancelled", ended_ms = now, result = got })
  elseif got then change(one.id, { state = "done", ended_ms = now, result = got })
  else change(one.id, { state = "failed", ended_ms = now, why = why }) end
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
