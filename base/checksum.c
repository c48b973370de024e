// checksum.c - FNV-1a, for tables and fingerprints, and CRC-32, for files. See checksum.h.
#include "base/checksum.h"

#include <string.h>

void crc32_init(Crc32 *c)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
        c->t[0][i] = crc;
    }
    for (size_t k = 1; k < 8; k++) {
        for (size_t i = 0; i < 256; i++) {
            c->t[k][i] = c->t[k - 1][i] >> 8 ^ c->t[0][c->t[k - 1][i] & 255];
        }
    }
}

uint32_t crc32_update(const Crc32 *c, uint32_t crc, const uint8_t *p, size_t size)
{
    crc = ~crc;
    // The remainder is linear over GF(2): that of eight bytes is the sum (^) of eight remainders,
    // each of one byte followed by a zero byte for each byte after it.
    for (; size >= 8; size -= 8, p += 8) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
        low ^= crc;
        crc = c->t[7][low & 255] ^ c->t[6][low >> 8 & 255] ^ c->t[5][low >> 16 & 255] ^
              c->t[4][low >> 24] ^ c->t[3][high & 255] ^ c->t[2][high >> 8 & 255] ^
              c->t[1][high >> 16 & 255] ^ c->t[0][high >> 24];
    }
    for (; size; size--, p++) {
        crc = crc >> 8 ^ c->t[0][(crc ^ *p) & 255];
    }
    return ~crc;
}
