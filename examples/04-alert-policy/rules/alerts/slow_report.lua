-- The report may take 300 ms; above 500 ms somebody should know.
return {
  policies = {
    {
      name = "SlowReport", severity = "warning", on = "route", signal = "p95_ms", above = 500, exit = 300,
      for_ = "10s", keep_firing_for = "10s", min_events = 5,
      annotations = { summary = "{{labels.method}} {{labels.route}} answers in {{value}} (p95), more than {{threshold}}" },
    },
  },
}
