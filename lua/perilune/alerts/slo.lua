--- An objective of a service in one line; what it becomes is said in perilune.alerts.policy and perilune.alerts.burn.
--
--     local slo = require "perilune.alerts.slo"
--     return { policies = { slo { route = "/api/*", objective = 0.999, latency_ms = 300 } } }
-- SPDX-License-Identifier: MIT

---@param options {route: string, objective: number, latency_ms?: number, latency_objective?: number, name?: string, labels?: table, runbook?: string, page_events?: integer, ticket_events?: integer, low_traffic_rps?: number, low_traffic_events?: integer}
return function(options)
  if type(options) ~= "table" then error("usage: slo { route = \"/api/*\", objective = 0.999 }", 2) end
  return { slo = options }
end
