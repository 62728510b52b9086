# keel. `make help` lists the targets; V=1 shows every command.

CARGO      ?= cargo
CC         ?= cc
CXX        ?= c++
AR         ?= ar
LD         ?= ld
OBJCOPY    ?= objcopy
PKG_CONFIG ?= pkg-config
INSTALL    ?= install
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
CFLAGS     ?= -O2 -g

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libkeel.so.$(firstword $(subst ., ,$(VERSION)))
SO      := libkeel.so.$(VERSION)

V ?= 0
ifeq ($(V),0)
Q   := @
say  = @printf '  %-8s %s\n' '$(1)' '$(2)'
endif
export V CC CXX CARGO PKG_CONFIG

# SANITIZE=thread or SANITIZE=address builds everything once more, below
# build/tsan or build/asan: gcc instruments the C side, and each program brings
# the one runtime that serves both. For threads that is Rust's own; where the
# toolchain ships none, as Debian's, gcc's does it with c-tests/tsan/shim.c,
# which has the entry points that it lacks. For addresses gcc's always does it.
# Newer compilers want to be told that the standard library is not instrumented.
CARGO_TARGET_DIR ?= target
ifneq ($(SANITIZE),)
SAN       := $(patsubst address,asan,$(patsubst thread,tsan,$(SANITIZE)))
HOST      := $(shell MAKEFLAGS= $(CARGO) -vV | sed -n 's/^host: //p')
MISMATCH  := -Cunsafe-allow-abi-mismatch=sanitizer
BUILD     := build/$(SAN)
RUST_ENV  := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/$(SAN) RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=$(SANITIZE) \
	$(if $(filter tsan,$(SAN)),--cfg tsan) \
	$(shell MAKEFLAGS= RUSTC_BOOTSTRAP=1 rustc $(MISMATCH) --print sysroot > /dev/null 2>&1 && echo $(MISMATCH))'
RUST_ARGS := --target $(HOST)
SAN_CC    := -fsanitize=$(SANITIZE)
TSAN_RT   := $(wildcard $(shell MAKEFLAGS= rustc --print sysroot)/lib/rustlib/$(HOST)/lib/librustc*_rt.tsan.a)
ifeq ($(SAN),asan)
SAN_LD    := -fsanitize=address
else ifneq ($(TSAN_RT),)
SAN_LD    := -rdynamic -Wl,--whole-archive $(TSAN_RT) -Wl,--no-whole-archive -ldl -lm -lrt
else
SAN_LD    := -rdynamic -fsanitize=thread c-tests/tsan/shim.c
endif
else
BUILD     := build
RUST_ENV  := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)
SO_DEFS   := -Wl,-z,defs
endif

# COVERAGE=1, for make coverage: counts what is executed, below build/coverage. The
# counters live in files that all processes share, so that those which die count too.
ifneq ($(COVERAGE),)
BUILD     := build/coverage
HOST      := $(shell MAKEFLAGS= $(CARGO) -vV | sed -n 's/^host: //p')
RUST_ENV  := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/coverage \
	RUSTFLAGS='-Cinstrument-coverage -Cllvm-args=-runtime-counter-relocation'
RUST_ARGS := --target $(HOST)
SO_DEFS   += -Wl,-z,nostart-stop-gc
endif

# DEBUG=1: with debug assertions, below build/debug. PAUSE=1, for the tests in
# c-tests/pause: the pause points too, below build/pause.
ifneq ($(DEBUG)$(PAUSE),)
BUILD     := build/$(if $(PAUSE),pause,debug)
RUST_ENV  += CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
RUST_ARGS += $(if $(PAUSE),--features pause)
endif

STAGE   := $(abspath $(BUILD)/stage)
INSTALLED := $(BUILD)/stage/installed
LIBS    := $(BUILD)/$(SO) $(BUILD)/libkeel.a
HEADERS := $(wildcard include/keel/*.h include/keel/compat/*.h)

.PHONY: help all run serve check lint headers install uninstall bench clean FORCE
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r t d; do printf '%-22s %s\n' "$$t" "$$d"; done

all: $(LIBS) ## builds libkeel.so and libkeel.a below build/

# --- the libraries ---------------------------------------------------------

# cargo knows when there is something to do, and the script touches its
# copies only when they change.
$(BUILD)/whole.a: FORCE
	$(call say,CARGO,libkeel)
	$(Q)$(RUST_ENV) tools/build.sh $(BUILD) $(RUST_ARGS)

# cargo cannot give a library a version node: the C linker does.
$(BUILD)/keel.map: keel.map
	$(Q)mkdir -p $(@D)
	$(Q)sed $(if $(PAUSE),-e 's/^global:/&\n    keel_pause;/') -n -e p $< > $@

$(BUILD)/$(SO): $(BUILD)/whole.a $(BUILD)/keel.map
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -o $@ -Wl,--whole-archive $< -Wl,--no-whole-archive -Wl,--gc-sections \
		-Wl,--version-script=$(BUILD)/keel.map -Wl,-soname,$(SONAME) \
		$(SO_DEFS) -Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete $(LDFLAGS) -lc
	$(Q)ln -sf $(SO) $(BUILD)/$(SONAME)
	$(Q)ln -sf $(SO) $(BUILD)/libkeel.so

# One object whose only global names are keel.map's: it links next to another
# Rust library, and leaks no name into the program.
$(BUILD)/libkeel.a: $(BUILD)/whole.a $(BUILD)/keel.map
	$(call say,AR,$@)
	$(Q)tools/exports.sh $(BUILD)/keel.map > $(BUILD)/exports
	$(Q)$(LD) -r --gc-sections $$(sed 's/^/-u /' $(BUILD)/exports) --whole-archive $< -o $(BUILD)/keel.o
	$(Q)$(OBJCOPY) -R .llvmbc -R .llvmcmd --keep-global-symbols=$(BUILD)/exports $(BUILD)/keel.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(BUILD)/keel.o

headers: $(BUILD)/whole.a ## writes include/keel/*.h anew from src/abi/
	$(Q)cp $(BUILD)/include/keel/*.h include/keel/

# --- installation ----------------------------------------------------------

install: $(LIBS) ## installs below DESTDIR and PREFIX (/usr/local), LIBDIR, INCLUDEDIR
	$(call say,INSTALL,$(DESTDIR)$(PREFIX))
	$(Q)$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)
	$(Q)$(INSTALL) -m 755 $(BUILD)/$(SO) $(DESTDIR)$(LIBDIR)/$(SO)
	$(Q)ln -sf $(SO) $(DESTDIR)$(LIBDIR)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libkeel.so
	$(Q)$(INSTALL) -m 644 $(BUILD)/libkeel.a $(DESTDIR)$(LIBDIR)/libkeel.a
	$(Q)for h in $(HEADERS); do $(INSTALL) -D -m 644 $$h $(DESTDIR)$(INCLUDEDIR)/$${h#include/}; done
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' keel.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/keel.pc

uninstall: ## removes what install put there
	$(Q)rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,$(SO) $(SONAME) libkeel.so libkeel.a pkgconfig/keel.pc)
	$(Q)rm -rf $(DESTDIR)$(INCLUDEDIR)/keel

# Everything below links against an installed copy, as a user does.
$(INSTALLED): $(LIBS) $(HEADERS) keel.pc.in
	$(Q)rm -rf $(STAGE)
	$(Q)$(MAKE) --no-print-directory install DESTDIR=$(STAGE) PREFIX=/usr LIBDIR=/usr/lib INCLUDEDIR=/usr/include
	$(Q)touch $@

PC_ENV    := PKG_CONFIG_PATH=$(STAGE)/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$(STAGE) \
	PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
STAGE_ENV := $(PC_ENV) STAGE=$(STAGE) BUILD=$(abspath $(BUILD)) VERSION=$(VERSION) LD_LIBRARY_PATH=$(STAGE)/usr/lib
KEEL_CC   := $$($(PC_ENV) $(PKG_CONFIG) --cflags keel)
KEEL_LD   := $$($(PC_ENV) $(PKG_CONFIG) --libs keel)

# --- the examples ----------------------------------------------------------

EXAMPLES := $(patsubst examples/%.c,$(BUILD)/%,$(wildcard examples/*.c))

$(BUILD)/%: examples/%.c $(INSTALLED)
	$(call say,CC,$@)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(SAN_CC) -Wall -Wextra $(KEEL_CC) -c $< -o $@.o
	$(Q)$(CC) $@.o -o $@ $(KEEL_LD) -pthread $(SAN_LD)

.PHONY: examples
examples: $(EXAMPLES)

run: ## builds keel and its example proxy, and sends real traffic through it
	$(Q)tools/deps.sh run
	$(Q)$(MAKE) --no-print-directory examples
	$(Q)$(STAGE_ENV) examples/run.sh

serve: ## starts the example proxy and leaves it running
	$(Q)tools/deps.sh run
	$(Q)$(MAKE) --no-print-directory examples
	$(Q)$(STAGE_ENV) examples/serve.sh

# --- checks ----------------------------------------------------------------

# Several at a time, the longest first. What failed before it could say so counts
# as one test that failed.
JOBS   ?= $(shell nproc)
SUITES := check-valgrind check-tsan check-loom check-asan check-lint check-proofs check-shuttle check-rust check-c check-faults \
	check-e2e check-pause check-headers check-compile check-cxx check-abi check-install
.PHONY: $(SUITES) proofs

check: ## every test; the last line adds them up
	$(Q)tools/deps.sh check
	$(Q)rm -rf build/tally && mkdir -p build/tally
	$(Q)$(MAKE) --no-print-directory -j $(JOBS) $(C_PROGRAMS) $(EXAMPLES) || true
	$(Q)$(MAKE) --no-print-directory -k -j $(JOBS) $(SUITES) || true
	$(Q)for suite in $(SUITES); do [ -e build/tally/$$suite ] || echo 0 1 0 > build/tally/$$suite; done
	@tools/tally.sh build/tally

lint: ## formatting, clippy with warnings denied, the rules of the house
	$(Q)tools/lint.sh

check-lint: ## lint, and that each of its rules can fire
	$(Q)tools/suite.sh $@ sh -c 'tools/lint.sh; tools/lint-test.sh'

proofs: ## writes docs/proofs.md anew from the tags in the sources
	$(Q)tools/proofs.pl > docs/proofs.md.new && mv docs/proofs.md.new docs/proofs.md

check-proofs: ## docs/proofs.md is complete and what the tags say, and its rules can fire
	$(Q)tools/suite.sh $@ sh -c 'tools/proofs.pl --check; tools/proofs-test.sh'

check-rust: ## unit tests and oracles
	$(Q)tools/suite.sh $@ $(CARGO) test

LOOM := $(patsubst tests/%.rs,--test %,$(wildcard tests/loom_*.rs))
check-loom: ## every interleaving of the models
	$(Q)CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/loom RUSTFLAGS='--cfg loom' \
		tools/suite.sh $@ $(if $(LOOM),$(CARGO) test --profile model $(LOOM),echo no models yet)

SHUTTLE := $(patsubst tests/%.rs,--test %,$(wildcard tests/shuttle_*.rs))
check-shuttle: ## eight threads in the engines' protocols, random schedules
	$(Q)CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/shuttle RUSTFLAGS='--cfg shuttle' \
		tools/suite.sh $@ $(CARGO) test --profile model $(SHUTTLE)

.PHONY: mutants orderings
mutants: orderings ## puts known bugs back, one at a time, and sees the tests that are to catch them (not part of check)
	$(Q)JOBS=$(JOBS) tools/mutants.sh

orderings: ## takes away each ordering in turn, and sees models or ThreadSanitizer miss it (part of mutants)
	$(Q)CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/loom RUSTFLAGS='--cfg loom' $(CARGO) test --quiet --profile model --no-run $(LOOM)
	$(Q)$(MAKE) --no-print-directory SANITIZE=thread $$(tools/orderings.pl --programs)
	$(Q)MODELS=$(CARGO_TARGET_DIR)/loom/model/deps JOBS=$(JOBS) LD_LIBRARY_PATH=build/tsan/stage/usr/lib tools/orderings.pl

check-headers: $(BUILD)/whole.a ## include/keel/ is what src/abi/ says
	$(Q)tools/suite.sh $@ tools/headers.sh $(BUILD)/include/keel include/keel

check-compile: $(INSTALLED) ## every header alone, as C
	$(Q)$(STAGE_ENV) tools/suite.sh $@ c-tests/compile/headers.sh c

check-cxx: $(INSTALLED) ## every header alone, as C++, and the engines from a program in C++
	$(Q)$(STAGE_ENV) tools/suite.sh $@ sh -c 'c-tests/compile/headers.sh c++; tools/scripts.sh c-tests/cxx/run.sh'

# deps.sh has abigail-tools where it may: without them, and on other processors than x86-64,
# symbols, sizes and constants are compared all the same.
check-abi: $(INSTALLED) ## the binary interface is what abi/ says, and that a change would show
	$(Q)$(STAGE_ENV) tools/suite.sh $@ sh -c 'tools/abi.sh check abi; tools/scripts.sh c-tests/abi/*.sh'

.PHONY: abi
abi: $(INSTALLED) ## writes abi/ anew, where the interface was meant to change
	$(Q)$(STAGE_ENV) tools/abi.sh write abi

check-install: $(INSTALLED) ## exports, pkg-config, versions, the README's program
	$(Q)$(STAGE_ENV) tools/suite.sh $@ tools/scripts.sh c-tests/install/*.sh

C_SOURCES  := $(wildcard $(foreach d,api race stress death,c-tests/$(d)/*.c))
C_PROGRAMS := $(patsubst c-tests/%.c,$(BUILD)/c-tests/%,$(C_SOURCES))
FAULTS     := $(patsubst c-tests/%.c,$(BUILD)/c-tests/%,$(wildcard c-tests/faults/*.c))

$(BUILD)/c-tests/%: c-tests/%.c $(wildcard c-tests/*/*.h) $(INSTALLED)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(SAN_CC) -Wall -Wextra $(KEEL_CC) $(LIBUV_CC) $$($(PKG_CONFIG) --cflags check) -c $< -o $@.o
	$(Q)$(CC) $@.o -o $@ $(KEEL_LD) $(LIBUV_LD) $$($(PKG_CONFIG) --libs check) -pthread $(SAN_LD)

# Without libuv the program says that it is skipped.
$(BUILD)/c-tests/api/test_host_libuv: LIBUV_CC = $$($(PKG_CONFIG) --exists libuv && echo -DHAVE_LIBUV $$($(PKG_CONFIG) --cflags libuv))
$(BUILD)/c-tests/api/test_host_libuv: LIBUV_LD = $$($(PKG_CONFIG) --exists libuv && $(PKG_CONFIG) --libs libuv)

# It is an example, run as a test.
$(BUILD)/c-tests/api/test_retransmit: examples/retransmit.c
$(BUILD)/c-tests/api/test_pool_inline: c-tests/api/test_pool.c
$(BUILD)/c-tests/death/test_pool_inline: c-tests/death/test_pool.c

# What polls runs with poll() too; under a checker, the descriptors' own tests.
POLLS  := test_fd% $(if $(SANITIZE),,test_adversity test_runtime test_task test_task_museum)
C_RUNS := $(C_PROGRAMS) --poll $(filter $(addprefix $(BUILD)/c-tests/api/,$(POLLS)),$(C_PROGRAMS))

check-c: $(C_PROGRAMS) ## the C tests
	$(Q)$(STAGE_ENV) tools/suite.sh $(or $(SUITE),$@) tools/programs.sh $(C_RUNS)

CROSS ?= arm64
.PHONY: check-cross
check-cross: ## the C tests for CROSS (arm64; riscv64) under qemu, in a Debian 13 below build/ (as root; not part of check)
	$(Q)tools/cross.sh $(CROSS)

check-signals: $(filter $(BUILD)/c-tests/api/%,$(C_PROGRAMS)) ## the C tests in c-tests/api/, every thread interrupted every few milliseconds (not part of check)
	$(Q)$(STAGE_ENV) KEEL_TEST_SIGNALS=1 CK_TIMEOUT_MULTIPLIER=5 tools/suite.sh $@ \
		tools/programs.sh $(filter $(BUILD)/c-tests/api/%,$(C_PROGRAMS))

check-faults: $(FAULTS) ## C tests in which allocations, descriptors, threads and signals go wrong
	$(Q)$(STAGE_ENV) tools/suite.sh $@ tools/programs.sh $(FAULTS)

PAUSE_PROGRAMS := $(patsubst c-tests/%.c,$(BUILD)/c-tests/%,$(wildcard c-tests/pause/*.c c-tests/api/test_callout*.c))
check-pause: ## callout tests with debug assertions, and those that hold threads at pause points
	$(Q)$(MAKE) --no-print-directory PAUSE=1 pause

.PHONY: pause
pause: $(PAUSE_PROGRAMS)
	$(Q)$(STAGE_ENV) tools/suite.sh check-pause tools/programs.sh $(PAUSE_PROGRAMS)

bats = $(if $(1),bats --formatter tap $(1),echo no tests yet)
check-e2e: $(EXAMPLES) ## the example proxy between nginx, curl and wrk
	$(Q)$(STAGE_ENV) tools/suite.sh $@ $(call bats,$(wildcard c-tests/e2e/*.bats))

# $(call traffic,COMMAND,REQUESTS,SECONDS): that many requests through the proxy under a checker.
SANITIZED := $(wildcard c-tests/e2e/sanitized.sh)
traffic = $(if $(SANITIZED),PROXY="$(1)" REQUESTS=$(2) SECONDS_MAX=$(3) $(SANITIZED) && echo ok $(2) requests || \
	echo not ok $(2) requests,echo no proxy yet)

check-tsan: ## C tests and proxy under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory SANITIZE=thread tsan

.PHONY: tsan
tsan: $(C_PROGRAMS) $(EXAMPLES)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" CK_TIMEOUT_MULTIPLIER=10 tools/suite.sh check-tsan \
		sh -c 'tools/programs.sh $(C_RUNS); $(call traffic,$(abspath $(BUILD))/proxy,50000,300)'

check-asan: ## C tests under AddressSanitizer, leaks included
	$(Q)$(MAKE) --no-print-directory SANITIZE=address asan

.PHONY: asan
asan: $(C_PROGRAMS) $(BUILD)/c-tests/asan/after_free $(BUILD)/c-tests/asan/leak
	$(Q)$(STAGE_ENV) CK_TIMEOUT_MULTIPLIER=5 tools/suite.sh check-asan c-tests/asan/run.sh $(C_RUNS)

MEMCHECK := valgrind -q --fair-sched=try --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect
check-valgrind: $(C_PROGRAMS) $(EXAMPLES) ## C tests and proxy under valgrind's memcheck
	$(Q)$(STAGE_ENV) CK_TIMEOUT_MULTIPLIER=20 tools/suite.sh $@ \
		sh -c 'RUNNER="$(MEMCHECK)" tools/programs.sh $(filter $(BUILD)/c-tests/api/%,$(C_PROGRAMS)) \
			--poll $(filter $(BUILD)/c-tests/api/test_fd%,$(C_PROGRAMS)); \
			$(call traffic,$(MEMCHECK) $(abspath $(BUILD))/proxy,500,300)'

# cargo-fuzz wants the compiler's unstable sanitizer flags, as SANITIZE does. New
# inputs go to build/fuzz/; those that are worth keeping, to fuzz/corpus/ by hand.
MINUTES ?= 10
FUZZ_TARGETS := $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))
.PHONY: fuzz
fuzz: ## feeds the parsers with anything, MINUTES (10) each (not part of check)
	$(Q)tools/deps.sh fuzz
	$(Q)for target in $(FUZZ_TARGETS); do \
		mkdir -p build/fuzz/corpus/$$target build/fuzz/found/$$target; \
		RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cunsafe-allow-abi-mismatch=sanitizer \
			$(CARGO) fuzz run --target-dir $(abspath $(CARGO_TARGET_DIR))/fuzz $$target \
			build/fuzz/corpus/$$target fuzz/corpus/$$target -- -max_total_time=$$(($(MINUTES) * 60)) \
			-artifact_prefix=build/fuzz/found/$$target/ -max_len=512 -print_final_stats=1 || exit 1; \
	done

MIGRATIONS ?= 10000000
STICK_SECONDS ?= 30
POOL_SECONDS ?= 60
TASK_SECONDS ?= 60
FD_SECONDS ?= 60
.PHONY: stress migrations stick-stress pool-stress task-stress timer-stress fd-stress
stress: ## callout migrations, stick tables of a millisecond, pools on an unmapping allocator, tasks, a million timers, descriptors: plain and under both sanitizers
	$(Q)for sanitizer in '' thread address; do \
		POOL_SECONDS="$${POOL_SECONDS:-30}" TASK_SECONDS="$${TASK_SECONDS:-30}" FD_SECONDS="$${FD_SECONDS:-30}" \
			$(MAKE) --no-print-directory SANITIZE=$$sanitizer migrations stick-stress pool-stress task-stress \
			timer-stress fd-stress || exit 1; \
	done

migrations: $(BUILD)/c-tests/stress/callout_migration
	$(call say,RUN,$<)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" $< $(MIGRATIONS)

stick-stress: $(BUILD)/c-tests/stress/stick_table
	$(call say,RUN,$<)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" $< $(STICK_SECONDS)

pool-stress: $(BUILD)/c-tests/stress/pool
	$(call say,RUN,$<)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" $< $(POOL_SECONDS)

task-stress: $(BUILD)/c-tests/stress/task
	$(call say,RUN,$<)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" $< $(TASK_SECONDS)

timer-stress: $(BUILD)/c-tests/stress/task_timers
	$(call say,RUN,$<)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" $< $(TASK_SECONDS)

fd-stress: $(BUILD)/c-tests/stress/fd
	$(call say,RUN,$<)
	$(Q)$(STAGE_ENV) TSAN_OPTIONS="halt_on_error=1 $$TSAN_OPTIONS" $< $(FD_SECONDS)

.PHONY: coverage covered
coverage: ## which lines of src/ the C and Rust tests execute; FILE=src/…: after that, those they do not (not part of check)
ifeq ($(FILE),)
	$(Q)tools/deps.sh coverage
	$(Q)$(MAKE) --no-print-directory COVERAGE=1 covered
endif
	@perl tools/coverage.pl build/coverage/lcov $(FILE)

covered: $(C_PROGRAMS)
	$(Q)$(STAGE_ENV) tools/coverage.sh $(abspath $(BUILD)) $(C_RUNS)

HOURS ?= 1
.PHONY: soak
soak: $(EXAMPLES) ## the proxy for HOURS (1) among killed servers, rude clients and its own successors (not part of check)
	$(Q)tools/deps.sh soak
	$(Q)$(STAGE_ENV) HOURS=$(HOURS) c-tests/soak/soak.sh

# --- the rest --------------------------------------------------------------

BENCHES := $(patsubst benches/%.c,$(BUILD)/benches/%,$(wildcard benches/*.c))

$(BUILD)/benches/%: benches/%.c $(INSTALLED)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) -Wall -Wextra $(KEEL_CC) $< -o $@ $(KEEL_LD) -pthread

bench: $(BENCHES) ## runs the benchmarks in benches/; QUICK=1: a shorter version
	$(Q)for b in $(BENCHES); do $(STAGE_ENV) $$b || exit 1; done
	$(Q)$(MAKE) --no-print-directory bench-pool
	$(Q)$(MAKE) --no-print-directory bench-task
	$(Q)$(MAKE) --no-print-directory bench-callout
	$(Q)$(MAKE) --no-print-directory bench-stick-table
	$(Q)$(MAKE) --no-print-directory bench-fd

# Each contestant is a plugin, or a program; what is not installed is left out with a line.
.PHONY: bench-pool bench-pool-count bench-task bench-task-count bench-callout bench-callout-count bench-stick-table bench-stick-table-count bench-fd bench-fd-count bench-fd-syscalls
plugins-%: $(INSTALLED) FORCE
	$(Q)tools/deps.sh bench
	$(call say,CC,$(BUILD)/benches/$*)
	$(Q)$(STAGE_ENV) CFLAGS='$(CFLAGS)' benches/$*/build.sh $(BUILD)/benches/$*

bench-pool: plugins-pool ## pools beside other allocators
	$(Q)$(STAGE_ENV) QUICK=$(QUICK) $(BUILD)/benches/pool/pool
	$(Q)QUICK=$(QUICK) $(BUILD)/benches/pool/caches

bench-pool-count: plugins-pool ## the same in instructions, under valgrind
	$(Q)$(STAGE_ENV) benches/pool/count.sh $(BUILD)/benches/pool

bench-task: plugins-task ## tasks beside other timers and wakeups
	$(Q)$(STAGE_ENV) QUICK=$(QUICK) $(BUILD)/benches/task/task

bench-task-count: plugins-task ## the same in instructions, under valgrind
	$(Q)$(STAGE_ENV) benches/task/count.sh $(BUILD)/benches/task

bench-callout: plugins-callout ## callouts beside other libraries' timers
	$(Q)$(STAGE_ENV) QUICK=$(QUICK) $(BUILD)/benches/callout/callout

bench-callout-count: plugins-callout ## the same in instructions, under valgrind
	$(Q)$(STAGE_ENV) benches/callout/count.sh $(BUILD)/benches/callout

bench-stick-table: plugins-stick_table ## stick tables beside other tables
	$(Q)$(STAGE_ENV) QUICK=$(QUICK) $(BUILD)/benches/stick_table/stick_table

bench-stick-table-count: plugins-stick_table ## the same in instructions, under valgrind
	$(Q)$(STAGE_ENV) benches/stick_table/count.sh $(BUILD)/benches/stick_table

bench-fd: plugins-fd ## descriptors beside other event loops and a bare epoll
	$(Q)$(STAGE_ENV) QUICK=$(QUICK) $(BUILD)/benches/fd/fd

bench-fd-count: plugins-fd ## the same in instructions, under valgrind
	$(Q)$(STAGE_ENV) benches/fd/count.sh $(BUILD)/benches/fd

bench-fd-syscalls: plugins-fd ## the same in system calls, under strace
	$(Q)$(STAGE_ENV) benches/fd/syscalls.sh $(BUILD)/benches/fd

clean: ## removes build/ and target/
	$(Q)rm -rf build target
