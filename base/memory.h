// memory.h - checked size arithmetic and aligned memory.
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian and are read in place: this machine cannot run them"
#endif

_Static_assert(sizeof(size_t) == 8, "sizes of files and of memory are computed in 64 bits");

// *out = a * b and *out = a + b. On overflow they return false and leave *out untouched. For every
// size that comes from a file.
bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

// n rounded up to a multiple of `multiple`. The caller makes sure that this does not overflow.
static inline size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

// Are all bytes zero?
static inline bool all_zero(const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

// Does a field of a file hold a name of 1 to size - 1 bytes, followed by zeros?
static inline bool is_padded_name(const char *field, size_t size)
{
    const size_t length = strnlen(field, size);
    return length > 0 && length < size && all_zero(field + length, size - length);
}

// Allocates count * size zeroed bytes, aligned to 64 (a cache line, a 512-bit register). NULL if
// the product overflows or when out of memory. Freed by free().
void *alloc_zeroed(size_t count, size_t size);

// Allocates zeroed memory directly from the system, for large blocks: a page costs nothing until it
// is touched, and huge pages are requested. NULL when out of memory. memory_unmap frees all `bytes`
// of it; NULL is allowed.
void *memory_map(size_t bytes);
void memory_unmap(void *p, size_t bytes);

// The memory of this machine in bytes; SIZE_MAX if the system does not tell.
size_t memory_of_machine(void);

#endif
