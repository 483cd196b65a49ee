-- The engine itself.
return {
  policies = {
    {
      name = "StoreTrouble", severity = "critical", on = "engine", signal = "store_trouble", above = 0, keep_firing_for = "1m",
      annotations = { summary = "the state folder cannot be written: {{thing.why}}" },
    },
    {
      name = "ReloadRefused", severity = "warning", on = "engine", signal = "reload_refused", above = 0,
      annotations = { summary = "the newest files are not in force; GET generations says which line is wrong, or why they were taken back" },
    },
    {
      name = "ScriptQuarantined", severity = "critical", on = "engine", signal = "quarantined", above = 0,
      annotations = { summary = "{{thing.routes}} took workers down and is answered with 503 until its script changes" },
    },
  },
}
