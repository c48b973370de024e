// neon.h - dot products of bytes with the instructions of ARMv8.0, for the lanes of neon_lanes.h.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include "simd/neon_lanes.h"

#define KERNELS      kernels_neon
#define KERNELS_NAME "neon"

// Both nibbles of the bytes loaded are held (2 steps).
#define TILE_ROWS_QUANTIZED 4
#define STEPS_HELD          2

// The 4 activations of a step, for both lanes of half a register.
static inline int8x8_t broadcast_4(ActivationStep x)
{
    int32_t four;
    memcpy(&four, x.q + 4 * x.index, sizeof four);
    return vreinterpret_s8_s32(vdup_n_s32(four));
}

// smlal adds products of bytes to 16-bit sums, four per lane. 8 steps of at most 15 * 127 are 15240
// and fit, so the sums stay in 16 bits for the whole block; the end adds a lane's four pairwise.
typedef struct {
    int16x8_t low[4], high[4];
} NibbleSum;
static inline NibbleSum nibble_begin(int32_t start)
{
    (void)start;
    NibbleSum s;
    EACH_REGISTER s.low[i] = s.high[i] = vdupq_n_s16(0);
    return s;
}
static inline NibbleSum nibble_add(NibbleSum s, VB w, ActivationStep x)
{
    const int8x8_t four = broadcast_4(x);
    EACH_REGISTER
    {
        const int8x16_t weights = vreinterpretq_s8_u8(w.r[i]);
        s.low[i] = vmlal_s8(s.low[i], vget_low_s8(weights), four);
        s.high[i] = vmlal_s8(s.high[i], vget_high_s8(weights), four);
    }
    return s;
}
static inline VI lane_sums(NibbleSum s)
{
    VI r;
    EACH_REGISTER r.r[i] = vpaddq_s32(vpaddlq_s16(s.low[i]), vpaddlq_s16(s.high[i]));
    return r;
}
static inline V nibble_end(NibbleSum s, int32_t start)
{
    VI r = lane_sums(s);
    EACH_REGISTER r.r[i] = vaddq_s32(r.r[i], vdupq_n_s32(SUM_BIAS + start));
    return biased_to_float(r);
}

// Signed bytes after 128 is subtracted (flipping the top bit), which makes the start unnecessary.
// smull gives 16-bit products of at most 128 * 127, sadalp adds pairs of them to 32-bit sums, two
// per lane, of which the first begins with the bias.
typedef struct {
    int32x4_t low[4], high[4];
} ByteSum;
static inline ByteSum byte_begin(int32_t start)
{
    (void)start;
    ByteSum s;
    EACH_REGISTER s.low[i] = s.high[i] = vreinterpretq_s32_s64(vdupq_n_s64(SUM_BIAS));
    return s;
}
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x)
{
    const int8x8_t four = broadcast_4(x);
    EACH_REGISTER
    {
        const int8x16_t weights = vreinterpretq_s8_u8(veorq_u8(w.r[i], vdupq_n_u8(128)));
        s.low[i] = vpadalq_s16(s.low[i], vmull_s8(vget_low_s8(weights), four));
        s.high[i] = vpadalq_s16(s.high[i], vmull_s8(vget_high_s8(weights), four));
    }
    return s;
}
static inline V byte_end(ByteSum s)
{
    VI r;
    EACH_REGISTER r.r[i] = vpaddq_s32(s.low[i], s.high[i]);
    return biased_to_float(r);
}

// In 4 steps a 16-bit sum is at most 4 * 32 * 127 in magnitude.
typedef NibbleSum Part;
static inline Part part_begin(void) { return nibble_begin(0); }
static inline VI part_sums(Part part) { return lane_sums(part); }

#include "simd/neon_scaled.h"

#endif
