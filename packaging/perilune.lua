-- /etc/perilune/perilune.lua: what `perilune config show` lists, with defaults and origins.
return {
  listen = "127.0.0.1:8000",     -- data plane; ":80" for everybody
  admin = "127.0.0.1:8001",      -- control API and dashboard; another address needs admin_token
  rules = "rules",               -- /etc/perilune/rules: routes, rules, policies; edits are live within a second
  -- upstream = "http://127.0.0.1:3000",
  -- access_log = "/var/log/perilune/access.log",
  settings = {},
}
