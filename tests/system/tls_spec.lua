--- TLS as OpenSSL's, curl's and Python's clients see it.
local engine = require "tests.support.engine"
local files = require "tests.support.files"
local load = require "tests.support.load"
local loop = require "tests.support.loop"
local process = require "tests.support.process"

local folder

local function run(command, ...)
  local code, out, err = process.run { command = command, args = { ... }, timeout_ms = 30000 }
  return code, out, err
end

local function openssl(...)
  local code, out, err = run("openssl", ...)
  assert(code == 0, err)
  return out
end

--- Makes NAME.pem and NAME.key, signed by themselves. options: names, days, key (arguments of openssl req).
local function certificate(name, options)
  options = options or {}
  local args = { "req", "-x509", "-nodes", "-keyout", folder .. "/" .. name .. ".key", "-out", folder .. "/" .. name .. ".pem",
    "-subj", "/CN=" .. name, "-days", options.days or "2" }
  for _, arg in ipairs(options.key or { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256" }) do args[#args + 1] = arg end
  if options.names ~= false then
    args[#args + 1] = "-addext"
    args[#args + 1] = "subjectAltName=" .. (options.names or "DNS:" .. name .. ",IP:127.0.0.1")
  end
  openssl(unpack(args))
end

local APP = [[
local p = require "perilune"
local app = p.app()
app:get("/hello", function() return "hello" end)
app:post("/echo", function(req) return req.body end)
app:get("/proto", function(req) return p.forward("self", "/seen") end)
app:get("/seen", function(req) return req.headers["x-forwarded-proto"] or "none" end)
return app
]]

local function config(extra, upstream)
  return ([[return { upstreams = { self = "%s" }, tls = { listen = "127.0.0.1:0", certificate = "%s/a.test.pem", key = "%s/a.test.key", %s } }]])
    :format(upstream or "http://127.0.0.1:1", folder, folder, extra or "")
end

local function start(options)
  options = options or {}
  return engine.start { rules = { ["routes/app.lua"] = APP }, config = config(options.extra, options.upstream),
    workers = options.workers, args = options.args }
end

local function curl(served, path, ...)
  local port = served.tls:match("%d+$")
  local code, out, err = run("curl", "-sS", "--max-time", "20", "--cacert", folder .. "/a.test.pem",
    "--resolve", "a.test:" .. port .. ":127.0.0.1", "https://a.test:" .. port .. path, ...)
  return code == 0 and out or nil, err
end

local function s_client(served, ...)
  local _, out, err = process.run { command = "sh", timeout_ms = 20000,
    args = { "-c", 'openssl s_client -connect "$@" </dev/null', "sh", served.tls, ... } }
  return out .. err
end

local function within(test, ms)
  return function() loop.run(test, ms or 30000) end
end

describe("the TLS listener", function()
  setup(function()
    folder = files.temporary()
    certificate("a.test")
    certificate("b.test", { names = "DNS:b.test,DNS:*.b.test" })
  end)
  teardown(function() files.remove(folder) end)

  it("answers in TLS 1.2 and 1.3, bodies of every size, beside the plain one", within(function()
    local served = start()
    for _, version in ipairs { "1.2", "1.3" } do
      assert.equal("hello", curl(served, "/hello", "--tlsv" .. version, "--tls-max", version))
    end
    for _, size in ipairs { 1, 16384, 16385, 3000000 } do
      local body = ("0123456789abcdef"):rep(math.ceil(size / 16)):sub(1, size)
      files.write(folder .. "/body", body)
      assert.is_true(curl(served, "/echo", "--data-binary", "@" .. folder .. "/body") == body, size)
    end
    assert.equal("hello", served:get("/hello").body)
    local result = assert(load.wrk { url = "https://" .. served.tls .. "/hello", connections = 8, seconds = 1 })
    for kind, count in pairs(result.errors) do assert.equal(0, count, kind) end
    assert.is_true(result.requests > 100)
    served:stop()
    served = start { extra = 'min_version = "1.3"' }
    assert.is_nil((curl(served, "/hello", "--tls-max", "1.2")))
    assert.equal("hello", curl(served, "/hello"))
    served:stop()
  end))

  it("tells upstreams that the client came by https", within(function()
    local origin = engine.start { rules = { ["routes/app.lua"] = APP }, config = 'return { upstreams = { self = "http://127.0.0.1:1" } }' }
    local served = start { upstream = "http://" .. origin.listen }
    assert.equal("https", curl(served, "/proto"))
    assert.equal("http", served:get("/proto").body)
    served:stop()
    origin:stop()
  end))

  it("chooses the certificate by name", within(function()
    local served = start { extra = ('more = { { certificate = "%s/b.test.pem", key = "%s/b.test.key" } }'):format(folder, folder) }
    for name, expected in pairs { ["a.test"] = "a.test", ["b.test"] = "b.test", ["x.b.test"] = "b.test", ["x.y.b.test"] = "a.test",
      ["other.test"] = "a.test", ["B.TEST"] = "b.test" } do
      assert.matches("subject=CN = " .. expected, s_client(served, "-servername", name), 1, true)
    end
    assert.matches("subject=CN = a.test", s_client(served, "-noservername"), 1, true)
    served:stop()
  end))

  it("speaks http/1.1 and says so to who asks for something else", within(function()
    local served = start()
    assert.matches("ALPN protocol: http/1.1", s_client(served, "-alpn", "h2,http/1.1"), 1, true)
    assert.matches("alert no application protocol", s_client(served, "-alpn", "h2"), 1, true)
    served:stop()
  end))

  it("resumes sessions that another worker began", within(function()
    local served = start { workers = 3 }
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local session = folder .. "/session" .. version
      -- TLS 1.3 sends its ticket behind the handshake: ask for something, so as to wait for it.
      local code, _, err = process.run { command = "sh", timeout_ms = 20000, args = { "-c",
        [[printf 'GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' | openssl s_client -ign_eof -connect "$1" "$2" -sess_out "$3"]],
        "sh", served.tls, version, session } }
      assert.equal(0, code, err)
      for _ = 1, 6 do
        assert.matches("Reused, TLSv1", s_client(served, version, "-sess_in", session), 1, true)
      end
    end
    served:stop()
  end, 60000))

  it("takes new certificates without dropping a connection", within(function()
    local served = start()
    files.write(folder .. "/keep.py", [[
import http.client, os, ssl, sys, time
address, folder = sys.argv[1:]
host, port = address.split(":")
context = ssl._create_unverified_context()
c = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
def ask():
    c.request("GET", "/hello")
    return c.getresponse().read().decode()
first = c.connect() or c.sock.getpeername(), c.sock.getsockname()
print(ask(), flush=True)
while not os.path.exists(folder + "/go"): time.sleep(0.02)
print(ask(), c.sock.getsockname() == first[1], flush=True)
]])
    local client = assert(process.start { command = "python3", args = { folder .. "/keep.py", served.tls, folder } })
    loop.wait_until(function() return client:stdout():find("^hello\n") end, 5000, "the first answer")
    local before = s_client(served):match("%-%-%-%-%-BEGIN CERTIFICATE.-END CERTIFICATE")
    certificate("a.test")
    loop.wait_until(function()
      return s_client(served):match("%-%-%-%-%-BEGIN CERTIFICATE.-END CERTIFICATE") ~= before
    end, 10000, "the new certificate")
    files.write(folder .. "/go", "")
    client:wait()
    assert.equal("hello\nhello True\n", client:stdout(), client:stderr())
    -- A broken one is refused, and the old one stays.
    files.write(folder .. "/a.test.pem", "nonsense")
    loop.wait_until(function()
      return served:log():find("reload refused: .*a%.test%.pem: this is no PEM certificate")
    end, 5000, "the refusal")
    assert.matches("BEGIN CERTIFICATE", s_client(served))
    served:stop()
    certificate("a.test")
  end))

  it("answers a plain request in plain words, and lets no handshake dawdle", within(function()
    local served = start { args = { "--set", "server.head_timeout_ms=300" } }
    local http = require "tests.support.http"
    local c = http.connect { address = served.tls }
    local answer = c:request("/hello")
    assert.equal(400, answer.status)
    assert.matches("speaks https", answer.body)
    c:close()
    c = http.connect { address = served.tls }
    local began = loop.now_ms()
    assert.is_nil((c:fill(5000)))
    assert.equal("eof", c.ended)
    assert.is_true(loop.now_ms() - began < 4000)
    c:close()
    served:stop()
  end))
end)

describe("a certificate that is wrong", function()
  local function check(extra)
    files.write(folder .. "/perilune.lua", extra)
    local code, out, err = process.run { command = engine.program(), args = { "check", "--config", folder .. "/perilune.lua" } }
    return code, out .. err
  end
  local function refused(pem, key, expected)
    local code, text = check(('return { rules = "none",\n tls = { listen = "127.0.0.1:0", certificate = %q, key = %q } }'):format(pem, key))
    assert.equal(2, code, text)
    assert.is_true(text:find("perilune.lua:2: tls: ", 1, true) ~= nil, text)
    assert.is_true(text:find(expected, 1, true) ~= nil, text)
  end
  setup(function()
    folder = files.temporary()
    certificate("a.test")
    certificate("b.test")
    certificate("small", { key = { "-newkey", "rsa:1024" } })
    openssl("pkey", "-in", folder .. "/a.test.key", "-aes128", "-passout", "pass:x", "-out", folder .. "/locked.key")
    files.write(folder .. "/empty", "")
  end)
  teardown(function() files.remove(folder) end)

  it("is named with file, reason and what to do", within(function()
    refused("a.test.pem", "nowhere.key", "nowhere.key: No such file")
    refused("nowhere.pem", "a.test.key", "nowhere.pem: No such file")
    refused("empty", "a.test.key", "this is no PEM certificate")
    refused("a.test.key", "a.test.key", "this is no PEM certificate")
    refused("a.test.pem", "empty", "this is no PEM private key")
    refused("a.test.pem", "a.test.pem", "this is no PEM private key")
    refused("a.test.pem", "b.test.key", "it does not belong to certificate")
    refused("a.test.pem", "locked.key", "encrypted with a pass phrase")
    refused("small.pem", "small.key", "key too small")
    local code, text = check('return { tls = { listen = "127.0.0.1:0", certificat = "x" } }')
    assert.equal(2, code)
    assert.is_true(text:find("unknown key 'certificat', did you mean 'certificate'?", 1, true) ~= nil, text)
    assert.is_true(text:find("belong together", 1, true) ~= nil, text)
    local _, more = check('return { tls = { certificate = "a.test.pem", key = "a.test.key", min_version = "1.1" } }')
    assert.is_true(more:find("address to listen on", 1, true) ~= nil, more)
    assert.is_true(more:find('min_version is "1.2" or "1.3"', 1, true) ~= nil, more)
  end))

  it("but only suspicious serves, with a warning", within(function()
    certificate("a.test", { names = false })
    local served = engine.start { config = config() }
    assert.matches("names no host", served:log())
    served:stop()
  end))
end)
