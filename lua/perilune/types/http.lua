---@meta
--- Requests of handlers to other services; they wait without holding up others.
--
--     local res, message, code = p.http.get("http://127.0.0.1:3000/users")
--     if not res then return 502, { error = code } end
--     return res.status, res.body
--
-- A failure returns nil, a message and a code: "connect", "timeout", "resolve",
-- "closed", "protocol", "too_large", "invalid".

---@class perilune.HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case; repeated ones joined by ", "
---@field body string

---@class perilune.http
local http = {}

--- Any method.
---@type fun(options: {url: string, method?: string, headers?: table<string,string>, body?: string, timeout_ms?: number}): perilune.HttpResponse?, string?, string?
http.request = nil

--- options: headers, timeout_ms; here and below.
---@type fun(url: string, options?: table): perilune.HttpResponse?, string?, string?
http.get = nil

---@type fun(url: string, options?: table): perilune.HttpResponse?, string?, string?
http.head = nil

---@type fun(url: string, options?: table): perilune.HttpResponse?, string?, string?
http.delete = nil

---@type fun(url: string, body: string, options?: table): perilune.HttpResponse?, string?, string?
http.post = nil

---@type fun(url: string, body: string, options?: table): perilune.HttpResponse?, string?, string?
http.put = nil

---@type fun(url: string, body: string, options?: table): perilune.HttpResponse?, string?, string?
http.patch = nil
