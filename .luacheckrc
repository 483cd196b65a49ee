std = "luajit+busted"
max_line_length = false
ignore = { "431" } -- a local named like an outer one
exclude_files = { "**/*.new~", "lua/perilune/types/*" }
-- The sandbox edits `string`.
files["lua/perilune/core/sandbox.lua"] = { ignore = { "122" } }
files["tests/support/busted.lua"] = { ignore = { "122" } }
-- A configuration may read the environment.
files["examples/**/perilune.lua"] = { read_globals = { "env" } }
