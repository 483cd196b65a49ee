--- A Prometheus Alertmanager of our own, from Debian's package, on a port the kernel picks; ended by its pid.
local files = require "tests.support.files"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local alertmanager = {}
alertmanager.__index = alertmanager

local ROOT = (os.getenv("BUILD") or "build") .. "/deps/alertmanager/usr/"
local BIN, TEMPLATES = ROOT .. "bin/", ROOT .. "share/prometheus/alertmanager"

--- Starts one that passes alerts on to a webhook at once. Fields: address, url, folder.
function alertmanager.start(webhook)
  local self = setmetatable({ folder = files.temporary("perilune-alertmanager") }, alertmanager)
  files.write(self.folder .. "/config.yml", ([[
route: { receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s }
receivers: [ { name: hook, webhook_configs: [ { url: "%s" } ] } ]
]]):format(webhook))
  self.process = assert(process.start { command = BIN .. "prometheus-alertmanager", cwd = TEMPLATES, args = { "--config.file=" .. self.folder .. "/config.yml",
    "--storage.path=" .. self.folder, "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=" } })
  self.address = loop.wait_until(function()
    return self.process:stderr():match 'Listening on" address=(127%.0%.0%.1:%d+)' or self.process:exited() and "none"
  end, 15000, "the Alertmanager")
  if self.address == "none" then error("the Alertmanager did not start: " .. self.process:stderr(), 2) end
  self.url = "http://" .. self.address
  return self
end

--- What it has: a list as its API answers it.
function alertmanager:alerts()
  local got = assert(http.request { address = self.address, path = "/api/v2/alerts" })
  return json.decode(got.body) or {}
end

--- What its own tool says.
function alertmanager:amtool(...)
  local _, out, err = process.run { command = BIN .. "amtool", args = { "--alertmanager.url=" .. self.url, ... }, timeout_ms = 10000 }
  return out .. err
end

function alertmanager:stop()
  self.process:stop()
  files.remove(self.folder)
end

return alertmanager
