// checksum.h - FNV-1a, for tables and fingerprints, and CRC-32, for files.
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

// FNV-1a (Fowler, Noll, Vo): starts at HASH_BEGIN and takes in a byte, or a larger unit, per step.
// The low bits of a product do not depend on the high bits of its factors, so a hash table should
// index with `h ^ h >> 32`.
#define HASH_BEGIN 0xcbf29ce484222325u
static inline uint64_t hash_step(uint64_t h, uint64_t unit) { return (h ^ unit) * 0x100000001b3u; }

static inline uint64_t hash_bytes(uint64_t h, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < size; i++) {
        h = hash_step(h, p[i]);
    }
    return h;
}

// Fibonacci hashing of a number: the upper half of a product with 2^64 / the golden ratio is well
// mixed.
static inline uint64_t hash_number(uint64_t n) { return n * 0x9e3779b97f4a7c15u >> 32; }

// CRC-32 as in zlib and PNG (polynomial 0xedb88320, reflected), computed eight bytes per step with
// eight tables: t[k][b] is the remainder of byte b followed by k zero bytes ("slicing by 8",
// M. Kounavis and F. Berry, ISCC 2005).
typedef struct {
    uint32_t t[8][256];
} Crc32;

void crc32_init(Crc32 *c);

// Continues the checksum `crc`, 0 at the start, over `size` more bytes.
uint32_t crc32_update(const Crc32 *c, uint32_t crc, const uint8_t *p, size_t size);

#endif
