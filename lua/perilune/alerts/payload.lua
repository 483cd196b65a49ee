--- What receivers are sent, from a notification { receiver, key, labels, reason, alerts = { { status, alert } } }.
--
--     webhook        as Alertmanager's webhook, version 4
--     alertmanager   POST /api/v2/alerts: a list of alerts
--     slack          an incoming webhook: text, and blocks of mrkdwn
--     command        what a webhook gets, on stdin
--     log            one line for each alert
--
-- Source: prometheus.io/docs/alerting/latest/configuration (webhook_config), Alertmanager's OpenAPI v2,
--         docs.slack.dev/messaging (incoming webhooks, escaping).
-- SPDX-License-Identifier: MIT

local core, require = ...

local labels = require "perilune.alerts.labels"

local M = {}

local SLACK_BLOCKS, SLACK_TEXT = 20, 2900 -- Slack refuses more than 50 blocks, and sections of more than 3000
local NEVER = "0001-01-01T00:00:00Z"

function M.time(seconds)
  if not seconds then return NEVER end
  return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(seconds)) .. (".%03dZ"):format(math.floor(seconds % 1 * 1000))
end

local function common(alerts, field)
  local out
  for _, one in ipairs(alerts) do
    if not out then
      out = {}
      for name, value in pairs(one.alert[field]) do out[name] = value end
    else
      for name, value in pairs(out) do
        if one.alert[field][name] ~= value then out[name] = nil end
      end
    end
  end
  return out or {}
end

local function annotations(alert)
  if not alert.flapping then return alert.annotations end
  local out = { flapping = "it fires and ends too often; it is not told of again until it is steady" }
  for name, value in pairs(alert.annotations) do out[name] = value end
  return out
end

local function link(url, alert) return url .. "alerts/" .. alert.id end

--- `url` is that of the control API. At most `most` alerts (0: all) are told one by one.
function M.webhook(n, url, most)
  local alerts, status, left_out = core.json.array(), "resolved", 0
  for _, one in ipairs(n.alerts) do
    if one.status == "firing" then status = "firing" end
    if most > 0 and #alerts >= most then
      left_out = left_out + 1
    else
      alerts[#alerts + 1] = { status = one.status, labels = one.alert.labels, annotations = annotations(one.alert), startsAt = M.time(one.alert.starts_at),
        endsAt = M.time(one.alert.ends_at), generatorURL = link(url, one.alert), fingerprint = one.alert.id }
    end
  end
  return {
    version = "4", groupKey = (n.key:gsub("[\30\31]", { ["\30"] = ",", ["\31"] = "=" })), truncatedAlerts = left_out, status = status, receiver = n.receiver,
    groupLabels = n.labels, commonLabels = common(n.alerts, "labels"), commonAnnotations = common(n.alerts, "annotations"),
    externalURL = url, alerts = alerts, notification_reason = n.reason,
  }
end

--- `until_s`: when Alertmanager shall forget what fires, unless it is told again.
function M.alertmanager(n, url, until_s)
  local alerts = core.json.array()
  for _, one in ipairs(n.alerts) do
    alerts[#alerts + 1] = { labels = one.alert.labels, annotations = annotations(one.alert), startsAt = M.time(one.alert.starts_at),
      endsAt = M.time(one.alert.ends_at or until_s), generatorURL = link(url, one.alert) }
  end
  return alerts
end

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }
local function escaped(text) return (text:gsub("[&<>]", entities)) end

local function title(one)
  return ("%s %s%s"):format(one.status == "firing" and (one.alert.flapping and "FLAPPING" or "FIRING") or "RESOLVED", one.alert.labels.alertname,
    one.alert.labels.route and " " .. one.alert.labels.route or one.alert.labels.pool and " " .. one.alert.labels.pool or "")
end

local function lines(set)
  local out = {}
  for _, name in ipairs(labels.names(set)) do out[#out + 1] = ("%s: %s"):format(name, set[name]) end
  return table.concat(out, "\n")
end

function M.slack(n, url)
  local blocks, titles = core.json.array(), {}
  for i, one in ipairs(n.alerts) do
    titles[i] = title(one)
    if i <= SLACK_BLOCKS then
      local text = ("*<%s|%s>* (%s)\n%s\n%s"):format(link(url, one.alert), escaped(title(one)), escaped(one.alert.labels.severity or ""),
        escaped(lines(annotations(one.alert))), escaped(lines(one.alert.labels)))
      blocks[i] = { type = "section", text = { type = "mrkdwn", text = text:sub(1, SLACK_TEXT) } }
    end
  end
  if #n.alerts > SLACK_BLOCKS then
    blocks[#blocks + 1] = { type = "section", text = { type = "mrkdwn", text = ("and %d more"):format(#n.alerts - SLACK_BLOCKS) } }
  end
  return { text = escaped(table.concat(titles, ", "):sub(1, SLACK_TEXT)), blocks = blocks }
end

function M.log(n)
  local out = {}
  for i, one in ipairs(n.alerts) do
    local a = one.alert
    out[i] = ("alert %s: %s {%s}%s"):format(title(one), a.annotations.summary or "", lines(a.labels):gsub("\n", ", "), n.reason == "repeat" and " (still)" or "")
  end
  return out
end

return M
