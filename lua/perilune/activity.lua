--- What the sessions of a PostgreSQL server do, as pg_stat_activity tells: who waits for a lock and for whom, and who keeps a
-- transaction open and does nothing. Statements alone do not show it: one that waits for a lock looks like a slow one, and a
-- transaction that idles only keeps others from a connection.
--
--     local seen, why = activity.look(p.postgres "main")   -- now
--     list = activity.add(list, seen, now_s)               -- kept for SPAN_S
--     activity.sum(list)                                   -- { looks, active, blocked, blocked_s, reading, idle_in_tx, idle_in_tx_s, blocker,
--                                                          --   running, starved, cores }
--     activity.put(by_pool, now_s)  activity.get(now_s)    -- the sums, for those who look for issues and suggestions
--
-- `reading` are those that wait for the disk. Where the server is on this machine, the kernel tells what its sessions do at the
-- processor: of `cores`, `running` are theirs, and `starved` sessions are ready and wait for one; a statement that others keep
-- from the processor is slow without being at fault. Elsewhere these three are absent.
--
-- Numbers of sessions are means over the looks, seconds the longest. A role that may not see other sessions' statements
-- (no member of pg_read_all_stats) sees those of its own.
--
-- Source: PostgreSQL 15, 28.2.3 pg_stat_activity; 9.26 pg_blocking_pids.

local core, require = ...

local admin = require "perilune.admin"

local M = {}

local KEPT = "activity"
M.SPAN_S = 30

local LEAST_IDLE = "50 ms" -- between two statements of a handler that hurries

local SESSIONS = ([[
select count(*) filter (where state = 'active') as active,
  count(*) filter (where wait_event_type = 'Lock') as blocked,
  coalesce(extract(epoch from max(clock_timestamp() - query_start) filter (where wait_event_type = 'Lock')), 0)::float8 as blocked_s,
  count(*) filter (where state = 'active' and wait_event_type = 'IO') as reading,
  count(*) filter (where idles) as idle_in_tx,
  coalesce(extract(epoch from max(clock_timestamp() - state_change) filter (where idles)), 0)::float8 as idle_in_tx_s,
  current_database()::text as database, coalesce(string_agg(pid::text, ' '), '') as pids
from (select *, state like 'idle in transaction%%' and clock_timestamp() - state_change > interval '%s' as idles
  from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()) sessions]]):format(LEAST_IDLE)

local BLOCKERS = [[
select b.pid, count(*) as waiting, left(max(b.query), 200) as statement, max(b.state) as state
from pg_stat_activity w cross join lateral unnest(pg_blocking_pids(w.pid)) as by(pid) join pg_stat_activity b on b.pid = by.pid
where w.wait_event_type = 'Lock' and w.datname = current_database()
group by b.pid order by coalesce(bool_or(b.wait_event_type = 'Lock'), false), 2 desc, 1 limit 1]]

---@param db perilune.Database
---@return table? seen
---@return string? message
---@return table? sessions
function M.look(db)
  local seen, why = db:one(SESSIONS)
  if not seen then return nil, why end
  if seen.blocked > 0 then seen.blocker = db:one(BLOCKERS) end
  local pids = {}
  for pid in seen.pids:gmatch "%d+" do pids[#pids + 1] = tonumber(pid) end
  local sessions = admin.machine.sessions(pids, seen.database)
  seen.pids, seen.database = nil, nil
  return seen, nil, sessions
end

-- What sessions that were there before did since, in sessions at a time: computing, and waiting for a processor. nil: not known.
local function at_the_processor(before, now, span_s)
  local ran, waited, known = 0, 0, false
  for pid, one in pairs(now) do
    local old = before[pid]
    if old then
      ran, waited, known = ran + math.max(0, one.cpu_s - old.cpu_s), waited + math.max(0, one.wait_s - old.wait_s), true
    end
  end
  if known and span_s > 0 then return ran / span_s, waited / span_s end
end

local function cores()
  for _, one in ipairs(admin.machine.figures()) do
    if one.section == "cpu" and one.name == "usable_cpus" then return one.value end
  end
end

--- Keeps what look() gave.
function M.add(list, seen, at_s, sessions)
  local last = list[#list]
  local one = { at_s = at_s, seen = seen, sessions = sessions or {} }
  if last then one.running, one.starved = at_the_processor(last.sessions, one.sessions, at_s - last.at_s) end
  list[#list + 1] = one
  while list[1].at_s < at_s - M.SPAN_S do table.remove(list, 1) end
  return list
end

function M.sum(list)
  local out = { looks = #list, active = 0, blocked = 0, blocked_s = 0, reading = 0, idle_in_tx = 0, idle_in_tx_s = 0 }
  local known, running, starved = 0, 0, 0
  for _, one in ipairs(list) do
    for _, name in ipairs { "active", "blocked", "reading", "idle_in_tx" } do out[name] = out[name] + one.seen[name] / #list end
    for _, name in ipairs { "blocked_s", "idle_in_tx_s" } do out[name] = math.max(out[name], one.seen[name]) end
    out.blocker = one.seen.blocker or out.blocker
    if one.running then known, running, starved = known + 1, running + one.running, starved + one.starved end
  end
  if known > 0 then out.running, out.starved, out.cores = running / known, starved / known, cores() end
  return out
end

function M.put(by_pool, at_s) admin.keep.put(KEPT, core.json.encode { at_s = at_s, pools = by_pool }) end

--- By pool; of pools that nobody looked at lately there is none.
function M.get(at_s)
  local text = admin.keep.get(KEPT)
  local kept = text and core.json.decode(text)
  if not kept or math.abs(at_s - kept.at_s) > M.SPAN_S then return {} end
  return kept.pools
end

return M
