-- Routes that fail: answers of 500 and above.
return {
  policies = {
    {
      name = "HighErrorRate", severity = "critical", on = "route", signal = "error_rate", above = 0.05, exit = 0.03,
      for_ = "30s", keep_firing_for = "1m", min_events = 20,
      annotations = { summary = "{{value}} of the answers of {{labels.method}} {{labels.route}} are 5xx, more than {{threshold}}" },
    },
  },
}
