-- GET  cache       : what is stored, and what the cache did per route since the start
-- POST cache/purge : forgets {"url": "http://host/path?query"}, {"prefix": "http://host/path"},
--                    {"tag": "name"} or {"all": true}; answers when it is done
local admin = require "perilune.admin"
local p = require "perilune"
local app = admin.app()

local WAIT_S = 10

local function absent()
  return admin.problem(404, "no_cache", "there is no cache: cache.bytes is 0, or its folder cannot be used (see the log)")
end

-- Rooms that the miss-ratio curve is told for, in terms of cache.bytes.
local FACTORS = { 1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8 }

local function curve(id, limit_bytes)
  local points = p.json.array {}
  for _, factor in ipairs(FACTORS) do
    local bytes = math.floor(limit_bytes * factor)
    local ratio = admin.cache.miss_ratio(id, bytes)
    if ratio then points[#points + 1] = { bytes = bytes, miss_ratio = ratio } end
  end
  return points
end

app:get(admin.path "cache", {
  summary = "What is stored, and what the cache did per route since the start",
  answers = { [200] = "CacheView" },
  errors = { [404] = "no_cache" },
}, function()
  local view = admin.cache.view()
  if not view then return absent() end
  for _, route in ipairs(view.routes) do
    local asked = route.hits + route.stale + route.misses + route.collapsed
    route.hit_ratio = asked > 0 and (route.hits + route.stale + route.collapsed) / asked or 0
    route.miss_ratio_curve = curve(route.id, view.limit_bytes)
    route.id = nil
  end
  return admin.envelope(view)
end)

local function invalid(pointer, detail)
  return admin.problem(422, "bad_purge", detail, nil, { errors = p.json.array { { pointer = pointer, detail = detail } } })
end

--- As keys have it: host in lower case without a default port, and a path.
local function normal(url)
  local scheme, host, rest = url:match "^(https?)://([^/?#]+)([^#]*)"
  if not scheme then return nil end
  host = host:lower():gsub(scheme == "https" and ":443$" or ":80$", "")
  if rest:sub(1, 1) ~= "/" then rest = "/" .. rest end
  return scheme .. "://" .. host .. rest
end

--- What a body asks to be forgotten; or nil, pointer, what is wrong.
local function wanted(body)
  local kinds = {}
  for name in pairs(body) do
    if name ~= "url" and name ~= "prefix" and name ~= "tag" and name ~= "all" then
      return nil, "/" .. tostring(name), "unknown; give one of url, prefix, tag, all"
    end
    kinds[#kinds + 1] = name
  end
  if #kinds ~= 1 then return nil, "", "give exactly one of url, prefix, tag, all" end
  local kind = kinds[1]
  local value = body[kind]
  if kind == "all" then
    if value ~= true then return nil, "/all", "only true makes sense here" end
    return "all", ""
  end
  if type(value) ~= "string" or value == "" or value:find "[%c ]" then
    return nil, "/" .. kind, "a text without spaces"
  end
  if kind == "tag" then return "tag", value end
  local url = normal(value)
  if not url then return nil, "/" .. kind, "a URL as clients ask for it, like http://example.org/a" end
  return kind == "url" and "key" or "prefix", url
end

app:post(admin.path "cache/purge", {
  summary = "Forgets one url, all below a prefix, all of a tag, or all; answers when it is done",
  body = { ["*"] = true },
  answers = { [200] = { purged = "integer" } },
  errors = { [400] = "bad_json", [404] = "no_cache", [422] = "bad_purge", [500] = "purge_failed", [504] = "purge_slow" },
}, function(req)
  local what, text, wrong = wanted(req.input)
  if not what then return invalid(text, wrong) end
  local ticket = admin.cache.purge(what, text)
  if not ticket then return absent() end
  local until_s = p.now() + WAIT_S
  local count
  repeat
    p.sleep(0.005)
    count = admin.cache.purged(ticket)
  until count or p.now() > until_s
  if not count then return admin.problem(504, "purge_slow", "the purge is under way and has not ended within 10 s") end
  if count < 0 then return admin.problem(500, "purge_failed", "the store refused the purge; the log says why") end
  return admin.envelope { purged = count }
end)

return app
