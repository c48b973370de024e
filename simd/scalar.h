// scalar.h - the 16 lanes in plain C. The definition that the other sets are compared with, bit for
// bit.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KERNELS             kernels_scalar
#define KERNELS_NAME        "scalar"
#define TILE_ROWS           4  // rows of activations that a tile of the matrix product holds at most
#define TILE_ROWS_QUANTIZED 4  // of weights that are multiplied as integers
#define STEPS_HELD          2  // both nibbles of the bytes loaded
#define TILE_GROUPS(rows)   1  // groups of 16 outputs that go with them

#define UNROLL  // nothing: sixteen-fold loops inside unrolled loops only make the compiler slow

typedef struct {
    float lane[16];
} V;

#define EACH_LANE for (int i = 0; i < 16; i++)

static inline V v_zero(void) { return (V){{0}}; }
static inline V v_set1(float a)
{
    V r;
    EACH_LANE
        r.lane[i] = a;
    return r;
}
static inline V v_load(const float *p)
{
    V r;
    memcpy(&r, p, sizeof r);
    return r;
}
static inline void v_store(float *p, V a) { memcpy(p, &a, sizeof a); }
static inline V v_add(V a, V b)
{
    EACH_LANE
        a.lane[i] += b.lane[i];
    return a;
}
static inline V v_sub(V a, V b)
{
    EACH_LANE
        a.lane[i] -= b.lane[i];
    return a;
}
static inline V v_mul(V a, V b)
{
    EACH_LANE
        a.lane[i] *= b.lane[i];
    return a;
}
static inline V v_div(V a, V b)
{
    EACH_LANE
        a.lane[i] /= b.lane[i];
    return a;
}
// a * b + c, rounded once
static inline V v_fma(V a, V b, V c)
{
    EACH_LANE
        c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}
// b where either is a NaN: a caller chooses what passes
static inline V v_max(V a, V b)
{
    EACH_LANE
        b.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return b;
}
static inline V v_min(V a, V b)
{
    EACH_LANE
        b.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return b;
}
// zero where a < b
static inline V v_zero_where_less(V a, V b, V x)
{
    EACH_LANE
        x.lane[i] = a.lane[i] < b.lane[i] ? 0.0f : x.lane[i];
    return x;
}
// to the nearest integer, halves to even; |a| < 2^22
static inline V v_round(V a)
{
    EACH_LANE {
        float t = a.lane[i] + 12582912.0f;  // 1.5 * 2^23: the sum has no bits below 1
        a.lane[i] = t - 12582912.0f;
    }
    return a;
}
// 2^n of integers n in -126 .. 128 (128: infinity)
static inline V v_pow2(V n)
{
    EACH_LANE {
        float a = n.lane[i] == n.lane[i] ? n.lane[i]
                                         : 0.0f;  // C leaves the conversion of a NaN undefined
        uint32_t bits = (uint32_t)((int32_t)a + 127) << 23;
        memcpy(&n.lane[i], &bits, sizeof bits);
    }
    return n;
}

// IEEE 754 binary16 -> binary32, exact
static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu, bits;
    float f;
    if (rest >= 0x7c00u) {  // infinity, NaN (made quiet, as the hardware does)
        bits = sign | 0x7f800000u | (rest & 0x3ffu) << 13 | ((rest & 0x3ffu) ? 0x400000u : 0);
    } else if (rest >= 0x0400u) {
        bits = sign | ((rest << 13) + 0x38000000u);
    } else {  // subnormal: a multiple of 2^-24
        f = (float)rest * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}
// IEEE 754 binary32 -> binary16, to nearest, halves to even
static inline uint16_t f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    }
    if (rest >= 0x477ff000u) {  // 65520 and above round to infinity
        return (uint16_t)(sign | 0x7c00u);
    }
    if (rest < 0x38800000u) {  // below 2^-14: subnormal. The addition rounds to a multiple of 2^-24
        float a;
        memcpy(&a, &rest, sizeof a);
        a += 0.5f;
        memcpy(&rest, &a, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + (rest >> 13 & 1u);
    return (uint16_t)(sign | (rest - 0x38000000u) >> 13);
}
static inline V v_load_bf16(const uint16_t *p)
{
    V r;
    EACH_LANE {
        uint32_t bits = (uint32_t)p[i] << 16;
        memcpy(&r.lane[i], &bits, sizeof bits);
    }
    return r;
}
static inline V v_load_f16(const uint16_t *p)
{
    V r;
    EACH_LANE
        r.lane[i] = f16_to_f32(p[i]);
    return r;
}
static inline void v_store_f16(uint16_t *p, V a)
{
    EACH_LANE
        p[i] = f32_to_f16(a.lane[i]);
}

// The one tree of every reduction: lane i with lane i + 8, then + 4, + 2, + 1.
static inline float v_sum(V a)
{
    for (int half = 8; half; half /= 2) {
        for (int i = 0; i < half; i++) {
            a.lane[i] += a.lane[i + half];
        }
    }
    return a.lane[0];
}
static inline float v_reduce_max(V a)
{
    for (int half = 8; half; half /= 2) {
        for (int i = 0; i < half; i++) {
            a.lane[i] = a.lane[i] > a.lane[i + half] ? a.lane[i] : a.lane[i + half];
        }
    }
    return a.lane[0];
}

// The largest magnitude among 32 values, by the order of the bits: a NaN is larger than all.
static inline float v_abs_max(V a, V b)
{
    uint32_t max = 0, bits;
    EACH_LANE {
        memcpy(&bits, &a.lane[i], sizeof bits);
        max = (bits & 0x7fffffffu) > max ? bits & 0x7fffffffu : max;
        memcpy(&bits, &b.lane[i], sizeof bits);
        max = (bits & 0x7fffffffu) > max ? bits & 0x7fffffffu : max;
    }
    float f;
    memcpy(&f, &max, sizeof f);
    return f;
}
// Integers of magnitude up to 127 as bytes; of all else, which weights that are not finite lead to,
// some byte: a conversion that does not fit is not defined in C.
static inline void v_store_i8(int8_t *p, V a)
{
    EACH_LANE
        p[i] = (int8_t)(fabsf(a.lane[i]) <= 127 ? a.lane[i] : 0);
}

// ---- Dot products of bytes. A step is 64 bytes of weights, 4 for each lane, and 4 activations
// that all lanes share. A block has 32 activations: 8 steps of bytes, or 4 of two nibbles each.

typedef struct {
    int32_t lane[16];
} VI;
typedef struct {
    uint8_t byte[64];
} VB;

static inline V vi_to_float(VI a)
{
    V r;
    EACH_LANE
        r.lane[i] = (float)a.lane[i];
    return r;
}
static inline VB vb_load(const uint8_t *p)
{
    VB r;
    memcpy(&r, p, sizeof r);
    return r;
}
static inline VB vb_low(VB a)
{
    for (int i = 0; i < 64; i++) {
        a.byte[i] &= 15;
    }
    return a;
}
static inline VB vb_high(VB a)
{
    for (int i = 0; i < 64; i++) {
        a.byte[i] >>= 4;
    }
    return a;
}

// Sums of unsigned weights up to 15 times activations; `start` is part of the result.
typedef VI NibbleSum;
static inline NibbleSum nibble_begin(int32_t start)
{
    VI r;
    EACH_LANE
        r.lane[i] = start;
    return r;
}
static inline NibbleSum nibble_add(NibbleSum s, VB w, const int8_t *x)
{
    EACH_LANE {
        for (int j = 0; j < 4; j++) {
            s.lane[i] += w.byte[4 * i + j] * x[j];
        }
    }
    return s;
}
static inline VI nibble_end(NibbleSum s, int32_t start)
{
    (void)start;
    return s;
}

typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start) { return nibble_begin(start); }
static inline ByteSum byte_add(ByteSum s, VB w, const int8_t *x) { return nibble_add(s, w, x); }
static inline VI byte_end(ByteSum s) { return s; }

#endif
