// memory.h - checked size arithmetic, and memory.
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian and are read in place: this machine cannot run them"
#endif

_Static_assert(sizeof(size_t) == 8, "sizes of files and of memory are computed in 64 bits");

// *out = a * b (or a + b); false, with *out untouched, where that overflows.
bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

// n rounded up to a multiple of `multiple`; the caller knows that it does not overflow.
static inline size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

// Zeroed memory for count * size bytes, aligned to 64 (a cache line, a 512-bit register), or NULL
// when the product overflows or there is none. Freed with free().
void *alloc_zeroed(size_t count, size_t size);

// Large zeroed memory straight from the system: pages cost nothing until touched, and huge pages
// are asked for. NULL where there is none.
void *memory_map(size_t bytes);
void memory_unmap(void *p, size_t bytes);

#endif
