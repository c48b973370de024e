// neon_lanes.h - the 16 lanes in four registers of 4, for neon.h, dotprod.h and i8mm.h, which add the
// dot products of bytes. Needs nothing beyond ARMv8.0.
//
// scalar.h defines what each primitive does. The comments here say why the instructions give the
// same bits where that is not obvious. IEEE 754 defines +, -, *, /, fused multiply-add and the
// conversions, so those are equal by nature.
#ifndef SIMD_NEON_LANES_H
#define SIMD_NEON_LANES_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/simd.h"

// Of the 32 registers a sum takes four: 6 rows by one group are 24 registers of sums, 4 of weights
// and the activations.
#define TILE_ROWS 6

// Groups of 16 outputs that a tile of so many rows has: at most 6 sums.
static inline size_t tile_groups(size_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

typedef struct {
    float32x4_t a, b, c, d;
} V;

// An intrinsic on each register. A macro, because intrinsics need not be functions.
#define V_EACH(f, x, y) ((V){f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)})

static inline V v_set1(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (V){v, v, v, v};
}
static inline V v_zero(void) { return v_set1(0.0f); }
static inline V v_load(const float *p)
{
    return (V){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
static inline void v_store(float *p, V x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}
static inline V v_add(V x, V y) { return V_EACH(vaddq_f32, x, y); }
static inline V v_sub(V x, V y) { return V_EACH(vsubq_f32, x, y); }
static inline V v_mul(V x, V y) { return V_EACH(vmulq_f32, x, y); }
static inline V v_div(V x, V y) { return V_EACH(vdivq_f32, x, y); }
static inline V v_fma(V x, V y, V z)
{
    return (V){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
               vfmaq_f32(z.d, x.d, y.d)};
}
// Not vmaxq: that returns a NaN where either operand is one; here it must be the second operand.
static inline float32x4_t max_4(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
static inline float32x4_t min_4(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
static inline V v_max(V x, V y) { return V_EACH(max_4, x, y); }
static inline V v_min(V x, V y) { return V_EACH(min_4, x, y); }
static inline float32x4_t clear_4(uint32x4_t less, float32x4_t z)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(z), less));
}
static inline V v_zero_where_less(V x, V y, V z)
{
    return (V){clear_4(vcltq_f32(x.a, y.a), z.a), clear_4(vcltq_f32(x.b, y.b), z.b),
               clear_4(vcltq_f32(x.c, y.c), z.c), clear_4(vcltq_f32(x.d, y.d), z.d)};
}
// See scalar.h: the addition rounds, so the bits follow from IEEE 754.
static inline V v_round(V x) { return v_sub(v_add(x, v_set1(12582912.0f)), v_set1(12582912.0f)); }
// The biased exponent n + 127, shifted to where f32 has it. n is an integer already: the conversion
// does not round.
static inline float32x4_t pow2_4(float32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
static inline V v_pow2(V n) { return (V){pow2_4(n.a), pow2_4(n.b), pow2_4(n.c), pow2_4(n.d)}; }
// bf16 is the upper half of an f32.
static inline float32x4_t load_bf16_4(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline V v_load_bf16(const uint16_t *p)
{
    return (V){load_bf16_4(p), load_bf16_4(p + 4), load_bf16_4(p + 8), load_bf16_4(p + 12)};
}
static inline float32x4_t load_f16_4(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline V v_load_f16(const uint16_t *p)
{
    return (V){load_f16_4(p), load_f16_4(p + 4), load_f16_4(p + 8), load_f16_4(p + 12)};
}
// Rounds halves to even, the mode that a program starts with.
static inline void store_f16_4(uint16_t *p, float32x4_t x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
static inline void v_store_f16(uint16_t *p, V x)
{
    store_f16_4(p, x.a);
    store_f16_4(p + 4, x.b);
    store_f16_4(p + 8, x.c);
    store_f16_4(p + 12, x.d);
}
static inline V v_load_i8(const int8_t *p)
{
    const int16x8_t low = vmovl_s8(vld1_s8(p)), high = vmovl_s8(vld1_s8(p + 8));
    return (V){vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
               vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
               vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
               vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))};
}
// The tree of scalar.h: lane i + lane i + 8 is a + c and b + d, then + 4, + 2, + 1. (vaddvq adds
// neighbours first: other bits.)
static inline float v_sum(V x)
{
    float32x4_t s = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(t, 0) + vget_lane_f32(t, 1);
}
static inline float v_reduce_max(V x)
{
    float32x4_t s = max_4(max_4(x.a, x.c), max_4(x.b, x.d));
    float lane[4];
    vst1q_f32(lane, s);
    float p = lane[0] > lane[2] ? lane[0] : lane[2], q = lane[1] > lane[3] ? lane[1] : lane[3];
    return p > q ? p : q;
}

// Magnitudes compared as integers: the order of the bits of non-negative floats is the order of
// their values, with NaNs above infinity.
static inline uint32x4_t magnitude_4(float32x4_t x)
{
    return vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffffu));
}
static inline float v_abs_max(V x, V y)
{
    uint32x4_t m = vmaxq_u32(vmaxq_u32(magnitude_4(x.a), magnitude_4(x.b)),
                             vmaxq_u32(magnitude_4(x.c), magnitude_4(x.d)));
    uint32x4_t n = vmaxq_u32(vmaxq_u32(magnitude_4(y.a), magnitude_4(y.b)),
                             vmaxq_u32(magnitude_4(y.c), magnitude_4(y.d)));
    const uint32_t max = vmaxvq_u32(vmaxq_u32(m, n));
    float f;
    memcpy(&f, &max, sizeof f);
    return f;
}
static inline void v_store_i8(int8_t *p, V x)
{
    int16x8_t low = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.a)), vmovn_s32(vcvtnq_s32_f32(x.b)));
    int16x8_t high = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.c)), vmovn_s32(vcvtnq_s32_f32(x.d)));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

typedef struct {
    int32x4_t r[4];
} VI;
typedef struct {
    uint8x16_t r[4];
} VB;

// A macro because it stands for the head of a loop.
#define EACH_REGISTER for (int i = 0; i < 4; i++)

static inline VI vi_set1(int32_t x)
{
    const int32x4_t v = vdupq_n_s32(x);
    return (VI){{v, v, v, v}};
}
static inline VI vi_load_i8(const int8_t *p)
{
    const int16x8_t low = vmovl_s8(vld1_s8(p)), high = vmovl_s8(vld1_s8(p + 8));
    return (VI){{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
                 vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}};
}
static inline V vi_to_float(VI x)
{
    return (V){vcvtq_f32_s32(x.r[0]), vcvtq_f32_s32(x.r[1]), vcvtq_f32_s32(x.r[2]),
               vcvtq_f32_s32(x.r[3])};
}
// An integer of magnitude below 2^22 is converted without scvtf, which takes four times as long as an
// addition (Neoverse N1, Cortex-A72): added to the bits of 1.5 * 2^23, whose last bit counts 1, it
// gives the bits of that number plus the integer, from which the number is subtracted, exactly.
// Sums of bytes begin with the bits, so they cost nothing.
#define SUM_BIAS 0x4b400000
static inline V biased_to_float(VI x)
{
    const float32x4_t bias = vdupq_n_f32(12582912.0f);
    return (V){vsubq_f32(vreinterpretq_f32_s32(x.r[0]), bias),
               vsubq_f32(vreinterpretq_f32_s32(x.r[1]), bias),
               vsubq_f32(vreinterpretq_f32_s32(x.r[2]), bias),
               vsubq_f32(vreinterpretq_f32_s32(x.r[3]), bias)};
}
static inline VB vb_load(const uint8_t *p)
{
    return (VB){{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
}
static inline VB vb_low(VB x)
{
    EACH_REGISTER x.r[i] = vandq_u8(x.r[i], vdupq_n_u8(15));
    return x;
}
static inline VB vb_high(VB x)
{
    EACH_REGISTER x.r[i] = vshrq_n_u8(x.r[i], 4);
    return x;
}
static inline VB vb_or(VB x, VB y)
{
    EACH_REGISTER x.r[i] = vorrq_u8(x.r[i], y.r[i]);
    return x;
}
// ushl shifts right by negative numbers.
static inline VB vb_bits(VB x, const int left, const uint8_t mask)
{
    EACH_REGISTER x.r[i] = vandq_u8(vshlq_u8(x.r[i], vdupq_n_s8((int8_t)left)), vdupq_n_u8(mask));
    return x;
}
static inline VB vb_lookup(const uint8_t *table, VB x)
{
    const uint8x16_t t = vld1q_u8(table);
    EACH_REGISTER x.r[i] = vqtbl1q_u8(t, x.r[i]);
    return x;
}

#endif
