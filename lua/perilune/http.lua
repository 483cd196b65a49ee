--- Requests of handlers to other services; they wait without holding up others.
--
--     local res, message, code = p.http.get("http://127.0.0.1:3000/users")
--     if not res then return 502, { error = code } end
--     return res.status, res.body
--
-- A failure returns nil, a message and a code: "connect", "timeout", "resolve",
-- "closed", "protocol", "too_large", "invalid".

local core = ...

local request_core, nearest = core.http_request, core.nearest

local allowed = { url = "string", method = "string", headers = "table", body = "string", timeout_ms = "number" }
local names = { "url", "method", "headers", "body", "timeout_ms" }

---@class perilune.HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case; repeated ones joined by ", "
---@field body string

--- Makes one request. Framing headers and Host are set by the engine.
---@param options {url: string, method?: string, headers?: table<string,string>, body?: string, timeout_ms?: number}
---@return perilune.HttpResponse? response
---@return string? message
---@return string? code
local function request(options)
  if type(options) ~= "table" then error("usage: http.request { url = \"http://...\" }", 2) end
  for key, value in pairs(options) do
    if not allowed[key] then
      local near = nearest(tostring(key), names)
      error(("unknown key '%s' in http.request%s"):format(tostring(key), near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    if type(value) ~= allowed[key] then
      error(("key '%s' of http.request is a %s, it must be a %s"):format(key, type(value), allowed[key]), 2)
    end
  end
  if not options.url then error("http.request needs a url", 2) end
  local method = options.method or (options.body and "POST" or "GET")
  if not method:find("^[A-Z]+$") or method == "CONNECT" or method == "TRACE" then
    error("method must be an upper-case word like GET or POST", 2)
  end
  for name in pairs(options.headers or {}) do
    local lower = tostring(name):lower()
    if lower == "host" or lower == "content-length" or lower == "transfer-encoding" or lower == "connection" then
      error("header '" .. tostring(name) .. "' is set by the engine; leave it out", 2)
    end
  end
  return request_core(method, options.url, options.headers, options.body, options.timeout_ms)
end

local function with(method, takes_body)
  return function(url, a, b)
    local options, given = {}, a
    if takes_body then given = b end
    for key, value in pairs(given or {}) do options[key] = value end
    options.url, options.method = url, method
    if takes_body then options.body = a end
    return request(options)
  end
end

return {
  --- Any method.
  ---@type fun(options: {url: string, method?: string, headers?: table<string,string>, body?: string, timeout_ms?: number}): perilune.HttpResponse?, string?, string?
  request = request,
  --- options: headers, timeout_ms; here and below.
  ---@type fun(url: string, options?: table): perilune.HttpResponse?, string?, string?
  get = with("GET", false),
  ---@type fun(url: string, options?: table): perilune.HttpResponse?, string?, string?
  head = with("HEAD", false),
  ---@type fun(url: string, options?: table): perilune.HttpResponse?, string?, string?
  delete = with("DELETE", false),
  ---@type fun(url: string, body: string, options?: table): perilune.HttpResponse?, string?, string?
  post = with("POST", true),
  ---@type fun(url: string, body: string, options?: table): perilune.HttpResponse?, string?, string?
  put = with("PUT", true),
  ---@type fun(url: string, body: string, options?: table): perilune.HttpResponse?, string?, string?
  patch = with("PATCH", true),
}
