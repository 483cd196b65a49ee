rockspec_format = "3.0"
package = "perilune"
version = "scm-1"
source = { url = "git+file://." }
description = {
  summary = "The engine inside Lua programs: measure, find what is slow, say what to do, prove that it helped",
  detailed = "Spans, statistics, an analyzer, rules, trials of the program's own settings, compression, numerical kernels, task threads and pools of PostgreSQL for LuaJIT programs, luv and nginx.",
  license = "MIT",
}
dependencies = { "lua == 5.1" } -- LuaJIT 2.1
build = {
  type = "make",
  build_target = "library",
  build_variables = {},
  install_pass = false,
  install = { lib = { ["perilune"] = "build/release/lua/perilune.so", ["perilune.codec"] = "build/release/lua/perilune/codec.so",
    ["perilune.tasks"] = "build/release/lua/perilune/tasks.so", ["perilune.postgres"] = "build/release/lua/perilune/postgres.so" } },
}
