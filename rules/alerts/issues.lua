-- What the analyzer has found and calls high or critical: see GET issues.
return {
  policies = {
    {
      name = "Anomaly", severity = "warning", on = "issue", signal = "level", above = 2, keep_firing_for = "30s",
      annotations = { summary = "{{thing.title}}", cause = "{{thing.cause}}" },
    },
  },
}
