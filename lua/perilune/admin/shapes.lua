--- Shapes of what the control API answers, by name; how they are written stands in perilune.openapi.

local map = function(of) return { ["*"] = of } end
local summary = { count = "integer", mean = "number", p50 = "number", p95 = "number", p99 = "number", ["max"] = "number?" }

return {
  Problem = { type = "string", title = "string", status = "integer", code = "string", detail = "string", ["errors?"] = { { detail = "string?", pointer = "string?", parameter = "string?" } } },
  Meta = { as_of = "time", window_s = "number?", generation = "integer", node = "string?", next = "string?" },
  Summary = summary,

  Stats = { requests_total = "integer", requests_per_second = "number", error_rate = "number", aborted_total = "integer", in_flight = "integer", bytes_in = "integer", bytes_out = "integer",
    latency_ms = { p50 = "number", p95 = "number", p99 = "number", max = "number" }, routes = { "RouteStats" }, slow_requests = { "object" }, counters = map "number",
    system = map "any", processes = { { role = "string", pid = "integer", rss_bytes = "integer", restarts = "integer?", requests = "integer?", generation = "integer?" } } },
  RouteStats = { method = "string", route = "string", requests = "integer", requests_per_second = "number", error_rate = "number", share = "number", bytes_in = "integer", bytes_out = "integer",
    latency_ms = { mean = "number", p50 = "number", p95 = "number", p99 = "number", max = "number" }, status = map "integer",
    phases_ms = map { count = "integer", mean = "number", p95 = "number", share = "number" }, response_sizes = map "integer" },

  CacheView = { bytes = "integer", limit_bytes = "integer", entries = "integer", evictions = "integer", evicted_bytes = "integer", small_queue_bytes = "integer",
    routes = { { method = "string", route = "string", hits = "integer", misses = "integer", stale = "integer", collapsed = "integer", stored = "integer", hit_ratio = "number",
      miss_ratio_curve = { { bytes = "integer", miss_ratio = "number" } } } } },
  Compression = { enabled = "boolean", total = { bytes_in = "integer", bytes_out = "integer", saved_bytes = "integer", cpu_s = "number" },
    routes = { { method = "string", route = "string", skipped = map "integer", offloaded = "integer", lowered = "integer", reused = "integer",
      codings = { { coding = "string", bodies = "integer", bytes_in = "integer", bytes_out = "integer", cpu_s = "number", ratio = "number" } } } } },
  Limits = { concurrency = { "object" }, rate = { refused = "integer", observed = "integer" }, connections = { refused = "integer" } },

  Setting = { name = "string", type = "=boolean|integer|number|size|duration", unit = "string", doc = "string", origin = "string", value = "boolean|number", default = "boolean|number", live = "boolean",
    min = "number?", max = "number?" },
  SettingWithChanges = { name = "string", type = "string", unit = "string", doc = "string", origin = "string", value = "boolean|number", default = "boolean|number", live = "boolean",
    changes = { { seq = "integer", at = "time", who = "string", reason = "string?", from = "boolean|number", to = "boolean|number" } } },
  ConfigChange = { changes = { { name = "string", from = "any", to = "any", api_from = "any", api_to = "any" } }, seq = "integer?", at = "time?", who = "string?", reason = "string?",
    generation = "integer?", dry_run = "boolean?", undoes = "integer?", refused = "integer?" },
  AuditEntry = { id = "string", at = "time", actor = "string", role = "string", method = "string", path = "string", status = "integer", code = "string?", ["fields?"] = "object" },

  Reload = { result = "string", cause = "string", at_unix_ms = "number", generation = "integer", problems = { { file = "string", line = "integer", message = "string" } }, workers_switched = "boolean?" },
  Generations = { active = "integer", counters = map "number", workers = { total = "integer", ready = "integer", alive = "integer", current = "integer" }, restorable = { "integer" }, history = { "Reload" } },

  Upstream = { name = "string", balance = "string", peers = { { address = "string", state = "string", health = "string", weight = "number", in_flight = "integer", attempts = "integer", answers = "integer",
    failures = "integer", retries = "integer", hedges = "integer", ejections = "integer", latency_ms = "number" } } },
  Pool = { id = "string", pool_type = "=database|redis", health = "string", max = "integer", min = "integer", count = "integer", idle = "integer", used = "integer", pending_requests = "integer",
    draining = "boolean", statements = "integer", errors = "integer", timeouts = "integer", wait_timeout_ms = "number", idle_timeout_ms = "number", wait_time_ms = "Summary", use_time_ms = "Summary" },
  Statement = { calls = "integer", rows = "integer", errors = "integer", requests = "integer", calls_per_request = "number", most_per_request = "integer", time_ms = "Summary" },
  Plan = { plan = "object", cost = "number", rows = "number", scans = { "any" } },
  Sizing = { mode = "=off|suggest|on", window_s = "number", advice = "object|null", why = "string" },

  TaskKind = { kind = "string", priority = "string", queued = "integer", running = "integer", done = "integer", failed = "integer", expired = "integer", cancelled = "integer", refused = "integer", cpu_s = "number",
    wait_time_ms = "Summary", run_time_ms = "Summary" },
  TaskProcess = { name = "string", width = "integer", threads = "integer", max = "integer", lost = "integer", queued = "integer", running = "integer", utilization = "number" },
  Tasks = { width = "integer", threads = "integer", max = "integer", lost = "integer", queued = "integer", running = "integer", utilization = "number", processes = { "TaskProcess" }, kinds = { "TaskKind" } },
  Process = { name = "string", role = "string", pid = "integer", rss_bytes = "integer?", open_fds = "integer?" },
  Machine = { not_available = map "string", processes = { "Process" }, recorded_every_s = "number?", sampled_every_s = "number?", ["cpu?"] = map "number", ["memory?"] = map "number", ["disk?"] = map "number",
    ["network?"] = map "number", ["io?"] = map "number", ["pressure?"] = map "number", ["descriptors?"] = map "number" },
  Resources = { health = "string", health_of = map "string", machine = "Machine", pools = { "object" }, cache = "object", tasks = "object", findings = { "any" } },

  Issue = { id = "string", code = "string", type = "string", target = "string", state = "=open|closed", opened_at = "time", since = "time", closed_at = "time|null", severity = "string?", title = "string?" },
  Learning = { things = "integer", ready = "integer", least = "integer", needed = "integer", done = "boolean", text = "string?" },
  Thing = { kind = "string", name = "string", samples = "integer", learnt = "integer", needed = "integer", requests = "integer", now = map "number|null", usual = map "number|null", moved = "object" },
  Signal = { name = "string", kind = "string", unit = "string", doc = "string", scale = "string" },
  Trend = { route = "string|null", from = "number", to = "number", step_s = "integer", columns = map { "number|null" }, signal = "string?",
    ["analysis?"] = { enough = "boolean", note = "string?", steps = "integer?", slope_per_hour = "number?", p = "number|null?", volatility = "number?", crosses_in_s = "number?",
      ["forecast?"] = "object|null" } },
  Latencies = { route = "string|null", step_s = "integer", bounds_ms = { "number" }, at_ms = { "number" }, counts = { { "integer" } } },
  Patterns = { patterns = { { name = "string", share = "number", rps = "number", mean_ms = "number", error_rate = "number", phases = map "number", routes = map "number", hours = { "integer" }, last_seen = "time", now = "boolean" } },
    steps = "integer", needed = "integer", enough = "boolean", from = "number", to = "number", step_s = "integer" },
  Dashboard = { findings = { { level = "=red|amber|green", text = "string", link = "string?", of = "string?" } },
    tiles = { { name = "string", label = "string", unit = "string", level = "=red|amber|green|grey", detail = "string", value = "number|null" } },
    routes = { { name = "string", rps = "number", share = "number", p50_ms = "number", p95_ms = "number", p99_ms = "number", error_rate = "number", phases = map "number" } }, routes_total = "integer",
    issues = { "object" }, resources = "Resources", suggestions = { open = { "object" }, ended = { "object" } }, trials = { "object" }, frozen = "object|null",
    alerts = { counts = map "integer", list = { "object" } }, generation = "Generations", learning = "Learning", markers = { "object" }, data_address = "string" },

  Suggestion = { id = "string", state = "string", title = "string", rule = "string", target = "string", etag = "string", raised_at = "time", changed_at = "time", ended_at = "time|null", class = "string?", priority = "string?" },
  Trial = { id = "string", phase = "string", created_at = "time|null", started_at = "time|null", ended_at = "time|null", changes = { { name = "string", from = "boolean|number", to = "boolean|number" } },
    metric = "string?", direction = "string?", progress = "any" },
  Analytics = { by_rule = map(map "number"), by_class = map(map "number"), calibration = map "object", rules = "integer", looks = "integer", look_ms = "number", trials = "integer",
    median_prediction_factor = "number|null", mean_time_to_verified_s = "number|null", saved = map "number" },

  Alert = { id = "string", policy = "string", state = "=firing|pending|flapping|resolved", severity = "string", since = "time|null", fired_at = "time|null", ended_at = "time|null", value = "number|null",
    labels = map "string", annotations = map "string", unit = "string?", file = "string" },
  Silence = { id = "string", matchers = map "string", author = "string", comment = "string", created_at = "time", starts_at = "time", ends_at = "time", state = "=active|pending|expired" },
  AlertPolicy = { name = "string", file = "string", on = "string", severity = "string", labels = map "string", annotations = map "string", for_s = "number?", exit = "number?" },
  Receiver = { receiver = "string", kind = "string", where = "string", sent = "integer", failed = "integer", lost = "integer", waiting = "integer" },
  PolicyTest = { policy = "string", severity = "string", file = "string", fired = "integer", flaps = "integer", firing_s = "number", text = "string", not_replayed = "string?",
    things = { { thing = "string", fired = "integer", flaps = "integer", pending = "integer", firing_s = "number", spans = { { from = "time|null", to = "time|null" } } } } },
}
