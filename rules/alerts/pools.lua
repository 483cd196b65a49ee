-- Connection pools whose connections are all at work while requests wait for one.
return {
  policies = {
    {
      name = "PoolExhausted", severity = "critical", on = "pool", unit = "ms", above = 5, exit = 1, for_ = "30s", keep_firing_for = "1m",
      value = function(s)
        if not s.busy_share or not s.wait_ms then return nil end
        return s.busy_share >= 0.95 and s.wait_ms or 0
      end,
      annotations = { summary = "the connections of the pool {{labels.pool}} are all at work, and requests wait {{value}} for one" },
    },
  },
}
