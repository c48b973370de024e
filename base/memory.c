// memory.c - checked size arithmetic and aligned memory. See memory.h.
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool size_mul(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a) {
        return false;
    }
    *out = a * b;
    return true;
}

bool size_add(size_t a, size_t b, size_t *out)
{
    if (b > SIZE_MAX - a) {
        return false;
    }
    *out = a + b;
    return true;
}

void *alloc_zeroed(size_t count, size_t size)
{
    size_t bytes;
    if (!size_mul(count, size, &bytes) || bytes > SIZE_MAX - 128) {
        return NULL;
    }
    bytes = round_up(bytes ? bytes : 1, 64);  // aligned_alloc requires a multiple
    void *p = aligned_alloc(64, bytes);
    if (p) {
        memset(p, 0, bytes);
    }
    return p;
}

void *memory_map(size_t bytes)
{
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
    if (p == MAP_FAILED) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (bytes >= (size_t)4 << 20) {
        madvise(p, bytes, MADV_HUGEPAGE);  // only advice: a failure changes nothing
    }
#endif
    return p;
}

void memory_unmap(void *p, size_t bytes)
{
    if (p) {
        munmap(p, bytes ? bytes : 1);
    }
}

size_t memory_of_machine(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t bytes;
    return pages > 0 && page > 0 && size_mul((size_t)pages, (size_t)page, &bytes) ? bytes
                                                                                  : SIZE_MAX;
}
