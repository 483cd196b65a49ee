-- GET  upstreams                                : every upstream with its peers
-- POST upstreams/:name/peers/:address/drain     : no new requests for this peer
-- POST upstreams/:name/peers/:address/undrain   : it takes requests again, slowly at first
-- Draining the last peer takes ?force=true.
local admin = require "perilune.admin"
local app = admin.app()
local upstreams = admin.upstreams

local status = { unknown_upstream = 404, unknown_peer = 404, already_draining = 409, not_draining = 409 }

app:get(admin.path "upstreams", {
  summary = "Every upstream with its peers",
  answers = { [200] = { upstreams = { "Upstream" } } },
}, function()
  return admin.envelope { upstreams = upstreams.list() }
end)

local function change(on)
  return function(req)
    local name, address = req.params.name, req.params.address
    if not address:find("^.+:%d+$") then
      return admin.problem(422, "bad_address", "a peer is named by its address, like 10.0.0.1:8080; see GET upstreams")
    end
    local last = on and upstreams.undrained(name) == 1
    if last and not req.asked.force then
      for _, upstream in ipairs(upstreams.list()) do
        for _, peer in ipairs(upstream.name == name and upstream.peers or {}) do
          if peer.address == address and peer.state ~= "draining" then
            return admin.problem(409, "last_peer",
              "this is the last peer that takes requests; with ?force=true all of them are answered with 503")
          end
        end
      end
    end
    local done, what, word = upstreams.drain(name, address, on)
    if not done then return admin.problem(status[word], word, what) end
    return admin.envelope { upstream = name, peer = address, draining = on }
  end
end

app:post(admin.path "upstreams/:name/peers/:address/drain", {
  summary = "No new requests for this peer",
  query = { force = { type = "boolean", hint = "true or false: even the last one" } },
  answers = { [200] = { upstream = "string", peer = "string", draining = "boolean" } },
  errors = { [404] = "unknown_upstream unknown_peer", [409] = "last_peer already_draining not_draining", [422] = "bad_address" },
}, change(true))
app:post(admin.path "upstreams/:name/peers/:address/undrain", {
  summary = "A peer takes requests again, slowly at first",
  query = { force = { type = "boolean", hint = "true or false: even the last one" } },
  answers = { [200] = { upstream = "string", peer = "string", draining = "boolean" } },
  errors = { [404] = "unknown_upstream unknown_peer", [409] = "last_peer already_draining not_draining", [422] = "bad_address" },
}, change(false))

return app
