// scalar.h - the 16 lanes in plain C: the definition of every primitive. The other sets are
// compared with it, bit for bit (tests/test_ops.c), and it runs where none of them does.
//
// A lanes header defines
//
//     V, VI, VB                   16 lanes of f32, of int32, and 64 bytes (4 for each lane)
//     v_.., vi_.., vb_..          operations on them
//     VS                          16 int8 scales of integer sums
//     NibbleSum, ByteSum, ScaledSum  sums of products of bytes, in the form that suits the set
//     KERNELS, KERNELS_NAME       the table that kernels.h fills
//     TILE_ROWS                   rows that a tile of floats holds at most, up to 12
//     TILE_ROWS_QUANTIZED         the same of quantised weights
//     STEPS_HELD                  steps of a quantisation block unpacked at once: 1 or 2
//     tile_groups(rows)           groups of 16 outputs that go with a number of rows
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/half.h"
#include "simd/simd.h"

#define KERNELS             kernels_scalar
#define KERNELS_NAME        "scalar"
#define TILE_ROWS           4
#define TILE_ROWS_QUANTIZED 4
#define STEPS_HELD          2

// No unrolling: the loops over 16 lanes inside the unrolled ones would only slow the compiler down.
#define UNROLL

static inline size_t tile_groups(size_t rows)
{
    (void)rows;
    return 1;
}

typedef struct {
    float lane[16];
} V;

// A macro because it stands for the head of a loop.
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
// a * b + c, rounded once.
static inline V v_fma(V a, V b, V c)
{
    EACH_LANE
        c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}
// b where either is a NaN, as x86's instructions do: the order of the operands decides whether a
// NaN passes.
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
// 0 where a < b, else x; x where either is a NaN.
static inline V v_zero_where_less(V a, V b, V x)
{
    EACH_LANE
        x.lane[i] = a.lane[i] < b.lane[i] ? 0.0f : x.lane[i];
    return x;
}
// To the nearest integer, halves to even; |a| < 2^22. The sum with 1.5 * 2^23 has no bits below 1,
// so the addition rounds, in the default mode of IEEE 754.
static inline V v_round(V a)
{
    EACH_LANE {
        float t = a.lane[i] + 12582912.0f;
        a.lane[i] = t - 12582912.0f;
    }
    return a;
}
// 2^n of integers n in -126 .. 128 (128: infinity), by building the exponent. For a NaN any
// number will do, since the caller multiplies it by a NaN; converting one is undefined in C.
static inline V v_pow2(V n)
{
    EACH_LANE {
        float a = n.lane[i] == n.lane[i] ? n.lane[i] : 0.0f;
        uint32_t bits = (uint32_t)((int32_t)a + 127) << 23;
        memcpy(&n.lane[i], &bits, sizeof bits);
    }
    return n;
}

// bf16 is the upper half of an f32.
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

// 16 small integers.
static inline V v_load_i8(const int8_t *p)
{
    V r;
    EACH_LANE
        r.lane[i] = p[i];
    return r;
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

// The largest magnitude among 32 values, compared as integers: the order of the bits of
// non-negative floats is the order of their values, with NaNs above infinity. So a NaN is not lost.
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
// Integers of magnitude up to 127 as bytes. Anything else, which only weights that are not finite
// lead to, becomes some byte: C does not define a conversion that does not fit.
static inline void v_store_i8(int8_t *p, V a)
{
    EACH_LANE
        p[i] = (int8_t)(fabsf(a.lane[i]) <= 127 ? a.lane[i] : 0);
}

// --------------------------------------------------------------------------------------------
// Dot products of bytes. A step is 64 bytes of weights, 4 for each lane, and 4 activations that all
// lanes share:
//
//     sum[lane] += w[4 lane] x[0] + w[4 lane + 1] x[1] + w[4 lane + 2] x[2] + w[4 lane + 3] x[3]
//
// A quantisation block has 32 activations: 8 steps. Integer sums are exact in any order, so each
// set takes the order, and the widths of partial sums, that its instructions have.

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
static inline VB vb_or(VB a, VB b)
{
    for (int i = 0; i < 64; i++) {
        a.byte[i] |= b.byte[i];
    }
    return a;
}
// Each byte shifted left by -7 .. 7 bits (a negative number: right), and the bits of a mask of it.
static inline VB vb_bits(VB a, const int left, const uint8_t mask)
{
    for (int i = 0; i < 64; i++) {
        const int shifted = left < 0 ? a.byte[i] >> -left : a.byte[i] << left;
        a.byte[i] = (uint8_t)(shifted & mask);
    }
    return a;
}
// Element a of a table of 16, for each byte a in 0 .. 15.
static inline VB vb_lookup(const uint8_t *table, VB a)
{
    for (int i = 0; i < 64; i++) {
        a.byte[i] = table[a.byte[i]];
    }
    return a;
}

// Sums of unsigned weights up to 15 times activations, over one quantisation block. `start` is part
// of the result; it is given at both ends because a set can use it at either.
typedef VI NibbleSum;
static inline NibbleSum nibble_begin(int32_t start)
{
    VI r;
    EACH_LANE
        r.lane[i] = start;
    return r;
}
static inline NibbleSum nibble_add(NibbleSum s, VB w, ActivationStep x)
{
    const int8_t *four = x.q + 4 * x.index;
    EACH_LANE {
        for (int j = 0; j < 4; j++) {
            s.lane[i] += w.byte[4 * i + j] * four[j];
        }
    }
    return s;
}
static inline V nibble_end(NibbleSum s, int32_t start)
{
    (void)start;
    return vi_to_float(s);
}

// Sums of (weight - 128) times activations, with weights of 0 .. 255 stored unsigned. `start` is
// -128 times the sum of the activations; a set that subtracts 128 from the weights does not need
// it.
typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start) { return nibble_begin(start); }
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x) { return nibble_add(s, w, x); }
static inline V byte_end(ByteSum s) { return vi_to_float(s); }

// Sums of weights times activations, in parts that have scales of their own: the result is the sum
// of the parts times their scales, an integer below 2^24 and so exact in f32. scaled_part ends a
// part, which has at most 4 steps; a part of weights up to 15 may have 8. The parts take either
// unsigned weights up to 31 (scaled_add) or weights up to 63 that stand for weight - 32
// (scaled_add_6).
typedef VI VS;
static inline VS vs_load(const int8_t *p)
{
    VS r;
    EACH_LANE
        r.lane[i] = p[i];
    return r;
}
static inline VS vs_one(void) { return nibble_begin(1); }
typedef struct {
    VI part, total;
} ScaledSum;
static inline ScaledSum scaled_begin(void) { return (ScaledSum){nibble_begin(0), nibble_begin(0)}; }
static inline ScaledSum scaled_add(ScaledSum s, VB w, ActivationStep x)
{
    s.part = nibble_add(s.part, w, x);
    return s;
}
static inline ScaledSum scaled_add_6(ScaledSum s, VB w, ActivationStep x)
{
    const int8_t *four = x.q + 4 * x.index;
    EACH_LANE {
        for (int j = 0; j < 4; j++) {
            s.part.lane[i] += (w.byte[4 * i + j] - 32) * four[j];
        }
    }
    return s;
}
static inline ScaledSum scaled_part(ScaledSum s, VS scale)
{
    EACH_LANE {
        s.total.lane[i] += s.part.lane[i] * scale.lane[i];
        s.part.lane[i] = 0;
    }
    return s;
}
static inline V scaled_end(ScaledSum s) { return vi_to_float(s.total); }

#endif
