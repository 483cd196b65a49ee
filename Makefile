# Perilune. `make help` lists the targets.
#
# Every mode builds in its own folder: build/release, build/asan, build/tsan,
# build/fuzz. What is missing comes from Debian packages; packages that
# would start services or pull in much more than we need (llhttp's sources, the
# chart library, nginx for the tests) are unpacked below build/deps instead of installed.

MODE    ?= release
B       := build/$(MODE)
PREFIX  ?= /usr/local
DESTDIR ?=

CC      := gcc
VERSION := 0.1.0

WARN    := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
           -Wvla -Wwrite-strings -Wno-unused-parameter $(if $(CI),-Werror)
CFLAGS_release := -O2 -g -fno-plt -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
CFLAGS_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
CFLAGS_bare    := $(CFLAGS_release) -DMEASURE=0
CFLAGS_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LLHTTP  := build/deps/llhttp
CFLAGS  := -std=gnu11 -Icore -I$(LLHTTP) -I/usr/include/luajit-2.1 -I/usr/include/postgresql -DLLHTTP_STRICT_MODE=1 -D_GNU_SOURCE \
           -DPERILUNE_VERSION='"$(VERSION)"' $(WARN) $(CFLAGS_$(MODE))
LDFLAGS := $(filter -fsanitize%,$(CFLAGS_$(MODE))) -Wl,-z,relro,-z,now -rdynamic
LIBS    := -lluajit-5.1 -luv -lcares -lssl -lcrypto -lm -lpthread -lisal -ldeflate -lzstd -lbrotlienc -lbrotlidec -lz -llmdb -lpq -lhiredis -lsqlite3

# V=1 shows the commands.
Q       := $(if $(V),,@)
JOBS    := -j$(shell nproc)

LAYERS  := base ml io board stats sys store watch bench replay codec task pg redis http cache proxy script engine
SRCS    := $(foreach l,$(LAYERS),$(wildcard core/$(l)/*.c))
OBJS    := $(SRCS:core/%.c=$(B)/%.o) $(B)/llhttp/llhttp.o $(B)/llhttp/api.o $(B)/llhttp/http.o $(B)/embedded.o
TESTS   := $(wildcard tests/core/*/*_test.c)
TESTBIN := $(TESTS:tests/core/%.c=$(B)/tests/%)
LIBRARY := $(B)/lua/perilune.so $(B)/lua/perilune/codec.so $(B)/lua/perilune/tasks.so $(B)/lua/perilune/postgres.so
CHARTS  := build/deps/dygraphs
EMBED   := $(sort $(shell find lua rules -path lua/perilune/types -prune -o -name '*.lua' -print -o -path 'lua/perilune/ui/*' -type f -print 2>/dev/null)) \
           $(CHARTS)/dygraph.min.js $(CHARTS)/dygraph.min.css

RUN_PACKAGES  := gcc libc6-dev libluajit-5.1-dev libuv1-dev libc-ares-dev libxxhash-dev liblmdb-dev libssl-dev \
                 libisal-dev libdeflate-dev zlib1g-dev libzstd-dev libbrotli-dev libpq-dev libhiredis-dev \
                 libsqlite3-dev
TEST_PACKAGES := apache2-bin luajit lua-busted lua-luv libcmocka-dev wrk nghttp2-client curl openssl brotli zstd valgrind python3 python3-websockets nodejs chromium chromium-driver postgresql redis-tools luarocks groff-base
PGBOUNCER     := pgbouncer libevent-2.1-7
NGINX_LUA     := libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache libluajit2-5.1-2
HAPROXY       := haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
BENCH_PACKAGES := goaccess strace python3-sklearn
FUZZ_PACKAGES := clang-14 libclang-rt-14-dev
LINT_PACKAGES := clang-tidy-14 clang-format-14 lua-check

.PHONY: all types reference library deps deps-test deps-bench deps-fuzz deps-lint run demo test unit unit-bins spec scenarios scenarios-full calm bench bench-replay bench-analysis asan tsan fuzz soak fuzz-build lint format install clean help
.DEFAULT_GOAL := all

all: deps ## build build/release/perilune and the libraries for Lua programs in build/release/lua
	@$(MAKE) --no-print-directory $(JOBS) $(B)/perilune library

run: deps ## build and serve the example API on http://127.0.0.1:8000
	@$(MAKE) --no-print-directory $(JOBS) build/release/perilune
	build/release/perilune run --config examples/02-lua-api/perilune.lua $(ARGS)

demo: deps ## a service with a pool too small, and load: watch the engine find it and prove the cure
	@tests/support/packages postgresql wrk curl
	@$(MAKE) --no-print-directory $(JOBS) build/release/perilune
	@examples/11-closed-loop/run $(ARGS)

test: deps deps-test ## build and pass everything
	@$(MAKE) --no-print-directory $(JOBS) $(B)/perilune library
	@$(MAKE) --no-print-directory unit spec

unit: ## C unit tests of the built mode
	@$(MAKE) --no-print-directory $(JOBS) unit-bins
	@for t in $(TESTBIN); do echo "$$t"; ./$$t || exit 1; done

unit-bins: $(TESTBIN)

library: $(LIBRARY)

spec: $(B)/perilune library ## Lua and system specs against the built mode
	PERILUNE=$(abspath $(B))/perilune BUILD=$(abspath build) tests/run $(SPEC)

asan: ## the whole suite under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory MODE=asan test

tsan: ## the whole suite under ThreadSanitizer
	@$(MAKE) --no-print-directory MODE=tsan test

fuzz: deps deps-fuzz ## fuzz each target for FUZZ_SECONDS (60) from its committed corpus
	@$(MAKE) --no-print-directory $(JOBS) MODE=fuzz CC=clang-14 fuzz-build
	tests/fuzz/run $(or $(FUZZ_SECONDS),60)

bench: deps deps-test deps-bench ## measure against peers in one run, print ratios
	@tests/bench/unpack_peers build/deps/peers
	@$(MAKE) --no-print-directory $(JOBS) build/release/perilune
	@$(MAKE) --no-print-directory $(JOBS) MODE=bare build/bare/perilune
	@$(MAKE) --no-print-directory library $(B)/tests/bench/codings $(B)/tests/bench/tasks $(B)/tests/bench/spans
	PERILUNE=$(abspath build/release)/perilune BUILD=$(abspath build) tests/bench/run

bench-replay: deps deps-bench ## replay beside GoAccess on a generated log: make bench-replay [SIZE=64M]
	@$(MAKE) --no-print-directory $(JOBS) build/release/perilune
	SIZE=$(SIZE) tests/bench/replay

scenarios: deps deps-test ## the laboratory, a few faults planted under load, and what is said of them: make scenarios [NAMES="pool_small steady"]
	@$(MAKE) --no-print-directory $(JOBS) build/release/perilune
	@tests/scenarios/run $(NAMES)

scenarios-full: ## all of them, with pairs, harmful changes and cures: make scenarios-full [SEEDS="1 2"] [LOADS="0.5 1 2"]
	@$(MAKE) --no-print-directory scenarios NAMES=all

calm: deps deps-test ## an hour of steady and of daily load in which nothing may be found, and trials without an effect: make calm [MINUTES=60]
	@$(MAKE) --no-print-directory $(JOBS) build/release/perilune
	@MINUTES=$(MINUTES) tests/scenarios/calm

bench-analysis: deps deps-bench ## the kernels on public data: make bench-analysis DATA=dir [PART=nab]
	@$(MAKE) --no-print-directory $(JOBS) $(B)/bench-analysis
	@$(B)/bench-analysis "$(DATA)" $(PART)

ANALYSIS := $(wildcard tests/analysis/*.c)
$(B)/bench-analysis: $(ANALYSIS) tests/analysis/analysis.h $(filter $(B)/ml/% $(B)/base/%,$(OBJS))
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -Itests/analysis -o $@ $(filter %.c %.o,$^) $(LDFLAGS) -lz -lm

soak: all deps-test ## ten minutes of mixed work: does memory grow, does a request fail?
	PERILUNE=$(abspath $(B))/perilune BUILD=$(abspath build) tests/soak

FUZZERS := $(patsubst tests/fuzz/%_fuzz.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
fuzz-build: $(FUZZERS)
$(B)/fuzz/%: tests/fuzz/%_fuzz.c $(filter $(B)/base/% $(B)/codec/accept.o $(B)/codec/names.o $(B)/cache/directives.o $(B)/cache/vary.o $(B)/replay/entry.o $(B)/replay/json.o $(B)/replay/format.o $(B)/replay/template.o $(B)/replay/timeline.o $(B)/stats/parcel.o $(B)/stats/frame.o $(B)/http/head% $(B)/http/body.o $(B)/http/opinion.o $(B)/llhttp/%,$(OBJS))
	@mkdir -p $(@D)
	@echo "  fuzz $<"
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $^ -lm

LINT_JOBS := $(shell nproc)
lint: deps deps-lint ## layer arrows, clang-tidy, luacheck
	tests/lint/layers
	@printf '%s\n' $(SRCS) $(wildcard core/embed/*.c core/host/*.c) core/main.c | xargs -P$(LINT_JOBS) -I{} clang-tidy-14 --quiet {} -- $(CFLAGS) 2>/dev/null
	luacheck --quiet lua rules examples tests

types: ## declarations for language servers and doc/lua.md, from the comments of the modules
	tests/support/types

reference: $(B)/perilune ## doc/reference.md: settings, REST API and commands, from the program
	PERILUNE=$(abspath $(B))/perilune tests/support/reference

format: deps-lint ## clang-format in place
	clang-format-14 -i $(SRCS) $(wildcard core/*/*.h core/main.c)

install: all ## install below PREFIX (/usr/local), honours DESTDIR
	install -D -m 755 build/release/perilune $(DESTDIR)$(PREFIX)/bin/perilune
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	build/release/perilune man > $(DESTDIR)$(PREFIX)/share/man/man1/perilune.1
	build/release/perilune completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/perilune
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/perilune/rules
	sed 's|@PREFIX@|$(PREFIX)|' packaging/perilune.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/perilune.service
	[ -e $(DESTDIR)/etc/perilune/perilune.lua ] || install -m 644 packaging/perilune.lua $(DESTDIR)/etc/perilune/perilune.lua
	install -D -m 644 packaging/grafana.json $(DESTDIR)$(PREFIX)/share/perilune/grafana.json
	install -D -m 755 build/release/lua/perilune.so $(DESTDIR)$(PREFIX)/lib/lua/5.1/perilune.so
	for f in codec tasks postgres; do install -D -m 755 build/release/lua/perilune/$$f.so $(DESTDIR)$(PREFIX)/lib/lua/5.1/perilune/$$f.so || exit 1; done

clean: ## remove what was built (not build/deps)
	rm -rf build/release build/bare build/asan build/tsan build/fuzz

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

# ---- packages ----------------------------------------------------------------

deps: ## install what building needs and is missing
	@tests/support/packages $(RUN_PACKAGES)
	@$(MAKE) --no-print-directory $(LLHTTP)/llhttp.c $(CHARTS)/dygraph.min.js
deps-test:
	@tests/support/packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory build/deps/nginx/usr/sbin/nginx build/deps/alertmanager/usr/bin/amtool build/deps/prometheus $(HAPROXY:%=build/deps/peers/%) $(PGBOUNCER:%=build/deps/peers/%) $(NGINX_LUA:%=build/deps/peers/%) build/deps/peers/caddy
deps-bench:
	@tests/support/packages $(BENCH_PACKAGES)
deps-fuzz:
	@tests/support/packages $(FUZZ_PACKAGES)
deps-lint:
	@tests/support/packages $(LINT_PACKAGES)

$(LLHTTP)/llhttp.c:
	@tests/support/unpack node-llhttp build/deps/node-llhttp
	@mkdir -p $(LLHTTP)
	@cp build/deps/node-llhttp/usr/share/llhttp/*.c build/deps/node-llhttp/usr/share/include/llhttp/llhttp.h $(LLHTTP)/
$(CHARTS)/dygraph.min.js:
	@tests/support/unpack libjs-dygraphs build/deps/libjs-dygraphs
	@mkdir -p $(CHARTS)
	@for f in dygraph.min.js dygraph.min.css; do sed '/sourceMappingURL/d' build/deps/libjs-dygraphs/usr/share/javascript/dygraphs/$$f > $(CHARTS)/$$f; done
$(CHARTS)/dygraph.min.css: $(CHARTS)/dygraph.min.js
build/deps/nginx/usr/sbin/nginx:
	@tests/support/unpack nginx build/deps/nginx
build/deps/alertmanager/usr/bin/amtool:
	@tests/support/unpack prometheus-alertmanager build/deps/alertmanager
	@sed -i 's|/usr/share/prometheus/alertmanager|./././././././././././././././././|g' build/deps/alertmanager/usr/bin/prometheus-alertmanager # templates of its working folder
build/deps/prometheus:
	@tests/support/unpack prometheus $@
build/deps/peers/%:
	@tests/support/unpack $* $@

# ---- rules -------------------------------------------------------------------

$(B)/perilune: $(B)/main.o $(OBJS)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/%.o: core/%.c
	@mkdir -p $(@D)
	@echo "  cc   $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/llhttp/%.o: $(LLHTTP)/%.c
	@mkdir -p $(@D)
	@echo "  cc   $<"
	$(Q)$(CC) $(CFLAGS) -w -c -o $@ $<

# Lua files are part of the program: `lua/` is what scripts require, the files
# below rules/routes/admin serve the control API, lua/perilune/ui is the dashboard.
$(B)/embedded.c: $(EMBED) tests/support/embed
	@mkdir -p $(@D)
	$(Q)tests/support/embed $(EMBED) > $@.$$$$ && mv $@.$$$$ $@
$(B)/embedded.o: $(B)/embedded.c
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

$(B)/tests/%: tests/core/%.c $(OBJS)
	@mkdir -p $(@D)
	@echo "  test $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(OBJS) $(LIBS) -lcmocka

$(B)/tests/bench/spans: tests/bench/spans.c $(B)/embed/recorder.o $(OBJS)
	@mkdir -p $(@D)
	@echo "  bench $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $^ $(LIBS)

# Programs that only the benchmark runs.
$(B)/tests/bench/%: tests/bench/%.c $(OBJS)
	@mkdir -p $(@D)
	@echo "  bench $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(OBJS) $(LIBS)

# The libraries for programs that are not ours: position-independent, with nothing to see but luaopen_*.
# What they use of core/ is taken out of one archive, so that neither needs what it does not use.
PIC     := $(patsubst core/%.c,$(B)/pic/%.o,$(SRCS)) $(B)/pic/embedded.o
PICFLAGS := $(filter-out -fno-plt,$(CFLAGS)) -fPIC -fvisibility=hidden

$(B)/pic/%.o: core/%.c
	@mkdir -p $(@D)
	@echo "  pic  $<"
	$(Q)$(CC) $(PICFLAGS) -MMD -MP -c -o $@ $<
$(B)/pic/embedded.o: $(B)/embedded.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(PICFLAGS) -c -o $@ $<
$(B)/pic/core.a: $(PIC)
	@rm -f $@
	$(Q)ar rcs $@ $^
MODULE = $(CC) $(filter-out -rdynamic,$(LDFLAGS)) -shared -Wl,--gc-sections -Wl,--exclude-libs,ALL -o $@
$(B)/lua/perilune.so: $(filter-out $(B)/pic/embed/codec_module.o,$(patsubst core/%.c,$(B)/pic/%.o,$(wildcard core/embed/*.c))) $(B)/pic/core.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(MODULE) $^ -lm -lpthread
$(B)/lua/perilune/codec.so: $(B)/pic/embed/codec_module.o $(B)/pic/core.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(MODULE) $^ -lisal -ldeflate -lzstd -lbrotlienc -lbrotlidec -lz
# Threads of these may be inside when the program closes its Lua state: they stay in memory until it ends.
$(B)/lua/perilune/tasks.so: $(B)/pic/host/tasks_module.o $(B)/pic/host/task_lua.o $(B)/pic/host/loop.o $(B)/pic/core.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(MODULE) -Wl,-z,nodelete $^ -luv -lcrypto -lisal -ldeflate -lzstd -lbrotlienc -lbrotlidec -lz -lm -lpthread
$(B)/lua/perilune/postgres.so: $(B)/pic/host/postgres_module.o $(B)/pic/host/loop.o $(B)/pic/core.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(MODULE) -Wl,-z,nodelete $^ -lpq -luv -lssl -lcrypto -lm -lpthread

-include $(OBJS:.o=.d) $(B)/main.d $(PIC:.o=.d) $(patsubst core/%.c,$(B)/pic/%.d,$(wildcard core/embed/*.c core/host/*.c))
