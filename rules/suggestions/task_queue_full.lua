-- Tasks are refused because the queue is full, though threads keep up on the whole. From tasks refused and done during the span.
local function sums(f)
  local done, refused = 0, 0
  for _, k in pairs(f.tasks and f.tasks.during.kinds or {}) do done, refused = done + (k.done or 0), refused + (k.refused or 0) end
  return done, refused
end

return {
  id = "task_queue_full",
  title = function(_, f) return ("let %d tasks wait instead of %d"):format(f:setting "tasks.max" * 2, f:setting "tasks.max") end,
  class = "asynchronous", on = "host", issue = { "errors.handler", "overload.queueing" }, needs = { "task_busy_share" },
  when = function(s, f)
    local done, refused = sums(f)
    return refused >= 10 and refused >= 0.01 * (done + refused) and s.now.task_busy_share < 0.95
  end,
  impact = function(_, f)
    local routes = f:with("task", 0.1)
    local now, rps = f:mean(routes, "error_rate"), f:rps(routes)
    local _, refused = sums(f)
    if rps <= 0 or f.span_s <= 0 then return nil end
    return { metric = "error_rate", now = now, predicted = math.max(0, now - refused / (rps * f.span_s)), lo = 0, hi = now, routes = routes,
      formula = "error rate - refused tasks / requests", inputs = { refused = refused, requests = rps * f.span_s } }
  end,
  set = function(_, f) return { ["tasks.max"] = f:setting "tasks.max" * 2 } end,
  effort = "very_low", risk = 1, verify = { metric = "error_rate", direction = "down", mde = 0.1, price = 2 },
  explain = function(s, f)
    local done, refused = sums(f)
    return ("%.0f tasks were refused and %.0f done; threads were busy %s of the time"):format(refused, done, s:show "task_busy_share")
  end,
}
