--- Malformed, ambiguous and odd messages, judged by a peer that records bytes.

local engine = require "tests.support.engine"
local loop = require "tests.support.loop"
local peer = require "tests.support.peer"

local requests = require "tests.support.corpus_requests"
local responses = require "tests.support.corpus_responses"

local function allows(expect, status)
  if type(expect) ~= "table" then expect = { expect } end
  for _, one in ipairs(expect) do
    if one == status or (one == "forward" and status == 200) then return true end
  end
  return false
end

local function method_of(bytes)
  return bytes:match("^[\r\n]*([A-Z]+) ")
end

--- One line per entry that went wrong, or nothing.
local function judge(served, upstream, entry, send)
  local before = upstream.seen
  local c = served:connect()
  send(c, entry.bytes)
  local response, why = c:read_response { method = method_of(entry.bytes) }
  local complaint
  if not response then
    complaint = "no answer: " .. tostring(why)
  elseif not allows(entry.expect, response.status) then
    complaint = "answered " .. response.status
  elseif response.status ~= 200 then
    local rest, not_closed = c:read_until_close()
    if not rest then
      complaint = "not closed after the refusal: " .. tostring(not_closed)
    elseif upstream.seen ~= before then
      complaint = "refused, but the upstream has seen it"
    end
  elseif upstream.seen == before then
    complaint = "answered 200 although the upstream has seen nothing"
  end
  c:close()
  return complaint and ("%s (RFC %s): %s, expected %s"):format(entry.name, entry.rfc, complaint,
    type(entry.expect) == "table" and table.concat(entry.expect, " or ") or tostring(entry.expect))
end

--- The whole requests that an upstream has got. A last one may be cut short:
-- that is how a body that turned out malformed is taken back.
local function recorded(upstream)
  local all = {}
  for _, entry in ipairs(upstream.connections) do
    local bytes, at = entry:bytes(), 1
    while at <= #bytes do
      local request, next_at = peer.parse(bytes, at)
      if not request then
        assert.equal("incomplete", next_at, bytes)
        break
      end
      all[#all + 1], at = request, next_at
    end
  end
  return all
end

local function judge_all(send)
  local upstream = peer.start { answer = peer.response(200, {}, "fine") }
  local served = engine.start {
    args = { "--upstream", "http://" .. upstream.address, "--set", "server.linger_ms=300", "--set", "server.body_bytes=64MiB" },
  }
  local complaints = {}
  for _, entry in ipairs(requests) do complaints[#complaints + 1] = judge(served, upstream, entry, send) end
  local seen = recorded(upstream)
  for _, request in ipairs(seen) do
    if request.target:find("smuggled", 1, true) then complaints[#complaints + 1] = "smuggled: " .. request.raw end
  end
  served:stop()
  upstream:stop()
  assert.equal("", table.concat(complaints, "\n"))
  return #seen
end

describe("requests", function()
  it("that are malformed are refused, and odd ones arrive clean", function()
    loop.run(function()
      assert.is_true(#requests >= 150)
      assert.is_true(judge_all(function(c, bytes) c:send(bytes) end) > 30)
    end, 120000)
  end)

  it("are judged the same when they arrive in pieces", function()
    loop.run(function()
      math.randomseed(7)
      judge_all(function(c, bytes)
        local at, pieces = 1, 0
        while at <= #bytes do
          local size = pieces < 40 and math.random(1, math.max(1, math.min(60, math.floor(#bytes / 4)))) or #bytes
          if not c:send(bytes:sub(at, at + size - 1)) then return end
          loop.settle()
          at, pieces = at + size, pieces + 1
        end
      end)
    end, 240000)
  end)
end)

describe("responses", function()
  it("that are malformed become a 502 or a visible cut, and poison nobody", function()
    loop.run(function()
      local entry
      local upstream = peer.start {
        connection = function(conn)
          local head = conn:take_through("\r\n\r\n", loop.now_ms() + 5000)
          if not head then return end
          if head:find("^%u+ /check ") then
            conn:send(peer.response(200, {}, "clean"))
          else
            conn:send(entry.bytes)
          end
          conn:shutdown()
        end,
      }
      local served = engine.start { args = { "--upstream", "http://" .. upstream.address } }
      local complaints = {}
      for _, this in ipairs(responses) do
        entry = this
        local response, why = served:request { method = this.method, path = "/" }
        local verdict = response and tostring(response.status) or "cut: " .. tostring(why)
        local fine
        if this.expect == "502" then
          fine = response and response.status == 502
        elseif this.expect == "truncated" then
          fine = not response or response.status == 502
        else
          fine = response and response.status ~= 502
        end
        if not fine then
          complaints[#complaints + 1] = ("%s (RFC %s): %s, expected %s"):format(this.name, this.rfc, verdict, this.expect)
        end
        local check, lost = served:get("/check")
        if not check or check.body ~= "clean" then
          complaints[#complaints + 1] = ("%s: the next request got %s"):format(this.name,
            check and check.body or tostring(lost))
        end
      end
      assert.is_true(#responses >= 60)
      served:stop()
      upstream:stop(true)
      assert.equal("", table.concat(complaints, "\n"))
    end, 120000)
  end)
end)
