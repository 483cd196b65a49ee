-- What is promised, and how fast the room for failures is used up. One line a service; put your own in.
local slo = require "perilune.alerts.slo"

return {
  policies = {
    slo { route = "*", name = "all", objective = 0.999 },
  },
}
