-- Routes that answer slowly.
return {
  policies = {
    {
      name = "HighLatency", severity = "warning", on = "route", signal = "p95_ms", above = 1000, exit = 800,
      for_ = "1m", keep_firing_for = "1m", min_events = 20,
      annotations = { summary = "{{labels.method}} {{labels.route}} answers in {{value}} (p95), more than {{threshold}}" },
    },
  },
}
