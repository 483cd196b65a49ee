--- The commands that ask a running engine: top, suggest, config diff, export and reset, alerts, bench --compare.
--
-- core: command, words, shape ("json" or nil), reason, policy, from, bench (its options as written); request(method, path, body)
-- -> status, text or nil, why; read(path); screen() -> columns, rows; key(seconds); wait(seconds) -> false: to be ended. Returns
-- the exit code: 0 done, 1 the engine cannot be asked or failed, 2 it refused, 3 the result may not be believed.

local core = ...

local BASE = "/api/v1/performance-optimization/"
local REFRESH_S, POLL_S = 1, 0.25

local decode, encode = core.json.decode, core.json.encode
local null = core.json.null

local function fail(code, format, ...)
  io.stderr:write("perilune: ", select("#", ...) > 0 and format:format(...) or format, "\n")
  return nil, code
end

-- The `data` of an answer; or nil and the exit code, after what went wrong was said.
local function ask(method, path, body)
  local status, text = core.request(method, BASE .. path, body and encode(body))
  if not status then return fail(1, "%s", text) end
  local answer = decode(text)
  if type(answer) ~= "table" then return fail(1, "the engine's answer cannot be read") end
  if status >= 200 and status < 300 then return answer.data or answer end
  fail(2, "%s", answer.detail or answer.title or "the engine answered with " .. status)
  for i = 2, #(answer.errors or {}) do fail(2, "%s", answer.errors[i].detail) end
  if status == 401 then fail(2, "set PERILUNE_ADMIN_TOKEN, or admin_token in the configuration") end
  return nil, status >= 400 and status < 500 and 2 or 1
end

local function known(value) return value ~= nil and value ~= null end

-- Rows of texts under a head, as wide as they need.
local function show_table(head, rows)
  local width = {}
  for i, name in ipairs(head) do width[i] = #name end
  for _, row in ipairs(rows) do
    for i = 1, #head do
      row[i] = tostring(known(row[i]) and row[i] or "")
      width[i] = math.max(width[i], #row[i])
    end
  end
  local function line(row)
    local out = {}
    for i = 1, #head do out[i] = i == #head and row[i] or row[i] .. (" "):rep(width[i] - #row[i]) end
    return (table.concat(out, "  "):gsub("%s+$", ""))
  end
  local out = { line(head) }
  for _, row in ipairs(rows) do out[#out + 1] = line(row) end
  return out
end

local function print_lines(lines) for _, line in ipairs(lines) do print(line) end end

local function number(value)
  if type(value) ~= "number" then return "" end
  if value == math.floor(value) and math.abs(value) < 1e15 then return ("%d"):format(value) end
  return math.abs(value) >= 100 and ("%.0f"):format(value) or ("%.3g"):format(value)
end

-- Prints data as JSON when that is asked for; true when it did.
local function as_json(data)
  if core.shape ~= "json" then return false end
  print(encode(data))
  return true
end

-- ---- suggest ----

local function gain(impact)
  if not known(impact) or type(impact) ~= "table" then return "" end
  return ("%s %s > %s"):format(impact.metric or "", number(impact.now), number(impact.predicted))
end

local function suggestion_rows(list)
  local rows = {}
  for _, one in ipairs(list) do
    local title = known(one.waits_for) and ("%s (waits: %s)"):format(one.title, one.waits_for) or one.title
    rows[#rows + 1] = { one.id, one.state, one.priority, one.target, gain(one.impact), title }
  end
  return show_table({ "ID", "STATE", "PRIORITY", "TARGET", "GAIN", "WHAT TO DO" }, rows)
end

local suggest = {}

function suggest.ls()
  local data, code = ask("GET", "suggestions?limit=500")
  if not data then return code end
  if as_json(data) then return 0 end
  if data.answer == "NOT_LOOKING" then return select(2, fail(1, "the rules cannot be asked: %s", data.trouble)) end
  if #data.suggestions == 0 then print(data.answer == "NOT_ENOUGH_DATA" and "none yet: still learning" or "none: nothing that the rules know would help") return 0 end
  print_lines(suggestion_rows(data.suggestions))
  return 0
end

local function need_id(words)
  if words[2] then return words[2] end
  return fail(2, "suggest %s takes the id of a suggestion, as 'perilune suggest ls' shows it", words[1])
end

function suggest.show(words)
  local id, wrong = need_id(words)
  if not id then return wrong end
  local one, code = ask("GET", "suggestions/" .. id)
  if not one then return code end
  if as_json(one) then return 0 end
  print(("%s  %s  %s"):format(one.id, one.state, one.title))
  if known(one.explanation) then print(one.explanation) end
  local impact = one.impact
  if known(impact) and type(impact) == "table" then
    print(("gain      %s, %s to %s; %s"):format(gain(impact), number(impact.lo), number(impact.hi), tostring(impact.formula or "")))
  end
  for _, op in ipairs(known(one.operations) and one.operations or {}) do print(("sets      %s: %s > %s"):format(op.name, tostring(op.from), tostring(op.to))) end
  if known(one.advice) then print("advice    " .. tostring(one.advice)) end
  for _, name in ipairs { "effort", "risk", "confidence", "raised_at", "phase", "waits_for" } do
    if known(one[name]) then print(("%-9s %s"):format(name, tostring(one[name]))) end
  end
  return 0
end

local function value_of(text)
  if text == "true" or text == "false" then return text == "true" end
  return tonumber(text) or text
end

function suggest.apply(words)
  local id, wrong = need_id(words)
  if not id then return wrong end
  local body = {}
  for i = 3, #words do
    local name, value = words[i]:match "^([^=]+)=(.*)$"
    if not name then return select(2, fail(2, "'%s' is no NAME=VALUE, as in pool.main.max=12", words[i])) end
    body[name] = value_of(value)
  end
  local one, code = ask("POST", "suggestions/" .. id .. "/apply", next(body) and body or nil)
  if not one then return code end
  if as_json(one) then return 0 end
  print(("%s is %s%s; see 'perilune suggest show %s' or 'perilune top'"):format(one.id, one.state, known(one.waits_for) and " and waits: " .. one.waits_for or "", one.id))
  return 0
end

function suggest.dismiss(words)
  local id, wrong = need_id(words)
  if not id then return wrong end
  if not core.reason then return select(2, fail(2, "suggest dismiss takes --reason TEXT: why")) end
  local one, code = ask("POST", "suggestions/" .. id .. "/dismiss", { reason = core.reason })
  if not one then return code end
  if not as_json(one) then print(("%s is %s"):format(one.id, one.state)) end
  return 0
end

function suggest.rollback(words)
  local id, wrong = need_id(words)
  if not id then return wrong end
  local one, code = ask("POST", "suggestions/" .. id .. "/rollback")
  if not one then return code end
  if not as_json(one) then print(("%s is taken back; it is %s"):format(one.id, one.state)) end
  return 0
end

-- ---- config ----

local config = {}

local function changed()
  local data, code = ask("GET", "config")
  if not data then return nil, code end
  local list = core.json.array {}
  for _, one in ipairs(data.settings) do
    if one.origin ~= "default" or one.on_trial then list[#list + 1] = one end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- What is not as the program has it by itself.
function config.diff()
  local list, code = changed()
  if not list then return code end
  if as_json(list) then return 0 end
  local rows = {}
  for _, one in ipairs(list) do
    rows[#rows + 1] = { one.name, tostring(one.default), tostring(one.on_trial and one.stable or one.value), one.on_trial and ("trial: %s"):format(tostring(one.value)) or one.origin }
  end
  if #rows == 0 then print "every setting has its default" else print_lines(show_table({ "SETTING", "DEFAULT", "VALUE", "ORIGIN" }, rows)) end
  return 0
end

--- The same as a configuration.
function config.export()
  local list, code = changed()
  if not list then return code end
  if as_json(list) then return 0 end
  print "return {\n  settings = {"
  for _, one in ipairs(list) do
    local value = one.value
    if one.on_trial then value = one.stable end
    if one.origin ~= "default" then print(("    [%q] = %s, -- %s"):format(one.name, tostring(value), one.origin)) end
  end
  print "  },\n}"
  return 0
end

--- What the API has set is gone, one or all.
function config.reset(words)
  local data, code = ask("POST", "config/reset", { name = words[2], reason = core.reason })
  if not data then return code end
  if as_json(data) then return 0 end
  for _, one in ipairs(data.changes) do print(("%s: %s > %s"):format(one.name, tostring(one.from), tostring(known(one.value) and one.value or one.to))) end
  if #data.changes == 0 then print "the API had set nothing of that" end
  return 0
end

-- ---- alerts ----

local alerts = {}

function alerts.ls()
  local data, code = ask("GET", "alerts")
  if not data then return code end
  if as_json(data) then return 0 end
  local rows = {}
  for _, one in ipairs(data.alerts) do
    local labels = one.labels or {}
    rows[#rows + 1] = { labels.alertname, one.state, labels.severity, (labels.method and labels.method .. " " or "") .. (labels.route or labels.pool or labels.instance or ""),
      (one.annotations or {}).summary }
  end
  if #rows == 0 then print "no alert is pending or fires" else print_lines(show_table({ "ALERT", "STATE", "SEVERITY", "WHAT", "SUMMARY" }, rows)) end
  return 0
end

--- How often they would have fired, by the history of the engine.
function alerts.test()
  local body = {}
  if core.policy then
    local text, why = core.read(core.policy)
    if not text then return select(2, fail(2, "%s", why)) end
    if #text > 256 * 1024 then return select(2, fail(2, "%s cannot be read: it has more than 256 KiB", core.policy)) end
    body.text, body.name = text, core.policy:match "([^/]*)$"
  end
  if core.from then
    body.from = tonumber(core.from)
    if not body.from then return select(2, fail(2, "--from takes seconds, as -3600 for the last hour, not '%s'", core.from)) end
  end
  local data, code = ask("POST", "alerts/test", body)
  if not data then return code end
  if as_json(data) then return 0 end
  for _, policy in ipairs(data.policies) do
    print(("%-20s %-9s %s"):format(policy.policy, policy.severity, policy.text))
    for _, thing in ipairs(policy.things or {}) do
      if thing.fired > 0 then print(("    %-30s %.0f"):format(thing.thing, thing.fired)) end
    end
  end
  print(("%s to %s: %s"):format(data.from, data.to, data.text))
  return 0
end

-- ---- top ----

local function add(out, lines, limit)
  for i = 1, math.min(#lines, limit or #lines) do out[#out + 1] = lines[i] end
end

local function route_lines(stats)
  local total, rows = 0, {}
  for _, route in ipairs(stats.routes) do total = total + route.requests * (route.latency_ms.mean or route.latency_ms.p50 or 0) end
  table.sort(stats.routes, function(a, b)
    return a.requests * (a.latency_ms.mean or a.latency_ms.p50 or 0) > b.requests * (b.latency_ms.mean or b.latency_ms.p50 or 0)
  end)
  for _, route in ipairs(stats.routes) do
    local l = route.latency_ms
    local share = total > 0 and route.requests * (l.mean or l.p50 or 0) / total * 100 or 0
    rows[#rows + 1] = { ("%.1f"):format(share), ("%.1f"):format(route.requests_per_second or route.requests / math.max(stats.span_s, 1)), ("%.1f"):format(l.p50 or 0),
      ("%.1f"):format(l.p95 or 0), ("%.1f"):format(l.p99 or 0), ("%.2f"):format((route.error_rate or 0) * 100), (route.method and route.method .. " " or "") .. (route.route or route.name) }
  end
  return show_table({ "TIME %", "REQ/S", "P50 MS", "P95 MS", "P99 MS", "ERR %", "ROUTE" }, rows)
end

local function look()
  local out = {}
  local stats, code = ask("GET", "stats?window=10")
  if not stats then return nil, code end
  local issues = ask("GET", "issues?state=open") or { issues = {} }
  local suggestions = ask("GET", "suggestions?limit=10") or { suggestions = {} }
  local trials = ask("GET", "trials") or { trials = {} }
  local pools = ask("GET", "resources/pools")
  local l = stats.latency_ms
  out[#out + 1] = ("%.1f requests/s   p50 %.1f   p95 %.1f   p99 %.1f ms   errors %.2f %%   %d under way   cpu %.0f %%"):format(stats.requests_per_second, l.p50, l.p95, l.p99,
    stats.error_rate * 100, stats.in_flight, (stats.system.cpu_share or 0) * 100)
  out[#out + 1] = ""
  for _, issue in ipairs(issues.issues) do out[#out + 1] = ("! %s  %s: %s"):format(issue.code or issue.type, issue.target or "", issue.title or "") end
  for _, one in ipairs(trials.trials) do
    if not known(one.ended_at) then out[#out + 1] = ("~ %s  %s  %s"):format(one.id, one.phase, one.title or "") end
  end
  for _, one in ipairs(suggestions.suggestions) do
    if one.state == "OPEN" then out[#out + 1] = ("> %s  %s  (%s)"):format(one.id, one.title, gain(one.impact)) end
  end
  if out[#out] ~= "" then out[#out + 1] = "" end
  add(out, route_lines(stats))
  local list = pools and (pools.pools or pools) or {}
  if #list > 0 then
    local rows = {}
    for _, pool in ipairs(list) do rows[#rows + 1] = { pool.id, pool.pool_type, number(pool.used), number(pool.idle), number(pool.max), number(pool.pending_requests), pool.health } end
    out[#out + 1] = ""
    add(out, show_table({ "POOL", "TYPE", "USED", "IDLE", "MAX", "WAITING", "HEALTH" }, rows))
  end
  return out, stats
end

local function top()
  if core.shape == "json" then
    local stats, code = ask("GET", "stats?window=10")
    return stats and (as_json(stats) and 0) or code
  end
  local columns = core.is_terminal and core.screen() or nil
  while true do
    local lines, code = look()
    if not lines then return code end
    if not columns then print_lines(lines) return 0 end
    local rows
    columns, rows = core.screen()
    local out = { "\27[H" }
    for i = 1, rows - 1 do out[#out + 1] = (lines[i] or ""):sub(1, columns) .. "\27[K\n" end
    out[#out + 1] = "q: end\27[K"
    io.write(table.concat(out))
    io.flush()
    if core.key(REFRESH_S) == "q" then return 0 end
  end
end

-- ---- bench --compare ----

local ALONE = { "duration", "iterations", "warmup", "repeats", "body", "script", "slo", "seed", "find-capacity", "output" }

-- What the API is asked for; or nil and the exit code.
local function comparison(b)
  for _, name in ipairs(ALONE) do
    if b[name] then return fail(2, "--%s does not go with --compare; its blocks have --pairs and --block", name) end
  end
  if not (b.target or ""):find "^/" then return fail(2, "bench --compare takes a path of the engine whose setting it turns, like /hello, not '%s'", b.target or "") end
  local setting, first, second = b.compare:match "^([^=]+)=([^,]+),([^,]+)$"
  if not setting then return fail(2, "--compare takes NAME=A,B, as in compression.level=1,6, not '%s'", b.compare) end
  local body = { endpoint = b.target, method = b.method, expect_body = b["expect-body"], poisson = b.poisson and true,
    compare = { setting = setting, a = value_of(first), b = value_of(second) } }
  for name, field in pairs { connections = "concurrent_requests", rate = "rate", ["expect-status"] = "expect_status" } do
    body[field] = b[name] and value_of(b[name])
  end
  body.compare.pairs, body.compare.block_s = b.pairs and value_of(b.pairs), b.block and value_of(b.block)
  for _, line in ipairs(b.headers) do
    body.headers = body.headers or {}
    body.headers[line:match "^[^:]*"] = line:match "^[^:]*:%s*(.*)$"
  end
  return body
end

local function percent(share) return ("%+.1f %%"):format(share * 100) end

local function print_comparison(one, result)
  local rows = {}
  for _, which in ipairs { "a", "b" } do
    local v = result[which]
    rows[#rows + 1] = { ("%s: %s"):format(which, tostring(v.value)), number(v.p50_ms), number(v.p95_ms), number(v.p99_ms), number(v.requests_per_second) }
  end
  print(("%s by turns at %s, %d pairs of blocks"):format(result.setting, one.target, result.pairs))
  print_lines(show_table({ result.setting, "P50 MS", "P95 MS", "P99 MS", "REQ/S" }, rows))
  local effect = known(result.effect) and (": p95 %s (%s to %s)"):format(percent(result.effect.estimate), percent(result.effect.low), percent(result.effect.high)) or ""
  print(result.verdict .. effect)
  for _, reason in ipairs(result.reasons) do print("not valid: " .. reason) end
end

--- Asks the engine for it, looks on until it has ended, and takes it back when we are to end before.
local function bench()
  local body, wrong = comparison(core.bench)
  if not body then return wrong end
  local one, code = ask("POST", "benchmark", body)
  if not one then return code end
  local path = "benchmark/" .. one.id
  while one.state == "queued" or one.state == "running" do
    if not core.wait(POLL_S) then
      ask("DELETE", path)
      return select(2, fail(1, "ended before its time; '%s' is as it was", body.compare.setting))
    end
    one, code = ask("GET", path)
    if not one then return code end
    if core.is_terminal and known(one.progress) then io.stderr:write(("\r%3.0f %%\27[K"):format(one.progress * 100)) end
  end
  if core.is_terminal then io.stderr:write "\r\27[K" end
  local result = one.result
  if not known(result) then return select(2, fail(1, "%s: %s", one.state, known(one.why) and one.why or "nothing was measured")) end
  if not as_json(result) then print_comparison(one, result) end
  return one.state ~= "done" and 1 or result.valid and 0 or 3
end

local commands = { suggest = suggest, config = config, alerts = alerts }
local WORDS = { suggest = { ls = 1, show = 2, dismiss = 2, rollback = 2 }, config = { diff = 1, export = 1, reset = 2 }, alerts = { ls = 1, test = 1 } }
if core.command == "top" then return top() end
if core.command == "bench" then return bench() end
local most = WORDS[core.command][core.words[1]]
if most and core.words[most + 1] then
  return select(2, fail(2, "'%s' is one word too many for %s %s", core.words[most + 1], core.command, core.words[1]))
end
return commands[core.command][core.words[1]](core.words)
