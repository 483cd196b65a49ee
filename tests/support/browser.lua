--- A headless Chromium, driven by chromedriver (W3C WebDriver over HTTP, with Chromium's own commands where it lacks one).
local json = require "dkjson"
local files = require "tests.support.files"
local http = require "tests.support.http"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local browser = {}
browser.__index = browser

local TIMEOUT_MS = 30000
local FLAGS = { "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage" }

local function command(self, method, path, body)
  local response = assert(http.request { address = self.address, method = method, path = path, body = body and json.encode(body) or nil,
    headers = body and { ["Content-Type"] = "application/json" } or nil, timeout_ms = TIMEOUT_MS })
  local answer = json.decode(response.body)
  if response.status ~= 200 then error(("%s %s: %s"):format(method, path, answer and answer.value.message or response.body), 3) end
  return answer.value
end

--- Starts one. options: width (1440), height (900), scheme ("light" or "dark"), mobile (false).
function browser.start(options)
  options = options or {}
  local self = setmetatable({ width = options.width or 1440, height = options.height or 900, profile = files.temporary "browser" }, browser)
  self.process = assert(process.start { command = "chromedriver", args = { "--port=0" } })
  loop.wait_until(function()
    self.address = self.process:stdout():match "started successfully on port (%d+)"
    return self.address or self.process:exited()
  end, 10000, "chromedriver")
  self.address = "127.0.0.1:" .. assert(self.address, self.process:stderr())
  local flags = { unpack(FLAGS) }
  flags[#flags + 1] = "--user-data-dir=" .. self.profile
  local made = command(self, "POST", "/session", { capabilities = { alwaysMatch = { browserName = "chrome", ["goog:loggingPrefs"] = { browser = "ALL" },
    ["goog:chromeOptions"] = { args = flags, binary = "/usr/bin/chromium" } } } })
  self.session = "/session/" .. made.sessionId
  self:cdp("Emulation.setDeviceMetricsOverride", { width = self.width, height = self.height, deviceScaleFactor = 1, mobile = options.mobile or false })
  self:scheme(options.scheme or "light")
  return self
end

--- A command of the DevTools protocol.
function browser:cdp(name, params)
  return command(self, "POST", self.session .. "/goog/cdp/execute", { cmd = name, params = params or setmetatable({}, { __jsontype = "object" }) })
end

--- What the system is said to prefer: "light" or "dark".
function browser:scheme(name)
  self:cdp("Emulation.setEmulatedMedia", { features = { { name = "prefers-color-scheme", value = name } } })
end

function browser:go(url) command(self, "POST", self.session .. "/url", { url = url }) end

--- The value of a JavaScript expression; arguments[0] and so on are the further ones.
function browser:eval(expression, ...)
  return command(self, "POST", self.session .. "/execute/sync", { script = "return " .. expression, args = setmetatable({ ... }, { __jsontype = "array" }) })
end

--- Waits until an expression is true.
function browser:wait(expression, what, timeout_ms)
  local last
  local ok, why = pcall(loop.wait_until, function()
    last = self:eval(expression)
    return last
  end, timeout_ms or 15000, what or expression)
  if not ok then error(("%s; console: %s; page: %s"):format(why, json.encode(self:console()), tostring(self:eval "document.body.innerText"):sub(1, 3000)), 2) end
  return last
end

--- Presses keys on whatever has the focus, as a keyboard does: a name as in "Tab", "Enter", or text.
local KEYS = { Tab = "\238\128\132", Enter = "\238\128\135", Escape = "\238\128\140", Space = " ", Shift = "\238\128\136" }
function browser:press(...)
  local actions = {}
  for _, key in ipairs { ... } do
    for _, kind in ipairs { "keyDown", "keyUp" } do actions[#actions + 1] = { type = kind, value = KEYS[key] or key } end
  end
  command(self, "POST", self.session .. "/actions", { actions = { { type = "key", id = "keyboard", actions = actions } } })
end

function browser:type(text)
  local keys = {}
  for c in text:gmatch "." do keys[#keys + 1] = c end
  self:press(unpack(keys))
end

--- What the console has said since the last call: { { level, message } }. Violations of the content security policy are among it.
function browser:console() return command(self, "POST", self.session .. "/se/log", { type = "browser" }) end

local DIGITS = {}
for i = 1, 64 do DIGITS[("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):byte(i)] = i - 1 end

local function from_base64(text)
  local out, value, bits = {}, 0, 0
  for i = 1, #text do
    local digit = DIGITS[text:byte(i)]
    if digit then
      value, bits = value * 64 + digit, bits + 6
      if bits >= 8 then
        bits = bits - 8
        local byte = math.floor(value / 2 ^ bits)
        out[#out + 1] = string.char(byte)
        value = value - byte * 2 ^ bits
      end
    end
  end
  return table.concat(out)
end

--- Writes a PNG of the first `height` pixels of the page (all of it by default).
function browser:screenshot(path, height)
  local whole = self:eval "document.documentElement.scrollHeight"
  local shot = self:cdp("Page.captureScreenshot", { format = "png", captureBeyondViewport = true,
    clip = { x = 0, y = 0, width = self.width, height = math.min(whole, height or whole), scale = 1 } })
  files.write(path, from_base64(shot.data))
end

function browser:stop()
  pcall(command, self, "DELETE", self.session)
  self.process:stop(5000)
  files.remove(self.profile)
end

return browser
