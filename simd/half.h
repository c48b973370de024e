// half.h - f16 in plain C: what the scalar set and the formats use, and what the instructions of the
// other sets do.
#ifndef HALF_H
#define HALF_H

#include <stdint.h>
#include <string.h>

// IEEE 754 binary16 to binary32, exact. Infinity, NaN (made quiet, as the hardware does); normal
// numbers: the exponent's bias grows by 112; subnormal numbers: a multiple of 2^-24.
static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu, bits;
    float f;
    if (rest >= 0x7c00u) {
        bits = sign | 0x7f800000u | (rest & 0x3ffu) << 13 | ((rest & 0x3ffu) ? 0x400000u : 0);
    } else if (rest >= 0x0400u) {
        bits = sign | ((rest << 13) + 0x38000000u);
    } else {
        f = (float)rest * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}
// IEEE 754 binary32 to binary16, to nearest, halves to even. From 65520 on the nearest is infinity;
// below 2^-14 the result is subnormal, and adding 0.5 rounds to a multiple of 2^-24; else half of
// the last bit kept, less one where that is even, is added before the lower bits are cut off.
static inline uint16_t f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    }
    if (rest >= 0x477ff000u) {
        return (uint16_t)(sign | 0x7c00u);
    }
    if (rest < 0x38800000u) {
        float a;
        memcpy(&a, &rest, sizeof a);
        a += 0.5f;
        memcpy(&rest, &a, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + (rest >> 13 & 1u);
    return (uint16_t)(sign | (rest - 0x38000000u) >> 13);
}

#endif
