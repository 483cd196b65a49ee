-- GET compression : what was compressed, per route and coding, since the start; what was not, and why.
local admin = require "perilune.admin"
local app = admin.app()

app:get(admin.path "compression", {
  summary = "What was compressed, per route and coding, since the start; what was not, and why",
  answers = { [200] = "Compression" },
}, function()
  local routes = admin.compression.routes()
  local bytes_in, bytes_out, cpu_s = 0, 0, 0
  for _, route in ipairs(routes) do
    for _, coding in ipairs(route.codings) do
      coding.ratio = coding.bytes_in > 0 and coding.bytes_out / coding.bytes_in or 1
      bytes_in, bytes_out, cpu_s = bytes_in + coding.bytes_in, bytes_out + coding.bytes_out, cpu_s + coding.cpu_s
    end
  end
  return admin.envelope {
    enabled = admin.setting "compression.enabled", routes = routes,
    total = { bytes_in = bytes_in, bytes_out = bytes_out, saved_bytes = bytes_in - bytes_out, cpu_s = cpu_s },
  }
end)

return app
