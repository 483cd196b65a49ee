--- Takes one notification to one endpoint. It waits, so it is for handlers.
-- SPDX-License-Identifier: MIT

local core, require = ...

local payload = require "perilune.alerts.payload"

local M = {}

local function read(value)
  if value.text then return value.text end
  return core.files.secret(value.env and "env" or "file", value.env or value.file)
end

local function headers_of(endpoint)
  local headers = { ["User-Agent"] = "perilune/" .. core.version }
  for name, value in pairs(endpoint.headers) do
    local text, why = read(value)
    if not text then return nil, why end
    headers[name] = text
  end
  headers["Content-Type"] = "application/json"
  return headers
end

-- What it will never take, whoever asks again; all else may be put right meanwhile.
local FOR_GOOD = { [400] = true, [413] = true, [415] = true, [422] = true }

local function post(endpoint, path, body, timeout_ms)
  local url, why = read(endpoint.url)
  if not url then return false, why end
  if not url:find "^https?://[^/%s]+" then return false, "its url does not begin with http:// or https://" end
  local headers, missing = headers_of(endpoint)
  if not headers then return false, missing end
  local done, res, message = pcall(core.http_request, "POST", path and url:gsub("/+$", "") .. path or url, headers, core.json.encode(body), timeout_ms)
  if not done then return false, tostring(res) end
  if not res then return false, message end
  if res.status >= 200 and res.status < 300 then return true end
  return false, ("it answered %d"):format(res.status), FOR_GOOD[res.status], tonumber(res.headers["retry-after"])
end

local kinds = {}

function kinds.log(_, n)
  for _, line in ipairs(payload.log(n)) do core.log("warn", line) end
  return true
end

function kinds.webhook(endpoint, n, o) return post(endpoint, nil, payload.webhook(n, o.url, endpoint.max_alerts), o.timeout_ms) end

function kinds.slack(endpoint, n, o) return post(endpoint, nil, payload.slack(n, o.url), o.timeout_ms) end

function kinds.alertmanager(endpoint, n, o) return post(endpoint, "/api/v2/alerts", payload.alertmanager(n, o.url, o.forget_at), o.timeout_ms) end

function kinds.command(endpoint, n, o)
  local code, why, word = core.command(endpoint.command, core.json.encode(payload.webhook(n, o.url, endpoint.max_alerts)), o.timeout_ms)
  if code == 0 then return true end
  return false, code and ("it ended with %d"):format(code) or why, word == "invalid"
end

--- Returns true; or false, why, whether it is for good, and the seconds that the receiver asked to be left alone for.
-- `options`: url (of the control API), timeout_ms, forget_at (when an Alertmanager shall forget).
function M.send(endpoint, notification, options) return kinds[endpoint.kind](endpoint, notification, options) end

--- Where an endpoint is, without what may be secret in it.
function M.where(endpoint)
  if endpoint.kind == "log" then return "log" end
  if endpoint.kind == "command" then return endpoint.command[1] end
  if not endpoint.url.text then return endpoint.url.env and "env " .. endpoint.url.env or "file " .. endpoint.url.file end
  local scheme, authority = endpoint.url.text:match "^(https?://)([^/%s?#]+)"
  return scheme .. authority:gsub("^.*@", "")
end

return M
