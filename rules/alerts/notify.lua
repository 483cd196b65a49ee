-- Who is told. By default the log is; put your own receivers in, for example:
--
--   receivers = {
--     ops = { webhook = "http://127.0.0.1:9000/alerts", headers = { Authorization = { env = "OPS_AUTHORIZATION" } } },
--     chat = { slack = { file = "/run/secrets/slack_url" }, send_resolved = false },
--     prom = { alertmanager = "http://127.0.0.1:9093" },
--     pager = { command = { "/usr/local/bin/page", "--team", "api" } },
--   },
--   notify = { receiver = "log", routes = { { match = { severity = "critical" }, receiver = "pager", continue = true }, ... } }
return {
  receivers = { log = { log = true } },
  notify = { receiver = "log", group_by = { "alertname" }, group_wait = "30s", group_interval = "5m", repeat_interval = "4h" },
  inhibit = {
    -- A route that fails is not told of as slow as well.
    { source = { alertname = "HighErrorRate" }, target = { alertname = "HighLatency" }, equal = { "route", "method" } },
  },
}
