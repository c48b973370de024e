// fuzz.h - what the fuzz targets share.
//
// A target is one file, fuzz_NAME.c, with LLVMFuzzerTestOneInput, the entry point of libFuzzer,
// which AFL++ supports too (afl-clang-fast -fsanitize=fuzzer). `make fuzz SECONDS=60` runs every
// target under libFuzzer; `make test` replays the corpora through replay.c, built like all other
// tests.
//
// A target is deterministic: no randomness, no clock. FUZZ_CHECK ends the process if a property
// does not hold; unlike assert it is part of every build.
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(holds, ...)                                    \
    do {                                                          \
        if (!(holds)) {                                           \
            fprintf(stderr, "expected " #holds ": " __VA_ARGS__); \
            fputc('\n', stderr);                                  \
            abort();                                              \
        }                                                         \
    } while (0)

// Checks that a refused input gives one of the program's errors, with a message of one line.
static inline void check_error(const Error *err)
{
    FUZZ_CHECK(err->kind == ERROR_INPUT || err->kind == ERROR_RUN, "%d", (int)err->kind);
    FUZZ_CHECK(strlen(err->message) > 4 && !strchr(err->message, '\n'), "%s", err->message);
}

// Counts the inputs that got as far as `what`, and prints the count to stdout at the end. A target
// counts one thing.
static const char *fuzz_counted;
static unsigned long long fuzz_counter;

static inline void fuzz_say_count(void) { printf("%s: %llu\n", fuzz_counted, fuzz_counter); }

static inline void fuzz_count(const char *what)
{
    if (fuzz_counter++ == 0) {
        fuzz_counted = what;
        atexit(fuzz_say_count);
    }
}

// The rest of an input.
typedef struct {
    const uint8_t *data;
    size_t size;
} Input;

// Takes the next n bytes as a little-endian number; bytes past the end of the input are zero.
static inline size_t take_number(Input *in, size_t n)
{
    size_t value = 0;
    for (size_t i = 0; i < n && in->size; i++, in->data++, in->size--) {
        value |= (size_t)*in->data << 8 * i;
    }
    return value;
}

// Takes the next n bytes, or as many as are left.
static inline Input take_bytes(Input *in, size_t n)
{
    const Input taken = {in->data, n < in->size ? n : in->size};
    in->data += taken.size;
    in->size -= taken.size;
    return taken;
}

// Allocates a block of exactly this size, aligned like a mapped file, so that a sanitizer reports
// every read past its end.
static inline uint8_t *exact_block(size_t size)
{
    void *block = NULL;
    if (posix_memalign(&block, 64, size ? size : 1) != 0) {
        abort();
    }
    return block;
}

static inline void put_u32(uint8_t *at, size_t value)
{
    const uint32_t v = (uint32_t)value;
    memcpy(at, &v, sizeof v);
}

static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

#endif
