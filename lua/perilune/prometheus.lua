--- prometheus: what was measured, as Prometheus reads it.
--
-- A function from tables to text: the classic format (0.0.4) or OpenMetrics
-- 1.0. What is of each route is most of it, 20,000 lines of 1,000 routes: its
-- labels are escaped once, and whoever asks may have the text in parts of 20
-- routes and let others have their turn between them. Names and labels of request durations are those of
-- OpenTelemetry's semantic conventions.
--
-- Source: https://prometheus.io/docs/instrumenting/exposition_formats/,
--         OpenMetrics 1.0.0 (IETF draft-richih-opsawg-openmetrics-00).
-- SPDX-License-Identifier: MIT
local M = {}

--- What to answer as Content-Type; Prometheus 3 fails a scrape without it.
M.content_type = {
  classic = "text/plain; version=0.0.4; charset=utf-8",
  openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8",
}

local escapes = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

local function escape(value)
  return (tostring(value):gsub('[\\"\n]', escapes))
end

--- Integers without an exponent, the rest so that it reads back the same.
local function number(value)
  if value ~= value then return "NaN" end
  if value == math.huge then return "+Inf" end
  if value == -math.huge then return "-Inf" end
  if value == math.floor(value) and math.abs(value) < 1e14 then return tostring(value) end -- "%.14g"
  if value == math.floor(value) and math.abs(value) < 2 ^ 53 then return ("%.0f"):format(value) end
  local short = ("%.15g"):format(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

--- Bounds of buckets; OpenMetrics wants "1.0" where the classic format has "1".
local function bound(seconds, openmetrics)
  local text = ("%g"):format(seconds)
  if openmetrics and not text:find("[.e]") then text = text .. ".0" end
  return text
end

-- Labels are lists of pairs, because their order must not change from scrape to scrape.
local function labels_text(labels)
  if not labels or #labels == 0 then return "" end
  local parts = {}
  for i, pair in ipairs(labels) do
    parts[i] = ('%s="%s"'):format(pair[1], escape(pair[2]))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- A method outside HTTP's list is "_OTHER" in OpenTelemetry's conventions; our
-- own routes for what has no template have the method "*".
local function route_labels(route, name, value)
  local labels = {
    { "http_request_method", route.method == "*" and "_OTHER" or route.method },
    { "http_route", route.route },
  }
  if name then labels[3] = { name, value } end
  return labels
end

local Writer = {}
Writer.__index = Writer

function Writer:line(text)
  self.lines[#self.lines + 1] = text
end

--- Gives away the lines so far; once nobody wants them any more they are dropped.
function Writer:part()
  self.lines[#self.lines + 1] = ""
  self.gone = self.gone or self.write(table.concat(self.lines, "\n")) == false
  self.lines = {}
end

function Writer:sample(name, labels, value)
  self:line(name .. labels_text(labels) .. " " .. number(value))
end

--- Opens a family. `unit` must be what its name ends in.
function Writer:family(name, kind, help, unit)
  local shown = name
  if kind == "counter" and not self.openmetrics then shown = name .. "_total" end
  self:line(("# HELP %s %s"):format(shown, help))
  self:line(("# TYPE %s %s"):format(shown, kind))
  if unit and self.openmetrics then self:line(("# UNIT %s %s"):format(shown, unit)) end
end

--- A counter without labels; its samples end in _total in both formats.
function Writer:counter(name, help, value, unit)
  self:family(name, "counter", help, unit)
  self:sample(name .. "_total", nil, value)
end

--- A gauge without labels; nothing when the value is not available.
function Writer:gauge(name, help, value, unit)
  if value == nil then return end
  self:family(name, "gauge", help, unit)
  self:sample(name, nil, value)
end

-- A request that fell into a bucket, with its trace: OpenMetrics 1.0, "Exemplars". Those that are known are the slow ones.
local function exemplar(slow, above_s, up_to_s)
  local newest
  for _, one in ipairs(slow or {}) do
    local seconds = one.latency_ms / 1000
    if seconds > above_s and seconds <= up_to_s and (not newest or one.at_unix_s > newest.at_unix_s) then newest = one end
  end
  if not newest then return "" end
  return (' # {trace_id="%s"} %s %.3f'):format(newest.trace_id, number(newest.latency_ms / 1000), newest.at_unix_s)
end

local function traced(slow_requests)
  local by = {}
  for _, one in ipairs(slow_requests or {}) do
    if one.trace_id and one.at_unix_s then
      for _, method in ipairs { one.method or "*", "*" } do
        local key = method .. " " .. tostring(one.route)
        by[key] = by[key] or {}
        table.insert(by[key], one)
      end
    end
  end
  return by
end

local ROUTES_AT_A_TIME = 20

-- Calls fn(lines, route, its labels without the brace at the end) for each, with pauses.
local function each_route(w, histograms, fn)
  for i, h in ipairs(histograms) do
    fn(w.lines, h, labels_text(route_labels(h)):sub(1, -2))
    if w.write and i % ROUTES_AT_A_TIME == 0 then w:part() end
  end
end

local function write_durations(w, histograms, slow_requests)
  local name = "http_server_request_duration_seconds"
  local slow, bounds = w.openmetrics and traced(slow_requests) or {}, {}
  w:family(name, "histogram", "Duration of HTTP server requests.", "seconds")
  each_route(w, histograms, function(lines, h, labels)
    local of, above, n = slow[h.method .. " " .. h.route], 0, #lines
    local head = name .. "_bucket" .. labels .. ',le="'
    for i, bucket in ipairs(h.buckets) do
      local le = bucket.le_seconds
      bounds[le] = bounds[le] or bound(le, w.openmetrics) .. '"} '
      lines[n + i] = head .. bounds[le] .. number(bucket.cumulative) .. (of and exemplar(of, above, le) or "")
      above = le
    end
    w:line(head .. '+Inf"} ' .. number(h.count) .. exemplar(of, above, math.huge))
    w:line(name .. "_sum" .. labels .. "} " .. number(h.sum_s))
    w:line(name .. "_count" .. labels .. "} " .. number(h.count))
  end)
end

local classes = { "1xx", "2xx", "3xx", "4xx", "5xx", "none" }

local function write_routes(w, histograms)
  w:family("perilune_responses", "counter", "Ended requests by route and class of status; none: the client went away.")
  each_route(w, histograms, function(lines, h, labels)
    local n, head = #lines, "perilune_responses_total" .. labels .. ',status_class="'
    for i, class in ipairs(classes) do lines[n + i] = head .. class .. '"} ' .. number(h.status[class] or 0) end
  end)
end

local function write_processes(w, processes)
  local restarts = 0
  local memory = "perilune_process_resident_memory_bytes"
  w:family(memory, "gauge", "Resident memory of a process, shared memory included.", "bytes")
  for _, p in ipairs(processes) do
    if p.role == "worker" then restarts = restarts + p.restarts end
    if p.rss_bytes then
      w:sample(memory, { { "role", p.role }, { "pid", ("%d"):format(p.pid) } }, p.rss_bytes)
    end
  end
  w:counter("perilune_worker_restarts", "Workers that were replaced.", restarts)
end

local function write_generation(w, generation)
  w:gauge("perilune_generation", "Number of the set of scripts in force.", generation.active)
  w:family("perilune_reloads", "counter", "Reloads of scripts by result.")
  w:sample("perilune_reloads_total", { { "result", "ok" } }, generation.reloads_ok)
  w:sample("perilune_reloads_total", { { "result", "refused" } }, generation.reloads_refused)
  w:sample("perilune_reloads_total", { { "result", "rolled_back" } }, generation.rollbacks)
end

local peer_counters = {
  { "attempts", "attempts", "Attempts begun at a peer, first ones, retries and hedges." },
  { "failures", "failures", "Attempts that failed: no or a bad answer, or 502, 503, 504." },
  { "retries", "retries", "Attempts that were a retry of a failed one." },
  { "hedges", "hedges", "Attempts that were made beside a slow one." },
  { "hedge_wins", "hedge_wins", "Hedges that were answered first." },
  { "ejections", "ejections", "Times that a peer was taken out by its failures." },
}

local function write_upstreams(w, upstreams)
  local function each(fn)
    for _, upstream in ipairs(upstreams) do
      for _, peer in ipairs(upstream.peers) do fn({ { "upstream", upstream.name }, { "peer", peer.address } }, peer) end
    end
  end
  for _, c in ipairs(peer_counters) do
    local name = "perilune_peer_" .. c[1]
    w:family(name, "counter", c[3])
    each(function(labels, peer) w:sample(name .. "_total", labels, peer[c[2]]) end)
  end
  w:family("perilune_peer_latency_seconds", "summary", "Time to the response head.", "seconds")
  each(function(labels, peer)
    w:sample("perilune_peer_latency_seconds_sum", labels, peer.latency_sum_s)
    w:sample("perilune_peer_latency_seconds_count", labels, peer.answers)
  end)
  w:family("perilune_peer_in_flight", "gauge", "Attempts under way at a peer.")
  each(function(labels, peer) w:sample("perilune_peer_in_flight", labels, peer.in_flight) end)
  w:family("perilune_peer_up", "gauge", "1: the peer takes requests; 0: it is ejected, down or draining.")
  each(function(labels, peer)
    w:sample("perilune_peer_up", labels, (peer.state == "ready" or peer.state == "slow_start") and 1 or 0)
  end)
end

local coding_counters = {
  { "perilune_compressed_bodies", "bodies", "Bodies that were compressed." },
  { "perilune_compression_input_bytes", "bytes_in", "Bytes of bodies before compression.", "bytes" },
  { "perilune_compression_output_bytes", "bytes_out", "Bytes of bodies after compression.", "bytes" },
  { "perilune_compression_cpu_seconds", "cpu_s", "CPU time spent compressing.", "seconds" },
}

local function write_compression(w, routes)
  for _, c in ipairs(coding_counters) do
    w:family(c[1], "counter", c[3], c[4])
    for _, route in ipairs(routes) do
      for _, coding in ipairs(route.codings) do
        w:sample(c[1] .. "_total", route_labels(route, "coding", coding.coding), coding[c[2]])
      end
    end
  end
  w:family("perilune_compression_skipped", "counter", "Answers that went out as they were, to clients that accept a coding.")
  for _, route in ipairs(routes) do
    local reasons = {}
    for reason in pairs(route.skipped) do reasons[#reasons + 1] = reason end
    table.sort(reasons)
    for _, reason in ipairs(reasons) do
      if route.skipped[reason] > 0 then
        w:sample("perilune_compression_skipped_total", route_labels(route, "reason", reason), route.skipped[reason])
      end
    end
  end
end

local limit_families = {
  { "perilune_limiter_limit", "gauge", "limit", "Requests of a class that may be under way." },
  { "perilune_limiter_in_flight", "gauge", "in_flight", "Requests of a class that are under way." },
  { "perilune_limiter_queued", "counter", "queued", "Requests of a class that had to wait for their turn." },
  { "perilune_limiter_rejected", "counter", "rejected", "Requests of a class that were answered 503." },
}

local function write_limits(w, classes)
  for _, family in ipairs(limit_families) do
    w:family(family[1], family[2], family[4])
    for _, one in ipairs(classes) do
      w:sample(family[1] .. (family[2] == "counter" and "_total" or ""), { { "class", one.class } }, one[family[3]])
    end
  end
end

local function write_cache(w, cache)
  w:gauge("perilune_cache_stored_bytes", "Room that stored answers take.", cache.bytes, "bytes")
  w:gauge("perilune_cache_limit_bytes", "Room that stored answers may take.", cache.limit_bytes, "bytes")
  w:gauge("perilune_cache_entries", "Stored answers.", cache.entries)
  w:counter("perilune_cache_evictions", "Entries that made room for others, since the store was made.", cache.evictions)
end

local task_counters = {
  { "done", "Tasks that were done." }, { "failed", "Tasks that failed." }, { "cancelled", "Tasks that nobody awaited any more." },
  { "expired", "Tasks that were not done by their deadline." }, { "refused", "Tasks turned away because the queue was full." },
}

local function write_tasks(w, tasks)
  local function each(fn)
    for _, one in ipairs(tasks.kinds) do fn({ { "kind", one.kind }, { "priority", one.priority } }, one) end
  end
  for _, c in ipairs(task_counters) do
    local name = "perilune_tasks_" .. c[1]
    w:family(name, "counter", c[2])
    each(function(labels, one) w:sample(name .. "_total", labels, one[c[1]]) end)
  end
  for _, name in ipairs { "queued", "running" } do
    w:family("perilune_tasks_" .. name, "gauge", ("Tasks %s now."):format(name))
    each(function(labels, one) w:sample("perilune_tasks_" .. name, labels, one[name]) end)
  end
  for _, c in ipairs { { "wait", "Time from asked for to begun." }, { "run", "Time on a thread." } } do
    local name = ("perilune_task_%s_seconds"):format(c[1])
    w:family(name, "summary", c[2], "seconds")
    each(function(labels, one)
      local times = one[c[1] .. "_time_ms"]
      for _, q in ipairs { { "0.5", "p50" }, { "0.95", "p95" }, { "0.99", "p99" } } do
        w:sample(name, { labels[1], labels[2], { "quantile", q[1] } }, times[q[2]] / 1000)
      end
      w:sample(name .. "_sum", labels, times.mean * times.count / 1000)
      w:sample(name .. "_count", labels, times.count)
    end)
  end
  for _, c in ipairs { { "threads", "Task threads that there are." }, { "lost", "Task threads that do not come back from their task." } } do
    local name = c[1] == "lost" and "perilune_task_threads_lost" or "perilune_task_threads"
    w:family(name, "gauge", c[2])
    for _, process in ipairs(tasks.processes) do w:sample(name, { { "process", process.name } }, process[c[1]]) end
  end
  w:family("perilune_task_utilization_ratio", "gauge", "Share of the task threads' time spent in tasks, last second.", "ratio")
  for _, process in ipairs(tasks.processes) do
    w:sample("perilune_task_utilization_ratio", { { "process", process.name } }, process.utilization)
  end
end

local pool_gauges = {
  { "max", "max", "Most connections that may be open." },
  { "idle_min", "min", "Fewest connections that are kept open." },
  { "pending_requests", "pending_requests", "Requests that wait for a connection." },
}

local pool_counters = {
  { "db_client_connection_timeouts", "rejected", "Requests that got no connection." },
  { "perilune_pool_opened", "opened", "Connections that were opened." },
  { "perilune_pool_refused", "refused", "Connections that could not be opened." },
  { "perilune_pool_lost", "lost", "Connections that ended without our wish." },
  { "perilune_pool_operations", "statements", "Statements or commands that were answered." },
  { "perilune_pool_errors", "errors", "Statements or commands that failed." },
  { "perilune_pool_timeouts", "timeouts", "Statements or commands that took too long." },
}

--- Names of OpenTelemetry's semantic conventions for database clients, where there are any.
local function write_pools(w, pools)
  local function each(fn)
    for _, pool in ipairs(pools) do
      fn(pool, function(name, value)
        local labels = { { "db_system_name", pool.system }, { "db_client_connection_pool_name", pool.id } }
        if name then labels[3] = { name, value } end
        return labels
      end)
    end
  end
  w:family("db_client_connection_count", "gauge", "Open connections by what they do.")
  each(function(pool, labels)
    w:sample("db_client_connection_count", labels("db_client_connection_state", "idle"), pool.idle)
    w:sample("db_client_connection_count", labels("db_client_connection_state", "used"), pool.used)
  end)
  for _, g in ipairs(pool_gauges) do
    local name = "db_client_connection_" .. g[1]
    w:family(name, "gauge", g[3])
    each(function(pool, labels) w:sample(name, labels(), pool[g[2]]) end)
  end
  for _, c in ipairs(pool_counters) do
    w:family(c[1], "counter", c[3])
    each(function(pool, labels) w:sample(c[1] .. "_total", labels(), pool[c[2]]) end)
  end
  for name, field in pairs { wait = "wait_time_ms", use = "use_time_ms" } do
    local family = ("db_client_connection_%s_time_seconds"):format(name)
    w:family(family, "summary", name == "wait" and "Time until a connection took it." or "Time from sent to answered.", "seconds")
    each(function(pool, labels)
      w:sample(family .. "_sum", labels(), pool[field].mean * pool[field].count / 1000)
      w:sample(family .. "_count", labels(), pool[field].count)
    end)
  end
  w:family("perilune_pool_up", "gauge", "1: the server is reached; 0: it is not.")
  each(function(pool, labels) w:sample("perilune_pool_up", labels(), pool.health ~= "unreachable" and 1 or 0) end)
end

local process_gauges = {
  { "perilune_process_open_fds", "open_fds", "Open descriptors of a process.", 1 },
  { "perilune_worker_loop_lag_seconds", "loop_lag_ms", "Longest delay of a worker's loop, last second.", 1e-3, "seconds" },
  { "perilune_worker_lua_heap_bytes", "lua_heap_bytes", "Lua heap of a worker.", 1, "bytes" },
  { "perilune_worker_gc_pause_seconds", "gc_pause_ms", "Longest garbage collection pause that was timed, last second.", 1e-3, "seconds" },
}

-- What is not available on this machine has no sample.
local function write_machine(w, machine)
  for _, figure in ipairs(machine.figures) do
    if figure.value then
      local help = figure.doc:gsub("^%l", string.upper) .. "."
      w:gauge(("perilune_resource_%s_%s"):format(figure.section, figure.name), help, figure.value)
    end
  end
  for _, g in ipairs(process_gauges) do
    w:family(g[1], "gauge", g[3], g[5])
    for _, process in ipairs(machine.processes) do
      if process[g[2]] then w:sample(g[1], { { "process", process.name } }, process[g[2]] * g[4]) end
    end
  end
  w:family("perilune_worker_gc_cycles", "counter", "Garbage collections of a worker's current scripts.")
  for _, process in ipairs(machine.processes) do
    if process.gc_cycles then w:sample("perilune_worker_gc_cycles_total", { { "process", process.name } }, process.gc_cycles) end
  end
end

local notification_counters = {
  { "sent", "Notifications that a receiver took." }, { "failed", "Attempts to notify that a receiver did not take." },
  { "lost", "Notifications that were given up." },
}

local function write_alerts(w, figures)
  w:family("perilune_alerts", "gauge", "Alerts by severity and state.")
  for _, one in ipairs(figures.alerts) do w:sample("perilune_alerts", { { "severity", one.severity }, { "state", one.state } }, one.count) end
  w:counter("perilune_alerts_held_back", "Alerts that a trial had caused and that were not told while it was taken back.", figures.held_back or 0)
  local function each(fn)
    for _, one in ipairs(figures.endpoints) do fn({ { "receiver", one.receiver }, { "kind", one.kind } }, one) end
  end
  for _, c in ipairs(notification_counters) do
    local name = "perilune_alert_notifications_" .. c[1]
    w:family(name, "counter", c[2])
    each(function(labels, one) w:sample(name .. "_total", labels, one[c[1]]) end)
  end
  w:family("perilune_alert_notifications_waiting", "gauge", "Notifications that wait for their receiver.")
  each(function(labels, one) w:sample("perilune_alert_notifications_waiting", labels, one.waiting) end)
end

local function write_store(w, store)
  local function one(name, kind, help, value)
    w:family(name, kind, help)
    w:sample(kind == "counter" and name .. "_total" or name, {}, value)
  end
  one("perilune_history_file_bytes", "gauge", "Bytes of the history on disk.", store.file_bytes)
  one("perilune_history_writes", "counter", "Batches of history written to disk.", store.writes)
  one("perilune_history_write_failures", "counter", "Attempts to write history to disk that failed.", store.failures)
  one("perilune_history_lost_seconds", "counter", "Seconds of history that memory gave up before they were on disk.", store.lost_s)
end

---@class perilune.prometheus.snapshot
---@field stats table       what stats.totals() returns
---@field histograms table  what stats.histograms() returns, of all routes
---@field generation table  what stats.generation() returns
---@field counters? table  what stats.counters() returns
---@field upstreams? table  what upstreams.list() returns
---@field compression? table  what compression.routes() returns
---@field machine? table  figures and processes, what machine.figures() and machine.processes() return
---@field tasks? table  what task_stats() returns
---@field limits? table  what limits.classes() returns
---@field pools? table  what pools.list() returns
---@field alerts? table  what figures() of perilune.alerts.desk returns
---@field store? table  what store.state() returns
---@field cache? table  what cache.view() returns; nil: there is none

--- Renders a scrape.
---@param snapshot perilune.prometheus.snapshot
---@param openmetrics? boolean  OpenMetrics 1.0 instead of the classic format
---@param write? function  takes the text in parts, instead of one at the end; false: nobody wants it any more
---@return string? text
---@return string content_type
function M.render(snapshot, openmetrics, write)
  local stats, system = snapshot.stats, snapshot.stats.system or {}
  local w = setmetatable({ lines = {}, openmetrics = openmetrics and true or false, write = write }, Writer)
  write_durations(w, snapshot.histograms, snapshot.stats.slow_requests)
  write_routes(w, snapshot.histograms)
  w:counter("perilune_requests", "Requests that ended.", stats.requests_total)
  w:counter("perilune_aborted", "Requests that ended without an answer.", stats.aborted_total)
  w:gauge("perilune_in_flight", "Requests that have begun and not ended.", stats.in_flight)
  w:counter("perilune_received_bytes", "Bytes of requests, heads included.", stats.bytes_in, "bytes")
  w:counter("perilune_sent_bytes", "Bytes of responses, heads included.", stats.bytes_out, "bytes")
  for _, c in ipairs(snapshot.counters or {}) do
    w:counter("perilune_" .. c.name, c.doc:gsub("^%l", string.upper) .. ".", c.value)
  end
  write_generation(w, snapshot.generation)
  write_processes(w, stats.processes)
  if snapshot.upstreams and #snapshot.upstreams > 0 then write_upstreams(w, snapshot.upstreams) end
  if snapshot.compression and #snapshot.compression > 0 then write_compression(w, snapshot.compression) end
  if snapshot.tasks then write_tasks(w, snapshot.tasks) end
  if snapshot.pools and #snapshot.pools > 0 then write_pools(w, snapshot.pools) end
  if snapshot.limits and #snapshot.limits > 0 then write_limits(w, snapshot.limits) end
  if snapshot.cache then write_cache(w, snapshot.cache) end
  if snapshot.alerts then write_alerts(w, snapshot.alerts) end
  if snapshot.store then write_store(w, snapshot.store) end
  w:gauge("perilune_open_fds", "Open descriptors of all processes.", system.open_fds)
  w:gauge("perilune_machine_cpu_ratio", "CPU in use, of what we may use.", system.cpu_share, "ratio")
  w:gauge("perilune_machine_memory_ratio", "Memory in use, of what we may use.", system.memory_share, "ratio")
  w:gauge("perilune_machine_disk_ratio", "Disk in use.", system.disk_share, "ratio")
  w:gauge("perilune_machine_load1", "Load average of one minute.", system.load and system.load[1])
  if snapshot.machine then write_machine(w, snapshot.machine) end
  if openmetrics then w:line("# EOF") end
  if write then w:part() end
  return not write and table.concat(w.lines, "\n") .. "\n" or nil, M.content_type[openmetrics and "openmetrics" or "classic"]
end

return M
