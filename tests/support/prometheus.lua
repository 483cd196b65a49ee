--- A real Prometheus, unpacked from Debian's package, that scrapes one address every 200 ms.
local uv = require "luv"
local files = require "tests.support.files"
local http = require "tests.support.http"
local json = require "dkjson"
local loop = require "tests.support.loop"
local nginx = require "tests.support.nginx"
local process = require "tests.support.process"

local prometheus = {}
prometheus.__index = prometheus

local CONFIG = [[
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: perilune
    static_configs:
      - targets: ["%s"]
]]

local function encode(text)
  return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

function prometheus.start(target)
  local self = setmetatable({ folder = files.temporary "perilune-prometheus", port = nginx.free_port() }, prometheus)
  files.write(self.folder .. "/prometheus.yml", CONFIG:format(target))
  self.process = assert(process.start { command = (os.getenv "BUILD" or "build") .. "/deps/prometheus/usr/bin/prometheus", cwd = self.folder,
    args = { "--config.file=" .. self.folder .. "/prometheus.yml", "--storage.tsdb.path=" .. self.folder .. "/data", "--web.listen-address=127.0.0.1:" .. self.port,
      "--enable-feature=exemplar-storage", "--web.console.libraries=" .. self.folder, "--web.console.templates=" .. self.folder } })
  loop.wait_until(function()
    assert(not self.process:exited(), self.process:stderr())
    local response = http.request { port = self.port, path = "/-/ready" }
    return response and response.status == 200
  end, 20000, "Prometheus")
  return self
end

function prometheus:api(path)
  local response = assert(http.request { port = self.port, path = "/api/v1/" .. path })
  return json.decode(response.body), response.status
end

--- The result of a query now; raises with Prometheus' message.
function prometheus:query(text)
  local answer = self:api("query?query=" .. encode(text))
  if answer.status ~= "success" then error(text .. ": " .. tostring(answer.error), 2) end
  return answer.data.result
end

function prometheus:exemplars(text, seconds)
  local now = uv.gettimeofday()
  return self:api(("query_exemplars?query=%s&start=%d&end=%d"):format(encode(text), now - seconds, now + 5)).data
end

function prometheus:stop()
  self.process:stop(5000)
  files.remove(self.folder)
end

return prometheus
