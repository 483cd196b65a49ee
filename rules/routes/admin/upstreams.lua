-- GET  upstreams                                : every upstream with its peers
-- POST upstreams/:name/peers/:address/drain     : no new requests for this peer
-- POST upstreams/:name/peers/:address/undrain   : it takes requests again, slowly at first
-- Draining the last peer takes ?force=true.
local admin = require "perilune.admin"
local app = admin.app()
local upstreams = admin.upstreams

local status = { unknown_upstream = 404, unknown_peer = 404, already_draining = 409, not_draining = 409 }

app:get(admin.path "upstreams", function()
  return admin.envelope { upstreams = upstreams.list() }
end)

local function change(on)
  return function(req)
    local name, address = req.params.name, req.params.address
    if not address:find("^.+:%d+$") then
      return admin.problem(422, "bad_address", "a peer is named by its address, like 10.0.0.1:8080; see GET upstreams")
    end
    local last = on and upstreams.undrained(name) == 1
    if last and req.query.force ~= "true" then
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

app:post(admin.path "upstreams/:name/peers/:address/drain", change(true))
app:post(admin.path "upstreams/:name/peers/:address/undrain", change(false))

return app
