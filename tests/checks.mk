# Builds that look for trouble, each in a folder of its own below build/: sanitizers, fuzzing, coverage, small sizes,
# another libc, another machine. Included by the Makefile.

# Without these, gcc takes minutes over the kernels of a sanitized build: their loops stay loops, and nobody steps
# through them in a debugger.
QUICK := -DUNROLL= $(if $(findstring clang,$(CC)),,-fno-var-tracking)

# The tests that pin bits: of kernels, logits and stories.
BITS := tests/test_units.py tests/test_golden.py

.PHONY: sanitize test-sanitize test-msan test-tsan
## sanitize: build/sanitize/run with the address and undefined-behaviour sanitizers
sanitize:
	@$(MAKE) BUILD=build/sanitize OPT="-O1 -g $(QUICK)" SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" tests

## test-sanitize: runs all tests on that build
test-sanitize: sanitize .venv/installed
	$(call pytest,build/sanitize/run,build/sanitize) $(T)

# One thread: clang's OpenMP library is not instrumented.
## test-msan: all tests under clang's memory sanitizer, with its checks of integers and of conversions from floats
test-msan: .venv/installed
	@$(MAKE) CC=clang BUILD=build/msan OPT="-O1 -g -DUNROLL=" OPENMP= \
	    SAN="-fsanitize=memory,undefined,integer,float-cast-overflow -fsanitize-ignorelist=tests/wraps.txt \
	    -fno-sanitize-recover=all" tests
	MSAN_OPTIONS=exitcode=86 UBSAN_OPTIONS=exitcode=86 $(call pytest,build/msan/run,build/msan) $(T)

# clang's OpenMP tells the sanitizer of its barriers through Archer. gcc's does not: there every barrier would be reported
# as a race. The OpenMP library itself is not instrumented.
## test-tsan: all tests under clang's thread sanitizer
test-tsan: .venv/installed
	@$(MAKE) CC=clang BUILD=build/tsan OPT="-O1 -g -DUNROLL=" SAN=-fsanitize=thread tests
	TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=86" $(call pytest,build/tsan/run,build/tsan) $(T)

# ----------------------------------------------------------------------------------------------------------------------
# Small sizes: every edge of a page, split, panel or tile is then met by contexts and batches of a few tokens. The bits
# of contexts longer than a split differ from those of other builds, so tests that compare with committed bits are left
# out; tests that compare one way of computing with another are not. Each size has rules (simd/simd.h):
#
#     PAGE_POSITIONS    a multiple of LANES, 16
#     SPLIT_POSITIONS   a multiple of PAGE_POSITIONS
#     PANEL_COLS        a multiple of FETCH_COLS, 16
SMALL := -DPAGE_POSITIONS=16 -DSPLIT_POSITIONS=32 -DTILE_QUERIES=2 -DACTIVATION_TILE=3 -DPANEL_COLS=16
SMALL_TESTS := $(BITS) tests/test_batch.py tests/test_cli_*.py
.PHONY: small test-small
## small: build/small/run with pages, splits, panels and tiles so small that every edge is hit
small:
	@$(MAKE) BUILD=build/small OPT="-O1 -g $(QUICK) $(SMALL)" tests

## test-small: runs the tests of kernels, model, batch and command line on that build
test-small: small .venv/installed
	$(call pytest,build/small/run,build/small) $(if $(filter tests,$(T)),$(SMALL_TESTS),$(T)) \
	    -k "not on_every_machine and not wherever_computed"

# ----------------------------------------------------------------------------------------------------------------------
# Fuzzing

SECONDS ?= 60
RUNS ?= -1
MAX_LEN ?= 8192

.PHONY: fuzzers fuzz coverage soak
## fuzzers: the fuzz targets, built but not run
fuzzers: $(FUZZERS)

ifeq ($(BUILD),build/fuzz)
$(OBJ) $(FUZZERS:%=%.o): tests/fuzz/ignorelist.txt
endif

# A target links only the objects that it uses, because libFuzzer checks every counter after each run.
# Counters and a dictionary guide it. Tracing comparisons halves its speed; FUZZ_GUIDE= turns it on.
FUZZ_GUIDE ?= -fno-sanitize-coverage=trace-cmp,indirect-calls,stack-depth
DICTIONARY = $$([ -e build/fuzz/dictionaries/$$target ] && echo -dict=build/fuzz/dictionaries/$$target)

# Findings go to build/fuzz/findings. The quarantine of freed memory is small enough for the processor's cache. Stack
# traces of allocations (malloc_context_size), -entropic and rereading the corpus would cost a third of the time: to see
# where the memory of a finding came from, replay it on the build of `make sanitize`.
## fuzz: runs each target of tests/fuzz for SECONDS (60) by clang's libFuzzer; or FUZZ="one .." SECONDS=0 RUNS=N
fuzz:
	@$(MAKE) CC=clang BUILD=build/fuzz OPT="-O2 -g -DUNROLL=" OPENMP= FUZZ_DRIVER=-fsanitize=fuzzer \
	    SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
	    $(FUZZ_GUIDE) -fsanitize-coverage-ignorelist=tests/fuzz/ignorelist.txt" \
	    FUZZ_OBJ=build/fuzz/objects.a fuzzers
	@mkdir -p build/fuzz/findings
	@python3 tests/fuzz/make_dictionaries.py build/fuzz/dictionaries
	@for target in $(FUZZ); do \
	    printf 'FUZZ %s\n' $$target && mkdir -p build/fuzz/corpus/$$target && \
	    ASAN_OPTIONS=quarantine_size_mb=4:thread_local_quarantine_size_kb=64:malloc_context_size=0 \
	    build/fuzz/tests/fuzz/$$target -max_total_time=$(SECONDS) -runs=$(RUNS) -max_len=$(MAX_LEN) -timeout=10 \
	        -entropic=0 -reload=0 $(DICTIONARY) \
	        -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/findings/$$target- \
	        build/fuzz/corpus/$$target tests/fuzz/corpus/$$target || exit 1; \
	done

# Files whose input comes from outside.
PARSERS := $(filter formats/% text/% tokenizer.c base/json.c batch/request.c batch/prompt_cache.c,$(SOURCES))

## coverage: which lines of the parsers the corpora reach, those of `make fuzz` included
coverage:
	@$(MAKE) CC=clang BUILD=build/coverage OPT="-O1 -g" OPENMP= \
	    SAN="-fprofile-instr-generate -fcoverage-mapping" fuzzers
	@rm -f build/coverage/*.profraw
	@for target in $(FUZZ); do \
	    find tests/fuzz/corpus/$$target build/fuzz/corpus/$$target -type f 2>/dev/null | \
	        LLVM_PROFILE_FILE=build/coverage/$$target-%p.profraw xargs build/coverage/tests/fuzz/$$target 2>/dev/null || exit 1; \
	done
	llvm-profdata merge -o build/coverage/all.profdata build/coverage/*.profraw
	llvm-cov report build/coverage/tests/fuzz/$(firstword $(FUZZ)) \
	    $(patsubst %,-object build/coverage/tests/fuzz/%,$(wordlist 2,99,$(FUZZ))) \
	    -instr-profile=build/coverage/all.profdata $(PARSERS)

## soak: one process answers a batch for SECONDS (3600 is what SECURITY.md shows): flat memory, the same answers
soak: $(RUN)
	python3 tests/soak.py --run $(abspath $(RUN)) --model models/stories.bin --seconds $(SECONDS)

# ----------------------------------------------------------------------------------------------------------------------
# Another libc, another machine

.PHONY: test-aarch64 test-musl
## test-aarch64: another machine: cross-compiled, run by qemu-user, the same bits
test-aarch64: .venv/installed
	@$(MAKE) CC=aarch64-linux-gnu-gcc BUILD=build/aarch64 LDFLAGS=-static tests
	EMULATOR=qemu-aarch64 $(call pytest,build/aarch64/run,build/aarch64) $(BITS) tests/test_kernel_sets.py

## test-musl: another libc, without OpenMP
test-musl: .venv/installed
	@$(MAKE) CC=musl-gcc BUILD=build/musl LDFLAGS=-static OPENMP= tests
	$(call pytest,build/musl/run,build/musl) $(BITS) tests/test_cli_*.py

.PHONY: test-riscv64
# Only what these tests need is built.
## test-riscv64: a machine that has the kernels in plain C only: cross-compiled, run by qemu-user, the same bits
test-riscv64: .venv/installed
	@$(MAKE) CC=riscv64-linux-gnu-gcc BUILD=build/riscv64 OPT=-O1 LDFLAGS=-static OPENMP= build/riscv64/run \
	    build/riscv64/tests/logits build/riscv64/tests/test_ops
	EMULATOR=qemu-riscv64 $(call pytest,build/riscv64/run,build/riscv64) tests/test_units.py tests/test_golden.py \
	    -k "test_ops or every_machine"

# ----------------------------------------------------------------------------------------------------------------------
# Systems that we do not have: compiled and linked, but not run. Zig's compiler, from PyPI, is clang with the headers
# and libraries of many systems. It lacks OpenMP, and its -mcpu takes processors, not architectures.

.venv-zig/installed:
	python3 -m venv .venv-zig
	.venv-zig/bin/pip install -q --disable-pip-version-check ziglang==0.17.1
	touch $@

FOREIGN := aarch64-macos x86_64-macos x86_64-freebsd
.PHONY: foreign
## foreign: build/SYSTEM/run for macOS and FreeBSD, compiled and linked by Zig's clang, not run
foreign: .venv-zig/installed
	@for system in $(FOREIGN); do \
	    $(MAKE) CC="$(CURDIR)/.venv-zig/bin/python -m ziglang cc -target $$system" BUILD=build/$$system OPENMP= \
	        OPT="-O1 -g0 -DUNROLL=" SET_dotprod=-mcpu=generic+dotprod SET_i8mm=-mcpu=generic+dotprod+i8mm \
	        build/$$system/run || exit 1; \
	done
